import json

import pytest
from cankd import model_zoo
from cankd.engine import result_fingerprints, teacher_fingerprints, use_method
from cankd.reporting import Method, method_comparison, parse_method
from cankd.utils import write_json


@pytest.fixture
def benchmark(load_tool):
    return load_tool("benchmarks/digit_scenes.py")


def a_run(config, method, seed, folder, overrides=()):
    config_file = model_zoo.get_config_file(f"DigitScenes/{config}.py")
    return method_comparison._Run(config_file, overrides, {}, method, seed, str(folder), "")


def write_results(folder, config, results, overrides=()):
    """Writes what finished runs of a config and its teacher's evaluation leave."""
    folder.mkdir(parents=True)
    for (method, seed), ap in results.items():
        run = a_run(config, method, seed, folder, overrides)
        fingerprint = result_fingerprints(run.config())["config"]
        metrics = {"bbox": {"AP": ap, "AP50": ap}}
        write_json(run.result_file, {"config": fingerprint, "metrics": metrics, "seconds": 1.0, "memory": 1.0})
    teacher = teacher_fingerprints(run.config())["config"]
    write_json(str(folder / "teacher.json"), {"config": teacher, "metrics": {"bbox": {"AP": 64.0, "AP50": 83.0}}})


def test_runs_of_the_plain_and_of_the_inheriting_config_count_as_done(benchmark, tmp_path):
    folder = tmp_path / "methods" / "retinanet"
    done = {(Method("alone", "alone"), 0): 17.0, (Method("cankd", "cankd"), 0): 26.0}
    write_results(folder, "retinanet_R10_from_R18", done)
    inherit = Method("cankd_inherit", "cankd_inherit")
    (tmp_path / "dagger").mkdir()
    write_results(tmp_path / "dagger" / "it", "retinanet_R10_from_R18_inherit", {(inherit, 0): 38.0})
    (tmp_path / "dagger" / "it" / "cankd_inherit_0.json").rename(folder / "cankd_inherit_0.json")
    options = ["--seeds", "0", "--output", str(tmp_path / "methods"), "--runs", str(tmp_path / "runs")]
    benchmark.main(
        benchmark.parse_arguments(["--model", "retinanet", "--methods", "alone", "cankd", inherit.title, *options])
    )
    values = json.loads((folder / "methods.json").read_text())["tasks"]["bbox"]["values"]
    assert values == {"alone": {"0": 17.0}, "cankd": {"0": 26.0}, "cankd_inherit": {"0": 38.0}}
    assert not (tmp_path / "runs").exists()  # nothing was trained


def test_every_model_takes_its_methods(benchmark):
    for config, methods in benchmark.MODELS.values():
        recipe = model_zoo.get_config(f"DigitScenes/{config}.py")
        for method in methods.split():
            assert use_method(recipe, parse_method(method).name).train.inherit == (
                recipe.train.inherit if method.endswith("_inherit") else None
            )
        assert recipe.train.inherit or "_inherit" not in methods  # the small teachers are wider: "auto" is another †


def test_reppoints_is_compared_with_retinanet(load_tool, tmp_path, monkeypatch):
    benchmark = load_tool("benchmarks/reppoints.py")
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    monkeypatch.setattr(benchmark, "write_page", lambda name, text: (tmp_path / name).write_text(text))
    overrides = ("train.max_iter=5",)
    aps = iter([40.0, 50.0, 44.0])
    for config, methods in benchmark.VARIANTS.items():
        results = {(method, 0): next(aps) for method in methods}
        write_results(tmp_path / "out" / f"{config}_5", config, results, overrides)
    benchmark.main(benchmark.parse_arguments(["--seeds", "0", "--iterations", "5", "--output", str(tmp_path / "out")]))
    rows = [line.split("|")[1:-1] for line in (tmp_path / "reppoints.md").read_text().splitlines() if "|" in line]
    assert [[cell.strip() for cell in row] for row in rows[2:]] == [
        ["RetinaNet", "40.0", "40.0", "100%"],
        ["RepPoints, points start on the grid", "50.0", "50.0", "125%"],
        ["RepPoints, points start at the position", "44.0", "44.0", "110%"],
    ]

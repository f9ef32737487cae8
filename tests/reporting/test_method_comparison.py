import json
import shutil
import statistics

import cv2
import pytest
import torch
from cankd import model_zoo
from cankd.engine import result_fingerprints
from cankd.reporting import compare_methods, method_comparison, parse_method
from cankd.reporting.method_comparison import Method
from cankd.reporting.method_tables import paired_difference, verdict, write_comparison
from cankd.reporting.time_to_quality import iterations_to_quality, quality_table
from cankd.utils import UnknownClassError, UserError
from detectron2.utils.file_io import PathManager

CONFIG = """
from cankd import model_zoo
from cankd.data import DigitScenes, register_digit_scenes
from detectron2.data import DatasetCatalog

for _name, _split, _images in (("few_train", "train", 8), ("few_val", "val", 2)):
    if _name not in DatasetCatalog:
        register_digit_scenes(_name, DigitScenes(split=_split, num_images=_images))

_recipe = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
model, dataloader, train = _recipe.model, _recipe.dataloader, _recipe.train
optimizer, lr_multiplier = _recipe.optimizer, _recipe.lr_multiplier
dataloader.train.dataset.names, dataloader.test.dataset.names = "few_train", "few_val"
dataloader.train.num_workers = dataloader.test.num_workers = 0
dataloader.train.total_batch_size = 2
train.update(device="cpu", max_iter=2, log_period=1, reference_batch_size=0)
"""


def test_trains_what_is_not_done_yet_and_writes_the_comparison(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    (tmp_path / "few.py").write_text(CONFIG)
    output = tmp_path / "out"
    methods = [Method("pkd", "pkd"), Method("strong", "cankd", ("model.head.weight=50",))]

    def compare(seeds, **options):
        return compare_methods(str(tmp_path / "few.py"), methods, seeds, str(output), command="the command", **options)

    text = compare([0], jobs=2, overrides=["train.eval_period=1"])
    assert text.startswith("# Methods compared\n\n`the command`: 2 iterations.")
    results = {path.stem: json.loads(path.read_text()) for path in output.glob("*_0.json")}
    assert results.keys() == {"alone_0", "pkd_0", "strong_0"}
    assert all(result["memory"] > 100 for result in results.values())
    assert "bbox" in results["alone_0"]["metrics"]
    assert results["pkd_0"]["curves"]["bbox/AP"].keys() == {"1", "2"}
    assert cv2.imread(str(output / "methods.png")) is not None
    assert json.loads((output / "methods.json").read_text())["tasks"]["bbox"]["values"].keys() == {
        "alone",
        "pkd",
        "strong",
    }
    losses = {
        n: json.loads((output / "runs" / f"{n}_0" / "distillation_losses.json").read_text()) for n in ("alone", "pkd")
    }
    assert losses["pkd"] == {level: [f"loss_pkd_{level}"] for level in ("p3", "p4", "p5")}

    trained = []
    monkeypatch.setattr(method_comparison, "_train_all", lambda pending, total, jobs: trained.extend(pending))
    assert compare([0]) == text and trained == []
    with pytest.raises(TypeError):  # nothing has trained them
        compare([0, 1])
    assert [run.name for run in trained] == ["alone_1", "pkd_1", "strong_1"]


def test_what_another_config_or_teacher_has_made_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    (tmp_path / "few.py").write_text(CONFIG)
    teacher = tmp_path / "teacher.pth"
    shutil.copy(PathManager.get_local_path("cankd://DigitScenes/retinanet_R18.pth"), teacher)

    def compare(title="pkd", output="out", overrides=()):
        overrides = ["train.eval_period=0", f"model.teacher.weights={teacher}", *overrides]
        method = Method(title, "pkd")
        compare_methods(str(tmp_path / "few.py"), [method], [0], str(tmp_path / output), overrides=overrides)
        path = tmp_path / output / "runs" / f"{title}_0" / "model_final.pth"
        return torch.load(path, weights_only=True)["model"]["head.cls_score.weight"]

    def held(folder):
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    first = compare()
    before = held(tmp_path / "out")
    changed = r"of another config \(optimizer.lr was 0.002, now 0.001\). Give another --output, or remove"
    with pytest.raises(UserError, match=f"out/alone_0.json and 3 more: {changed}"):
        compare(overrides=["optimizer.lr=0.001"])
    for name in ("alone_0", "pkd_0"):  # unfinished, too
        (tmp_path / "out" / f"{name}.json").rename(tmp_path / f"{name}.json")
    with pytest.raises(UserError, match=f"out/runs/alone_0 and 1 more: {changed}"):
        compare(overrides=["optimizer.lr=0.001"])
    for name in ("alone_0", "pkd_0"):
        (tmp_path / f"{name}.json").rename(tmp_path / "out" / f"{name}.json")
    assert held(tmp_path / "out") == before
    assert not torch.equal(compare(output="other", overrides=["optimizer.lr=0.001"]), first)

    teacher_before = json.loads((tmp_path / "out" / "teacher.json").read_text())
    contents = torch.load(teacher, weights_only=True)
    contents["model"] = {k: v.mul(1.5) if "fpn_output" in k else v for k, v in contents["model"].items()}
    torch.save(contents, teacher)
    with pytest.raises(
        UserError, match=r"out/pkd_0.json and 1 more: of other weights. Give"
    ):  # the student alone has none
        compare()
    assert held(tmp_path / "out") == before
    assert not torch.equal(compare("pkd_of_another"), first)
    teacher_after = json.loads((tmp_path / "out" / "teacher.json").read_text())
    assert teacher_after["weights"] != teacher_before["weights"]
    assert teacher_after["metrics"] != teacher_before["metrics"]


def pretend_results(folder, monkeypatch):
    """Makes all runs finished, with one result."""
    result = {"config": "", "metrics": {"bbox": {"AP": 10.0}}, "seconds": 1.0, "memory": 1.0}
    folder.mkdir()
    for name in ("alone_0", "alone_1", "pkd_0", "pkd_1", "fast_0"):
        (folder / f"{name}.json").write_text(json.dumps(result))
    monkeypatch.setattr(method_comparison._Run, "result", lambda run: result)


def test_a_run_that_diverges_does_not_hinder_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    (tmp_path / "few.py").write_text(CONFIG)
    methods = [parse_method("wild=cankd:model.head.weight=1e39"), parse_method("pkd")]
    with pytest.raises(
        UserError, match=r"1 of 3 runs failed, the others are finished(.|\n)*wild_0: .* infinite or NaN"
    ):
        compare_methods(
            str(tmp_path / "few.py"), methods, [0], str(tmp_path / "out"), overrides=["train.eval_period=0"]
        )
    assert sorted(path.stem for path in (tmp_path / "out").glob("*_0.json")) == ["alone_0", "pkd_0"]


def test_a_checkpoint_that_is_not_there_is_refused_before_anything_is_touched(tmp_path, monkeypatch):
    (tmp_path / "few.py").write_text(CONFIG)
    monkeypatch.setattr(method_comparison, "_train_all", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match="there is no checkpoint .*moved.pth"):
        compare_methods(
            str(tmp_path / "few.py"),
            [parse_method("pkd")],
            [0],
            str(tmp_path / "out"),
            overrides=["train.init_checkpoint=moved.pth"],
        )


def test_changed_code_of_the_users_own_is_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "few.py").write_text(CONFIG)
    run = method_comparison._Run(str(tmp_path / "few.py"), (), {}, parse_method("pkd"), 0, str(tmp_path), "runs")
    result = {**result_fingerprints(run.config()), "code": "before", "metrics": {}}
    (tmp_path / "pkd_0.json").write_text(json.dumps(result))
    assert (
        run.result() == result and "pkd_0.json was trained before code of the config's own was changed" in caplog.text
    )


def test_gains_are_over_the_plain_student_or_the_named_baseline(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setattr(method_comparison, "_train_all", lambda *_: None)
    monkeypatch.setattr(method_comparison, "_evaluate_teacher", lambda run: {"bbox": {"AP": 60.0}})
    pretend_results(tmp_path / "out", monkeypatch)
    (tmp_path / "few.py").write_text(CONFIG)
    arguments = [0], str(tmp_path / "out")
    compare_methods(str(tmp_path / "few.py"), [parse_method("fast=alone:optimizer.lr=0.02")], *arguments)
    written = json.loads((tmp_path / "out" / "methods.json").read_text())
    assert written["baseline"] == "alone" and list(written["costs"]) == ["alone", "fast"]
    methods = [parse_method("pkd"), parse_method("fast=pkd:optimizer.lr=0.02")]
    compare_methods(str(tmp_path / "few.py"), methods, *arguments, baseline="pkd")
    written = json.loads((tmp_path / "out" / "methods.json").read_text())
    assert written["baseline"] == "pkd" and list(written["costs"]) == ["pkd", "fast"]
    with pytest.raises(ValueError, match="two methods would write .*out/__0.json: give them other titles"):
        compare_methods(str(tmp_path / "few.py"), [parse_method(f"{title}=pkd") for title in "αβ"], *arguments)


def test_a_method_that_cannot_be_is_refused_before_the_first_training(tmp_path):
    (tmp_path / "few.py").write_text(CONFIG)
    with pytest.raises(ValueError, match="there is no method 'canckd'"):
        compare_methods(str(tmp_path / "few.py"), [parse_method("canckd")], [0], str(tmp_path / "out"))
    with pytest.raises(ValueError, match="two methods have the same title: alone, pkd, pkd"):
        compare_methods(str(tmp_path / "few.py"), [parse_method("pkd")] * 2, [0], str(tmp_path / "out"))
    with pytest.raises(ValueError, match="the baseline 'fgd' is none of the methods: pkd"):
        compare_methods(str(tmp_path / "few.py"), [parse_method("pkd")], [0], str(tmp_path / "out"), baseline="fgd")
    with pytest.raises(ValueError, match="the seed -1 is drawn anew for each run"):
        compare_methods(str(tmp_path / "few.py"), [parse_method("pkd")], [0, -1], str(tmp_path / "out"))
    with pytest.raises(ValueError, match="each training has its own train.seed: give --seeds instead"):
        compare_methods(str(tmp_path / "few.py"), [], [0], str(tmp_path), overrides=["train.seed=7"])
    with pytest.raises(ValueError, match="--runs .*few.py/runs cannot be written"):
        compare_methods(str(tmp_path / "few.py"), [], [0], str(tmp_path), runs_dir=str(tmp_path / "few.py" / "runs"))
    (tmp_path / "best.json").write_text("[]")
    with pytest.raises(ValueError, match="best.json needs a title: write TITLE=.*best.json"):
        parse_method(str(tmp_path / "best.json"))
    for option, message in (("wieght=1", "did you mean 'weight'"), ("weight=big", "'big'; it has to be a number")):
        with pytest.raises(ValueError, match=message):
            methods = [parse_method(f"strong=pkd:model.head.{option}")]
            compare_methods(str(tmp_path / "few.py"), methods, [0], str(tmp_path / "out"))


def test_without_an_evaluation_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setattr(method_comparison, "_train_all", None)
    (tmp_path / "few.py").write_text(CONFIG)
    options = {"overrides": ["dataloader.evaluator=null"]}
    with pytest.raises(ValueError, match="the config has no dataloader.evaluator: nothing would be evaluated"):
        compare_methods(str(tmp_path / "few.py"), [parse_method("pkd")], [0], str(tmp_path / "out"), **options)


def test_methods_on_the_command_line():
    assert parse_method("cankd+kd") == Method("cankd+kd", "cankd+kd")
    strong = parse_method("strong=fgd:model.head.weight=10,train.max_iter=5")
    assert strong == Method("strong", "fgd", ("model.head.weight=10", "train.max_iter=5"))
    assert parse_method("fgd:model.head.weight=10").title == "fgd:model.head.weight=10"
    levels = parse_method("p=pkd:model.head.levels=[p3,p4],model.head.weight=2")
    assert levels.overrides == ("model.head.levels=[p3,p4]", "model.head.weight=2")
    with pytest.raises(ValueError, match="'a b' is no method"):
        parse_method("a b")


def test_options_and_methods_are_told_apart(load_tool):
    tool = load_tool("tools/compare_methods.py")
    options = [
        "+model.new=1",
        "train.init_checkpoint=detectron2://R-50.pkl",
        "model.levels={p3: p4}",
        "SOLVER.MAX_ITER=5",
    ]
    methods = ["cankd", "strong=fgd:model.head.weight=10", "pkd:model.head.weight=1", "v1.2=cankd"]
    args = tool.parse_arguments(["--config-file", "c.py", "--methods", methods[0], *options, *methods[1:]])
    assert args.opts == options and args.methods == methods


def test_differences_are_paired_by_seed():
    mean, low, high = paired_difference({0: 12.0, 1: 15.0, 2: 19.0}, {0: 10.0, 1: 12.0, 2: 15.0})
    half = 4.302653 * statistics.stdev([2, 3, 4]) / 3**0.5  # the 97.5 % point of Student's t, two degrees of freedom
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half), abs=1e-4)
    assert paired_difference({0: 1.0}, {0: 0.0}) is None


@pytest.mark.parametrize(
    "best, other, expected",
    [
        (
            (20, 21, 23),
            (19, 22, 21),
            "best gains +11.3 (+7.5 to +15.1) AP over the student alone. After 3 seeds it "
            "cannot be told apart from other.",
        ),
        ((20, 21, 22), (14, 15, 16.5), "It is better than other."),
        (
            (10, 11, 9),
            (9, 10, 8),
            "After 3 seeds no method is better than the student alone beyond chance: the best, best, gains +0.0 "
            "(-2.5 to +2.5) AP.",
        ),
        ((10, 11, 9), (5, 6, 5.5), "gains +0.0 (-2.5 to +2.5) AP. Worse than the student alone: other."),
        ((20, 21, 22), (5, 6, 5.5), "It is better than other. Worse than the student alone: other."),
    ],
)
def test_the_verdict_in_words(best, other, expected):
    rows = {"alone": (10, 10, 10), "other": other, "best": best}
    values = {title: dict(enumerate(map(float, row))) for title, row in rows.items()}
    assert expected in verdict(values, "alone", "AP")


def test_the_student_alone_is_no_verdict():
    assert (
        verdict({"alone": {0: 1.0, 1: 2.0}}, "alone", "AP")
        == "Nothing is compared with the student alone: name methods."
    )


def test_one_seed_is_no_verdict():
    assert verdict({"alone": {0: 1.0}, "pkd": {0: 2.0}}, "alone", "AP").startswith("One seed says nothing")


def test_table(tmp_path):
    def run(ap, seconds=1.0):
        return {"metrics": {"bbox": {"AP": ap}}, "seconds": seconds, "memory": 100.0}

    results = {"alone": {0: run(10.0), 1: run(12.0)}, "pkd": {0: run(16.0, 1.5), 1: run(20.0, 1.5)}}
    text = write_comparison(results, {"bbox": {"AP": 38.0}}, "alone", str(tmp_path), iterations=5, command="")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["", "AP by seed", "AP", "gain", "gap closed", "time", "memory"]
    assert rows[1][:4] == ["alone", "10.0, 12.0", "11.0 ± 1.4", ""]
    assert rows[2][1:3] == ["16.0, 20.0", "18.0 ± 2.8"] and rows[2][3].startswith("+7.0 (")
    assert rows[2][4:] == ["26%", "1.50", "1.00"]
    assert rows[3][:3] == ["teacher", "", "38.0"]
    assert "## " not in text
    for result in results["pkd"].values():  # as results from elsewhere may come
        result["seconds"] = None
    again = write_comparison(results, {"bbox": {"AP": 38.0}}, "alone", str(tmp_path), iterations=5, command="")
    assert again == text


def test_time_to_quality(tmp_path):
    def run(*curve, seconds):
        curves = {"bbox/AP": {str(100 * i): ap for i, ap in enumerate(curve, start=1)}}
        return {"metrics": {"bbox": {"AP": curve[-1]}}, "seconds": seconds, "memory": 100.0, "curves": curves}

    nan = float("nan")  # nothing detected yet
    results = {
        "alone": {0: run(nan, 6.0, 10.0, 8.0, seconds=1.0), 1: run(nan, 2.0, 9.0, 12.0, seconds=1.0)},
        "pkd": {0: run(7.0, 8.0, 12.0, 16.0, seconds=1.2), 1: run(nan, 11.0, 12.0, 20.0, seconds=1.2)},
        "at": {0: run(1.0, 2.0, 3.0, 4.0, seconds=1.0), 1: run(1.0, 2.0, 3.0, 12.0, seconds=1.0)},
        "pkd by itself": {seed: {k: v for k, v in run(9.0, seconds=1.0).items() if k != "curves"} for seed in (0, 1)},
    }
    text = write_comparison(results, {"bbox": {"AP": 38.0}}, "alone", str(tmp_path), iterations=400, command="")
    table = text.partition("first has the AP that the student alone ends with")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    assert rows == [
        ["", "iterations by seed", "share of the student's", "share of its time"],
        ["pkd", "200, 300", "62%", "75%"],
        ["at", "–, 400", "–", "–"],
    ]
    assert cv2.imread(str(tmp_path / "methods_curves.png")) is not None
    contents = json.loads((tmp_path / "methods.json").read_text())
    assert quality_table(contents, "bbox")[0][0] == ["pkd", "200, 300", "62%", "75%"]


def test_time_to_quality_is_of_common_seeds():
    curves = {"alone": {0: {100: 3.0, 300: 5.0}}, "pkd": {0: {100: 5.0}, 1: {100: 9.0}}, "at": {1: {100: 1.0}}}
    assert iterations_to_quality(curves, "alone") == {"alone": {0: 300}, "pkd": {0: 100}}


def test_methods_are_compared_with_another_than_the_student_alone(tmp_path):
    def run(*curve):
        curves = {"bbox/AP": {str(100 * i): ap for i, ap in enumerate(curve, start=1)}}
        return {"metrics": {"bbox": {"AP": curve[-1]}}, "seconds": 1.0, "memory": 1.0, "curves": curves}

    results = {"linear": {0: run(5.0, 10.0), 1: run(6.0, 12.0)}, "cankd": {0: run(10.0, 11.1), 1: run(7.0, 13.0)}}
    text = write_comparison(results, {"bbox": {"AP": 38.0}}, "linear", str(tmp_path), iterations=200, command="")
    assert "cankd gains +1.0 (+0.4 to +1.7) AP over linear." in text
    assert "first has the AP that linear ends with" in text and "share of linear's" in text
    assert "against linear." in text and "student" not in text
    assert json.loads((tmp_path / "methods.json").read_text())["baseline"] == "linear"
    worse = {title: {seed: ap for seed, ap in enumerate(row)} for title, row in (("a", (9.0, 9.1)), ("b", (5.0, 5.1)))}
    assert verdict(worse, "a", "AP") == (
        "After 2 seeds no method is better than a beyond chance: the best, b, gains -4.0 (-4.0 to -4.0) AP. "
        "Worse than a: b."
    )


def test_each_of_several_tasks_has_a_heading(tmp_path):
    metrics = {"bbox": {"AP": 10.0}, "segm": {"AP": 5.0}}
    results = {"alone": {0: {"metrics": metrics, "seconds": None, "memory": 1.0}}}
    text = write_comparison(results, metrics, "alone", str(tmp_path), iterations=5, command="")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Boxes", "## Masks"]


def test_a_student_is_compared_by_its_teacher(tmp_path):
    student, teacher = (model_zoo.get_config_file(f"DigitScenes/{name}.py") for name in ("retinanet_R10", "fcos_R18"))
    models = {"teacher": teacher, "weights": "teacher.pth"}
    method = Method("pkd", "pkd_inherit", ("model.head.weight=2",))
    config = method_comparison._Run(student, ("train.max_iter=7",), models, method, 3, "out", "runs").config()
    assert (config.train.max_iter, config.train.seed, config.train.inherit) == (7, 3, "auto")
    assert config.model.head.weight == 2 and config.model.teacher.weights == "teacher.pth"


def test_a_run_that_goes_on_keeps_what_it_knew(tmp_path):
    known, unknown = {"config": "a", "weights": "b", "data": "c"}, {"config": "a", "weights": "b", "data": ""}
    for described, goes_on in ((known, False), (unknown, True), (known, True), ({**known, "data": "d"}, False)):
        (tmp_path / "last_checkpoint").write_text("x")
        code = method_comparison._begin(str(tmp_path), described, f"code of {described['data']}", {})
        assert (tmp_path / "last_checkpoint").exists() == goes_on
        assert code == f"code of {'d' if described['data'] == 'd' else 'c'}"  # that it was begun with
    assert json.loads((tmp_path / "begun_with.json").read_text()) == {
        **known,
        "data": "d",
        "code": "code of d",
        "options": {},
    }


def test_changed_options_are_named():
    before, now = {"a.b": 1, "a.c": [2], "d": None, "gone": 5, "same": 6}, {"a.b": 2, "a.c": [3], "d": 4, "same": 6}
    assert method_comparison._changes({"a.b": 1}, {"a.b": 2}) == "a.b was 1, now 2"
    assert method_comparison._changes(before, now) == (
        "a.b was 1, now 2; a.c was [2], now [3]; d was None, now 4; 1 more option"
    )


def test_a_teacher_of_other_classes_has_no_row(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))

    def refuse(config, role):
        raise UnknownClassError("class 57 was predicted")

    monkeypatch.setattr(method_comparison, "evaluate", refuse)
    monkeypatch.setattr(method_comparison, "_train_all", lambda *_: None)
    pretend_results(tmp_path / "out", monkeypatch)
    (tmp_path / "few.py").write_text(CONFIG)
    text = compare_methods(str(tmp_path / "few.py"), [parse_method("pkd")], [0, 1], str(tmp_path / "out"))
    assert "as it was trained for other classes: class 57 was predicted" in caplog.text
    assert "| pkd " in text and "teacher" not in text and cv2.imread(str(tmp_path / "out" / "methods.png")) is not None


def test_a_task_of_the_teacher_alone_is_left_out(tmp_path):
    boxes = {"metrics": {"bbox": {"AP": 10.0}}, "seconds": 1.0, "memory": 1.0}
    results = {title: {0: boxes, 1: boxes} for title in ("alone", "pkd")}
    teacher = {"bbox": {"AP": 60.0}, "segm": {"AP": 35.0}}
    write_comparison(results, teacher, "alone", str(tmp_path), iterations=9, command="")
    assert list(json.loads((tmp_path / "methods.json").read_text())["tasks"]) == ["bbox"]
    results["pkd"][0] = results["pkd"][1] = {**boxes, "metrics": {"depth": {"delta1": 1.0}}}
    results["alone"] = results["pkd"]
    with pytest.raises(ValueError, match="the runs have metrics of depth, and none of"):
        write_comparison(results, teacher, "alone", str(tmp_path), iterations=9, command="")

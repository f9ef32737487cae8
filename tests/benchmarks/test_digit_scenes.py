import argparse
import json

import pytest

METRICS = ("AP", "AP50", "AP75", "APs", "APm")


def metrics(ap):
    return dict.fromkeys(METRICS, ap)


def test_table_has_mean_spread_and_gain_seed_by_seed(load_tool):
    make_table = load_tool("benchmarks/digit_scenes.py").make_table
    results = {
        "student alone": {0: metrics(10.0), 1: metrics(14.0)},
        "CanKD": {0: metrics(20.0), 1: metrics(22.0)},
    }
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in make_table(results, metrics(40.0), METRICS).splitlines()
    ]
    assert rows[2][:3] == ["student alone", "10.0, 14.0", "12.0 ± 2.8"] and rows[2][-2:] == ["", ""]
    # The gains are 10 and 8; 9 of the 28 points to the teacher.
    assert rows[3][:3] == ["CanKD", "20.0, 22.0", "21.0 ± 1.4"] and rows[3][-2:] == ["9.0 ± 1.4", "32%"]
    assert rows[4][0] == "teacher" and rows[4][2] == "40.0"


def test_runs_that_are_done_are_not_repeated(load_tool, tmp_path, monkeypatch):
    benchmark = load_tool("benchmarks/digit_scenes.py")
    commands = []

    def train(command, **kwargs):
        commands.append(command)
        folder = tmp_path / "table" / "cankd_seed3"
        (folder / "model_final.pth").touch()
        lines = [{"iteration": 1, "total_loss": 1}, {"iteration": 2, "bbox/AP": 7.0, "bbox/AP50": 9.0}]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))

    monkeypatch.setattr(benchmark.subprocess, "run", train)
    args = argparse.Namespace(output=tmp_path, name="table", opts=["train.max_iter=2"])
    for _ in range(2):
        assert benchmark.run("retinanet", "CanKD", 3, args) == {"AP": 7.0, "AP50": 9.0}
    (command,) = commands
    assert "train.seed=3" in command and "train.max_iter=2" in command
    assert any(str(part).endswith("DigitScenes/retinanet_R10_from_R18.py") for part in command)


def test_other_options_need_a_name(load_tool, monkeypatch, capsys):
    benchmark = load_tool("benchmarks/digit_scenes.py")
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(["train.max_iter=2"])
    assert "other results: --name them" in capsys.readouterr().err
    assert benchmark.parse_arguments(["--detector", "faster_rcnn"]).name == "digit_scenes_faster_rcnn"

import json
import pathlib

import cankd.reporting.demo
import cv2
import pytest
from cankd.reporting import box_metrics_table, gap_closed, run_demo
from cankd.utils import UserError, lock_directory

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@pytest.fixture
def demo(quick_config, tmp_path):
    """Returns a function that runs a demo of a few iterations and returns its lines."""

    def run(**train):
        configs = [
            quick_config(f"DigitScenes/{name}.py", **train) for name in ("retinanet_R10", "retinanet_R10_from_R18")
        ]
        lines = []
        run_demo(*configs, str(tmp_path / "demo"), report=lines.append)
        return lines

    return run


def test_compares_the_three_models_and_says_where_all_lies(demo, tmp_path, monkeypatch):
    lines = demo()
    folder = tmp_path / "demo"
    results = json.loads((folder / "results.json").read_text())
    assert list(results["results"]) == ["student alone", "CanKD student", "teacher"]
    assert results["results"]["teacher"]["AP"] > 20
    assert results["results"]["teacher"]["APl"] is None  # no digit is large
    assert (folder / "results.md").read_text().count("|") > 20
    assert cv2.imread(str(folder / "detections.png")).shape[1] > 1000
    text = "\n".join(lines)
    for name in ("results.md", "detections.png", "log.txt", "student/", "cankd/"):
        assert name in text and (folder / name).exists()

    # What is done is not done again, unless the config changes.
    monkeypatch.setattr(cankd.reporting.demo, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    monkeypatch.setattr(cankd.reporting.demo, "evaluate", lambda *args, **kwargs: pytest.fail("evaluated again"))
    demo()
    assert json.loads((folder / "results.json").read_text()) == results
    with pytest.raises(pytest.fail.Exception, match="evaluated again"):
        demo(max_iter=5)


def test_resumes_where_it_was_interrupted(demo, tmp_path, monkeypatch):
    calls = []
    train = cankd.reporting.demo.train

    def interrupt(config, *, resume, **kwargs):
        calls.append((pathlib.Path(config.train.output_dir).name, resume))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(config, resume=resume, **kwargs)

    monkeypatch.setattr(cankd.reporting.demo, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo()
    demo()
    assert calls == [("student", False), ("cankd", False), ("cankd", True)]


def test_other_options_start_anew(demo, tmp_path, monkeypatch):
    """Also if the run with the other options was interrupted before its first checkpoint."""
    resumed = []
    train = cankd.reporting.demo.train

    def record(config, *, resume, **kwargs):
        last = pathlib.Path(config.train.output_dir) / "last_checkpoint"
        resumed.append((config.train.max_iter, resume and last.exists()))
        if len(resumed) == 3:
            raise KeyboardInterrupt
        return train(config, resume=resume, **kwargs)

    monkeypatch.setattr(cankd.reporting.demo, "train", record)
    demo(max_iter=2)
    with pytest.raises(KeyboardInterrupt):
        demo(max_iter=3)
    demo(max_iter=3)
    assert resumed == [(2, False), (2, False), (3, False), (3, False), (3, False)]


def test_recovers_from_any_state_of_its_folder(demo, tmp_path):
    demo(max_iter=2)
    folder = tmp_path / "demo"
    results = json.loads((folder / "results.json").read_text())
    (folder / "student" / "results.json").write_bytes(b"\xff{")
    final = folder / "student" / "model_final.pth"
    final.write_bytes(final.read_bytes()[:1000])
    (folder / "cankd" / "model_final.pth").unlink()
    (folder / "teacher" / "config.yaml").write_bytes(b"\xff")
    demo(max_iter=2)
    assert json.loads((folder / "results.json").read_text()) == results


def test_two_demos_do_not_share_a_folder(demo, tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    with lock_directory(str(tmp_path / "demo")):
        monkeypatch.setattr("cankd.utils.directory_lock._held", {})  # another process does not know of it
        with pytest.raises(UserError, match="the directory .*demo is in use by another run"):
            demo()
        monkeypatch.undo()


def test_share_of_the_gap():
    assert gap_closed(10, 16, 40) == pytest.approx(0.2)
    assert gap_closed(10, 5, 40) < 0 and gap_closed(40, 50, 40) != gap_closed(40, 50, 40)


def test_table():
    rows = {"alone": [10.0] * 5 + [float("nan")], "ours": [17.5] * 6, "teacher": [40.0] * 6}
    results = {title: dict(zip(METRICS, values)) for title, values in rows.items()}
    table = box_metrics_table(results, student="alone", teacher="teacher").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert cells[0] == ["", *METRICS, "gap closed"]
    assert cells[2] == ["alone", *["10.0"] * 5, "–", ""]
    assert cells[3] == ["ours", *["17.5"] * 6, "25%"]
    assert cells[4] == ["teacher", *["40.0"] * 6, ""]

import csv
import json

import matplotlib.image
import pytest
from cankd.data import Cell, choose_cells
from cankd.robustness import compare_robustness
from matplotlib import pyplot

CLEAN = Cell("clean", 0)


def grid(cells, task="bbox", **values):
    """AP falls by a point with each severity; every cell of severity s has AP 40 - s unless it is given."""
    names = ("mIoU", "fwIoU", "pACC") if task == "sem_seg" else ("AP", "AP50", "AP75")
    return {cell: {task: dict.fromkeys(names, values.get(str(cell), 40.0 - cell.severity))} for cell in cells}


def rows_of(text):
    return [[word.strip() for word in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def test_tables_of_the_benchmark(tmp_path):
    text = compare_robustness({"plain": grid(choose_cells()), "better": grid(choose_cells(), clean=37)}, str(tmp_path))
    assert (tmp_path / "robustness.md").read_text() == text
    rows = [row[:4] for row in rows_of(text)]
    assert rows[0] == ["", "AP clean", "AP mPC", "AP rPC"]
    assert rows[1:3] == [["plain", "40.0", "37.0", "92.5"], ["better", "37.0", "37.0", "100.0"]]
    assert text.count("| gaussian_noise") == 2 and "39.0 |         38.0" in text
    assert "mPC is not the benchmark's" not in text and "rPC needs" not in text
    stored = json.loads((tmp_path / "robustness.json").read_text())
    assert stored["summary"]["bbox"]["plain"]["AP50"] == {"clean": 40, "mPC": 37, "rPC": 92.5}
    summary, plain, better = stored["tables"]["bbox"]
    assert (summary["title"], plain["title"], better["title"]) == ("bbox", "plain, AP", "better, AP")
    assert summary["rows"][0][:4] == ["plain", "40.0", "37.0", "92.5"] and summary["headers"] == rows_of(text)[0]
    assert plain["rows"][0] == ["gaussian_noise", "39.0", "38.0", "37.0", "36.0", "35.0"]
    assert stored["remarks"] == [] and stored["command"] == ""
    with open(tmp_path / "robustness.csv") as f:
        lines = list(csv.DictReader(f))
    assert len(lines) == 2 * 76 * 3
    assert lines[3] == dict(
        model="plain", task="bbox", corruption="gaussian_noise", severity="1", metric="AP", value="39.0"
    )
    assert matplotlib.image.imread(tmp_path / "robustness_bbox.png").shape[1] > 1000
    assert not pyplot.get_fignums() and not list(tmp_path.glob("*.unfinished"))


def test_less_than_the_benchmark_is_said(tmp_path):
    text = compare_robustness({"model": grid(choose_cells("fog,snow", [2]))}, str(tmp_path))
    assert "rPC needs the clean images: add 0 to --severities." in text
    assert "it averages 2 corruptions (fog, snow) at severities [2], not 15" in text
    assert "|          – |     38.0 |        – |" in text


def test_segmentation_has_its_own_metrics(tmp_path):
    text = compare_robustness({"model": grid([CLEAN, Cell("fog", 1)], "sem_seg")}, str(tmp_path))
    assert "mIoU clean" in text and "AP" not in text
    assert (tmp_path / "robustness_sem_seg.png").exists()


def test_models_of_different_cells_or_tasks_are_not_compared(tmp_path):
    with pytest.raises(ValueError, match="a and b were not evaluated on the same .*: 2 and 1 cells, 1 of them in one"):
        compare_robustness({"a": grid([CLEAN, Cell("fog", 1)]), "b": grid([CLEAN])}, str(tmp_path))
    with pytest.raises(
        ValueError,
        match="no metric in common that is known here; found are bbox/AP, bbox/AP50, bbox/AP75, sem_seg/fwIoU",
    ):
        compare_robustness({"a": grid([CLEAN]), "b": grid([CLEAN], "sem_seg")}, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file/robustness.* cannot be written: "):
        compare_robustness({"a": grid([CLEAN])}, str(tmp_path / "file"))


def test_cityscapes_own_metrics(tmp_path):
    grid = {cell: {"sem_seg": {"IoU": 70.0 - cell.severity, "iIoU": 50.0}} for cell in (CLEAN, Cell("fog", 1))}
    assert "| model |" in compare_robustness({"model": grid}, str(tmp_path))
    assert (tmp_path / "robustness_sem_seg.png").exists()


def test_clean_images_alone_have_no_curves(tmp_path):
    text = compare_robustness({"model": grid([CLEAN])}, str(tmp_path))
    assert "mPC needs corrupted images" in text and "averages" not in text and "png" not in text
    assert not list(tmp_path.glob("*.png"))


def test_the_mean_corruption_error_is_relative_to_the_first_model(tmp_path):
    """Hendrycks & Dietterich: errors are summed over severities, divided, and the ratios averaged over corruptions."""
    cells = choose_cells("fog,snow", [0, 1, 2])
    top1 = {"first": (50, 90, 70, 40, 40), "second": (50, 95, 75, 40, 70)}
    grids = {
        name: {cell: {"classification": {"top1": value}} for cell, value in zip(cells, values)}
        for name, values in top1.items()
    }
    text = compare_robustness(grids, str(tmp_path))
    columns = dict(zip(rows_of(text)[0], zip(*rows_of(text)[1:3])))
    assert columns["top1 mCE"] == ("100.0", "75.0")  # fog: 30 of 40, snow: 90 of 120
    assert "mCE, the mean corruption error, divides by the errors of first; published ones" in text

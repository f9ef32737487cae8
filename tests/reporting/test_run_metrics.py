import json

import cv2
import pytest
from cankd.reporting import plot_runs, read_curves


def write(path, lines, tail=""):
    path.mkdir(exist_ok=True)
    (path / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return str(path)


def run(path, **options):
    lines = [
        {
            "iteration": i,
            "total_loss": 5.0 - i,
            "loss_cankd_p3": 2.0,
            "loss_cankd_p4": 1.0,
            "[metric]correlation_p3": 0.1,
        }
        for i in range(3)
    ]
    return write(path, [*lines, {"iteration": 3, "bbox/AP": 12.0, "bbox/APl": float("nan")}], **options)


def test_a_resumed_run_does_not_jump_back(tmp_path):
    values = [(0, 9), (10, 8), (20, 7), (15, 6), (25, 5)]  # resumed after iteration 10
    path = write(tmp_path / "run", [{"iteration": i, "total_loss": value} for i, value in values])
    assert read_curves(path)["total_loss"] == {0: 9, 10: 8, 15: 6, 25: 5}


def test_all_curves_go_back_with_a_resumed_run(tmp_path):
    lines = [
        {"iteration": 499, "bbox/AP": 1, "total_loss": 5},
        {"iteration": 999, "bbox/AP": 2, "total_loss": 4},
        {"iteration": 519, "total_loss": 3},
    ]
    assert read_curves(write(tmp_path / "run", lines)) == {"bbox/AP": {499: 1}, "total_loss": {499: 5, 519: 3}}


def test_lines_of_one_moment_may_be_in_any_order(tmp_path):
    """Detectron2 writes a scalar with the iteration that it is of, the older ones behind."""
    lines = [
        {"iteration": 49, "bbox/AP": 1, "total_loss": 5},
        {"iteration": 39, "correlation": 0.1},
        {"iteration": 99, "bbox/AP": 2, "total_loss": 4, "correlation": 0.2},
        {"iteration": 149, "bbox/AP": 3, "total_loss": 3},
        {"iteration": 139, "correlation": 0.3},
    ]
    assert read_curves(write(tmp_path / "run", lines)) == {
        "bbox/AP": {49: 1, 99: 2, 149: 3},
        "total_loss": {49: 5, 99: 4, 149: 3},
        "correlation": {39: 0.1, 99: 0.2, 139: 0.3},
    }


def test_torn_lines_are_left_out_with_a_warning(tmp_path, caplog):
    path = run(
        tmp_path / "run", tail='{"iteration": 4, "total_l{"iteration": 5}\n{"iteration": 6, "total_loss": 7}\n{"ite'
    )
    assert list(read_curves(path)["total_loss"]) == [0, 1, 2, 6]
    assert "line 5, is damaged" in caplog.text and "line 7, is damaged" in caplog.text


def test_lines_with_other_than_numbers_are_left_out_with_a_warning(tmp_path, caplog):
    lines = [
        {"iteration": 0, "total_loss": 1.0},
        {"iteration": 1, "total_loss": "low"},
        {"iteration": "2", "total_loss": 1.0},
        {"iteration": 3, "total_loss": None},
        [4],
        {"iteration": 5, "total_loss": {"a": 1}},
        {"iteration": 6, "total_loss": 2.0},
    ]
    assert read_curves(write(tmp_path / "run", lines)) == {"total_loss": {0: 1.0, 6: 2.0}}
    assert [f"line {number}, is damaged" in caplog.text for number in range(1, 8)] == [False, *[True] * 5, False]


@pytest.mark.parametrize("contents", ["{", "[1]", '{"p3": null}'])
def test_a_damaged_list_of_losses_is_named(tmp_path, contents):
    path = write(tmp_path / "run", [{"iteration": 0, "total_loss": 1.0}])
    (tmp_path / "run" / "distillation_losses.json").write_text(contents)
    with pytest.raises(ValueError, match="distillation_losses.json does not list .*: remove it"):
        read_curves(path)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent cannot be read .No such file.*give the output directory"):
        read_curves(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="metrics.json holds no metrics yet"):
        read_curves(write(tmp_path / "new", []))


def test_plots_metric_losses_and_levels(tmp_path):
    runs = {"one": run(tmp_path / "a"), "other": write(tmp_path / "b", [{"iteration": 0, "total_loss": 1.0}])}
    curves = {name: read_curves(path) for name, path in runs.items()}
    plot_runs(curves, str(tmp_path / "curves.png"), teacher=50.0)
    assert cv2.imread(str(tmp_path / "curves.png")).shape[1] > 900
    numbers = json.loads((tmp_path / "curves.json").read_text())
    assert numbers["curves"] == {
        "bbox/AP": {"one": {"3": 12}},
        "task loss": {"one": {"0": 2, "1": 1, "2": 0}, "other": {"0": 1}},  # without the distillation's 3
        "distillation loss, p3": {"one": {"0": 2, "1": 2, "2": 2}},
        "distillation loss, p4": {"one": {"0": 1, "1": 1, "2": 1}},
        "correlation, p3": {"one": {"0": 0.1, "1": 0.1, "2": 0.1}},
    }


def test_the_task_loss_is_the_sum_of_its_own(tmp_path):
    """And no difference to the total, whose median over some iterations is another one's."""
    lines = [{"iteration": 0, "total_loss": 9.0, "loss_cls": 1.0, "loss_box_reg": 0.5, "loss_cankd_p3": 3.0}]
    folder = write(tmp_path / "a", lines)
    (tmp_path / "a" / "distillation_losses.json").write_text(json.dumps({"p3": ["loss_cankd_p3"]}))
    plot_runs({"one": read_curves(folder)}, str(tmp_path / "curves.png"))
    assert json.loads((tmp_path / "curves.json").read_text())["curves"]["task loss"] == {"one": {"0": 1.5}}


@pytest.mark.parametrize("name", ["metrics.png", "distillation_losses.png", "curves.json"])
def test_a_picture_does_not_take_a_runs_place(tmp_path, name):
    curves = {"one": read_curves(run(tmp_path / "a"))}
    before = (tmp_path / "a" / "metrics.json").read_text()
    with pytest.raises(ValueError, match=f"the numbers beside .*{name} would replace .*json: choose another file name"):
        plot_runs(curves, str(tmp_path / "a" / name))
    assert (tmp_path / "a" / "metrics.json").read_text() == before


def test_an_absent_metric_lists_the_present(tmp_path):
    with pytest.raises(ValueError, match="no run has the metric 'segm/AP'; found are bbox/AP, bbox/APl"):
        plot_runs({"one": read_curves(run(tmp_path / "a"))}, str(tmp_path / "curves.png"), metric="segm/AP")
    assert not (tmp_path / "curves.png").exists()

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from cankd.visualization import (
    HeatMap,
    curves,
    draw_annotations,
    draw_class,
    draw_confusion_matrices,
    draw_curves,
    draw_heatmaps,
    draw_method_points,
    draw_severity_curves,
    save_grid,
)
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode

NAME = "a$x_{$b"  # no mathematics, though two dollars stand in it
IMAGE = np.full((64, 96, 3), 128, np.uint8)
PICTURES = {
    "confusion": lambda path: draw_confusion_matrices(
        path, {NAME: np.eye(2), "b": np.eye(2)}, [NAME, "c"], difference=(NAME, "b")
    ),
    "curves": lambda path: draw_curves(path, [[(NAME, {NAME: {0: 1.0, 1: 2.0}})]], lines={NAME: 1.5}),
    "severities": lambda path: draw_severity_curves(path, {"noise": {NAME: {0: 9.0, 1: 5.0}}}, NAME),
    "heat maps": lambda path: draw_heatmaps(path, IMAGE, {NAME: {NAME: HeatMap(np.eye(8), 8)}}, label=NAME),
    "methods": lambda path: draw_method_points(path, {NAME: {0: 1.0, 1: 2.0}}, NAME, 3.0),
    "grid": lambda path: save_grid(path, [[IMAGE]], [NAME]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_names_with_dollars_are_drawn(tmp_path, name):
    PICTURES[name](str(tmp_path / "a.png"))
    assert cv2.imread(str(tmp_path / "a.png")).std() > 0


def test_every_panel_shows_all_its_values(monkeypatch):
    saved = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: saved.append(figure))
    draw_severity_curves("a.png", {"noise": {"m": {1: 5.0, 5: 1.0}}, "blur": {"m": {1: 50.0, 5: 9.0}}}, "AP")
    plt.close(saved[0])
    for axis in saved[0].axes:
        low, high = axis.get_ylim()
        assert low == 0 and high > 50


def test_classes_with_dollars_are_drawn():
    annotation = {"bbox": [10, 20, 40, 50], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    for picture in (
        draw_class(IMAGE, NAME),
        draw_annotations(IMAGE, [annotation], Metadata(thing_classes=[NAME])),
    ):
        assert (picture[:20] != 128).any()

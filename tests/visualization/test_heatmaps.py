import matplotlib.image
import numpy as np
import pytest
import torch
from cankd.visualization import HeatMap, draw_confusion_matrices, draw_heatmaps, heatmaps, reduce_channels
from matplotlib import pyplot

FEATURE = torch.tensor([[[1.0, -4.0]], [[2.0, 2.0]], [[0.0, 1.0]]])  # (3, 1, 2)


@pytest.mark.parametrize(
    "reduction, expected",
    [("mean", [1, -1 / 3]), ("max", [2, 4]), ("norm", [5**0.5, 21**0.5]), ("top", [0.5, -1.5])],
)
def test_reductions_of_channels(reduction, expected):
    # channels 0 and 2 vary most over the positions
    assert reduce_channels(FEATURE, reduction, top_k=2)[0].tolist() == pytest.approx(expected)


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match="'median'; it has to be one of mean, max, norm, top"):
        reduce_channels(FEATURE, "median")
    with pytest.raises(ValueError, match="top 4 channels are asked for, and there are 3"):
        reduce_channels(FEATURE, "top", top_k=4)


@pytest.fixture
def shown(monkeypatch):
    """Collects what is drawn as (values, options)."""
    calls = []
    original = pyplot.Axes.imshow
    monkeypatch.setattr(
        pyplot.Axes,
        "imshow",
        lambda self, *args, **kwargs: calls.append((args[0], kwargs)) or original(self, *args, **kwargs),
    )
    return calls


def test_padding_does_not_count_for_a_rows_colours(tmp_path, shown):
    image = np.zeros((16, 20, 3), np.uint8)
    values = np.full((4, 4), 99.0)  # of stride 8: 2×3 positions lie in the image, the rest is padding
    values[:2, :3] = [[1, 2, 3], [4, 5, 6]]
    draw_heatmaps(
        str(tmp_path / "a.png"), image, {"p3": {"one": HeatMap(values, 8), "two": HeatMap(-values, 8)}}, label="x"
    )
    maps = [options for drawn, options in shown if drawn.shape == (4, 4)]
    assert [(options["vmin"], options["vmax"]) for options in maps] == [(-6, 6)] * 2
    assert maps[0]["extent"] == (0, 32, 32, 0)
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] > 500 and not pyplot.get_fignums()


@pytest.mark.parametrize("signed, expected", [(False, (0, 1)), (True, (-1, 1))])
def test_a_map_of_zeros_is_dark_or_in_the_middle(tmp_path, shown, signed, expected):
    rows = {"p3": {"one": HeatMap(np.zeros((1, 2)), 8)}}
    draw_heatmaps(str(tmp_path / "a.png"), np.zeros((8, 16, 3), np.uint8), rows, label="x", signed=signed)
    assert (shown[-1][1]["vmin"], shown[-1][1]["vmax"]) == expected


def test_each_column_has_its_title_also_without_a_map_in_the_first_row(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(heatmaps, "save_figure", lambda figure, path: figures.append(figure))
    heat_map = HeatMap(np.array([[0.0, 1.0]]), 8)
    rows = {"p3": {"one": None, "two": heat_map}, "p4": {"one": heat_map, "two": None}}
    draw_heatmaps("a.png", np.zeros((8, 16, 3), np.uint8), rows, label="x")
    axes = figures[0].axes[:3]
    assert [axis.get_title() for axis in axes if axis.get_visible()] == ["image", "one", "two"]
    pyplot.close(figures[0])


def test_signed_maps_have_zero_in_the_middle(tmp_path, shown):
    heat_map = HeatMap(np.array([[-1.0, 3.0]]), 8)
    draw_heatmaps(
        str(tmp_path / "a.png"), np.zeros((8, 16, 3), np.uint8), {"p3": {"m": heat_map}}, label="x", signed=True,
        marks={"p3": [(4.0, 4.0)]},
    )  # fmt: skip
    assert (shown[-1][1]["vmin"], shown[-1][1]["vmax"]) == (-3, 3)


@pytest.mark.parametrize("classes", [3, 81])
def test_confusion_matrices_of_few_and_many_classes(tmp_path, shown, classes):
    matrices = {"one": np.eye(classes) * 100, "two": np.full((classes, classes), np.nan)}
    names = [f"class {i}" for i in range(classes)]
    draw_confusion_matrices(str(tmp_path / "a.png"), matrices, names, difference=("two", "one"))
    assert len(shown) == 3 and not pyplot.get_fignums()
    assert matplotlib.image.imread(tmp_path / "a.png").shape[0] > (800 if classes == 3 else 4000)

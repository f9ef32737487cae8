import hashlib
import importlib.metadata
import sys

import detectron2.data.transforms as T
import numpy as np
import pytest
from cankd.data import CORRUPTION_GROUPS, Cell, CorruptedDataset, DigitScenes, choose_cells, corrupt, image_id_of
from detectron2.data import DatasetCatalog, DatasetMapper

imagecorruptions = pytest.importorskip("imagecorruptions", reason="corruptions come from imagecorruptions-imaug")

BENCHMARK = [name for group in ("noise", "blur", "weather", "digital") for name in CORRUPTION_GROUPS[group]]
ALL = [*BENCHMARK, *CORRUPTION_GROUPS["extra"]]
PINNED = {
    "imagecorruptions-imaug": "1.1.5",
    "numpy": "2.3.5",
    "opencv-python-headless": "5.0.0.93",
    "Pillow": "13.0.0",
    "scikit-image": "0.26.0",
    "scipy": "1.17.1",
}


def is_pinned_environment():
    try:
        return all(importlib.metadata.version(name) == version for name, version in PINNED.items())
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def image():
    return DigitScenes(split="val", num_images=2).draw(0)[0][..., ::-1].copy()


def test_groups_are_the_librarys():
    for group, names in CORRUPTION_GROUPS.items():
        assert list(names) == imagecorruptions.get_corruption_names("validation" if group == "extra" else group)
    assert BENCHMARK == imagecorruptions.get_corruption_names("common")


def test_cells_of_the_benchmark():
    cells = choose_cells()
    assert cells[0] == Cell("clean", 0)
    assert cells[1:] == [Cell(name, severity) for name in BENCHMARK for severity in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    "corruptions, severities, expected",
    [
        ("fog", [3], ["fog_3"]),
        ("fog, noise,fog", [2, 0, 2], ["clean", "fog_2", "gaussian_noise_2", "shot_noise_2", "impulse_noise_2"]),
        ("extra", [5], ["speckle_noise_5", "gaussian_blur_5", "spatter_5", "saturate_5"]),
    ],
)
def test_cells_by_name(corruptions, severities, expected):
    assert [str(cell) for cell in choose_cells(corruptions, severities)] == expected


def test_all_adds_the_four_beyond_the_benchmark():
    assert len(choose_cells("all", [1])) == 19


@pytest.mark.parametrize(
    "corruptions, severities, message",
    [
        ("fgo,noise", [1], "'fgo' is no corruption. Known are the sets benchmark, all, noise, .* gaussian_noise"),
        ("", [1], "'' is no corruption"),
        ("fog", [1, 6], r"severities are \[1, 6\]; they have to be among \[0, 1, 2, 3, 4, 5\]"),
        ("fog", [], "severities are"),
    ],
)
def test_unknown_names_and_severities_are_refused(corruptions, severities, message):
    with pytest.raises(ValueError, match=message):
        choose_cells(corruptions, severities)


@pytest.mark.parametrize("name", ALL)
def test_pixels_depend_on_image_id_and_cell_alone(name, image):
    first = corrupt(image, Cell(name, 3), 7)
    assert first.shape == image.shape and first.dtype == np.uint8
    np.random.seed(123)
    state = np.random.get_state()[1].copy()
    assert np.array_equal(corrupt(image, Cell(name, 3), 7), first)
    assert np.array_equal(np.random.get_state()[1], state)
    assert not np.array_equal(corrupt(image, Cell(name, 5), 7), first)


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "glass_blur", "elastic_transform", "spatter"])
def test_each_image_is_corrupted_in_its_own_way(name, image):
    assert not np.array_equal(corrupt(image, Cell(name, 3), 7), corrupt(image, Cell(name, 3), 8))


def test_severity_0_is_the_clean_image(image):
    assert np.array_equal(corrupt(image, Cell("clean", 0), 7), image)


@pytest.mark.skipif(not is_pinned_environment(), reason="the pixels are promised for the pinned environment")
def test_checksums(image):
    found = {name: hashlib.sha256(corrupt(image, Cell(name, 3), 0).tobytes()).hexdigest()[:16] for name in ALL}
    assert found == CHECKSUMS


def test_without_the_library_it_says_what_to_install(monkeypatch, image):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(ValueError, match="pip install --no-deps imagecorruptions-imaug==1.1.5"):
        corrupt(image, Cell("fog", 1), 0)


def dataset(name, image_format="BGR", augmentations=(), cells=(Cell("clean", 0), Cell("gaussian_noise", 3)), **options):
    mapper = DatasetMapper(is_train=False, augmentations=list(augmentations), image_format=image_format)
    return CorruptedDataset(DatasetCatalog.get(name), mapper, list(cells), **options)


def test_items_are_the_records_cell_by_cell(tiny_scenes):
    records = dataset(tiny_scenes[1])
    assert len(records) == 12
    assert [records[i]["image_id"] for i in (0, 5, 6, 11)] == [records[j]["image_id"] for j in (6, 11, 0, 5)]
    clean, noisy = (records[i]["image"].permute(1, 2, 0).numpy()[..., ::-1] for i in (1, 7))
    assert np.array_equal(corrupt(clean.copy(), Cell("gaussian_noise", 3), records[1]["image_id"]), noisy)


@pytest.mark.parametrize("channel_order", ["RGB", "BGR"])
def test_the_mappers_channel_order_does_not_matter(tiny_scenes, channel_order):
    bgr, rgb = (dataset(tiny_scenes[1], order, channel_order=channel_order)[8]["image"] for order in ("BGR", "RGB"))
    assert bgr.flip(0).equal(rgb)


def test_images_are_corrupted_in_the_channel_order_that_is_asked_for(tiny_scenes):
    cells = [Cell("clean", 0), Cell("frost", 3)]
    rgb, bgr = (dataset(tiny_scenes[1], cells=cells, channel_order=order) for order in ("RGB", "BGR"))
    clean = rgb[1]["image"].permute(1, 2, 0).numpy()  # the mapper's order, BGR
    expected = corrupt(clean.copy(), cells[1], rgb[1]["image_id"])
    assert np.array_equal(bgr[7]["image"].permute(1, 2, 0).numpy(), expected)
    assert not np.array_equal(rgb[7]["image"].permute(1, 2, 0).numpy(), expected)
    assert bgr[1]["image"].equal(rgb[1]["image"])
    with pytest.raises(ValueError, match="the channel order is 'GBR'; it has to be RGB or BGR"):
        dataset(tiny_scenes[1], channel_order="GBR")


def test_corrupts_before_it_augments(tiny_scenes):
    plain, resized = dataset(tiny_scenes[1]), dataset(tiny_scenes[1], augmentations=[T.Resize((80, 64))])
    expected = T.ResizeTransform(160, 160, 80, 64).apply_image(plain[8]["image"].permute(1, 2, 0).numpy())
    assert np.array_equal(resized[8]["image"].permute(1, 2, 0).numpy(), expected)


def test_mappers_of_another_kind_are_refused(tiny_scenes):
    with pytest.raises(ValueError, match="images are corrupted between a mapper's reading .* function has no"):
        CorruptedDataset([], lambda record: record, [])
    with pytest.raises(ValueError, match="DatasetMapper has no augmentations, or no image_format that is BGR or RGB"):
        dataset(tiny_scenes[1], image_format="L")


CHECKSUMS = {
    "gaussian_noise": "423b30e107257839",
    "shot_noise": "cea8edcca91125ee",
    "impulse_noise": "573aa1d1d79eb7b6",
    "defocus_blur": "4c6b4ada10d61111",
    "glass_blur": "63ee9cb4d84275b7",
    "motion_blur": "ea9fbe7ad72dc2e1",
    "zoom_blur": "8a400fbf779edd4d",
    "snow": "d7d075864a1844b6",
    "frost": "92eb05fc9b922b68",
    "fog": "eb519f07a03ca8bf",
    "brightness": "2a88ed2e83046225",
    "contrast": "6e08c7a1174e2e67",
    "elastic_transform": "f650768461090398",
    "pixelate": "d4ed133136208dd0",
    "jpeg_compression": "2f6487c0fcf75649",
    "speckle_noise": "4a496c85499c2f92",
    "gaussian_blur": "2c92943e46a76160",
    "spatter": "21abbb7e922a417d",
    "saturate": "d2543fe326a8632a",
}


def test_images_of_one_name_in_folders_of_classes_are_told_apart():
    records = [{"file_name": f"/pets/{name}/1.png", "label": i} for i, name in enumerate(("cat", "dog"))]
    assert [image_id_of(record) for record in records] == ["cat/1.png", "dog/1.png"]
    assert image_id_of({"file_name": "/pets/cat/1.png"}) == "1.png" and image_id_of({"image_id": 3}) == 3

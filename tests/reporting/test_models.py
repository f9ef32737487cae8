import contextlib

import cv2
import numpy as np
import pytest
from cankd.data import register_image_folders
from cankd.modeling import backbone_shapes
from cankd.reporting import choose_records, draw_predictions, load_models
from cankd.utils import UserError
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.tiny import save_weights


@pytest.fixture
def config(quick_config, tmp_path):
    config = quick_config("DigitScenes/retinanet_R10_from_R18.py")
    config.train.init_checkpoint = save_weights(instantiate(config.model.student), tmp_path / "student.pth")
    return config


def test_models_by_title(config):
    weights = config.train.init_checkpoint
    assert list(load_models(config)) == ["distilled student", "teacher"]
    assert list(load_models(config, baseline=weights)) == ["student", "distilled student", "teacher"]
    assert not any(loaded.model.training for loaded in load_models(config).values())
    config.model = config.model.student
    assert list(load_models(config)) == ["model"]
    with pytest.raises(ValueError, match="this config describes one model"):
        load_models(config, baseline=weights)
    config.train.init_checkpoint = ""
    with pytest.raises(ValueError, match="there is no model to look at"):
        load_models(config)


@pytest.mark.parametrize(
    "part, message",
    [
        ({"train": {"device": "gpu"}}, "train.device=gpu is not a device"),
        ({"model": {"teacher": {"colour": "RGB"}}}, "model.teacher cannot be built: TypeError"),
        (
            {"dataloader": {"test": {"mapper": {"colour": "RGB"}}}},
            "the data loader's mapper cannot be built: TypeError",
        ),
    ],
)
def test_a_part_that_cannot_be_built_is_named(config, part, message):
    config.merge_with(part)
    with pytest.raises(UserError, match=message):
        load_models(config)


def test_a_teacher_of_another_channel_order_reads_its_own(config):
    config.model.teacher.input_format = "RGB"
    record = choose_records(config, images=1)[0]
    models = load_models(config)
    student, teacher = (model.read([record])[0]["image"] for model in models.values())
    assert student.flip(0).equal(teacher) and not student.equal(teacher)


def test_a_teacher_of_another_scale_sees_its_own_size(config):
    config.model.teacher.scale = 2
    record = choose_records(config, images=1)[0]
    student, teacher = load_models(config).values()
    assert teacher.read([record])[0]["image"].shape[1:] == tuple(
        2 * n for n in student.read([record])[0]["image"].shape[1:]
    )
    assert np.array_equal(teacher.rgb(record), student.rgb(record))
    strides = [shape.stride for shape in teacher.rescale(backbone_shapes(teacher.model)).values()]
    assert strides == [shape.stride / 2 for shape in backbone_shapes(student.model).values()]


def test_a_teachers_other_classes_have_numbers(config, tmp_path):
    config.model.teacher.model.update(num_classes=12)
    config.model.teacher.model.head.num_classes = 12
    config.model.teacher.weights = None
    teacher = load_models(config)["teacher"]
    assert teacher.name_classes(list("0123456789"))[-1] == "class 11"
    teacher.model.num_classes = None
    assert [teacher.name_class(i, ["one"]) for i in (0, 1)] == ["one", "class 1"]
    teacher.model.num_classes = 12
    draw_predictions(config, str(tmp_path / "out.png"), score_threshold=0.0)
    assert cv2.imread(str(tmp_path / "out.png")) is not None


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_any_kind_are_drawn(config, tmp_path, mode):
    pixels = np.random.default_rng(0).integers(255, size=(60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "image.png")
    draw_predictions(config, str(tmp_path / "out.png"), inputs=[str(tmp_path / "image.png")])
    assert cv2.imread(str(tmp_path / "out.png")) is not None


def test_a_photograph_is_turned_as_its_exif_says(config, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    draw_predictions(config, str(tmp_path / "out.png"), inputs=[str(tmp_path / "turned.jpg")])
    height, width = cv2.imread(str(tmp_path / "out.png")).shape[:2]
    assert height > 0.9 * width  # two models side by side, each twice as high as wide


def test_images_that_cannot_be_read_are_named(config, tmp_path):
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "deep.png")
    cv2.imwrite(str(tmp_path / "whole.png"), np.random.default_rng(0).integers(255, size=(60, 60, 3)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("no image")
    for name, message in (
        ("deep.png", "deep.png has pixels of mode I.*convert it first"),
        ("cut.png", "cut.png cannot be read as an image; it may be cut off"),
        ("text.jpg", "text.jpg cannot be read as an image"),
        ("absent.png", "there is no image or folder .*absent.png"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_records(config, inputs=[str(tmp_path / name)])
    (tmp_path / "folder").mkdir()
    for name in ("b.JPG", "a.png", "._a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "folder" / name, format="png")
    records = choose_records(config, inputs=[str(tmp_path / "folder")])
    assert [record["file_name"][-5:] for record in records] == ["a.png", "b.JPG"]
    with pytest.raises(ValueError, match="nothing to look at: images is 0"):
        choose_records(config, images=0)


@pytest.mark.parametrize("class_names, message", [(["Felis"], None), ([], "there is no folder .*absent")])
def test_images_of_ones_own_need_the_classes_names_alone(config, tmp_path, class_names, message):
    register_image_folders("away", str(tmp_path / "absent"), class_names=class_names)
    config.dataloader.test.dataset.names = "away_val"
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        assert len(choose_records(config, inputs=[str(tmp_path / "photo.png")])) == 1
    for name in ("away_train", "away_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)

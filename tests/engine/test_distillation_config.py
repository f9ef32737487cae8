import argparse
import logging

import cankd
import pytest
from cankd import model_zoo
from cankd.engine import build_model, load_config
from cankd.utils import add_model_arguments, model_arguments
from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog

from tests.tiny import save_weights

STUDENT = model_zoo.get_config_file("DigitScenes/retinanet_R10.py")
FASTER_RCNN = model_zoo.get_config_file("DigitScenes/faster_rcnn_R10.py")


@pytest.fixture
def weights(tmp_path):
    """Returns a function that saves random weights for a config's model."""

    def save(config_file):
        config = load_config(config_file, ["train.device=cpu"])
        return save_weights(build_model(config), tmp_path / "teacher.pth")

    return save


def test_a_plain_config_gets_a_teacher_and_keeps_the_rest(weights):
    distilled = cankd.distill(STUDENT, teacher=FASTER_RCNN, weights=weights(FASTER_RCNN))
    plain = load_config(STUDENT)
    for part in ("dataloader", "optimizer", "lr_multiplier"):
        assert distilled[part] == plain[part]
    assert distilled.model.student == plain.model
    assert distilled.train.pop("output_dir") == plain.train.pop("output_dir") + "_cankd"
    assert distilled.train == plain.train
    distilled.train.device = "cpu"
    model = build_model(distilled)
    assert [pair.student for pair in model.pairs] == ["p3", "p4", "p5"]
    assert model.teacher.input_format == model.input_format == "BGR"


def test_levels_that_pair_up_by_stride_are_chosen_and_logged(tmp_path, weights, caplog):
    (tmp_path / "c4.py").write_text(
        "from cankd import model_zoo\n"
        "_config = model_zoo.get_config('DigitScenes/faster_rcnn_R10.py')\n"
        "model, train, dataloader = _config.model, _config.train, _config.dataloader\n"
        "model.backbone.bottom_up.out_features = ['res2', 'res3', 'res4', 'res5']\n"
        "model.backbone = model.backbone.bottom_up\n"
    )
    config = cankd.distill(STUDENT, teacher=str(tmp_path / "c4.py"), weights="")
    config.train.device, config.model.teacher.weights = "cpu", None
    with caplog.at_level(logging.INFO):
        pairs = build_model(config).pairs
    assert [(pair.student, pair.teacher) for pair in pairs] == [("p3", "res3"), ("p4", "res4"), ("p5", "res5")]
    assert "Levels that are distilled" in caplog.text and "res4 (stride 16" in caplog.text
    config.model.levels = {"p4": "res3"}
    assert [(pair.student, pair.teacher) for pair in build_model(config).pairs] == [("p4", "res3")]
    config.model.levels, config.model.head.levels = None, ["p5"]
    assert [(pair.student, pair.teacher) for pair in build_model(config).pairs] == [("p5", "res5")]


def test_the_channel_orders_are_those_of_the_loaders(tmp_path):
    student, teacher = LazyConfig.load(STUDENT), LazyConfig.load(STUDENT)
    teacher.dataloader.train.mapper.image_format = "RGB"
    config = cankd.distill(student, teacher=teacher, weights="teacher.pth")
    assert (config.model.input_format, config.model.teacher.input_format) == ("BGR", "RGB")
    assert student == LazyConfig.load(STUDENT)  # it stays as it is
    del teacher.dataloader, teacher.train
    assert cankd.distill(student, teacher=teacher, weights="teacher.pth").model.teacher.input_format is None


def test_students_of_distillations_are_students_and_teachers():
    pair = model_zoo.get_config_file("DigitScenes/retinanet_R10_from_R18.py")
    config = cankd.distill(pair, teacher=pair, weights="teacher.pth", method="pkd", inherit=True)
    assert config.model.student == config.model.teacher.model == load_config(STUDENT).model
    assert config.train.inherit == "auto" and config.train.output_dir.endswith("_pkd_inherit")


def test_a_distillation_takes_another_method():
    pair = model_zoo.get_config_file("DigitScenes/retinanet_R10_from_R18.py")
    config = load_config(pair, method="pkd+kd")
    assert config.train.output_dir.endswith("retinanet_R10_from_R18_pkd_kd") and config.train.inherit is None
    assert [head.levels[0] for head in config.model.head.heads] == ["p3", "head:0:0"]
    assert load_config(pair, inherit=True).train.inherit == "auto"
    inheriting = model_zoo.get_config_file("DigitScenes/retinanet_R10_from_R18_inherit.py")
    assert load_config(inheriting, method="pkd").train.inherit == load_config(inheriting).train.inherit
    assert load_config(inheriting, method="pkd_published").train.inherit is None
    assert load_config(inheriting, method="fgd_published").train.inherit
    twice = load_config(inheriting, method="pkd_inherit", inherit=True).train
    assert twice.inherit and twice.output_dir.endswith("_pkd_inherit")
    with pytest.raises(ValueError, match="--method and --inherit need a teacher"):
        load_config(STUDENT, method="pkd")


@pytest.mark.parametrize(
    "contents, message",
    [
        ("[{}", "best.json is no distiller of tools/search_distiller.py: Expecting"),
        ('[{"scope": "box"}]', "best.json is no distiller .*scope is 'box'"),
        ('[{"size": 3}]', "best.json is no distiller .*size"),
        (None, "there is no file .*/best.json, which is to be the method"),
    ],
)
def test_a_file_that_is_no_distiller_is_refused(tmp_path, contents, message):
    if contents:
        (tmp_path / "best.json").write_text(contents)
    pair = model_zoo.get_config_file("DigitScenes/retinanet_R10_from_R18.py")
    with pytest.raises(ValueError, match=message):
        load_config(pair, method=str(tmp_path / "best.json"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--teacher", "t.py"], "a teacher needs both, its config and its checkpoint: --teacher CONFIG"),
        (["--teacher-weights", "t.pth"], "a teacher needs both"),
    ],
)
def test_options_that_lack_others_are_refused(arguments, message):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    with pytest.raises(ValueError, match=message):
        model_arguments(parser.parse_args(arguments))


def test_a_file_registers_data_sets_once(tmp_path):
    path = tmp_path / "pets.py"
    path.write_text("from detectron2.data import DatasetCatalog\nDatasetCatalog.register('pets_of_a_test', list)\n")
    try:
        for _ in range(2):
            load_config(STUDENT, datasets=str(path))
        assert "pets_of_a_test" in DatasetCatalog
    finally:
        DatasetCatalog.remove("pets_of_a_test")
    (tmp_path / "broken.py").write_text("\n1 / 0")
    with pytest.raises(ValueError, match=r"broken.py fails with ZeroDivisionError: .*broken.py, line 2"):
        load_config(STUDENT, datasets=str(tmp_path / "broken.py"))

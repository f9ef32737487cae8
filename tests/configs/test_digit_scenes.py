import pathlib

import pytest
from cankd import model_zoo
from cankd.checkpoint import inherit_weights
from cankd.engine import build_model
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from tests.tiny import batch, save_weights

FOLDER = pathlib.Path(model_zoo.get_config_file("DigitScenes/retinanet_R10.py")).parent
PAIRS = sorted(path.stem for path in FOLDER.glob("*_from_*.py") if "inherit" not in path.stem)


def recipe(name):
    return model_zoo.get_config(f"DigitScenes/{name}.py")


def test_pairs_are_those_of_the_coco_recipes():
    backbones = {"R50": "R10", "R101": "R18", "X101": "X26"}
    expected = set()
    for path in FOLDER.parent.glob("COCO-*/*_from_*.py"):
        name = path.stem
        for large, small in backbones.items():
            name = name.replace(large, small)
        expected.add(name)
    others = (
        "semantic_fpn",
        "pspnet",
        "retinanet_MobileNetV1",
        "retinanet_R10_150",
        "retinanet_R10_320",
        "reppoints_R10_320",
    )
    found = {path.stem for path in FOLDER.glob("*_from_*.py") if not path.stem.startswith(others)}
    assert found == expected


@pytest.mark.parametrize("name", PAIRS)
def test_pair_trains_a_step(name, tmp_path):
    config = recipe(name)
    config.train.device = "cpu"
    if not config.model.teacher.weights.startswith("cankd://"):
        own = recipe(pathlib.Path(config.model.teacher.weights).parent.name)
        assert config.model.teacher.weights == f"{own.train.output_dir}/model_final.pth"
        assert own.model == config.model.teacher.model
        teacher = instantiate(own.model)
        config.model.teacher.weights = save_weights(teacher, tmp_path / "teacher.pth")
    model = build_model(config)
    if (FOLDER / f"{name}_inherit.py").exists():
        copied = inherit_weights(model.student, model.teacher.model, recipe(f"{name}_inherit").train.inherit)
        assert {"backbone.fpn_output3.weight"} < set(copied) and not any("bottom_up" in key for key in copied)
    with EventStorage():
        losses = model.train()(batch(size=128))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    bottom_up = getattr(model.student.backbone, "bottom_up", model.student.backbone)
    assert next(bottom_up.parameters()).grad.any()


@pytest.mark.parametrize("name", ["retinanet_R10", "reppoints_R10"])
def test_large_scenes_take_as_many_pixels_a_batch(name):
    small, large = recipe(name), recipe(f"{name}_320")
    batches = [config.dataloader.train.total_batch_size for config in (small, large)]
    assert batches[0] * 160**2 == batches[1] * 320**2
    # So neither the learning rate nor the iterations are scaled.
    assert large.train.reference_batch_size == batches[1]
    assert large.train.max_iter == small.train.max_iter


def test_narrow_pspnet_does_not_take_the_published_start():
    head = instantiate(recipe("pspnet_R10").model.sem_seg_head)
    for part in (head, head.auxiliary):
        bound = part.predictor.in_channels**-0.5  # of torch's convolutions
        assert part.predictor.weight.abs().max().item() == pytest.approx(bound, rel=0.05)

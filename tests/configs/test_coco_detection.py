"""The COCO recipes: boxes, and boxes with masks."""

import pathlib

import pytest
import torch
import torchvision
from cankd import model_zoo
from cankd.checkpoint import DistillationCheckpointer, inherit_weights
from cankd.engine import build_model
from cankd.layers import DeformBottleneckBlock
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf

from tests.tiny import batch

INHERITED = {
    "retinanet_R50_from_R101": {"backbone.fpn_lateral5.weight", "backbone.top_block.p6.bias", "head.bbox_pred.weight"},
    "retinanet_R50_from_X101": {"backbone.fpn_lateral5.weight", "backbone.top_block.p6.bias", "head.bbox_pred.weight"},
    "faster_rcnn_R50_from_R101": {"backbone.fpn_lateral5.weight", "roi_heads.box_predictor.bbox_pred.weight"},
    "faster_rcnn_R50_from_cascade_X101": {"backbone.fpn_lateral5.weight", "roi_heads.box_head.fc1.weight"},
    "mask_rcnn_R50_from_R101": {"backbone.fpn_lateral5.weight", "roi_heads.mask_head.predictor.weight"},
    "fcos_R50_from_R101": {"backbone.fpn_lateral5.weight", "head.ctrness.weight", "head.scales"},
    "reppoints_R50_from_X101": {
        "backbone.top_block.p6.norm.weight",
        "head.cls_conv.weight",
        "points_to_boxes.log_scale",
    },
}
RECIPES = [*INHERITED, "retinanet_R50_from_fcos_X101"]


def folder_of(name):
    return "COCO-InstanceSegmentation" if name.startswith("mask_rcnn") else "COCO-Detection"


def recipe(name):
    return model_zoo.get_config(f"{folder_of(name)}/{name}.py")


def test_every_recipe_is_tested():
    folders = pathlib.Path(model_zoo.get_config_file("COCO-Detection/retinanet_R50.py")).parents[1]
    found = {path.stem for path in folders.glob("COCO-*/*_from_*.py")}
    assert found == {*RECIPES, *(f"{name}_inherit" for name in INHERITED)}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_a_step(name):
    config = recipe(name)
    config.train.device = "cpu"
    config.model.teacher.weights = None
    model = build_model(config)
    assert len(model.student.backbone.bottom_up.res4) == 6
    assert len(model.teacher.model.backbone.bottom_up.res4) == 23
    published_levels = ["p2", "p3", "p4", "p5"] if "_rcnn_" in name else ["p3", "p4", "p5", "p6"]
    shapes = model.student.backbone.output_shape(), model.teacher.model.backbone.output_shape()
    assert all(shapes[0][level] == shapes[1][level] for level in published_levels)
    if name in INHERITED:
        copied = set(inherit_weights(model.student, model.teacher.model, recipe(f"{name}_inherit").train.inherit))
        assert INHERITED[name] < copied
        assert not any(key.startswith(("backbone.bottom_up", "proposal_generator")) for key in copied)
    config.optimizer.params.model = model
    optimizer = instantiate(config.optimizer)
    with EventStorage():
        losses = model.train()(batch(size=128))
    assert all(loss.isfinite() for loss in losses.values())
    assert {f"loss_cankd_p{i}" for i in (3, 4, 5)} < losses.keys()
    sum(losses.values()).backward()
    bottom_up = model.student.backbone.bottom_up
    assert bottom_up.res3[0].conv1.weight.grad.any() and bottom_up.res2[0].conv1.weight.grad is None
    norm = bottom_up.res3[0].conv1.norm
    if name.startswith("fcos"):
        assert isinstance(norm, FrozenBatchNorm2d)
    else:
        assert norm.weight.grad.any() and norm.bias.grad.any() and not norm.running_mean.any()
    before = bottom_up.res3[0].conv1.weight.clone()
    optimizer.step()
    assert not torch.equal(before, bottom_up.res3[0].conv1.weight)


@pytest.mark.parametrize("name", INHERITED)
def test_inheriting_recipe_differs_in_nothing_else(name):
    plain, inheriting = (OmegaConf.to_container(recipe(f"{name}{suffix}").train) for suffix in ("", "_inherit"))
    assert plain.pop("inherit") is None and inheriting.pop("inherit")
    expected = f"output/{folder_of(name)}/{name}_inherit"
    assert inheriting.pop("output_dir") == f"{plain.pop('output_dir')}_inherit" == expected
    assert plain == inheriting
    assert recipe(name).model == recipe(f"{name}_inherit").model


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_the_published_schedule(name):
    config = recipe(name)
    assert config.dataloader.train.total_batch_size == config.train.reference_batch_size == 4
    assert (config.optimizer.lr, config.optimizer.momentum, config.optimizer.weight_decay) == (0.005, 0.9, 1e-4)
    assert config.train.clip_gradients.max_norm == 35
    length, *milestones = (12, 8, 11) if name == "retinanet_R50_from_fcos_X101" else (24, 16, 22)
    assert config.train.max_iter == length * 29317
    multiplier = instantiate(config.lr_multiplier)
    assert multiplier(0.0) == pytest.approx(0.001, rel=1e-3)
    for milestone, before in zip(milestones, (1, 0.1)):
        assert multiplier((milestone - 0.1) / length) == pytest.approx(before)
        assert multiplier((milestone + 0.1) / length) == pytest.approx(before / 10)
    warm = 500 / config.train.max_iter
    assert multiplier(warm * 0.5) == pytest.approx(0.5, abs=0.01) and multiplier(warm * 1.01) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_student_gets_images_in_its_own_channel_order(name):
    config = recipe(name)
    order = "BGR" if name.startswith("fcos") else "RGB"
    data, student = config.dataloader, config.model.student
    assert data.train.mapper.image_format == data.test.mapper.image_format == order
    assert student.get("input_format", config.model.get("input_format", "BGR")) == order
    assert (student.pixel_mean[0] > student.pixel_mean[2]) == (order == "RGB")
    baseline = recipe(name.split("_from_")[0])
    assert baseline.model == student and baseline.dataloader == data
    assert baseline.train.init_checkpoint == config.train.init_checkpoint
    source = "MSRA/R-50.pkl" if order == "BGR" else "/resnet50-"
    assert source in config.train.init_checkpoint


def test_student_starts_as_torchvisions_resnet(tmp_path):
    torch.manual_seed(0)
    source = torchvision.models.resnet50().eval()
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1)
    # The published file is older than the counting of batches.
    weights = {key: value for key, value in source.state_dict().items() if "num_batches_tracked" not in key}
    torch.save(weights, tmp_path / "resnet50.pth")
    config = recipe("faster_rcnn_R50").model
    student = instantiate(config).eval()
    DistillationCheckpointer(student, str(tmp_path)).resume_or_load(str(tmp_path / "resnet50.pth"), resume=False)
    image = torch.randint(256, (3, 64, 64))
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = source.maxpool(source.relu(source.bn1(source.conv1((image - mean)[None] / std))))
    expected = source.layer4(source.layer3(source.layer2(source.layer1(expected))))
    found = student.backbone.bottom_up(student.preprocess_image([{"image": image}]).tensor)["res5"]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize(
    "name, epochs, drop, rate, sides",
    [
        ("retinanet_X101", 12, 8, 0.0025, 800),
        ("fcos_R101", 24, 16, 0.0025, [640, 800]),
        ("fcos_X101", 24, 16, 0.0025, [640, 800]),
        ("reppoints_X101", 24, 16, 0.0025, 800),
        ("cascade_mask_rcnn_X101", 20, 16, 0.005, 800),
    ],
)
def test_teacher_has_the_published_schedule(name, epochs, drop, rate, sides):
    config = recipe(name)
    assert (config.train.max_iter, config.optimizer.lr) == (epochs * 29317, rate)
    multiplier = instantiate(config.lr_multiplier)
    assert multiplier((drop - 0.1) / epochs) == pytest.approx(1)
    assert multiplier((drop + 0.1) / epochs) == pytest.approx(0.1)
    assert config.dataloader.train.mapper.augmentations[0].short_edge_length == sides


def test_low_quality_matches_are_the_published_ones():
    match = instantiate(recipe("retinanet_R50").model.anchor_matcher)
    matches, labels = match(torch.tensor([[0.45, 0.2], [0.3, 0.25]]))
    assert matches[0] == 1 and labels.tolist() == [1, 0]
    for name in ("faster_rcnn_R50", "cascade_mask_rcnn_X101"):
        match = instantiate(recipe(name).model.proposal_generator.anchor_matcher)
        assert match(torch.tensor([[0.35, 0.2, 0.0], [0.0, 0.0, 0.25]]))[1].tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", RECIPES)
def test_teacher_comes_from_the_model_zoo_or_from_its_own_config(name):
    teacher = recipe(name).model.teacher
    if teacher.weights.startswith("https"):
        assert f"{name.split('_R50')[0]}_R_101_FPN_3x" in teacher.weights
        return
    own = recipe(pathlib.Path(teacher.weights).parent.name)
    assert teacher.weights == f"{own.train.output_dir}/model_final.pth"
    assert OmegaConf.to_yaml(own.model, resolve=True) == OmegaConf.to_yaml(teacher.model, resolve=True)
    image_format = own.dataloader.train.mapper.image_format
    assert teacher.get("input_format", own.model.get("input_format", "BGR")) == image_format
    assert (own.model.pixel_mean[0] > own.model.pixel_mean[2]) == (image_format == "RGB")


def test_reppoints_inherits_all_beside_the_backbone():
    config = recipe("reppoints_R50_from_X101_inherit")
    student, teacher = instantiate(config.model.student), instantiate(config.model.teacher.model)
    copied = inherit_weights(student, teacher, config.train.inherit)
    assert set(copied) == {name for name, _ in student.named_parameters() if "bottom_up" not in name}
    assert len(copied) == 53  # weight, scale and shift of 8 convolutions of the pyramid, 28 of the head, the box scales


def blocks(name):
    bottom_up = instantiate(recipe(name).model.backbone.bottom_up)
    return {stage: getattr(bottom_up, stage) for stage in ("res2", "res3", "res4", "res5")}


@pytest.mark.parametrize(
    "name, groups, widths",
    [
        ("retinanet_X101", 64, [256, 512, 1024, 2048]),
        ("fcos_X101", 64, [256, 512, 1024, 2048]),
        ("cascade_mask_rcnn_X101", 64, [256, 512, 1024, 2048]),
        ("reppoints_X101", 32, [128, 256, 512, 1024]),
    ],
)
def test_resnext_has_its_published_shape(name, groups, widths):
    for (stage, modules), width, depth in zip(blocks(name).items(), widths, (3, 4, 23, 3)):
        assert len(modules) == depth
        deformable = name == "reppoints_X101" and stage != "res2"
        for block in modules:
            assert type(block) is (DeformBottleneckBlock if deformable else BottleneckBlock)
            assert (block.conv2.groups, block.conv2.in_channels) == (groups, width)
            assert block.conv1.stride == (1, 1)  # the 3×3 convolution has the stride

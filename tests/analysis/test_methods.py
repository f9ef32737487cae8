"""A method without what it needs is named before training, with what to do."""

import re

import pytest
from cankd.analysis import check_distillation
from cankd.engine import use_method
from cankd.modeling import DetKDSHead, DiffKDHead, FGDHead, KDHead, ViTKDHead
from cankd.modeling.backbone import TimmBackbone
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN

RETINANET = "DigitScenes/retinanet_R10_from_R18.py"
CLASSIFIER = "DigitPatches/R18_from_R34.py"


def problems(config, head, **loader):
    config.model.head = head
    config.model.teacher.weights = None
    config.dataloader.train.update(loader)
    return check_distillation(config, num_images=0, report=lambda line: None)["problems"]


@pytest.mark.parametrize(
    "name, head, loader, message",
    [
        (
            CLASSIFIER,
            L(FGDHead)(levels=["res5"]),
            {},
            "FGDHead: level 'res5' is weighed by ground-truth boxes.*train on a data set with boxes",
        ),
        (RETINANET, L(KDHead)(levels=["sem_seg_head.predictor"]), {}, "KDHead: the student has no level 'sem_seg_head"),
        (RETINANET, L(ViTKDHead)(levels=["backbone.blocks.0"]), {}, "ViTKDHead: the student has no level 'backbone.bl"),
        (RETINANET, L(ViTKDHead)(levels=["p3", "p4"]), {}, "ViTKD compares the blocks of a ViT.*{'p3': 8, 'p4': 16}"),
        (
            RETINANET,
            L(DetKDSHead)(third="norm_N"),
            {"total_batch_size": 1},
            "DetKDSHead: norm_N of DetKDS compares the images of a batch.*raise dataloader.train.total_batch_size",
        ),
        (
            CLASSIFIER,
            L(DiffKDHead)(levels=["classifier"], logits=True),
            {"total_batch_size": 1},
            "DiffKD's batch normalisation needs 2 values a channel. Train with 2 images or more",
        ),
    ],
)
def test_a_method_without_what_it_needs(quick_config, name, head, loader, message):
    (problem,) = problems(quick_config(name), head, **loader)
    assert re.search(message, problem, re.DOTALL)


def test_methods_that_have_what_they_need(quick_config):
    published = use_method(quick_config(RETINANET), "detkds").model.head  # compares the images of a batch
    assert problems(quick_config(RETINANET), published) == []

    config = quick_config(CLASSIFIER)
    vit = L(TimmBackbone)(name="vit_tiny_patch16_224", out_features=["block2", "pooled"], dynamic_img_size=True)
    vit.update(depth=3, embed_dim=48, num_heads=3)
    config.model.student.update(backbone=vit, in_feature="pooled")
    config.model.teacher.model.update(backbone=vit, in_feature="pooled")
    assert problems(config, L(ViTKDHead)(levels=["backbone.net.blocks.0", "backbone.net.norm"])) == []


class WithoutStrides(FPN):
    """A pyramid that does not say how fine it is."""

    def output_shape(self):
        return {name: ShapeSpec(channels=shape.channels) for name, shape in super().output_shape().items()}


def test_a_level_of_unknown_stride(quick_config):
    config = quick_config(RETINANET)
    config.model.student.backbone._target_ = config.model.teacher.model.backbone._target_ = WithoutStrides
    (problem,) = problems(config, L(FGDHead)(boxes_by_stride=True))
    assert "FGDHead: boxes are scaled by the stride of level 'p3', which is unknown: leave boxes_by_stride" in problem
    assert problems(config, L(FGDHead)()) == []

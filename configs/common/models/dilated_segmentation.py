"""PSPNet and DeepLabV3 with output stride 8, as the published Cityscapes recipes have them."""

from cankd.layers import conv_norm_relu
from cankd.modeling.backbone import DilatedResNet, MobileNetV2
from cankd.modeling.meta_arch import ASPP, PyramidPooling, SemSegHead
from detectron2.config import LazyCall as L
from detectron2.modeling import ResNet
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor
from detectron2.projects.deeplab.resnet import DeepLabStem

from .resnext import imagenet_rgb

# Channels of res4 and res5.
CHANNELS = {18: (256, 512), 101: (1024, 2048), "mobilenet_v2": (96, 320)}


def resnet_v1c(depth, norm="SyncBN"):
    """ResNet whose stem has three 3×3 convolutions, its last two stages dilated."""
    return L(DilatedResNet)(
        stem=L(DeepLabStem)(in_channels=3, out_channels=64, norm=norm),
        stages=L(ResNet.make_default_stages)(depth=depth, norm=norm),
        output_stride=8,
        out_features=["res4", "res5"],
    )


def mobilenet_v2(norm="SyncBN"):
    return L(MobileNetV2)(out_features=["res4", "res5"], output_stride=8, norm=norm)


def pspnet(backbone, in_channels, width, num_classes=19, norm="SyncBN"):
    context = L(PyramidPooling)(in_channels=in_channels[1], out_channels=width, norm=norm)
    return _segmentor(backbone, in_channels, width, context, num_classes, norm)


def deeplab_v3(backbone, in_channels, width, num_classes=19, norm="SyncBN"):
    context = L(ASPP)(in_channels=in_channels[1], out_channels=width, dilations=[12, 24, 36], norm=norm)
    return _segmentor(backbone, in_channels, width, context, num_classes, norm)


def _segmentor(backbone, in_channels, width, context, num_classes, norm):
    """A segmentor on res5 whose context has ``width`` channels; an FCN of half as many on res4 helps it train."""
    fcn = L(conv_norm_relu)(in_channels=in_channels[0], out_channels=width // 2, kernel_size=3, norm=norm)
    common = dict(stride=8, num_classes=num_classes, ignore_value=255)
    auxiliary = L(SemSegHead)(
        in_feature="res4",
        context=fcn,
        context_channels=width // 2,
        loss_name="loss_auxiliary",
        loss_weight=0.4,
        **common,
    )
    head = L(SemSegHead)(in_feature="res5", context=context, context_channels=width, auxiliary=auxiliary, **common)
    return L(SemanticSegmentor)(backbone=backbone, sem_seg_head=head, **imagenet_rgb)

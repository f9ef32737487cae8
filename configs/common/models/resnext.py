from cankd.layers import DeformBottleneckBlock
from cankd.modeling.backbone import FixedStatisticsResNet
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock

_constants = get_config("common/data/constants.py").constants

# ImageNet's in RGB, for backbones that were pre-trained outside of Detectron2.
imagenet_rgb = dict(pixel_mean=_constants.imagenet_rgb256_mean, pixel_std=_constants.imagenet_rgb256_std)
# OpenMMLab's ImageNet weights of ResNeXt-101.
weights_32x4d = "https://download.openmmlab.com/pretrain/third_party/resnext101_32x4d-a5af3160.pth"
weights_64x4d = "https://download.openmmlab.com/pretrain/third_party/resnext101_64x4d-ee2c6f71.pth"


def resnext(depths, num_groups, width_per_group, deformable=(), norm="BN", width=64, freeze_at=0, out_features=None):
    """A ResNeXt (Xie et al. 2017), the 3×3 convolutions of some of its stages deformable.

    Args:
        depths: blocks of each stage, (3, 4, 23, 3) for ResNeXt-101.
        num_groups, width_per_group: 64 and 4 for "64x4d".
        deformable: names of stages, for example ["res4", "res5"].
        norm: of all layers.
        width: channels of the stem; the stages have 4, 8, 16 and 32 times as many.
        freeze_at: 2 freezes the stem and the first stage.
        out_features: names of stages; res3, res4 and res5 if not given.
    """
    stages = []
    for i, num_blocks in enumerate(depths):
        stages.append(
            L(ResNet.make_stage)(
                block_class=DeformBottleneckBlock if f"res{i + 2}" in deformable else BottleneckBlock,
                num_blocks=num_blocks,
                stride_per_block=[1 if i == 0 else 2] + [1] * (num_blocks - 1),
                in_channels=width if i == 0 else width * 2 ** (i + 1),
                bottleneck_channels=num_groups * width_per_group * 2**i,
                out_channels=width * 2 ** (i + 2),
                num_groups=num_groups,
                norm=norm,
            )
        )
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=width, norm=norm),
        stages=stages,
        out_features=out_features or ["res3", "res4", "res5"],
        freeze_at=freeze_at,
    )


def small_resnext(**options):
    """ResNeXt-26 8x4d, a quarter as wide, trained from scratch."""
    return resnext((2, 2, 2, 2), 8, 4, width=16, **options)


def resnext101(num_groups, width_per_group, **options):
    """ResNeXt-101 with pre-trained weights: the statistics of its norms are fixed, its first stage is frozen."""
    model = resnext((3, 4, 23, 3), num_groups, width_per_group, freeze_at=2, **options)
    model._target_ = FixedStatisticsResNet
    return model

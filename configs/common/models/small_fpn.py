from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock


def small_stages(width, num_blocks):
    """Stages of a ResNet of basic blocks, ``width`` times 1, 2, 4 and 8 channels wide."""
    stages = []
    for i, blocks in enumerate(num_blocks):
        stages.append(
            L(ResNet.make_stage)(
                block_class=BasicBlock,
                num_blocks=blocks,
                in_channels=width * 2 ** max(i - 1, 0),
                out_channels=width * 2**i,
                stride_per_block=[1 if i == 0 else 2] + [1] * (blocks - 1),
                norm="BN",
            )
        )
    return stages


def small_fpn(width, num_blocks, out_channels=64):
    """A ResNet of :func:`small_stages` with a pyramid P3–P5."""
    return L(FPN)(
        bottom_up=L(ResNet)(
            stem=L(BasicStem)(in_channels=3, out_channels=width, norm="BN"),
            stages=small_stages(width, num_blocks),
            out_features=["res3", "res4", "res5"],
        ),
        in_features="${.bottom_up.out_features}",
        out_channels=out_channels,
    )

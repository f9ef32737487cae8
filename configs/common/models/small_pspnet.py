from cankd.modeling.backbone import DilatedResNet
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem

from .dilated_segmentation import pspnet
from .small_fpn import small_stages


def small_pspnet(width, num_blocks):
    """PSPNet with output stride 8 on a ResNet of basic blocks, for the 11 classes of Digit Scenes."""
    backbone = L(DilatedResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=width, norm="BN"),
        stages=small_stages(width, num_blocks),
        output_stride=8,
        out_features=["res4", "res5"],
    )
    model = pspnet(backbone, (4 * width, 8 * width), width=48, num_classes=11, norm="BN")
    for head in (model.sem_seg_head, model.sem_seg_head.auxiliary):
        head.published_start = False  # 48 channels do not learn from it in 1,000 iterations
    model.update(pixel_mean=[103.53, 116.28, 123.675], pixel_std=[57.375, 57.12, 58.395])
    return model

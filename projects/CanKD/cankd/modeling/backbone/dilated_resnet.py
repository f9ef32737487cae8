from collections.abc import Sequence

from detectron2.modeling.backbone import ResNet
from torch import nn

from .dilation import check_output_stride, turn_stride_into_dilation

__all__ = ["DilatedResNet"]


class DilatedResNet(ResNet):
    """Detectron2's ResNet with a finer output: strides of its last stages become dilations.

    The first block of a dilated stage has the previous stage's dilation ("contracted"), as in the published
    segmentation recipes. Both convolutions of a basic block are dilated, so that each sees what it saw before; the
    published ones dilate the first alone.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[Sequence[nn.Module]], *, output_stride: int = 8, **kwargs):
        """
        Args:
            stem, kwargs: as :class:`ResNet`.
            stages: as :meth:`ResNet.make_stage` gives them, with strides.
            output_stride: of the last stage, in input pixels: 8, 16 or 32.

        Raises:
            UserError: if it is none of these.
        """
        check_output_stride(output_stride)
        stride, dilation = stem.stride, 1
        for blocks in stages:
            stage_stride = blocks[0].stride
            if stride * stage_stride <= output_stride:
                stride *= stage_stride
                continue
            turn_stride_into_dilation(blocks, dilation * stage_stride, first_dilation=dilation)
            dilation *= stage_stride
            blocks[0].stride = 1
        super().__init__(stem, stages, **kwargs)
        self._size_divisibility = stride

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of the output stride, so that scores scaled up by it fit."""
        return self._size_divisibility

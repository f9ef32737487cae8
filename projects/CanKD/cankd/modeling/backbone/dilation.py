from collections.abc import Iterable

from cankd.utils import UserError
from torch import nn

__all__ = ["check_output_stride", "turn_stride_into_dilation"]


def check_output_stride(output_stride: int) -> None:
    """Makes sure that a dilated network can have a stride.

    Raises:
        UserError: if it is not 8, 16 or 32.
    """
    if output_stride not in (8, 16, 32):
        raise UserError(f"output_stride is {output_stride}; it has to be 8, 16 or 32")


def turn_stride_into_dilation(blocks: Iterable[nn.Module], dilation: int, *, first_dilation: int | None = None) -> None:
    """Makes the blocks of a network's stage keep the resolution of what comes in (Chen et al. 2017, Sec. 3.2).

    Strides become 1, and convolutions of more than one tap are dilated, so that they see the positions that they would
    have seen; weights fit unchanged.

    Args:
        blocks: of one stage; are changed in place.
        dilation: of the blocks, the product of the strides taken away so far.
        first_dilation: of the first block, if it is another.
    """
    for index, block in enumerate(blocks):
        taken = first_dilation if index == 0 and first_dilation else dilation
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size != (1, 1):
                    module.dilation = (taken, taken)
                    module.padding = tuple(taken * (size // 2) for size in module.kernel_size)

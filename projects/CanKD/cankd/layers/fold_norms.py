from collections.abc import Collection

from detectron2.layers import FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["fold_norms"]


def fold_norms(module: nn.Module, *, keep: Collection[nn.Module] = ()) -> int:
    """Makes batch normalisations part of the convolutions before them, as it is with fixed statistics.

    Args:
        module: in evaluation mode; its Detectron2 convolutions, those with an attribute ``norm``, are changed in place.
        keep: norms that stay as they are.

    Returns:
        How many there were.
    """
    folded = 0
    for conv in module.modules():
        norm = getattr(conv, "norm", None)
        is_fixed = isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d))
        if not (isinstance(conv, nn.Conv2d) and is_fixed) or norm in keep:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.norm = None
        folded += 1
    return folded

from cankd.utils import UserError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["check_pooled_norms"]


def check_pooled_norms(module: nn.Module, images: int) -> None:
    """Makes sure that batch norms behind the mean over a map see more than one value in training.

    Args:
        module: with the norms.
        images: of a batch on this GPU.

    Raises:
        UserError: if it is one. Synchronised norms see the other GPUs' images, too.
    """
    alone = any(
        isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm) and m.training for m in module.modules()
    )
    if images == 1 and alone:
        raise UserError(
            "the segmentation head pools a map to one position, and its batch norm needs two images or more on each "
            "GPU: raise dataloader.train.total_batch_size, lower train.accumulate, or choose norm=GN or SyncBN"
        )

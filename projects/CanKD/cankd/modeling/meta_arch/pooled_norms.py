from cankd.utils import UserError
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
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
    synchronized = (nn.SyncBatchNorm, NaiveSyncBatchNorm) if comm.get_world_size() > 1 else ()
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    if images == 1 and not all(isinstance(norm, synchronized) for norm in norms):
        raise UserError(
            "the segmentation head pools a map to one position, and its batch norm needs two images or more on each "
            "GPU: raise dataloader.train.total_batch_size, lower train.accumulate, or choose norm=GN"
        )

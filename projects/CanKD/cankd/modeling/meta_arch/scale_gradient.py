from torch import Tensor

__all__ = ["scale_gradient"]


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """Returns a tensor of the same value, whose gradient is multiplied by a factor on its way back."""
    return factor * tensor + (1 - factor) * tensor.detach()

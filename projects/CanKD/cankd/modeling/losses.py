from collections.abc import Mapping

from cankd.utils import UserError
from torch import Tensor

__all__ = ["losses_by_name"]


def losses_by_name(losses: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns what a model gives in training as a map from name to loss; a single loss is named "loss".

    Raises:
        UserError: if it is something else, which Detectron2's trainer would not take either.
    """
    if isinstance(losses, Tensor):
        return {"loss": losses}
    if isinstance(losses, Mapping):
        return dict(losses)
    raise UserError(
        f"the model gives a {type(losses).__name__} in training; it has to give a dict of losses or a single loss, as "
        "Detectron2's models do"
    )

"""What several methods refuse."""

from collections.abc import Mapping

from cankd.utils import TooSmallError, UserError
from torch import Tensor

__all__ = ["check_positions", "check_temperature", "check_term_weights"]


def check_temperature(temperature: float) -> None:
    """Refuses a temperature that is not positive.

    Raises:
        UserError: if it is 0 or less.
    """
    if not temperature > 0:
        raise UserError(f"the temperature is {temperature}; it has to be more than 0 (model.head.temperature)")


def check_term_weights(method: str, temperature: float, weights: Mapping[str, float]) -> None:
    """Refuses a temperature that is not positive, and a term's weight that is negative.

    Args:
        method: its name for the message.
        temperature: of its attention.
        weights: by the names of the terms.

    Raises:
        UserError: if one is.
    """
    if not (temperature > 0 and all(weight >= 0 for weight in weights.values())):
        raise UserError(
            f"{method}'s temperature is {temperature}, which has to be above 0, and its weights are {dict(weights)}, "
            "which have to be 0 or more"
        )


def check_positions(method: str, level: str, student: Tensor, teacher: Tensor) -> None:
    """Refuses features that have no positions in common, or so few that nothing differs between them.

    Args:
        method: its name for the message.
        level: the student's name.
        student, teacher: should be ``(N, C, H, W)``, of one height and width; channels may differ.

    Raises:
        UserError: if their sizes differ.
        TooSmallError: if they have one position alone.
    """
    sizes = ["{}×{}".format(*feature.shape[2:]) for feature in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"level {level!r} is {sizes[0]} in the student and {sizes[1]} in the teacher, but {method} compares "
            "position by position: resize one of them, or pair levels of one stride"
        )
    if student[0, 0].numel() < 2:
        raise TooSmallError(
            f"level {level!r} is {sizes[0]}, but {method} needs at least 2 positions: train on larger images, or leave "
            "the level out of head.levels"
        )

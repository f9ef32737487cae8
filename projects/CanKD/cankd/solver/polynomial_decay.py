from fvcore.common.param_scheduler import ParamScheduler

__all__ = ["PolynomialDecay"]


class PolynomialDecay(ParamScheduler):
    """From 1 to ``end_value`` by a power of the share of training that is left, as published recipes have it."""

    def __init__(self, *, power: float = 0.9, end_value: float = 0.0):
        """
        Args:
            power: 1 decays linearly.
            end_value: what is left at the end, of the learning rate at the start.
        """
        self.power = power
        self.end_value = end_value

    def __call__(self, where: float) -> float:
        """Returns the factor where training has come to ``where``, from 0 to 1."""
        return self.end_value + (1 - self.end_value) * (1 - where) ** self.power

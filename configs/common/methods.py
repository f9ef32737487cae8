"""Other methods in place of a recipe's own."""

from cankd.engine import use_method
from omegaconf import OmegaConf


def with_method(model, train, name):
    """Returns a distillation's model with a method's published settings.

    Args:
        model, train: of the recipe.
        name: see :func:`cankd.engine.use_method`.
    """
    return use_method(OmegaConf.create({"model": model, "train": train}, flags={"allow_objects": True}), name).model

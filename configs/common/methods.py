"""Other methods in place of a recipe's own."""

from cankd.engine import use_method
from omegaconf import OmegaConf


def with_method(model, train, name):
    """Returns a distillation's model with another method, and sets in ``train`` whether the student inherits (†).

    Args:
        model, train: of the recipe.
        name: see :func:`cankd.engine.use_method`; with "_published" behind it, levels and † are the published ones.
    """
    recipe = OmegaConf.create({"model": model, "train": train}, flags={"allow_objects": True})
    recipe = use_method(recipe, name)
    train.inherit = recipe.train.inherit
    return recipe.model

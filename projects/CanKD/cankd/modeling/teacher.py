from collections.abc import Mapping, Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .features import backbone_shapes, compute_features
from .weights import load_all_weights

__all__ = ["Teacher"]


class Teacher(nn.Module):
    """A trained, frozen model whose backbone features are imitated.

    It stays in evaluation mode whatever its surroundings do, its weights never change, and only the asked-for levels of
    its backbone are computed, never its head. Images are normalised and padded as the teacher itself wants.
    """

    def __init__(self, *, model: nn.Module, weights: str, input_format: str | None = None):
        """
        Args:
            model: a Detectron2 meta-architecture with ``backbone``, ``pixel_mean`` and ``pixel_std``.
            weights: path or URL of its checkpoint, any that Detectron2 reads.
            input_format: channel order that it was trained on, "BGR" or "RGB"; the model's own ``input_format`` if not
                given, and that of the images if the model has none.

        Raises:
            ValueError: if the weights are missing, unreadable, or not those of this model; if the model has no backbone
                that names its outputs.
        """
        super().__init__()
        self._output_shape = backbone_shapes(model, "teacher")
        self.load_report = load_all_weights(model, weights, "teacher")
        self.model = model.requires_grad_(False)
        self.input_format = input_format or getattr(model, "input_format", None)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode: the teacher never trains, its norms and dropout included."""
        return super().train(False)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Returns channels and stride of each level that the backbone computes."""
        return self._output_shape

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Mapping], levels: Sequence[str], input_format: str) -> dict[str, Tensor]:
        """
        Args:
            batched_inputs: what the student gets; "image" is a tensor ``(3, H, W)``.
            levels: names of the teacher's levels to compute.
            input_format: channel order of the images, "BGR" or "RGB".

        Returns:
            Map from level to feature, ``(N, C, H, W)``, without gradient.
        """
        images = [x["image"] for x in batched_inputs]
        if {input_format, self.input_format} == {"BGR", "RGB"}:
            images = [image.flip(0) for image in images]
        return compute_features(self.model, images, levels)

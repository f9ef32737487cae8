import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .features import backbone_shapes, compute_features, restrict_backbone
from .fold_norms import fold_norms
from .weights import load_all_weights

__all__ = ["Teacher"]

PRECISIONS = {"auto": None, "float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Teacher(nn.Module):
    """A trained, frozen model whose backbone features are imitated.

    It stays in evaluation mode whatever its surroundings do, its weights never change, and only the asked-for levels of
    its backbone are computed, never its head. Images are normalised and padded as the teacher itself wants.

    The options for speed are measured in ``benchmarks/teacher.md``. None touches ``model``: what they make is a copy of
    the backbone, at the first batch.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        weights: str,
        input_format: str | None = None,
        precision: str = "auto",
        fold_norms: bool = True,
        channels_last: bool = False,
        compile: bool = False,
        own_stream: bool = True,
    ):
        """
        Args:
            model: a Detectron2 meta-architecture with ``backbone``, ``pixel_mean`` and ``pixel_std``.
            weights: path or URL of its checkpoint, any that Detectron2 reads.
            input_format: channel order that it was trained on, "BGR" or "RGB"; the model's own ``input_format`` if not
                given, and that of the images if the model has none.
            precision: of autocast around the backbone: "float32" for none, "bfloat16", "float16", or "auto", on a GPU
                bfloat16 where it has that and else float16, on the CPU what the surroundings have.
            fold_norms: whether batch normalisations, fixed as they are, become part of their convolutions.
            channels_last: whether to compute in this memory format.
            compile: whether to run the backbone by ``torch.compile``, for any image size.
            own_stream: whether, on a GPU, :meth:`start` runs beside what follows, on a CUDA stream of its own.

        Raises:
            ValueError: if the weights are missing, unreadable, or not those of this model; if the model has no backbone
                that names its outputs; if the precision is unknown.
        """
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"the teacher's precision is {precision!r}; it has to be one of {list(PRECISIONS)}")
        self._output_shape = backbone_shapes(model, "teacher")
        self.load_report = load_all_weights(model, weights, "teacher")
        self.model = model.requires_grad_(False)
        self.input_format = input_format or getattr(model, "input_format", None)
        self.precision = precision
        self.fold_norms = fold_norms
        self.channels_last = channels_last
        self.compile_backbone = compile
        self.own_stream = own_stream
        self._backbones = {}  # by levels; no part of the module, which they share or copy weights of
        self._stream = None
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode: the teacher never trains, its norms and dropout included."""
        return super().train(False)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Returns channels and stride of each level that the backbone computes."""
        return self._output_shape

    def _apply(self, *args, **kwargs):
        self._backbones = {}  # copies of weights that are about to move
        return super()._apply(*args, **kwargs)

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
        with self._autocast():
            return compute_features(self.model, images, levels, self._backbone(tuple(levels)))

    def start(
        self, batched_inputs: Sequence[Mapping], levels: Sequence[str], input_format: str
    ) -> Callable[[], dict[str, Tensor]]:
        """Starts :meth:`forward`, on a GPU beside what the caller does next.

        Args:
            batched_inputs, levels, input_format: as of :meth:`forward`.

        Returns:
            A function that gives the features, once they are there.
        """
        if not (self.own_stream and self._device.type == "cuda"):
            features = self(batched_inputs, levels, input_format)
            return lambda: features
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))  # the images may still be on their way
        with torch.cuda.stream(self._stream):
            features = self(batched_inputs, levels, input_format)

        def wait():
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for feature in features.values():
                feature.record_stream(current)  # its memory is not given away before this stream is through with it
            return features

        return wait

    @property
    def _device(self):
        return self.model.pixel_mean.device

    def _autocast(self):
        device, precision = self._device.type, self.precision
        if precision == "auto":
            if device != "cuda":
                return contextlib.nullcontext()
            precision = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        return torch.autocast(device, PRECISIONS[precision], enabled=precision != "float32")

    def _backbone(self, levels):
        if levels not in self._backbones:
            backbone = restrict_backbone(self.model.backbone, levels)
            if self.fold_norms or self.channels_last or self.compile_backbone:
                backbone = copy.deepcopy(backbone)
            if self.fold_norms:
                fold_norms(backbone)
            if self.channels_last:
                backbone.to(memory_format=torch.channels_last)
            if self.compile_backbone:
                backbone.compile(dynamic=True)
            self._backbones[levels] = backbone
        return self._backbones[levels]

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from cankd.checkpoint import inherit_weights, load_all_weights
from cankd.layers import fold_norms
from cankd.utils import UserError, reorder_channels
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from torch import Tensor, nn

from .feature_source import FeatureSource, backbone_shapes
from .levels import padded_size

__all__ = ["PendingFeatures", "Teacher"]

PRECISIONS = {"auto": None, "float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PendingFeatures:
    """Features that a GPU may still be computing, on a CUDA stream of its own."""

    def __init__(self, features: dict[str, Tensor], stream: "torch.cuda.Stream | None" = None):
        """
        Args:
            features: by level.
            stream: that computes them; None if they are there.
        """
        self._features = features
        self._stream = stream

    def wait(self) -> dict[str, Tensor]:
        """Returns the features, for use on the current stream."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_stream(self._stream)
            for feature in self._features.values():
                feature.record_stream(current)  # its memory is not given away before this stream is through with it
        return self._features


class Teacher(nn.Module):
    """A trained, frozen model whose features are imitated.

    It stays in evaluation mode whatever its surroundings do, and its weights never change. It runs its own forward
    pass, with its own normalisation and padding, as far as the last level that is asked for.

    The options for speed are measured in ``benchmarks/teacher.md``. They change ``model`` in place, at the first batch:
    norms become part of their convolutions, so that its state dict has other keys from then on.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        weights: str | None,
        input_format: str | None = None,
        scale: float = 1.0,
        precision: str = "auto",
        fold_norms: bool = True,
        channels_last: bool = False,
        compile: bool = False,
        own_stream: bool = True,
    ):
        """
        Args:
            model: a Detectron2 meta-architecture, or any model that takes records as those do.
            weights: path or URL of its checkpoint, any that Detectron2 reads; None leaves the model as it is, for
                measurements of cost.
            input_format: channel order that it was trained on, "BGR" or "RGB"; the model's own ``input_format`` if not
                given, and that of the images if the model has none.
            scale: size at which the teacher sees an image, over the size at which the student does. At 2 the level of
                stride 16 has as many positions as the student's of stride 8, and :meth:`output_shape` says stride 8.
            precision: of autocast around the model: "float32" for none, "bfloat16", "float16", or "auto", on a GPU
                bfloat16 where it has that and else float16, on the CPU what the surroundings have.
            fold_norms: whether batch normalisations, fixed as they are, become part of their convolutions.
            channels_last: whether to compute in this memory format.
            compile: whether to run the backbone (of an FPN, what is below it) by ``torch.compile``, for any image size.
            own_stream: whether, on a GPU, :meth:`start` runs beside what follows, on a CUDA stream of its own.

        Raises:
            UserError: if the weights are missing, unreadable, or not those of this model; if the precision is unknown;
                if the scale is not positive; if there is no backbone to compile.
        """
        super().__init__()
        if precision not in PRECISIONS:
            raise UserError(f"the teacher's precision is {precision!r}; it has to be one of {list(PRECISIONS)}")
        if not scale > 0:
            raise UserError(f"model.teacher.scale is {scale}; it has to be positive: 2 shows images twice as large")
        if compile and not isinstance(getattr(model, "backbone", None), nn.Module):
            raise UserError(f"the teacher, a {type(model).__name__}, has no backbone to compile: leave compile out")
        self.load_report = None if weights is None else load_all_weights(model, weights, "teacher")
        self.model = model.requires_grad_(False)
        self.input_format = input_format or getattr(model, "input_format", None)
        self.scale = scale
        self.precision = precision
        self.fold_norms = fold_norms
        self.channels_last = channels_last
        self._compiles = compile
        self.own_stream = own_stream
        self._source: FeatureSource | None = None
        self._is_prepared = False
        self._stream = None
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode: the teacher never trains, its norms and dropout included."""
        return super().train(False)

    def choose_levels(self, levels: Sequence[str]) -> None:
        """Says which levels to compute.

        Args:
            levels: see :class:`FeatureSource`.

        Raises:
            UserError: if the model has no such level, or it lies within what is to be compiled.
        """
        if self._source and set(levels) <= set(self._source.output_shape()):
            self._source = self._source.select(levels)
        else:
            self._source = FeatureSource(self.model, levels, "teacher")
        if self._compiles and set(self._source.modules()) & {*self._to_compile.modules()} - {self._to_compile}:
            raise UserError(
                f"of the teacher's levels {', '.join(levels)} one lies within {type(self._to_compile).__name__}, and "
                "what is compiled does not show what is within it: leave model.teacher.compile out"
            )

    @property
    def _to_compile(self):
        backbone = self.model.backbone
        return backbone.bottom_up if type(backbone) is FPN else backbone

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Returns channels and stride of each level that was chosen, and of what the backbone declares.

        Strides are pixels of the images as they are given, not as the teacher sees them.
        """
        return self.rescale(backbone_shapes(self.model) | (self._source.output_shape() if self._source else {}))

    def padded_size(self, size: tuple[int, int]) -> tuple[float, float]:
        """Returns what the model pads images of a size to, in pixels of the images as they are given."""
        scaled = padded_size(self.model, tuple(max(1, round(side * self.scale)) for side in size))
        return tuple(side / self.scale for side in scaled)

    def rescale(self, shapes: Mapping[str, ShapeSpec]) -> dict[str, ShapeSpec]:
        """Returns shapes of the model's levels with strides in pixels of the images as they are given."""
        if self.scale == 1:
            return dict(shapes)
        return {
            name: dataclasses.replace(shape, stride=self._rescale_stride(shape.stride))
            for name, shape in shapes.items()
        }

    def _rescale_stride(self, stride):
        if stride is None:
            return None
        return int(stride / self.scale) if (stride / self.scale).is_integer() else stride / self.scale

    def view(self, batched_inputs: Sequence[Mapping], input_format: str | None) -> Sequence[Mapping]:
        """Returns records as the teacher wants their images, in its channel order and size.

        Args:
            batched_inputs: "image" is a tensor ``(3, H, W)``. They stay as they are.
            input_format: channel order of the images; None if it is not known.
        """
        records = reorder_channels(batched_inputs, input_format, self.input_format)
        if self.scale == 1:
            return records
        return [{**record, "image": self._resize(record["image"])} for record in records]

    def _resize(self, image):
        size = [max(1, round(side * self.scale)) for side in image.shape[-2:]]
        pixels = image.to(self._device, torch.float32)[None]
        return F.interpolate(pixels, size, mode="bilinear", antialias=self.scale < 1)[0]

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Mapping], input_format: str) -> dict[str, Tensor]:
        """
        Args:
            batched_inputs: what the student gets; "image" is a tensor ``(3, H, W)``.
            input_format: channel order of the images, "BGR" or "RGB".

        Returns:
            Map from level to feature, ``(N, C, H, W)`` or ``(N, K)``, without gradient.
        """
        assert self._source is not None, "the teacher has not been told its levels: call choose_levels"
        self._prepare()
        with self._autocast():
            return self._source.compute(self.view(batched_inputs, input_format))

    def start(self, batched_inputs: Sequence[Mapping], input_format: str) -> PendingFeatures:
        """Starts :meth:`forward`, on a GPU beside what the caller does next.

        Args:
            batched_inputs, input_format: as of :meth:`forward`.

        Returns:
            What waits for the features.
        """
        device = self._device
        if not (self.own_stream and device.type == "cuda"):
            return PendingFeatures(self(batched_inputs, input_format))
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))  # the images may still be on their way
        with torch.cuda.stream(self._stream):
            return PendingFeatures(self(batched_inputs, input_format), self._stream)

    def give_weights(self, student: nn.Module, patterns: Sequence[str] | Mapping[str, str]) -> list[str]:
        """Starts parts of a student from this teacher's weights (†), see :func:`cankd.checkpoint.inherit_weights`.

        Raises:
            UserError: if the teacher has run already and its norms are folded, or a key does not fit.
        """
        if self._is_prepared and self.fold_norms:
            raise UserError(
                "the teacher has run, and its norms are folded into its convolutions: a student can inherit its "
                "weights only before, or with model.teacher.fold_norms=False"
            )
        return inherit_weights(student, self.model, patterns)

    @property
    def _device(self):
        return next(self.model.parameters()).device

    def _autocast(self):
        device, precision = self._device.type, self.precision
        if precision == "auto":
            if device != "cuda":
                return contextlib.nullcontext()
            precision = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        return torch.autocast(device, PRECISIONS[precision], enabled=precision != "float32")

    def _prepare(self):
        """Makes the model as fast as the options say. † has copied what it wants by now."""
        if self._is_prepared:
            return
        self._is_prepared = True
        if self.fold_norms:
            fold_norms(self.model, keep=self._source.modules() if self._source else ())
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if self._compiles:
            # Not by Module.compile, which would compile the hooks that record features, too.
            part = self._to_compile
            part.forward = torch.compile(part.forward, dynamic=True)

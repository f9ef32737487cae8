"""Where a model's feature levels come from, whatever the model is."""

import contextlib
import copy
import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from cankd.utils import UserError, preserved_random_state
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from torch import Tensor, nn

__all__ = ["FeatureSource", "backbone_shapes"]

Records = Sequence[Mapping]
BLANK_SIZES = ((128, 256), (256, 384))  # of the images that undeclared levels are measured with; multiples of 128


def backbone_shapes(model: nn.Module) -> dict[str, ShapeSpec]:
    """Returns the feature levels that a model's backbone declares, as Detectron2's do; none if it declares none."""
    output_shape = getattr(getattr(model, "backbone", None), "output_shape", None)
    return dict(output_shape()) if callable(output_shape) else {}


def has_module(model: nn.Module, level: str) -> bool:
    """Tells whether a level's name begins with the path of a sub-module."""
    try:
        model.get_submodule(level.partition(":")[0])
    except AttributeError:
        return False
    return True


class FeatureSource:
    """Feature levels of a model, recorded while it runs its own forward pass.

    A level is

    - an entry of what ``model.backbone`` returns, as "p3";
    - or the path of a sub-module, as "sem_seg_head.predictor" or "backbone.net.blocks.0", with ":entry" behind it where
      that returns a tuple, list or dict, nested if need be: "neck:0", "head:0:2".

    Maps come out as ``(N, C, H, W)``, whatever their layout is (Detectron2's ViT blocks have channels last, timm's are
    sequences of tokens, perhaps behind a class token); logits stay ``(N, K)``. What a backbone does not declare is
    measured at construction, by two forward passes of blank images.
    """

    def __init__(self, model: nn.Module, levels: Sequence[str], role: str = "model"):
        """
        Args:
            model: takes records, as Detectron2's meta-architectures do. It is referred to, not changed.
            levels: their names.
            role: what the model is, for messages: "student", "teacher".

        Raises:
            UserError: if there is no such level; if it runs several times in a pass, or depends on proposals.
        """
        self._model = model
        self._role = role
        declared = backbone_shapes(model)
        self._taps = {level: self._locate(level, declared) for level in dict.fromkeys(levels)}
        self._image_size = None
        self._shapes = {level: declared[level] for level in self._taps if level in declared}
        if undeclared := [level for level in self._taps if level not in declared]:
            self._measure(undeclared)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Returns channels and stride, in input pixels, of each level; a stride is None where there are no positions,
        or the map does not grow with the image."""
        return {level: self._shapes[level] for level in self._taps}

    def modules(self) -> list[nn.Module]:
        """Returns the modules that the levels are outputs of."""
        return [tap.module for tap in self._taps.values()]

    def select(self, levels: Sequence[str]) -> "FeatureSource":
        """Returns a source of some of these levels."""
        source = copy.copy(self)
        source._taps = {level: self._taps[level] for level in dict.fromkeys(levels)}
        return source

    @contextlib.contextmanager
    def record(self) -> Iterator[dict[str, Tensor]]:
        """Gives a dict that fills with the features of the passes that the model makes while the context lasts."""
        with self._hooks(stop=False) as features:
            yield features
        self._check_found(features)
        if strange := [level for level, feature in features.items() if not isinstance(feature, Tensor)]:
            raise UserError(
                f"the {self._role}'s level {strange[0]!r}, a tensor when the model is evaluated, is none when it is "
                "trained: name a part that always is, such as sem_seg_head.predictor"
            )

    def compute(self, batched_inputs: Records) -> dict[str, Tensor]:
        """Runs the model's own forward pass, and stops it as soon as the last level is there.

        Args:
            batched_inputs: the records, as the model takes them.

        Returns:
            Map from level to feature.
        """
        with self._hooks(stop=True) as features, contextlib.suppress(_AllThere):
            self._model(batched_inputs)
        self._check_found(features)
        return features

    @contextlib.contextmanager
    def _hooks(self, stop):
        features, handles = {}, []
        by_module = {}
        for level, tap in self._taps.items():
            by_module.setdefault(tap.module, {})[level] = tap

        def hook(module, inputs, output):
            for level, tap in by_module[module].items():
                if level in features and tap.path:
                    raise UserError(
                        f"the {self._role}'s level {level!r} runs several times in a forward pass: name what it is "
                        "part of, with the entry that is meant (as head:0:2 for the third level of a head)"
                    )
                features[level] = tap.read(output, self._image_size)
            if stop and len(features) == len(self._taps):
                raise _AllThere
            is_inside = any(tap.path for tap in by_module[module].values())
            # What follows within a backbone may overwrite it in place, as ReLU does: it gets a copy.
            return output.clone() if is_inside and isinstance(output, Tensor) else None

        for module in by_module:
            handles.append(module.register_forward_hook(hook))
        if any(tap.needs_size for tap in self._taps.values()):
            handles.append(self._model.register_forward_pre_hook(self._note_size))
            if isinstance(backbone := getattr(self._model, "backbone", None), nn.Module):
                handles.append(backbone.register_forward_pre_hook(self._note_padded_size))
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()

    def _note_size(self, model, inputs):
        sizes = [record["image"].shape[-2:] for record in inputs[0]]
        self._image_size = tuple(max(sides) for sides in zip(*sizes))

    def _note_padded_size(self, backbone, inputs):
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4:
            self._image_size = tuple(inputs[0].shape[2:])

    def _check_found(self, features):
        mode = "trained" if self._model.training else "evaluated"
        if missing := [level for level in self._taps if level not in features]:
            raise UserError(f"the {self._role}'s level {missing[0]!r} does not run when the model is {mode}")

    def _locate(self, level, declared):
        """Finds the module that gives a level, and the entry of its output."""
        if level in declared:
            # Detectron2's FPN computes its levels from the coarsest on and returns all at once. Asked at its output
            # convolutions, it can be stopped before those that nobody wants: the finer ones, P6 and P7.
            backbone = self._model.backbone
            if type(backbone) is FPN and level in (names := list(declared)[: len(backbone.output_convs)]):
                return _Tap(backbone.output_convs[::-1][names.index(level)])
            return _Tap(backbone, entries=(level,))
        path, *entries = level.split(":")
        if has_module(self._model, level):
            return _Tap(self._model.get_submodule(path), path=path, entries=tuple(entries))
        known = [*declared, *(name for name, _ in self._model.named_modules() if name)]
        close = difflib.get_close_matches(path, known, n=3) or known[:8]
        raise UserError(
            f"the {self._role} has no level {level!r}: it is no output of its backbone "
            f"({', '.join(declared) or 'which declares none'}) and no sub-module of {type(self._model).__name__}. Near "
            f"it are {', '.join(close)}"
        )

    def _measure(self, levels):
        """Finds layout, channels and stride of levels that nothing declares."""
        taps, self._taps = self._taps, {level: self._taps[level] for level in levels}
        for tap in self._taps.values():
            tap.needs_size = True
        passes = []
        try:
            with _measuring(self._model):
                for size in BLANK_SIZES:
                    with self._hooks(stop=False) as features:  # to its end, as a module may run again
                        self._model(_blank_images(size))
                    self._check_found(features)
                    passes.append((self._image_size, features))
        except UserError:
            raise
        except Exception as error:  # it is the user's model
            raise UserError(
                f"the {self._role}'s level {levels[0]!r} cannot be measured: the model fails on two blank images with "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            self._taps = taps
        for level in levels:
            self._shapes[level] = self._taps[level].learn(level, self._role, [(s, f[level]) for s, f in passes])


class _AllThere(BaseException):
    """Ends a forward pass; no error, so that no model's own handling of errors takes it for one."""


@dataclasses.dataclass(eq=False)
class _Tap:
    """Where a level is taken from, and how it is laid out."""

    module: nn.Module
    path: str = ""  # none for what a backbone declares
    entries: tuple[str, ...] = ()
    layout: str | None = None  # "NHWC", "NLC"; None leaves it as it is
    stride: int | None = None
    prefix: int = 0  # tokens before those of the map
    needs_size: bool = False

    def read(self, output: object, image_size: tuple[int, int] | None) -> Tensor:
        """Takes the level out of what the module returned, as ``(N, C, H, W)`` or ``(N, K)``."""
        for entry in self.entries:
            try:
                output = output[entry] if isinstance(output, Mapping) else output[int(entry)]
            except (LookupError, TypeError, ValueError) as error:
                size = f" of {len(output)}" if isinstance(output, (list, tuple)) else ""
                kind = type(output).__name__ + size
                where = self.path or "the backbone"
                raise UserError(f"there is no entry {entry!r} in what {where} returns, a {kind}") from error
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2)
        if self.layout == "NLC":
            tokens = output[:, self.prefix :]
            return tokens.mT.unflatten(2, tuple(-(-side // self.stride) for side in image_size))
        return output

    def learn(self, level: str, role: str, passes: Sequence[tuple[tuple[int, int], object]]) -> ShapeSpec:
        """Finds layout, stride and channels from what came out for images of two sizes."""
        (size, small), (large_size, large) = passes
        where = f"the {role}'s level {level!r}"
        if not (isinstance(small, Tensor) and small.is_floating_point()):
            hint = f"{level}:0" if isinstance(small, (list, tuple)) else f"{level}:{next(iter(small), 'entry')}"
            kind = type(small).__name__
            raise UserError(f"{where} is no feature but a {kind}: name the entry that is meant, for example {hint!r}")
        if not len(small) == len(large) == 2:
            raise UserError(
                f"{where} depends on proposals: it has {len(small)} rows for 2 images. The two models would be "
                "compared at different places; choose a level that is a map, or logits of whole images"
            )
        if small.ndim == 2:
            self.needs_size = False
            return ShapeSpec(channels=small.shape[1], stride=None)
        if small.ndim == 3:
            return self._learn_tokens(where, size, small, large_size, large)
        if small.ndim != 4:
            raise UserError(f"{where} has {small.ndim} dimensions ({tuple(small.shape)}): it is no map and no logits")
        self.needs_size = False
        if _grows(small, large) == (1, 2) or (
            small.shape == large.shape and small.shape[1] == small.shape[2] != small.shape[3]
        ):
            self.layout = "NHWC"
            small, large = (x.permute(0, 3, 1, 2) for x in (small, large))
        self.stride = _common_stride(zip(size, large_size, small.shape[2:], large.shape[2:]))
        return ShapeSpec(channels=small.shape[1], stride=self.stride)

    def _learn_tokens(self, where, size, small, large_size, large):
        areas = [height * width for height, width in (size, large_size)]
        grown = large.shape[1] - small.shape[1]
        stride = ((areas[1] - areas[0]) / grown) ** 0.5 if grown > 0 else 0
        prefix = small.shape[1] - areas[0] / stride**2 if stride else -1
        if stride != int(stride) or prefix != int(prefix) or prefix < 0:
            raise UserError(
                f"{where} is {tuple(small.shape)} and {tuple(large.shape)} for images of {size} and {large_size}: "
                "these are no tokens of a grid, with or without others before them"
            )
        self.layout, self.stride, self.prefix = "NLC", int(stride), int(prefix)
        return ShapeSpec(channels=small.shape[2], stride=self.stride)


def _common_stride(sides):
    """Finds the stride from sides of two images and of their maps, None if it is unknown, or another by axis."""
    strides = {_axis_stride(*axis) for axis in sides}
    return strides.pop() if len(strides) == 1 else None


def _axis_stride(small, large, small_map, large_map):
    """Finds the stride along one axis, from sides of images in pixels and of maps in positions."""
    if large > small and large_map > small_map:
        growth = (large - small) / (large_map - small_map)
    elif small == large and small_map == large_map:
        growth = small / small_map
    else:
        return None
    if growth.is_integer():
        return int(growth)
    near = range(max(1, math.floor(growth / 2)), math.ceil(growth * 2) + 1)
    fitting = [stride for stride in near if _fits(small, small_map, stride) and _fits(large, large_map, stride)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(side, positions, stride):
    """A convolution without padding, or whose stride does not divide the side, leaves a position out."""
    return positions in (side // stride - 1, side // stride, -(-side // stride))


def _grows(small, large):
    return tuple(axis for axis in range(1, small.ndim) if small.shape[axis] != large.shape[axis])


def _blank_images(size):
    height, width = size
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return [{"image": image, "height": height, "width": width} for _ in range(2)]


@contextlib.contextmanager
def _measuring(model):
    """Evaluation mode, without gradients, and with random numbers that nobody else sees."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), preserved_random_state():
            yield
    finally:
        for module in training:
            module.training = True

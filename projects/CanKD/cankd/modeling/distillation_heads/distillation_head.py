"""What all distillation methods share."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import TooSmallError, UserError
from detectron2.utils import comm
from torch import Tensor, nn

from .level_dict import LevelDict

__all__ = ["DistillationHead", "StepContext"]

Features = Mapping[str, Tensor]


class StepContext(NamedTuple):
    """What a method may need beside features.

    Attributes:
        batch: the loader's records, with "image" and what else the data have: "instances", "sem_seg", "label".
        strides: map from level to the input pixels between two of its positions; None where it has no positions.
    """

    batch: Sequence[Mapping]
    strides: Mapping[str, int | None]


class _BuildsItself(type(nn.Module)):
    """Builds a head once its constructor, that of a subclass included, has run through."""

    def __call__(cls, *args, **kwargs):
        head = super().__call__(*args, **kwargs)
        head._connect_given_channels()
        return head


class DistillationHead(nn.Module, metaclass=_BuildsItself):
    """Losses ``loss_<name>_<level>`` between paired features; owns all that is trained beside the student.

    A method is a subclass with a ``name`` and :meth:`compare`; :meth:`build_level` makes what it trains. A
    :class:`cankd.modeling.Distiller` connects a head to its student and teacher. With ``in_channels`` a head is ready
    at once, for any training loop::

        head = CanKDHead(levels=["p3", "p4"], in_channels=256)
        losses |= head(student_features, teacher_features)
    """

    name: ClassVar[str]
    """Stands in the names of the losses."""
    terms: Sequence[str] = ()
    """Names of the terms that :meth:`compare` gives, if it gives several; their losses are ``loss_<name>_<term>_…``."""
    adapts_channels: ClassVar[bool] = True
    """Whether a 1×1 convolution brings the student's feature to the teacher's channels before they are compared."""
    needs_maps: ClassVar[bool] = False
    """Whether the method works on maps of positions alone, so that logits are refused."""
    needs_annotations: bool = False
    """Whether :meth:`compare` looks at annotations, so that unlabelled images are refused."""

    def __init__(
        self,
        *,
        levels: Sequence[str] | None = ("p3", "p4", "p5"),
        weight: float = 1.0,
        in_channels: int | Sequence[int] | None = None,
        student_channels: int | Sequence[int] | None = None,
        seed: int = 0,
    ):
        """
        Args:
            levels: the student's names of the levels; None leaves the choice to the :class:`cankd.modeling.Distiller`.
            weight: factor of all losses, at least 0. With 0 nothing is distilled.
            in_channels: the teacher's channels, one number or one a level; those that the models have if not given.
            student_channels: likewise the student's; the teacher's if not given.
            seed: of the head's own random numbers.

        Raises:
            UserError: if there is no level, a level stands twice, the weight is negative, or there are not as many
                channels as levels.
        """
        super().__init__()
        self.levels: tuple[str, ...] = ()
        if levels is not None:
            self.choose_levels(levels)
        if not weight >= 0:
            raise UserError(f"the distillation weight is {weight}; it has to be 0 or more (model.head.weight)")
        self.weight = weight
        self.adapters = LevelDict()
        self._seed = seed
        self._generators: dict[str, torch.Generator] = {}  # by type of device
        self._restored: dict[str, Tensor] = {}  # states of generators that are not needed yet
        self._built: dict[str, tuple[int, int]] = {}  # channels of student and teacher by level
        self._given = (student_channels, in_channels)
        self.register_state_dict_post_hook(_save_generators)
        self.register_load_state_dict_pre_hook(_load_generators)

    @property
    def lacks_levels(self) -> bool:
        """Whether :meth:`choose_levels` has to be called before :meth:`connect`."""
        return not self.levels

    @property
    def named_levels(self) -> tuple[str, ...]:
        """The levels that are chosen already."""
        return self.levels

    def choose_levels(self, levels: Sequence[str]) -> None:
        """Says which levels to compare.

        Args:
            levels: the student's names.

        Raises:
            UserError: if they are no list, there is none, or a level stands twice.
        """
        if isinstance(levels, str):
            raise UserError(f"levels is {levels!r}; it has to be a list: [{levels}]")
        self.levels = tuple(levels)
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise UserError(f"levels is {list(self.levels)}; name each level to distil once, at least one")

    def connect(self, pairs: Sequence[LevelPair]) -> None:
        """Builds what a student and a teacher need that is not there yet, and checks what is there.

        Args:
            pairs: one for each of :attr:`levels`; others are ignored.

        Raises:
            UserError: if the head was built for other channels, cannot compare the two of a pair, or has no name.
        """
        if not hasattr(self, "name"):
            raise UserError(f"{type(self).__name__} has no attribute name, which stands in the names of its losses")
        for pair in pairs:
            if pair.student not in self.levels:
                continue
            teacher_channels = self._built.get(pair.student, (None, pair.teacher_channels))[1]
            if teacher_channels != pair.teacher_channels:
                raise UserError(
                    f"head.in_channels is {teacher_channels}, but the teacher's level {pair.teacher!r} has "
                    f"{pair.teacher_channels} channels: leave head.in_channels out, or set it to that"
                )
            if pair.student not in self._built:
                self.build_level(pair)
            self._built[pair.student] = (pair.student_channels, pair.teacher_channels)
            differ = pair.student_channels != pair.teacher_channels
            if differ and self.adapts_channels and pair.student not in self.adapters:
                self.adapters[pair.student] = nn.Conv2d(pair.student_channels, pair.teacher_channels, 1)
            self._check_adapter_of(pair)

    def _adapter_of(self, level):
        return self.adapters[level] if level in self.adapters else None

    def _check_adapter_of(self, pair):
        adapter = self._adapter_of(pair.student)
        if isinstance(adapter, nn.Conv2d) and adapter.in_channels != pair.student_channels:
            raise UserError(
                f"head.student_channels is {adapter.in_channels}, but the student's level {pair.student!r} has "
                f"{pair.student_channels} channels: leave head.student_channels and head.in_channels out, or set them"
            )

    def _connect_given_channels(self):
        """Builds the head where its arguments say all that it needs to know."""
        student, teacher = (self._by_level(channels) for channels in self._given)
        if teacher is None:
            if student is not None:
                raise UserError("head.student_channels is given without head.in_channels: give both or none")
            return
        if self.lacks_levels:
            raise UserError("head.in_channels is given without head.levels: give both or none")
        pairs = zip(self.levels, student or teacher, teacher)
        self.connect([LevelPair(level, level, None, None, ours, theirs) for level, ours, theirs in pairs])

    def _by_level(self, channels):
        if channels is None or isinstance(channels, int):
            return channels and (channels,) * len(self.levels)
        if len(channels) != len(self.levels):
            raise UserError(f"channels are given for {len(channels)} levels ({list(channels)}), levels: {self.levels}")
        return tuple(channels)

    def build_level(self, pair: LevelPair) -> None:
        """Makes what is trained at a level, nothing by default; the adapter comes by itself.

        Args:
            pair: the level's; its strides are None where the head was built by ``in_channels``.
        """

    def compare(
        self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None
    ) -> Tensor | dict[str, Tensor]:
        """Returns the loss of a level, unweighted, or its :attr:`terms` by name; scalars.

        Args:
            level: the student's name.
            student, teacher: ``(N, C, H, W)`` of one size, float32 or float64, the student's adapted; logits are
                ``(N, K)``. The teacher's carries no gradient.
            context: of the step; None where the caller has none.

        Raises:
            TooSmallError: if the level has too few positions.
        """
        raise NotImplementedError

    def forward(
        self,
        student_features: Features,
        teacher_features: Features,
        context: StepContext | None = None,
        skipped: set[str] | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            student_features, teacher_features: maps from the student's level names to ``(N, C, H, W)`` or ``(N, K)``.
                The two of a level have the same size. The teacher's carry no gradient.
            context: what else the method may need.
            skipped: gets the levels that are too small for the method; their losses are 0. None refuses them.

        Returns:
            Map from each of :attr:`loss_names` to the weighted loss, a float32 scalar (float64 for float64 features).

        Raises:
            UserError: if the method cannot work on these features.
        """
        losses = {}
        with full_precision(student_features):
            for level, student, teacher in self._adapt(student_features, teacher_features):
                try:
                    with naming(self):
                        found = self.compare(level, student, teacher, context)
                except TooSmallError:
                    if skipped is None:
                        raise
                    skipped.add(level)
                    found = dict.fromkeys(self.terms or ("",), self._zero(student))
                terms = found if isinstance(found, Mapping) else {"": found}
                if terms.keys() != set(self.terms or ("",)):
                    raise UserError(
                        f"{type(self).__name__}.compare gives the terms {list(terms)}, and the class names "
                        f"{list(self.terms)}: set its attribute terms to their names"
                    )
                for term, loss in terms.items():
                    if not isinstance(loss, Tensor) or loss.ndim:
                        given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
                        raise UserError(
                            f"{type(self).__name__}.compare gives {given} for level {level!r}; a loss is a tensor "
                            "without dimensions, such as a mean over images and positions"
                        )
                    losses[self._loss_name(level, term)] = self.weight * loss
        return losses

    @property
    def losses_by_level(self) -> dict[str, list[str]]:
        """The names of each level's losses."""
        return {level: [self._loss_name(level, term) for term in self.terms or ("",)] for level in self.levels}

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What :meth:`forward` calls its losses."""
        return tuple(name for names in self.losses_by_level.values() for name in names)

    def _loss_name(self, level, term):
        return "_".join(["loss", self.name, *([term] if term else []), level])

    @property
    def is_active(self) -> bool:
        """Whether anything is distilled."""
        return self.weight > 0

    def inactive_losses(self, like: Tensor) -> dict[str, Tensor]:
        """Returns zeros by the same names, tied to every parameter, for steps on which the head does not run.

        DistributedDataParallel wants each parameter to take part in each step.

        Args:
            like: any loss, for device and type.
        """
        return dict.fromkeys(self.loss_names, self._zero(like))

    def _zero(self, like):
        return 0.0 * sum((p.sum() for p in self.parameters()), like.new_zeros(()))

    @torch.no_grad()
    def correlations(self, student_features: Features, teacher_features: Features) -> dict[str, Tensor]:
        """Measures how alike student and teacher are, as the student's own feature is that is left at inference.

        Args:
            student_features, teacher_features: as for :meth:`forward`.

        Returns:
            Map from level to the Pearson correlation over positions, a scalar, averaged over images and channels.
            Levels without positions, and those of other channels that no adapter brings together, are left out.
        """
        with full_precision(student_features):
            return {
                level: (F.instance_norm(student) * F.instance_norm(teacher)).mean()
                for level, student, teacher in self._adapt(student_features, teacher_features)
                if student.ndim == 4 and student.shape == teacher.shape and student[0, 0].numel() > 1
            }

    def _adapt(self, student_features: Features, teacher_features: Features) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yields each level's name and its two features, comparable: same channels, at least float32."""
        for level in self.levels:
            assert level in self._built, f"level {level} is not connected: give in_channels, or call connect"
            if missing := [features for features in (student_features, teacher_features) if level not in features]:
                raise UserError(f"there is no feature of level {level!r}, but of {', '.join(missing[0]) or 'none'}")
            student, teacher = student_features[level], teacher_features[level]
            channels, built = (student.shape[1], teacher.shape[1]), self._built[level]
            if len(student) != len(teacher) or (self.adapts_channels and channels != built):
                raise UserError(
                    f"level {level!r} has {len(student)} images of {channels[0]} channels of the student and "
                    f"{len(teacher)} of {channels[1]} of the teacher; the head was built for {built[0]} and {built[1]} "
                    "channels"
                )
            if self.needs_maps and min(student.ndim, teacher.ndim) < 4:
                raise UserError(
                    f"level {level!r} is no map of positions, which {self.name} compares: use KDHead for it"
                )
            if student.dtype != torch.float64:
                student, teacher = student.float(), teacher.float()
            if level in self.adapters:
                student = self.adapters[level](student)
            yield level, student, teacher

    def generator(self, device: torch.device | str) -> torch.Generator:
        """Returns the head's own random numbers on a device, so that the student's stay those without distillation.

        They are saved and restored with the head's state, and differ from process to process.
        """
        device = torch.device(device)
        if device.type not in self._generators:
            generator = torch.Generator(device).manual_seed(self._seed + comm.get_rank())
            if device.type in self._restored:
                generator.set_state(self._restored.pop(device.type))
                if comm.get_rank():  # the state is the first process's
                    generator.manual_seed(generator.initial_seed() + int(generator.get_state().sum()) + comm.get_rank())
            self._generators[device.type] = generator
        return self._generators[device.type]

    def generator_states(self) -> dict[str, Tensor]:
        """Returns the states of this process's generators by type of device; the head's own state has the first's."""
        return {device: generator.get_state() for device, generator in self._generators.items()}

    def restore_generators(self, states: Mapping[str, Tensor]) -> None:
        """Lets this process's generators go on where they were, those of a device that is here.

        Args:
            states: of :meth:`generator_states`, in the same process of another run.
        """
        for device, state in states.items():
            if device != "cuda" or torch.cuda.is_available():
                self.generator(device).set_state(state)


@contextlib.contextmanager
def naming(head: DistillationHead) -> Iterator[None]:
    """Gives a context in which a :class:`UserError` names the method that it is about."""
    try:
        yield
    except TooSmallError:
        raise
    except UserError as error:
        raise UserError(f"{type(head).__name__}: {error}") from error


def full_precision(features: Features) -> torch.autocast:
    """Returns a context without autocast: products over all positions overflow float16 and blur in bfloat16."""
    return torch.autocast(next(iter(features.values())).device.type, enabled=False)


_GENERATOR = "generator_state."


def _save_generators(head, state_dict, prefix, local_metadata):
    for device, state in (head._restored | head.generator_states()).items():
        state_dict[f"{prefix}{_GENERATOR}{device}"] = state


def _load_generators(head, state_dict, prefix, *_):
    for key in [key for key in state_dict if key.startswith(prefix + _GENERATOR)]:
        device = key.removeprefix(prefix + _GENERATOR)
        head._generators.pop(device, None)
        head._restored[device] = state_dict.pop(key).cpu()

"""Bad inputs of all kinds, each with what a user would run and what may come of it."""

import functools
import itertools
import json
import pathlib
import random
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from hypothesis import Phase, given, seed, settings

from .annotations import broken_files, is_harmless, mutations
from .attempts import attempt
from .checkpoints import BROKEN_CHECKPOINTS, STRANGE_CHECKPOINTS
from .configs import BROKEN_CONFIGS, BROKEN_OVERRIDES, broken_values
from .images import BROKEN_IMAGES, STRANGE_IMAGES
from .outcomes import Outcome, judge
from .sandbox import Snapshot, copy_project, train

__all__ = ["Case", "annotation_cases", "checkpoint_cases", "config_cases", "image_cases", "try_case", "usual_warnings"]

MARKER = "executed"
_EVALUATE = ("config.py", "--eval-only", "train.init_checkpoint=PROJECT/student.pth")


class Case(NamedTuple):
    """A bad input.

    Attributes:
        name: tells it from the others of its kind.
        damage: changes a project, given its folder.
        arguments: config file and further arguments of the training script. PROJECT stands for the folder.
        is_harmless: whether it may be accepted.
    """

    name: str
    damage: Callable[[pathlib.Path], object]
    arguments: tuple[str, ...]
    is_harmless: bool = False


def try_case(
    case: Case, sound: pathlib.Path, project: pathlib.Path, usual: Collection[str] = ()
) -> tuple[Outcome, str]:
    """Tries a bad input.

    Args:
        case: see there.
        sound: a project, see :func:`build_project`.
        project: where its damaged copy is put.
        usual: warnings, see :func:`usual_warnings`.

    Returns:
        What came of it, and the error or warning.
    """
    copy_project(sound, project)
    case.damage(project)
    before = Snapshot(project)
    result = attempt(functools.partial(train, project, *_place(case.arguments, project)))
    lost = before.lost_files()
    outcome = judge(
        result,
        is_harmless=case.is_harmless,
        is_lost=bool(lost),
        is_executed=(project / MARKER).exists(),
        usual_warnings=usual,
    )
    new = [warning for warning in result.warnings if warning not in usual]
    return outcome, result.error or " ".join(map(str, lost)) or " ".join(new)


def usual_warnings(sound: pathlib.Path, project: pathlib.Path) -> set[str]:
    """Returns what is warned of with sound inputs.

    Args:
        sound, project: as of :func:`try_case`.

    Raises:
        RuntimeError: if a sound input fails, with which no bad one can be tried.
    """
    found = set()
    for arguments in (("plain.py",), ("masks.py",), ("config.py", "--resume", "train.max_iter=2"), _EVALUATE):
        copy_project(sound, project)
        result = attempt(functools.partial(train, project, *_place(arguments, project)))
        if result.error or result.is_hung:
            raise RuntimeError(f"the sound project fails with {arguments}: {result.error}")
        found.update(result.warnings)
    return found


def _place(arguments, project):
    return [argument.replace("PROJECT", str(project)) for argument in arguments]


def annotation_cases(sound: pathlib.Path, count: int) -> list[Case]:
    """Returns annotation files: broken in one place in every way, then by chance in several places.

    Args:
        sound: project.
        count: how many. If it is less than there are ways, some of these.
    """
    contents = {s: json.loads((sound / f"soak_{s}" / "annotations.json").read_text()) for s in ("train", "val")}
    # What a detector without masks ignores is tried with one that learns them.
    roles = {
        "boxes": ("train", ("plain.py",)),
        "masks": ("train", ("masks.py",)),
        "evaluate": ("val", _EVALUATE),
    }
    cases = []
    for role, (split, arguments) in roles.items():
        for name, text in broken_files(contents[split]):
            if role != "masks" or any(word in name for word in ("segmentation", "RLE", "polygon")):
                cases.append(_annotation_case(f"{role}: {name}", text, contents[split], split, arguments))
    if count <= len(cases):
        return sample(cases, count)
    for number, text in enumerate(_draw(mutations(contents["train"]), count - len(cases))):
        cases.append(_annotation_case(f"boxes: chance {number}", text, contents["train"], *roles["boxes"]))
    return cases


def _annotation_case(name, text, contents, split, arguments):
    def damage(project):
        (project / f"soak_{split}" / "annotations.json").write_text(text, errors="surrogatepass")

    harmless = is_harmless(text, contents, masks=arguments == ("masks.py",), areas=split == "val")
    return Case(name, damage, arguments, harmless)


def _draw(strategy, count):
    """Returns so many different examples of a strategy of hypothesis, always the same."""
    drawn = {}

    @seed(0)
    @settings(max_examples=2 * count, database=None, deadline=None, phases=[Phase.generate])
    @given(strategy)
    def collect(example):
        drawn[example] = None

    collect()
    return list(drawn)[:count]


def image_cases(count: int | None = None) -> list[Case]:
    """Returns broken and strange images, among those to train on and those to evaluate on.

    Args:
        count: how many, None for all.
    """
    train, test = (f"soak_{split}/images/000000.png" for split in ("train", "val"))
    roles = {
        "train": (train, ("plain.py",)),
        "train, all read": (train, ("plain.py", "train.read_all_images=True")),
        "evaluate": (test, _EVALUATE),
    }

    def damage(change, file, project):
        change(project / file)

    return sample(_cases_by_role(roles, BROKEN_IMAGES, STRANGE_IMAGES, damage), count)


def checkpoint_cases(count: int | None = None) -> list[Case]:
    """Returns broken and strange checkpoints: the student's to start from or to evaluate, the teacher's, a run's.

    Args:
        count: how many, None for all.
    """
    roles = {
        "start": ("student.pth", ("config.py", "train.init_checkpoint=PROJECT/student.pth")),
        "teacher": ("teacher.pth", ("config.py",)),
        "resume": ("run/model_final.pth", ("config.py", "--resume", "train.max_iter=2")),
        "evaluate": ("student.pth", _EVALUATE),
    }

    def damage(change, file, project):
        change(project / file, project / MARKER)

    return sample(_cases_by_role(roles, BROKEN_CHECKPOINTS, STRANGE_CHECKPOINTS, damage), count)


def _cases_by_role(roles, broken, strange, damage):
    """Returns a case for each role of a file and each change that makes it unusable, or strange but harmless."""
    kinds = [(*kind, False) for kind in broken.items()] + [(*kind, True) for kind in strange.items()]
    return [
        Case(f"{role}: {name}", functools.partial(damage, change, file), arguments, is_harmless)
        for (role, (file, arguments)), (name, change, is_harmless) in itertools.product(roles.items(), kinds)
    ]


def config_cases(count: int | None = None) -> list[Case]:
    """Returns broken and hostile configs, and wrong overrides of a sound one.

    Args:
        count: how many, None for all.
    """
    cases = [_config_case(name, contents) for name, contents in BROKEN_CONFIGS.items()]
    for override in BROKEN_OVERRIDES:
        cases.append(Case(override, _leave, ("config.py", *override.split())))
    for override in broken_values():
        cases.append(Case(override, _leave, ("config.py", override)))
    return sample(cases, count)


def _config_case(name, contents):
    def damage(project):
        if isinstance(contents, str):
            (project / name).write_text(contents.replace("MARKER", str(project / MARKER)))
        elif isinstance(contents, bytes):
            (project / name).write_bytes(contents)
        else:
            contents(project / name)

    return Case(name, damage, (name,))


def _leave(project):
    """The project is sound, its override is not."""


def sample(cases: Sequence[Case], count: int | None) -> list[Case]:
    """Returns some of many, always the same.

    Args:
        cases: all.
        count: how many, None for all.
    """
    return list(cases) if count is None or count >= len(cases) else random.Random(0).sample(cases, count)

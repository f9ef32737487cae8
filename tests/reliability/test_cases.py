"""A few bad inputs of each kind, through the training script."""

import collections

import pytest
from reliability.cases import Case, annotation_cases, checkpoint_cases, config_cases, image_cases, try_case
from reliability.outcomes import Outcome

USUAL = {"No predictions from the model!"}
TRIED = {
    "annotations": [
        "boxes: annotations.0.bbox.2: NaN",
        "masks: RLE that is no RLE",
        "evaluate: cut off",
    ],
    "images": ["train: a bomb", "train: bytes changed", "evaluate: a pipe"],
    "checkpoints": [
        "start: code, pickled",
        "teacher: bytes changed",
        "resume: cut off in the middle",
        "evaluate: one shape wrong",
    ],
    "configs": ["a syntax error.py", "code, as the model.yaml", "optimizer.betas=[2,2]"],
}


@pytest.fixture(scope="module")
def cases(sound):
    found = {
        "annotations": annotation_cases(sound, 1500),
        "images": image_cases(),
        "checkpoints": checkpoint_cases(),
        "configs": config_cases(),
    }
    for of_kind in found.values():
        assert max(collections.Counter(case.name for case in of_kind).values()) == 1
    return {kind: {case.name: case for case in of_kind} for kind, of_kind in found.items()}


def test_there_are_as_many_as_promised(cases, sound):
    assert len(cases["annotations"]) == 1500 and len(cases["images"]) >= 60
    assert len(cases["checkpoints"]) >= 100 and len(cases["configs"]) >= 100
    assert len(annotation_cases(sound, 7)) == len(image_cases(7)) == 7


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, names in TRIED.items() for name in names])
def test_it_ends_in_a_clear_line(cases, sound, tmp_path, kind, name):
    outcome, message = try_case(cases[kind][name], sound, tmp_path / "project")
    assert outcome == Outcome.CLEAR, message


def test_what_is_strange_and_sound_is_harmless(cases, sound, tmp_path):
    case = cases["images"]["train: CMYK"]
    assert try_case(case, sound, tmp_path / "project")[0] == Outcome.HARMLESS


def test_what_may_not_be_accepted_is_silent_and_what_is_lost_is_seen(sound, tmp_path):
    def spoil(project):
        (project / "plain.py").write_text((project / "plain.py").read_text() + "\nos.remove(f'{_root}/teacher.pth')\n")

    warned = f"{tmp_path}/project/run holds another run's checkpoints, which are replaced. --resume would continue it."
    nothing = Case("nothing", lambda project: None, ("plain.py",))
    outcome, message = try_case(nothing, sound, tmp_path / "project", {*USUAL, warned})
    assert outcome == Outcome.SILENT, message
    outcome, message = try_case(Case("deletes", spoil, ("plain.py",)), sound, tmp_path / "project")
    assert outcome == Outcome.LOST and "teacher.pth" in message

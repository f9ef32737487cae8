import fnmatch
import logging
import re
from collections.abc import Mapping, Sequence

import torch
from cankd.utils import UserError
from torch import nn

__all__ = ["inherit_weights"]

logger = logging.getLogger(__name__)

AUTO = "auto"
_NECK = ("backbone.fpn_", "backbone.top_block.")
_OWN = ("backbone.", "proposal_generator.")  # what a student keeps, but for its neck
_CASCADE_STAGED = re.compile(r"^(roi_heads\.box_head|roi_heads\.box_predictor)\.")


@torch.no_grad()
def inherit_weights(student: nn.Module, teacher: nn.Module, patterns: Sequence[str] | Mapping[str, str]) -> list[str]:
    """Starts parts of the student from the teacher's weights: the paper's inheriting strategy (†).

    Args:
        student: is changed in place.
        teacher: the teacher's model.
        patterns: names of state-dict keys with wildcards, for example ["backbone.fpn_*", "head.*"]. Where the teacher's
            names differ, a map to them: {"box_head.*": "box_head.0.*"}, both with one "*", at the end. "auto" takes
            neck and head as far as their shapes agree, but for the RPN; of a cascade's heads the first, and of models
            of two architectures the neck alone.

    Returns:
        The names of the student's keys that were copied to.

    Raises:
        UserError: if a pattern matches nothing, or "auto" finds nothing; if a key that matches is absent from the
            teacher or has another shape there, as with differing class counts. The student is unchanged then.
    """
    student_state, teacher_state = student.state_dict(), teacher.state_dict()
    if patterns == AUTO:
        sources = _find_fitting_sources(student, teacher)
    else:
        sources = _find_sources(student_state, patterns)
    refused = []
    for key, source in sorted(sources.items()):
        name = key if key == source else f"{key} (from {source})"
        if source not in teacher_state:
            refused.append(f"{name}: absent from the teacher")
        elif teacher_state[source].shape != student_state[key].shape:
            shapes = tuple(student_state[key].shape), tuple(teacher_state[source].shape)
            refused.append(f"{name}: {shapes[0]} in the student, {shapes[1]} in the teacher")
    if refused:
        raise UserError(
            "train.inherit asks for keys that the teacher cannot give (another number of classes or channels, or "
            "another architecture); narrow its patterns to leave them out:\n  " + "\n  ".join(refused)
        )
    for key, source in sources.items():
        student_state[key].copy_(teacher_state[source])
    own = student_state.keys() - sources.keys()
    logger.info(
        "Inherited %d keys from the teacher by %s; %d keys of the student keep their own start, in %s",
        len(sources),
        patterns,
        len(own),
        ", ".join(_parts(own, depth=3)) or "no part",
    )
    return sorted(sources)


def _find_fitting_sources(student, teacher):
    """Returns, for each of the student's keys that the paper's † starts from the teacher's, that of the teacher."""
    student_state, teacher_state = student.state_dict(), teacher.state_dict()
    are_alike = type(student) is type(teacher)
    wanted = [key for key in student_state if key.startswith(_NECK) or (are_alike and not key.startswith(_OWN))]
    sources = {}
    for key in wanted:
        for source in (key, _CASCADE_STAGED.sub(r"\1.0.", key)):
            if source in teacher_state and teacher_state[source].shape == student_state[key].shape:
                sources[key] = source
                break
    # Nothing of a layer is taken if its weight or bias has no counterpart.
    layers = {key.rpartition(".")[0] for key in student_state.keys() - sources.keys()}
    partial = tuple(f"{layer}." for layer in layers if f"{layer}.weight" in student_state)
    sources = {key: source for key, source in sources.items() if not key.startswith(partial)}
    if not sources:
        raise UserError(
            "neither neck nor head of the teacher fits the student: name what it is to inherit in train.inherit, or "
            "leave --inherit out"
        )
    return sources


def _find_sources(student_state, patterns):
    """Returns, for each of the student's keys that matches, the teacher's key that it is to start from."""
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, Mapping):
        patterns = {pattern: pattern for pattern in patterns}
    sources = {}
    for pattern, source in patterns.items():
        if pattern != source and any(p[-1:] != "*" or set(p[:-1]) & set("*?[") for p in (pattern, source)):
            raise UserError(f"train.inherit maps {pattern!r} to {source!r}: both need one '*', at the end")
        matched = fnmatch.filter(student_state, pattern)
        if not matched:
            raise UserError(
                f"train.inherit has the pattern {pattern!r}, which matches nothing in the student. Its parts are: "
                f"{', '.join(_parts(student_state, depth=2))}"
            )
        for key in matched:
            sources[key] = key if pattern == source else source[:-1] + key[len(pattern) - 1 :]
    return sources


def _parts(keys, depth):
    return sorted({".".join(key.split(".")[:-1][:depth]) for key in keys})

import fnmatch
import logging
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["inherit_weights"]

logger = logging.getLogger(__name__)


@torch.no_grad()
def inherit_weights(student: nn.Module, teacher: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Starts parts of the student from the teacher's weights: the paper's inheriting strategy (†).

    Args:
        student: is changed in place.
        teacher: the teacher's model.
        patterns: names of state-dict keys with wildcards, for example ["backbone.fpn_*", "head.*"].

    Returns:
        The names of the keys that were copied.

    Raises:
        ValueError: if a pattern matches nothing, or if a key that matches is absent from the teacher or has another
            shape there, as with differing class counts. The student is unchanged then.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    student_state, teacher_state = student.state_dict(), teacher.state_dict()
    copied = set()
    for pattern in patterns:
        matched = fnmatch.filter(student_state, pattern)
        if not matched:
            parts = sorted({".".join(key.split(".")[:2]) for key in student_state})
            raise ValueError(
                f"train.inherit has the pattern {pattern!r}, which matches nothing in the student. Its parts are: "
                f"{', '.join(parts)}"
            )
        copied.update(matched)
    refused = []
    for key in sorted(copied):
        if key not in teacher_state:
            refused.append(f"{key}: absent from the teacher")
        elif teacher_state[key].shape != student_state[key].shape:
            shapes = tuple(student_state[key].shape), tuple(teacher_state[key].shape)
            refused.append(f"{key}: {shapes[0]} in the student, {shapes[1]} in the teacher")
    if refused:
        raise ValueError(
            "train.inherit asks for keys that the teacher cannot give (another number of classes or channels, or "
            "another architecture); narrow its patterns to leave them out:\n  " + "\n  ".join(refused)
        )
    for key in copied:
        student_state[key].copy_(teacher_state[key])
    skipped = sorted({key.rsplit(".", 1)[0] for key in student_state.keys() - copied})
    logger.info(
        "Inherited %d keys from the teacher by %s; %d keys of the student keep their own start (in %d modules: %s)",
        len(copied),
        patterns,
        len(student_state) - len(copied),
        len(skipped),
        ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else ""),
    )
    return sorted(copied)

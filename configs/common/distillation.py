"""A student and its teacher: what all distillation recipes share."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L


def distill(student, teacher, weights, levels=("p3", "p4", "p5")):
    """Describes a student that learns from a teacher by CanKD.

    Args:
        student, teacher: configs of the two models.
        weights: the teacher's checkpoint.
        levels: the student's, where it learns.
    """
    return L(Distiller)(
        student=student,
        teacher=L(Teacher)(model=teacher, weights=weights),
        head=L(CanKDHead)(levels=list(levels)),
    )

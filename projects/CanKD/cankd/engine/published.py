"""Where each method is published for: how many levels it compares, and whether with †."""

from collections.abc import Mapping
from typing import NamedTuple

from cankd.modeling.meta_arch import Classifier
from cankd.utils import UserError
from detectron2.modeling.meta_arch import GeneralizedRCNN, SemanticSegmentor
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from omegaconf import DictConfig

from .yacs_file import parse_yacs

__all__ = ["Published", "published_setting", "pyramid_levels"]


class Published(NamedTuple):
    """How a method is published for an architecture, but for the head's own arguments.

    Attributes:
        levels: how many of the pyramid's, from the finest; None for those of the recipe.
        inherits: whether the student starts from the teacher's neck and head (†).
        beside: another method that is part of it, "" for none.
    """

    levels: int | None = None
    inherits: bool = False
    beside: str = ""


# RetinaNet, FCOS and RepPoints have the same levels: P3–P7, five. An R-CNN has P2–P6. A dense detector that a method is
# not published for has what the others have.
PUBLISHED: Mapping[str, Mapping[type, Published]] = {
    "cankd": {
        DenseDetector: Published(4),
        GeneralizedRCNN: Published(4),
        SemanticSegmentor: Published(),
        Classifier: Published(),
    },
    "pkd": {DenseDetector: Published(4), GeneralizedRCNN: Published(4)},
    "cwd": {DenseDetector: Published(4), GeneralizedRCNN: Published(5)},
    "fgd": {DenseDetector: Published(5, inherits=True), GeneralizedRCNN: Published(4, inherits=True)},
    "mgd": {
        DenseDetector: Published(5, inherits=True),
        GeneralizedRCNN: Published(4),
        SemanticSegmentor: Published(beside="cwd_logits"),
        Classifier: Published(),
    },
    "fkd": {DenseDetector: Published(5), GeneralizedRCNN: Published(5)},
    "detkds": {DenseDetector: Published(5, inherits=True), GeneralizedRCNN: Published(4, inherits=True)},
    "at": {Classifier: Published()},
    "diffkd": {Classifier: Published()},
    "kd": {SemanticSegmentor: Published(), Classifier: Published()},
    "cwd_logits": {SemanticSegmentor: Published()},
}


def published_setting(method: str, architecture: type, teacher: DictConfig) -> Published:
    """Returns how a method is published for a student's architecture.

    Args:
        method: its name.
        architecture: the student's class.
        teacher: config of the teacher's model. No student inherits from a cascade.

    Raises:
        UserError: if it is not published for that.
    """
    published = PUBLISHED.get(method, {})
    setting = next((published[base] for base in published if issubclass(architecture, base)), None)
    if setting is None:
        known = ", ".join(base.__name__ for base in published) or "none"
        raise UserError(
            f"{method} is not published for {architecture.__name__} (but for: {known}): leave '_published' out"
        )
    return setting._replace(inherits=setting.inherits and not _is_cascade(teacher))


def _is_cascade(model):
    if "yacs" in model:
        return parse_yacs(model.yacs).MODEL.ROI_HEADS.NAME == "CascadeROIHeads"
    return "box_predictors" in model.get("roi_heads", {})


def pyramid_levels(student: DictConfig, architecture: type) -> list[str] | None:
    """Returns the names of a detector's pyramid levels from the finest, None of what is no such detector.

    Raises:
        UserError: if a config leaves them to the model.
    """
    parsed = parse_yacs(student.yacs).MODEL if "yacs" in student else None
    if issubclass(architecture, DenseDetector):
        levels = parsed.RETINANET.IN_FEATURES if parsed else student.get("head_in_features")
        if levels is None:
            raise UserError(
                "model.student.head_in_features has to name the levels that the head sees, as in [p3,p4,p5]"
            )
        return list(levels)
    if issubclass(architecture, GeneralizedRCNN):
        return list(parsed.RPN.IN_FEATURES if parsed else student.proposal_generator.in_features)
    return None

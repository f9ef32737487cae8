"""The methods that can be compared, by name, with their published settings for each architecture."""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cankd.modeling import distillation_heads as heads
from cankd.modeling.meta_arch import Classifier, RepPoints
from cankd.utils import UserError, target_of
from detectron2.config import LazyCall as L
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import FCOS, GeneralizedRCNN, RetinaNet, SemanticSegmentor
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from omegaconf import DictConfig

from .build import is_distillation
from .published import Published, published_setting, pyramid_levels
from .yacs_file import parse_yacs

__all__ = [
    "METHODS",
    "MethodSettings",
    "add_up",
    "is_as_published",
    "is_method",
    "levels_of_features",
    "levels_of_logits",
    "use_method",
]


class MethodSettings(NamedTuple):
    """A head and its arguments as published; the heads' docstrings have the sources."""

    head: type[heads.DistillationHead]
    arguments: Mapping = {}
    """Of any architecture, unless the next has others."""
    by_architecture: Mapping[type, Mapping] = {}
    """Of some. One that is not published has those of the nearest one."""


METHODS: Mapping[str, MethodSettings] = {
    "cankd": MethodSettings(heads.CanKDHead),
    "no_attention": MethodSettings(heads.CanKDHead, dict(attention=False)),
    "linear": MethodSettings(heads.CanKDHead, dict(affinity="linear")),
    "pkd": MethodSettings(heads.PKDHead, dict(weight=6.0), {DenseDetector: dict(weight=10.0)}),
    "at": MethodSettings(heads.ATHead, {}, {Classifier: dict(levels=["res2", "res3", "res4", "res5"])}),
    "cwd": MethodSettings(
        heads.CWDHead,
        dict(weight=5.0),
        {GeneralizedRCNN: dict(weight=10.0), SemanticSegmentor: dict(weight=50.0)},
    ),
    "fgd": MethodSettings(
        heads.FGDHead,
        {},
        {
            FCOS: dict(
                temperature=0.8,
                weight_foreground=1.6e-3,
                weight_background=8e-4,
                weight_attention=8e-4,
                weight_relation=8e-6,
            ),
            RepPoints: dict(
                weight_foreground=1.6e-3, weight_background=8e-4, weight_attention=8e-4, weight_relation=8e-6
            ),
            GeneralizedRCNN: dict(
                weight_foreground=5e-5, weight_background=2.5e-5, weight_attention=5e-5, weight_relation=5e-7
            ),
        },
    ),
    "mgd": MethodSettings(
        heads.MGDHead,
        {},
        {
            GeneralizedRCNN: dict(weight=5e-7, masked_fraction=0.45),
            SemanticSegmentor: dict(masked_fraction=0.75),
            Classifier: dict(weight=7e-5, masked_fraction=0.15, mask_channels=True),
        },
    ),
    "fkd": MethodSettings(
        heads.FKDHead,
        {},
        {
            GeneralizedRCNN: dict(
                temperature=0.5,
                channel_mask=False,
                weight_feature=7e-5,
                weight_channel=4e-3,
                weight_spatial=4e-3,
                weight_relation=7e-5,
            )
        },
    ),
    "detkds": MethodSettings(
        heads.DetKDSHead,
        dict(first="catt", second="scale_r2", third="norm_N", distance="l1", weight=6.0),
        {FCOS: dict(weight=5.0), RepPoints: dict(weight=10.0), GeneralizedRCNN: dict(weight=2.0)},
    ),
    "diffkd": MethodSettings(heads.DiffKDHead, {}, {Classifier: dict(latent_channels=1024)}),
    "kd": MethodSettings(
        heads.KDHead,
        dict(sigmoid=True, weight=1.0),
        {SemanticSegmentor: dict(sigmoid=False, weight=10.0), Classifier: dict(sigmoid=False, weight=3.0)},
    ),
    "cwd_logits": MethodSettings(heads.CWDHead, dict(weight=3.0, temperature=4.0)),
}
_ON_LOGITS = ("kd", "cwd_logits")
_DETECTOR_LOGITS, _SEGMENTOR_LOGITS, _CLASSIFIER_LOGITS = "head:0:", ["sem_seg_head.predictor"], ["classifier"]
_LAST_STAGE = ["res5"]
_OWN = "own"
_INHERITING = "_inherit"
_AS_PUBLISHED = "_published"


def use_method(config: DictConfig, name: str, *, inherit: bool = False) -> DictConfig:
    """Returns a distillation's config with another method.

    Args:
        config: of a distillation. Its levels are the methods'; methods on logits find theirs, and those of classifiers
            that are published with other levels have these. If the config itself compares logits alone, a method on
            features has a classifier's last stage, or the levels that the distiller chooses.
        name: a key of :data:`METHODS`, or a JSON file of :func:`search_distiller`; several with "+" between them, as
            "cankd+kd", add up; "own" is the config's own, whatever it is, and "alone" distils nothing.
            With "_published" behind it, levels and † are those of the method's publication, and not the config's.
            With "_inherit" behind it, the student starts from the teacher's neck and head (†), as ``train.inherit``
            says; if it says nothing, "auto". The config's own method keeps the config's other options.
        inherit: as "_inherit" behind the name.

    Raises:
        UserError: if the config has no teacher, the method is unknown, its file is unusable, it is not published for
            the architecture, or the architecture lacks what it needs.
    """
    if not is_distillation(config):
        raise UserError("methods are compared by the config of a distillation, and this one describes a plain model")
    config = copy.deepcopy(config)
    inherits, name = inherit or name.endswith(_INHERITING), name.removesuffix(_INHERITING)
    published, name = name.endswith(_AS_PUBLISHED), name.removesuffix(_AS_PUBLISHED)
    if name == "alone":
        config.model.head.weight = 0.0
    elif name != _OWN or published:
        chosen = [(part, _setting(config.model, part, published)) for part in name.split("+")]
        beside = {setting.beside for _, setting in chosen} - {"", *(part for part, _ in chosen)}
        chosen += [(part, Published()) for part in sorted(beside)]
        parts = [head for part, setting in chosen for head in _heads(config.model, part, setting)]
        config.model.head = add_up(parts)
        inherits = inherits or any(setting.inherits for _, setting in chosen)
    config.train.inherit = (config.train.inherit or "auto") if inherits else None
    return config


def is_as_published(name: str) -> bool:
    """Tells whether a method's name, see :func:`use_method`, asks for its published levels and †."""
    return name.removesuffix(_INHERITING).endswith(_AS_PUBLISHED)


def is_method(name: str) -> bool:
    """Tells whether :func:`use_method` knows a name, or takes it for a file of :func:`search_distiller`."""
    parts = name.removesuffix(_INHERITING).removesuffix(_AS_PUBLISHED).split("+")
    return all(part in (*METHODS, _OWN, "alone") or part.endswith(".json") for part in parts)


def add_up(parts: Sequence[DictConfig]) -> DictConfig:
    """Returns the lazy call of one head that does what all of some do."""
    return parts[0] if len(parts) == 1 else L(heads.SumOfHeads)(heads=list(parts))


def _setting(model, name, published):
    """Returns how a method is published, or that the recipe decides."""
    if (name == _OWN or name.endswith(".json")) and not published:
        return Published()
    if name not in METHODS:
        raise UserError(
            f"there is no method {name!r}; there are alone, own, {', '.join(METHODS)}, sums such as cankd+kd, and the "
            "JSON file that tools/search_distiller.py ends with"
        )
    return published_setting(name, _architecture_of(model.student), model.teacher.model) if published else Published()


def _heads(model, name, setting):
    """Returns the head of a method, and what it adds to it."""
    if name == _OWN:
        if target_of(model.head) is not heads.SumOfHeads:
            return [copy.deepcopy(model.head)]
        if model.head.get("weight", 1) != 1:
            raise UserError("the config's own method is a sum with a weight: give its heads weights to add others up")
        return copy.deepcopy(list(model.head.heads))
    if name.endswith(".json"):
        return [L(heads.DetKDSHead)(**genes) for genes in _read_searched(name)]
    head, arguments, by_architecture = METHODS[name]
    own, architecture = model.head, _architecture_of(model.student)
    levels = setting.levels and pyramid_levels(model.student, architecture)[: setting.levels]
    if name == "cankd" and target_of(own) is head:
        own = copy.deepcopy(own)
        own.update({"levels": levels} if levels else {})
        return [own]
    if name in _ON_LOGITS:
        arguments = {"levels": levels or levels_of_logits(model, name), **arguments}
    elif levels or "levels" in _features_of(model):
        arguments = {"levels": levels or levels_of_features(model), **arguments}
    for base, published in by_architecture.items():
        if issubclass(architecture, base):
            arguments = {**arguments, **published}
    chosen = [L(head)(**arguments)]
    if name == "diffkd" and issubclass(architecture, Classifier):
        chosen.append(L(heads.DiffKDHead)(levels=_CLASSIFIER_LOGITS, logits=True))
    return chosen


def _read_searched(path):
    """Returns the arguments of each head of a searched distiller."""
    try:
        with open(path) as f:
            found = json.load(f)
        for genes in found:
            heads.DetKDSHead(**genes)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {os.path.abspath(path)}, which is to be the method") from error
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no distiller of tools/search_distiller.py: {error}") from error
    return found


def _architecture_of(model):
    if "yacs" in model:
        return META_ARCH_REGISTRY.get(parse_yacs(model.yacs).MODEL.META_ARCHITECTURE)
    return target_of(model)


def levels_of_features(model: DictConfig) -> list[str] | None:
    """Returns the levels that a method on features has by a distillation's config.

    Args:
        model: of the config.

    Returns:
        None where the distiller chooses.
    """
    levels = _features_of(model).get("levels")
    return levels and list(levels)


def _features_of(model):
    """Returns the first of a config's heads that does not compare class logits; one with the usual levels if all do."""
    usual = {"levels": _LAST_STAGE if issubclass(_architecture_of(model.student), Classifier) else None}
    parts = model.head.heads if target_of(model.head) is heads.SumOfHeads else [model.head]
    return next((part for part in parts if not _compares_logits(part)), usual)


def _compares_logits(head):
    levels = head.get("levels") or ()
    return any(
        level.startswith(_DETECTOR_LOGITS) or level in (*_SEGMENTOR_LOGITS, *_CLASSIFIER_LOGITS) for level in levels
    )


def levels_of_logits(model: DictConfig, method: str) -> list[str]:
    """Returns where a student's class logits come from.

    Args:
        model: of a distillation's config.
        method: that compares them, for the message.

    Raises:
        UserError: if they are not known for the architecture, or have no positions and the method is not "kd".
    """
    student, architecture = model.student, _architecture_of(model.student)
    if issubclass(architecture, (RetinaNet, FCOS)):
        return [f"{_DETECTOR_LOGITS}{i}" for i in range(len(pyramid_levels(student, architecture)))]
    if issubclass(architecture, SemanticSegmentor):
        return _SEGMENTOR_LOGITS
    if issubclass(architecture, Classifier) and method == "kd":
        return _CLASSIFIER_LOGITS
    raise UserError(
        f"{method} compares class logits at places that student and teacher share, and none are known of "
        f"{architecture.__name__}: RetinaNet, FCOS and segmentors have some, classifiers for kd"
    )

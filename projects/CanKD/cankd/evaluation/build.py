"""Evaluators from configs."""

from collections.abc import Mapping

from cankd.utils import target_of
from detectron2 import evaluation
from detectron2.config import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from .cityscapes_evaluation import CityscapesInstanceEvaluator
from .lvis_evaluation import LVISEvaluator
from .panoptic_evaluation import PanopticEvaluator
from .sem_seg_evaluation import SemSegEvaluator

__all__ = ["build_evaluator"]

# Detectron2's fail on NumPy 2, or need a package that no package index has; these give the same metrics.
_WORKING = {
    evaluation.SemSegEvaluator: SemSegEvaluator,
    evaluation.CityscapesInstanceEvaluator: CityscapesInstanceEvaluator,
    evaluation.COCOPanopticEvaluator: PanopticEvaluator,
    evaluation.LVISEvaluator: LVISEvaluator,
}


def build_evaluator(config: DictConfig | ListConfig, **changes) -> evaluation.DatasetEvaluator | None:
    """Builds what ``dataloader.evaluator`` of a config describes.

    Args:
        config: one evaluator, or a list, which becomes one; None, for no evaluator, stays None. Those of Detectron2's
            that do not work with this environment are replaced by ours with the same metrics.
        changes: values for arguments that the config gives, for example ``output_dir=None``.
    """
    if OmegaConf.is_list(config):
        return evaluation.DatasetEvaluators([build_evaluator(each, **changes) for each in config])
    if not OmegaConf.is_dict(config):  # none, or one that is built
        return config
    arguments = {**config, **{key: changes[key] for key in changes.keys() & config.keys()}}
    if "_target_" in arguments:
        arguments = _replace(arguments)
    return instantiate(arguments)


def _replace(arguments: Mapping) -> dict:
    target = target_of(arguments)
    if target is evaluation.COCOPanopticEvaluator:  # it needs files between; ours does not
        arguments = {key: value for key, value in arguments.items() if key != "output_dir"}
    return {**arguments, "_target_": _WORKING.get(target, target)}

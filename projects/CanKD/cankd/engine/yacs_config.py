"""Detectron2's older configs, yacs, as LazyConfigs: models, data and schedules are those of ``DefaultTrainer``."""

import functools
import logging
from collections.abc import Mapping, Sequence

import torch
from cankd.evaluation import (
    CityscapesInstanceEvaluator,
    FastCOCOEvaluator,
    LVISEvaluator,
    PanopticEvaluator,
    SemSegEvaluator,
)
from cankd.utils import UserError
from detectron2 import evaluation
from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.engine import DefaultTrainer
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import GradientClipType
from detectron2.utils import comm
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from .yacs_file import parse_yacs

__all__ = ["convert_yacs"]

logger = logging.getLogger(__name__)

_TEXT = "${train.yacs}"


def convert_yacs(config: CfgNode) -> DictConfig:
    """Writes a yacs config as a LazyConfig, which trains and evaluates as ``DefaultTrainer`` does.

    What the result builds by yacs, it builds from the config's text, ``train.yacs``. Common options stand beside it as
    options of their own and may be changed: of loaders, mappers, optimizer and ``train``.

    Args:
        config: whole, as ``get_cfg`` and ``merge_from_file`` give it.
    """
    if config.TEST.PRECISE_BN.ENABLED:
        logger.warning("TEST.PRECISE_BN is left out: norms keep the running statistics of the training.")
    if config.TEST.AUG.ENABLED:
        logger.warning("TEST.AUG is left out: the test images are seen once, as they are.")
    config = DefaultTrainer.auto_scale_workers(config, comm.get_world_size())
    return OmegaConf.create(
        {
            "model": L(build_model)(yacs=_TEXT),
            "dataloader": _convert_data(config),
            "optimizer": _convert_optimizer(config),
            "lr_multiplier": L(build_lr_multiplier)(yacs=_TEXT),
            "train": _convert_training(config),
        },
        flags={"allow_objects": True},
    )


def _convert_data(config):
    data = {
        "train": L(build_train_loader)(
            yacs=_TEXT,
            dataset=L(get_detection_dataset_dicts)(
                names=list(config.DATASETS.TRAIN),
                filter_empty=config.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
                min_keypoints=(
                    config.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if config.MODEL.KEYPOINT_ON else 0
                ),
                proposal_files=list(config.DATASETS.PROPOSAL_FILES_TRAIN) if config.MODEL.LOAD_PROPOSALS else None,
            ),
            mapper=_convert_mapper(config, is_train=True),
            total_batch_size=config.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=config.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=config.DATALOADER.NUM_WORKERS,
        )
    }
    if names := config.DATASETS.TEST:
        if len(names) > 1:
            logger.warning("Of DATASETS.TEST, %s, the first alone is evaluated.", ", ".join(names))
        data["test"] = L(build_detection_test_loader)(
            dataset=L(get_detection_dataset_dicts)(
                names=names[0],
                filter_empty=False,
                proposal_files=list(config.DATASETS.PROPOSAL_FILES_TEST[:1]) if config.MODEL.LOAD_PROPOSALS else None,
            ),
            mapper=_convert_mapper(config, is_train=False),
            num_workers=config.DATALOADER.NUM_WORKERS,
        )
        data["evaluator"] = L(build_evaluator)(
            dataset_name="${..test.dataset.names}",
            output_dir="${train.output_dir}/inference",
            tasks=[  # named, since Detectron2 takes only those for tasks that something was found for
                "bbox",
                *(["segm"] if config.MODEL.MASK_ON else []),
                *(["keypoints"] if config.MODEL.KEYPOINT_ON else []),
            ],
            keypoint_sigmas=list(config.TEST.KEYPOINT_OKS_SIGMAS),
        )
    return data


def _convert_mapper(config, *, is_train):
    options = dict(image_format=config.INPUT.FORMAT, use_instance_mask=config.MODEL.MASK_ON)
    return L(build_mapper)(yacs=_TEXT, is_train=is_train, **options)


def _convert_optimizer(config):
    solver = config.SOLVER
    return L(build_optimizer)(
        params=L(get_default_optimizer_params)(
            base_lr="${..lr}",
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        ),
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        clip_gradients=dict(solver.CLIP_GRADIENTS),
    )


def _convert_training(config):
    return {
        "yacs": config.dump(),
        "output_dir": config.OUTPUT_DIR,
        "init_checkpoint": config.MODEL.WEIGHTS,
        "device": config.MODEL.DEVICE,
        "seed": config.SEED,
        "max_iter": config.SOLVER.MAX_ITER,
        "reference_batch_size": config.SOLVER.IMS_PER_BATCH,
        "amp": {"enabled": config.SOLVER.AMP.ENABLED},
        "checkpointer": {"period": config.SOLVER.CHECKPOINT_PERIOD, "max_to_keep": None},
        "eval_period": config.TEST.EVAL_PERIOD,
        "cudnn_benchmark": config.CUDNN_BENCHMARK,
        "log_period": 20,  # as DefaultTrainer has it
    }


def build_model(*, yacs: str) -> nn.Module:
    """Builds the model of a yacs config on the CPU, as all models of configs are.

    Args:
        yacs: the config's text.
    """
    config = parse_yacs(yacs)
    config.MODEL.DEVICE = "cpu"
    return META_ARCH_REGISTRY.get(config.MODEL.META_ARCHITECTURE)(config)


def build_mapper(*, yacs: str, is_train: bool, **options) -> DatasetMapper:
    """Builds Detectron2's mapper of a yacs config.

    Args:
        yacs: the config's text.
        is_train: whether it augments as in training.
        options: of :class:`DatasetMapper` that differ from the config's.
    """
    return DatasetMapper(parse_yacs(yacs), is_train, **options)


def build_train_loader(*, yacs: str, **options) -> DataLoader:
    """Builds a training loader with the sampler of a yacs config.

    Args:
        yacs: the config's text.
        options: of :func:`build_detection_train_loader`, ``dataset`` and ``mapper`` among them.
    """
    return build_detection_train_loader(parse_yacs(yacs), **options)


def build_optimizer(*, params: Sequence[dict], clip_gradients: Mapping, **options) -> torch.optim.Optimizer:
    """Builds Detectron2's optimizer, SGD, with its clipping of each parameter's gradient.

    Args:
        params: groups of parameters.
        clip_gradients: the yacs options ``SOLVER.CLIP_GRADIENTS``.
        options: of :class:`torch.optim.SGD`.
    """
    optimizer = torch.optim.SGD(params, foreach=True, **options)
    if clip_gradients["ENABLED"]:
        GradientClipType(clip_gradients["CLIP_TYPE"])  # fails if it is unknown
        optimizer.register_step_pre_hook(functools.partial(_clip_gradients, dict(clip_gradients)))
    return optimizer


def _clip_gradients(options, optimizer, *_):
    """Clips as Detectron2's optimizers do, which fail where a parameter has no gradient, as a resting head's have."""
    for parameter in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
        if options["CLIP_TYPE"] == "value":
            nn.utils.clip_grad_value_(parameter, options["CLIP_VALUE"])
        else:
            nn.utils.clip_grad_norm_(parameter, options["CLIP_VALUE"], options["NORM_TYPE"])


def build_lr_multiplier(*, yacs: str) -> ParamScheduler:
    """Builds the schedule of a yacs config, as a factor of the learning rate over the training.

    Args:
        yacs: the config's text.
    """
    config = parse_yacs(yacs)
    unused = torch.optim.SGD([torch.zeros(1)], lr=config.SOLVER.BASE_LR)
    return build_lr_scheduler(config, unused)._multiplier


def build_evaluator(
    dataset_name: str,
    output_dir: str,
    *,
    tasks: Sequence[str] | None = None,
    keypoint_sigmas: Sequence[float] = (),
) -> evaluation.DatasetEvaluator:
    """Builds the evaluator that a data set asks for by its ``evaluator_type``; COCO's, if it says nothing.

    Args:
        dataset_name: registered.
        output_dir: where predictions are written.
        tasks: of COCO's evaluation, see :class:`FastCOCOEvaluator`.
        keypoint_sigmas: likewise; the data set's own if empty.

    Raises:
        UserError: if there is no evaluator of this type.
    """
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type", "coco")
    written = dict(output_dir=output_dir)

    def coco():
        chosen = None if tasks is None else tuple(tasks)
        return FastCOCOEvaluator(dataset_name, chosen, kpt_oks_sigmas=keypoint_sigmas, **written)

    def panoptic():
        yield PanopticEvaluator(dataset_name)
        if metadata.get("json_file"):
            yield coco()
        if metadata.get("sem_seg_root"):  # not where things and stuff are annotated as one
            yield SemSegEvaluator(dataset_name, **written)

    evaluators = {
        "coco": lambda: [coco()],
        "coco_panoptic_seg": lambda: list(panoptic()),
        "cityscapes_panoptic_seg": lambda: [
            evaluation.CityscapesSemSegEvaluator(dataset_name),
            CityscapesInstanceEvaluator(dataset_name),
        ],
        "cityscapes_instance": lambda: [CityscapesInstanceEvaluator(dataset_name)],
        "cityscapes_sem_seg": lambda: [evaluation.CityscapesSemSegEvaluator(dataset_name)],
        "sem_seg": lambda: [SemSegEvaluator(dataset_name, **written)],
        "lvis": lambda: [LVISEvaluator(dataset_name, **written)],
        "pascal_voc": lambda: [evaluation.PascalVOCDetectionEvaluator(dataset_name)],
    }
    if kind not in evaluators:
        raise UserError(
            f"the data set {dataset_name} has the evaluator_type {kind!r}; known are {', '.join(evaluators)}"
        )
    built = evaluators[kind]()
    return built[0] if len(built) == 1 else evaluation.DatasetEvaluators(built)

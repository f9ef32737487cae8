"""Training and evaluation of whatever a config describes: a distiller, or a plain Detectron2 model."""

import logging
import os

import torch
from cankd.checkpoint import DistillationCheckpointer
from cankd.data import (
    ResumableLoader,
    check_image_classes,
    check_records,
    check_training_data,
    load_records,
)
from cankd.evaluation import build_evaluator
from cankd.modeling import Distiller
from cankd.solver import ExponentialMovingAverage
from cankd.utils import UserError, preserved_random_state, write_json
from detectron2.engine import create_ddp_model, default_writers, hooks
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig
from torch import nn

from .best_checkpoint import build_best_checkpoint
from .build import (
    build_loader,
    build_mapper,
    build_model,
    build_optimizer,
    build_part,
    build_teacher,
    load_student,
    student_of,
    teacher_model,
    test_data,
)
from .config_text import save_config
from .graceful_stop import GracefulStop
from .hooks import (
    DistillationSchedule,
    EarlyLines,
    GradientClipping,
    PeriodicCheckpoint,
    PeriodicEvaluation,
    WeightAveraging,
)
from .option_checks import check_options
from .preflight import check_batch_size, check_device, check_parts, check_resumed_method, lock_output_dir
from .run_state import RunState
from .trainer import DistillationTrainer
from .unlabelled import UNLABELLED_KEY, build_unlabelled_loader
from .unlabelled_loader import MixedLoader
from .wandb_writer import WandbWriter
from .yacs_file import save_yacs

__all__ = ["DISTILLATION_LOSSES", "choose_precision", "evaluate", "test", "train"]

DISTILLATION_LOSSES = "distillation_losses.json"
"""File of an output directory that names the losses of each distilled level in ``metrics.json``."""

logger = logging.getLogger(__name__)


def test(data: DictConfig, model: nn.Module) -> dict:
    """Evaluates a model on the config's test set.

    Args:
        data: ``dataloader`` of a config, with ``test`` and ``evaluator``.
        model: a plain Detectron2 model.

    Returns:
        Map from task to metrics; empty except on the main process, and if the config has no evaluator.
    """
    if data.get("evaluator") is None:
        return {}
    loader = _build_loader(data.test)
    evaluator = build_part("dataloader.evaluator", data.evaluator, build_evaluator)
    results = inference_on_dataset(model, loader, evaluator)
    if comm.is_main_process():
        print_csv_format(results)
    return results


def evaluate(config: DictConfig, *, role: str = "student") -> dict:
    """Evaluates a checkpoint: the student's, ``train.init_checkpoint``, or the teacher's own.

    Args:
        config: of a distiller or of a plain model.
        role: "student" or "teacher".

    Raises:
        UserError: if there is no checkpoint, it is not of this model, the config has no teacher, test set or evaluator,
            or the device does not exist.
    """
    data = test_data(config)
    if config.dataloader.get("evaluator") is None:
        raise UserError("the config has no dataloader.evaluator: nothing would be evaluated")
    check_device(config.train.device)
    if role == "teacher":
        model = teacher_model(build_teacher(config), data)
    else:
        model = load_student(config, config.train.init_checkpoint, "student (train.init_checkpoint)")
    return test(config.dataloader, model.to(config.train.device))


def train(config: DictConfig, *, resume: bool = False, extra_hooks: tuple = ()) -> dict:
    """Trains what a config describes.

    Args:
        config: LazyConfig with ``model``, ``dataloader``, ``optimizer``, ``lr_multiplier`` and ``train``, the latter as
            in ``configs/common/train.py``.
        resume: whether to continue from the last checkpoint of ``train.output_dir`` if there is one.
        extra_hooks: are run after the others.

    Returns:
        The last evaluation's results, as :func:`test` gives them.

    Raises:
        UserError: if the config, a checkpoint or the data is unusable, or another run writes to the output directory;
            nothing has been trained then.
        NonFiniteError: if a loss becomes infinite or NaN.
        Interrupted: if a signal asked to stop; the finished steps are saved then.
    """
    check_parts(config)
    check_options(config)
    with lock_output_dir(config.train.output_dir):
        return _train(config, resume, extra_hooks)


def _train(config, resume, extra_hooks):
    options = config.train
    check_batch_size(config.dataloader.train, comm.get_world_size(), options.accumulate)
    if config.dataloader.get("evaluator") is not None:
        _build_loader(config.dataloader.test, options=options)  # what is wrong with it shows now, not after training
        build_part("dataloader.evaluator", config.dataloader.evaluator, build_evaluator)
    seed_all_rng(None if options.seed < 0 else options.seed + comm.get_rank())
    model = build_model(config)
    student = student_of(model)
    logger.info("Model:\n%s", student)

    loaders = _build_loaders(config, model)
    check_image_classes(config.dataloader, student)
    trainer = _build_trainer(config, model, loaders)
    run_state = RunState(model, loaders, periods=(options.checkpointer.period, options.eval_period))
    averaged = _average(student, **options.ema)
    trained_beside = {"distillation_head": model.head} if isinstance(model, Distiller) else {}
    checkpointer = DistillationCheckpointer(
        student, options.output_dir, averaged=averaged, **trained_beside, trainer=trainer
    )
    best = build_best_checkpoint(config, checkpointer)
    stop = GracefulStop(checkpointer, before_saving=run_state.collect)
    results = {}

    def evaluate_student():
        if stop.is_stopping:
            return {}
        with stop.at_once(), preserved_random_state():  # a run that is resumed does not evaluate again
            found = test(config.dataloader, averaged.module if averaged else student)
        if best:
            best.observe(found)
        results.clear()  # of a task that this evaluation does not give
        results.update(found)
        return results

    is_evaluated = best.has_observed if best else lambda iteration: True
    evaluation = PeriodicEvaluation(options.eval_period, evaluate_student, is_done=is_evaluated)
    built = _build_hooks(config, model, checkpointer, run_state, stop, evaluation, resume)
    trainer.register_hooks([*built, *extra_hooks, best])
    if checkpointer.has_checkpoint():
        if resume:
            check_resumed_method(config)
        else:
            logger.warning(
                "%s holds another run's checkpoints, which are replaced. --resume would continue it.",
                options.output_dir,
            )
    with stop.listening():
        start = _start(checkpointer, trainer, model, options, resume)
        if comm.is_main_process():
            _write_for_readers(config, model)
        is_over = start > 0 and best is not None and best.resume(start)
        if start > 0 and (is_over or start >= options.max_iter):
            _complete(checkpointer, trainer.iter)
        with stop.saving_on_error():
            trainer.train(start, start if is_over else options.max_iter)
    return results


def _build_loaders(config, model):
    """Builds the loaders of training, by the keys that describe them."""
    loader = _build_loader(config.dataloader.train, student_of(model), config.train)
    loaders = {"dataloader.train": ResumableLoader(loader) if ResumableLoader.supports(loader) else loader}
    if (unlabelled := build_unlabelled_loader(config, model)) is not None:
        loaders[UNLABELLED_KEY] = unlabelled
    return loaders


def _build_trainer(config, model, loaders):
    """Builds the trainer, with its optimizer."""
    optimizer = build_optimizer(config, model)
    return DistillationTrainer(
        _distribute(model, config.train),
        MixedLoader(*loaders.values()) if len(loaders) > 1 else loaders["dataloader.train"],
        optimizer,
        precision=choose_precision(config.train),
        accumulate=config.train.accumulate,
    )


def _write_for_readers(config, model):
    """Writes what readers, ``DefaultPredictor`` and the curves need beside a run's checkpoints and metrics."""
    folder = config.train.output_dir
    save_config(config, os.path.join(folder, "config.yaml"))
    if "yacs" in config.train:
        path, weights = (os.path.join(folder, name) for name in ("detectron2.yaml", "model_final.pth"))
        save_yacs(config.train.yacs, path, weights=weights, device=config.train.device)
    if isinstance(model, Distiller):
        write_json(os.path.join(folder, DISTILLATION_LOSSES), model.head.losses_by_level)


def choose_precision(options: DictConfig) -> torch.dtype | None:
    """Returns the precision of autocast that ``train`` of a config asks for, None for none.

    Raises:
        UserError: if it is unknown.
    """
    if not options.amp.enabled:
        return None
    precisions = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if options.amp.precision not in precisions:
        raise UserError(f"train.amp.precision is {options.amp.precision!r}; it has to be one of {sorted(precisions)}")
    return precisions[options.amp.precision]


def _build_loader(loader, student=None, options=None):
    if "dataset" not in loader:
        return build_loader(loader)
    records, mapper = load_records(loader.dataset), None
    if "mapper" in loader:
        mapper = build_mapper(loader.mapper)
        skip_broken = None if student is None else options.skip_broken
        read_all_images = options is not None and options.read_all_images
        records = check_records(
            records, loader.dataset, mapper, skip_broken=skip_broken, read_all_images=read_all_images
        )
    if student is not None:
        check_training_data(records, loader, student)
    return build_loader(loader, mapper=mapper, dataset=records)


def _build_hooks(config, model, checkpointer, run_state, stop, evaluation, resume):
    """Returns Detectron2's usual hooks and those of distillation, in the order in which they have to run."""
    options = config.train
    built = [hooks.IterationTimer()]
    if isinstance(model, Distiller):
        schedule = {key: value for key, value in options.distillation.items() if key != "unlabelled"}
        built.append(DistillationSchedule(model, **schedule))
    if options.clip_gradients.max_norm:
        built.append(GradientClipping(**options.clip_gradients))
    built.append(hooks.LRScheduler(scheduler=build_part("lr_multiplier", config.lr_multiplier)))
    if checkpointer.averaged:
        built.append(WeightAveraging(checkpointer.model, checkpointer.averaged))
    built.append(run_state)
    if comm.is_main_process():
        built.append(PeriodicCheckpoint(checkpointer, **options.checkpointer))
    built.append(stop)
    built.append(evaluation)
    if comm.is_main_process():
        writers = default_writers(options.output_dir, options.max_iter)
        if options.wandb.project:
            writers.append(WandbWriter(output_dir=options.output_dir, config=config, resume=resume, **options.wandb))
        built.append(hooks.PeriodicWriter(writers, period=options.log_period))
        built.append(EarlyLines(options.max_iter, options.log_period))
    return built


def _distribute(model, options):
    arguments = dict(options.ddp)
    on_cpu = torch.device(options.device).type == "cpu"
    # Not the process's number on its machine, which is Detectron2's: srun may show each process only its own GPU.
    arguments.setdefault("device_ids", None if on_cpu else [torch.cuda.current_device()])
    return create_ddp_model(model, **arguments)


def _average(student, *, enabled, decay):
    try:
        return ExponentialMovingAverage(student, decay=decay) if enabled else None
    except ValueError as error:
        raise UserError(f"train.ema.{error}") from error


def _start(checkpointer, trainer, model, options, resume):
    """Loads what there is to load and returns the first iteration."""
    checkpointer.resume_or_load(options.init_checkpoint, resume=resume)
    resumed = resume and checkpointer.has_checkpoint()
    start = trainer.iter + 1 if resumed else 0
    if len(starts := set(comm.all_gather(start))) > 1:
        raise UserError(
            f"the processes would start at different iterations, {sorted(starts)}: on several machines "
            f"train.output_dir={options.output_dir} has to be one shared directory"
        )
    if options.inherit and not resumed:
        if not isinstance(model, Distiller):
            raise UserError("train.inherit is set, but this config has no teacher to inherit from")
        model.teacher.give_weights(model.student, options.inherit)
    return start


def _complete(checkpointer, iteration):
    """Saves the final checkpoint of a run that was killed when this alone was missing."""
    if os.path.basename(checkpointer.get_checkpoint_file()) != "model_final.pth":
        checkpointer.save("model_final", iteration=iteration)

"""Images without annotations that are distilled beside each batch: ``train.distillation.unlabelled`` of a config."""

import logging
import numbers
from collections.abc import Mapping

from cankd.data import ResumableLoader, UnlabelledMapper, check_crops, load_unlabelled
from cankd.modeling import DistillationHead, Distiller
from cankd.utils import RandomNumbers, UserError, where
from detectron2.config import instantiate
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from .unlabelled_loader import UnlabelledLoader

__all__ = ["UNLABELLED_KEY", "UNLABELLED_OPTIONS", "build_unlabelled_loader"]

logger = logging.getLogger(__name__)

UNLABELLED_KEY = "train.distillation.unlabelled"
UNLABELLED_OPTIONS = ("dataset", "share", "mapper")


def build_unlabelled_loader(config: DictConfig, model: nn.Module) -> UnlabelledLoader | None:
    """Builds the loader of a config's unlabelled images.

    ``train.distillation.unlabelled`` has

    - ``dataset``: the name of a registered data set, whose annotations are left out, or a folder of images, or a list;
    - ``share``: number of the images, as a share of ``dataloader.train.total_batch_size``, beside which they come (1);
      it is rounded to a multiple of the number of processes times ``train.accumulate``, and at least that;
    - ``mapper``: reads them; that of ``dataloader.train`` if there is none.

    The loader draws from random numbers of its own: the labelled batches stay those of the student alone.

    Args:
        config: as for :func:`train`.
        model: that it describes.

    Returns:
        The batches of this process, without end; None if the config has no unlabelled images, or its distillation has
        the weight 0.

    Raises:
        UserError: if an option or the data cannot be used; if the model has no teacher; if the method or the mapper
            needs annotations.
    """
    options = config.train.distillation.get("unlabelled")
    if options is None:
        return None
    _check_options(options)
    if not isinstance(model, Distiller):
        raise UserError(
            f"{UNLABELLED_KEY} is set, but this config has no teacher: only a distillation uses such images"
        )
    if not model.head.is_active:
        return None
    _check_methods(model.head)
    loader = config.dataloader.train
    records = load_unlabelled(options.dataset)
    if options.get("mapper") is None:
        check_crops(records, loader)
    seed = config.train.seed if config.train.seed >= 0 else comm.shared_random_seed()
    random_numbers = RandomNumbers(seed + comm.get_rank())
    with random_numbers:
        mapper = _build_mapper(options, loader, records[0])
    images = _count_images(loader, options.get("share", 1.0), config.train.accumulate)
    logger.info("Beside each batch %d of %d unlabelled images are distilled.", images, len(records))
    batches = build_detection_train_loader(
        records,
        mapper=mapper,
        sampler=TrainingSampler(len(records), seed=seed),
        total_batch_size=images,
        aspect_ratio_grouping=loader.get("aspect_ratio_grouping", True),
        num_workers=loader.get("num_workers", 0),
    )
    return UnlabelledLoader(ResumableLoader(batches), random_numbers)


def _check_options(options):
    wanted = "dataset=NAME or FOLDER, and share, the images a step as a share of dataloader.train.total_batch_size"
    if not isinstance(options, Mapping) or not options.get("dataset"):
        raise UserError(f"{UNLABELLED_KEY} is {options!r}; it has to have {wanted}")
    if unknown := sorted(set(options) - set(UNLABELLED_OPTIONS)):
        raise UserError(f"{UNLABELLED_KEY} has {', '.join(unknown)}; it knows {', '.join(UNLABELLED_OPTIONS)}")
    share = options.get("share", 1.0)
    if not isinstance(share, numbers.Real) or not share > 0:
        raise UserError(
            f"{UNLABELLED_KEY}.share is {share!r}; it has to be a number above 0: with 1, as many unlabelled images as "
            f"labelled ones make up a step. {UNLABELLED_KEY}=null leaves them out"
        )


def _check_methods(head):
    for part in head.modules():
        if isinstance(part, DistillationHead) and part.is_active and part.needs_annotations:
            raise UserError(
                f"{type(part).__name__} looks at annotations, which the images of {UNLABELLED_KEY} lack: choose "
                f"another method (model.head), or leave the images out ({UNLABELLED_KEY}=null)"
            )


def _build_mapper(options, loader, record):
    """Returns the images' mapper, once it has read one."""
    own = options.get("mapper") is not None
    mapper = options.mapper if own else loader.get("mapper")
    if mapper is None:
        raise UserError(
            f"dataloader.train has no mapper that could read unlabelled images: give {UNLABELLED_KEY}.mapper"
        )
    mapper = UnlabelledMapper(instantiate(mapper))
    try:
        mapper(record)
    except UserError:
        raise
    except Exception as error:  # it is the user's
        raise UserError(
            f"the mapper of {UNLABELLED_KEY if own else 'dataloader.train'} fails on {record.get('file_name')} without "
            f'annotations with {type(error).__name__}: {error} ({where(error)}). It has to give a record with "image"; '
            f"{UNLABELLED_KEY}.mapper takes one for such images alone"
        ) from error
    return mapper


def _count_images(loader, share, accumulate):
    """Returns the unlabelled images of a step, of all processes; each part of a batch has as many."""
    if "total_batch_size" not in loader:
        raise UserError(
            f"{UNLABELLED_KEY}.share is one of dataloader.train.total_batch_size, which is not there: set it"
        )
    parts = comm.get_world_size() * accumulate
    return max(1, round(share * loader.total_batch_size / parts)) * parts

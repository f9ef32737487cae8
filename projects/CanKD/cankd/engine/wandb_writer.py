import json
import os
from collections import defaultdict
from typing import Any

from cankd.utils import UserError, replace_file
from detectron2.utils.events import EventWriter, get_event_storage
from omegaconf import DictConfig

from .config_text import describe_config

__all__ = ["WandbWriter"]


WINDOW_SIZE = 20  # values of a median, as of Detectron2's other writers


class WandbWriter(EventWriter):
    """Writes all scalars to Weights & Biases, smoothed as by Detectron2's other writers. It alone imports ``wandb``."""

    def __init__(self, *, output_dir: str, config: DictConfig, resume: bool = False, **options: Any):
        """
        Args:
            output_dir: of the run; W&B's own files go to its folder ``wandb``.
            config: is shown beside the curves.
            resume: whether to continue the run of W&B that ``output_dir`` belongs to, if there is one.
            options: of ``wandb.init``, for example ``project`` and ``name``.

        Raises:
            UserError: if ``wandb`` is not installed, or refuses.
        """
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "train.wandb is set, but wandb is not installed: pip install 'cankd[loggers]' (or wandb), or leave "
                "train.wandb.project out"
            ) from error
        path = os.path.join(output_dir, "wandb_run")
        run_id = _read(path) if resume else None
        description = json.loads(describe_config(config))
        try:
            self._run = wandb.init(dir=output_dir, config=description, id=run_id, resume="allow", **options)
        except (wandb.Error, TypeError) as error:
            raise UserError(f"wandb.init refuses the options of train.wandb: {error}") from error
        with replace_file(path, "w") as f:
            f.write(self._run.id)
        self._last_write = -1

    def write(self) -> None:
        """Writes what is new."""
        scalars = defaultdict(dict)
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint(WINDOW_SIZE).items():
            if iteration > self._last_write:
                scalars[iteration][name] = value
        for iteration in sorted(scalars):
            self._run.log(scalars[iteration], step=iteration)
            self._last_write = iteration

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def _read(path):
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return f.read().strip()

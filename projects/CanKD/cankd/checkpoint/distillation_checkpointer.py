import logging
import os

import safetensors.torch
import torch
from cankd.utils import NonFiniteError, UserError, make_output_dir, replace_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .weights import VerifyingCheckpointer, read_checkpoint

__all__ = ["DistillationCheckpointer", "export_weights"]


class DistillationCheckpointer(VerifyingCheckpointer):
    """Saves and loads a training run; the "model" entry is a plain Detectron2 checkpoint of the student.

    With averaged weights these are the student, and what is trained is kept beside them, as "trained".

    A file appears under its name only when it is whole: an interrupted save leaves the last checkpoint as it was.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", *, averaged: AveragedModel | None = None, **options):
        """
        Args:
            model: the student.
            save_dir: directory of the checkpoints.
            averaged: the student's average, if there is one.
            options: as of :class:`fvcore.common.checkpoint.Checkpointer`; what else is saved among them.
        """
        super().__init__(model, save_dir, **options)
        self.averaged = averaged

    def save(self, name: str, *, is_last: bool = True, **kwargs) -> None:
        """See :meth:`fvcore.common.checkpoint.Checkpointer.save`.

        Args:
            name: of the file, without suffix.
            is_last: whether training continues from this checkpoint.
            kwargs: is saved, too.

        Raises:
            UserError: if there is something else than tensors among the weights, or a weight is infinite or NaN
                (:class:`NonFiniteError`); nothing is written then.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        weights = (self.averaged.module if self.averaged else self.model).state_dict()
        if foreign := [key for key, value in weights.items() if not isinstance(value, torch.Tensor)]:
            raise UserError(
                f"the student's state has {foreign[0]}, which is no tensor: {name} could not be read again without "
                "running code. Keep such values as buffers, and not by get_extra_state"
            )
        broken = [key for key, value in weights.items() if not value.isfinite().all()]
        if broken:
            raise NonFiniteError(
                f"the weights became infinite or NaN, beginning with {broken[0]}: {name} is not saved, and earlier "
                "checkpoints are intact. Lower the learning rate or clip gradients (train.clip_gradients.max_norm)"
            )
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        if self.averaged:
            states["trained"] = {"model": self.model.state_dict(), "n_averaged": self.averaged.n_averaged}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        with replace_file(path) as f:
            torch.save({"model": weights, **states, **kwargs}, f)
        if is_last:
            self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """See :meth:`fvcore.common.checkpoint.Checkpointer.tag_last_checkpoint`."""
        with replace_file(os.path.join(self.save_dir, "last_checkpoint")) as f:
            f.write(last_filename_basename.encode())

    def get_checkpoint_file(self) -> str:
        """See :meth:`fvcore.common.checkpoint.Checkpointer.get_checkpoint_file`.

        Raises:
            UserError: if ``last_checkpoint`` is no text.
        """
        try:
            return super().get_checkpoint_file()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.save_dir}/last_checkpoint is damaged: write the name of the checkpoint to continue from into it"
            ) from error

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Continues from the last checkpoint of ``save_dir`` if ``resume`` is set and there is one; else reads a file.

        Raises:
            UserError: if the checkpoint to continue from is not of this run's student and head, or the file to start
                from is of another architecture (see :meth:`_verify_start`).
        """
        if not (resume and self.has_checkpoint()):
            rest = self.load(path, checkpointables=[])
            self._verify_start(path)
            return rest
        path = self.get_checkpoint_file()
        if not os.path.isfile(path):
            raise UserError(
                f"{self.save_dir}/last_checkpoint says to continue from {os.path.basename(path)}, which is not there: "
                "write the name of another checkpoint into it, or remove it to begin anew"
            )
        rest = self.load(path, checkpointables=[])
        report = self.report
        if report.missing or report.unexpected or report.reshaped:
            self._refuse_to_resume(path, f"another student: {report}")
        for key in ("distillation_head", "trainer"):
            if (key in rest) != (key in self.checkpointables):
                self._refuse_to_resume(path, f"{'a' if key in rest else 'no'} {key}")
        if ("trained" in rest) != (self.averaged is not None):
            self._refuse_to_resume(path, f"{'' if 'trained' in rest else 'no '}averaged weights (train.ema.enabled)")
        if self.averaged:  # which has been loaded as the model that the file has
            trained = rest.pop("trained")
            self.averaged.module.load_state_dict(self.model.state_dict())
            self.averaged.n_averaged.copy_(trained["n_averaged"])
            self.model.load_state_dict(trained["model"])
        for key, value in self.checkpointables.items():
            try:
                value.load_state_dict(rest.pop(key))
            except (KeyError, RuntimeError, ValueError) as error:
                reason = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
                self._refuse_to_resume(path, f"another {key} ({reason})")
        return rest

    def _refuse_to_resume(self, path, what):
        raise UserError(
            f"{path} was saved with {what}. This run cannot continue it: start anew in another train.output_dir, or go "
            "back to the config of that run"
        )

    def _verify_start(self, path):
        """Lets heads start afresh (pre-trained backbone, other classes), but never half a backbone."""
        report = self.report
        if report is None:
            return
        trunk = "backbone.bottom_up." if any("backbone.bottom_up." in k for k in report.loaded) else "backbone."
        # Pre-trained backbones may have their batch norms' statistics folded into the weights, older ones do not count
        # batches, and offsets start at 0.
        absent = (
            ".running_mean",
            ".running_var",
            ".num_batches_tracked",
            ".conv2_offset.weight",
            ".conv2_offset.bias",
        )
        missing = [k for k in report.missing if not k.endswith(absent)]
        broken = [k for k in [*missing, *report.unexpected, *(row[0] for row in report.reshaped)] if trunk in k]
        problem = None
        if not report.loaded:
            problem = "none of its keys is one of the model's"
        elif broken:
            problem = f"its backbone does not fit, beginning with {broken[0]}"
        elif report.missing and not self.matched_by_suffix:
            problem = (
                "some weights are missing; if only the part that fits is wanted, write "
                f"\"train.init_checkpoint='{path.split('?')[0]}?matching_heuristics=True'\" on the command line, with "
                "both pairs of quotes"
            )
        if problem:
            raise UserError(f"{path} is of another architecture than the model: {problem} ({report})")
        level = logging.WARNING if report.reshaped else logging.INFO
        self.logger.log(level, "Initial weights from %s: %s", path, report)


def export_weights(source: str, target: str, *, float16: bool = False) -> int:
    """Writes a checkpoint's weights alone, without optimizer and distillation head.

    Args:
        source: checkpoint of a run, or any that Detectron2 reads.
        target: file to write. Its suffix says how: ``.pth``, which Detectron2 reads, or ``.safetensors``, which many
            other libraries read, and this project.
        float16: whether to halve the file; the weights are read back as float32.

    Returns:
        The size of the file, in bytes.

    Raises:
        UserError: if the target has another suffix or is the source, the source cannot be read, a weight is not
            finite, float16 cannot hold one, or ``.safetensors`` cannot say that the names have to be matched.
    """
    if not target.endswith((".pth", ".safetensors")):
        raise UserError(f"weights are written as .pth or .safetensors: name the file so, and not {target}")
    make_output_dir(os.path.dirname(target))
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise UserError(f"{target} is the checkpoint itself, which a run may need to continue: give it another name")
    contents = read_checkpoint(source)
    weights = contents["model"]
    if broken := _non_finite(weights):
        raise UserError(f"{source} has NaN or infinite weights, in {broken[0]}: take a checkpoint from before")
    if float16:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        if beyond := _non_finite(weights):
            raise UserError(f"{source} has weights that float16 cannot hold, in {beyond[0]}: leave --float16 out")
    is_safe = target.endswith(".safetensors")
    if is_safe and "matching_heuristics" in contents:
        raise UserError(f"{source} does not have the names of Detectron2, and only a .pth can say so: write it as one")
    with replace_file(target) as f:
        if is_safe:  # it takes no views, and no two names for one tensor
            whole = {k: v.clone(memory_format=torch.contiguous_format) for k, v in weights.items()}
            f.write(safetensors.torch.save(whole))
        else:
            torch.save({**contents, "model": weights}, f)
    return os.path.getsize(target)


def _non_finite(weights):
    return [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]

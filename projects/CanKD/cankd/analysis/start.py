"""What a distillation starts from: levels, weights, learning rate."""

from cankd.checkpoint import DistillationCheckpointer
from cankd.modeling import Distiller
from cankd.utils import markdown_table
from omegaconf import DictConfig

from .findings import Findings

__all__ = ["describe_learning_rate", "describe_levels", "load_start"]


def describe_levels(model: Distiller, findings: Findings) -> list[dict]:
    """Tells which levels pair up, and returns a row for each."""
    rows = []
    for pair in model.pairs:
        rows.append(
            {
                "student level": pair.student,
                "teacher level": pair.teacher,
                "student stride": pair.student_stride,
                "teacher stride": pair.teacher_stride,
                "student channels": pair.student_channels,
                "teacher channels": pair.teacher_channels,
                "adapter": pair.adapter,
            }
        )
    findings.show("\nLevels\n" + markdown_table([row.values() for row in rows], list(rows[0]), left=2))
    return rows


def load_start(model: Distiller, options: DictConfig, findings: Findings) -> dict:
    """Loads the student's initial weights as training would.

    Args:
        model: whose teacher has its weights already.
        options: ``train`` of the config.
        findings: takes what is found.

    Returns:
        How many keys each part got.

    Raises:
        UserError: if the weights cannot be loaded, or nothing can be inherited.
    """
    checkpointer = DistillationCheckpointer(model.student, options.output_dir)
    checkpointer.resume_or_load(options.init_checkpoint, resume=False)
    found, rows = {}, []
    for role, loaded in {"student": checkpointer.report, "teacher": model.teacher.load_report}.items():
        if loaded is None:
            found[role] = None
            rows.append((role, _describe_absent(model.student if role == "student" else model.teacher.model)))
        else:
            found[role] = {name: len(keys) for name, keys in vars(loaded).items()}
            rows.append((role, str(loaded)))
    found["inherited"] = 0
    if options.inherit:
        found["inherited"] = len(model.teacher.give_weights(model.student, options.inherit))
        rows.append(("† teacher to student", f"{found['inherited']} of {len(model.student.state_dict())} keys copied"))
    findings.show("\nWeights\n" + markdown_table(rows, ["model", "keys"], left=2))
    return found


def _describe_absent(model):
    sources = {getattr(module, "initial_weights", "") for module in model.modules()} - {""}
    if sources:
        return f"none; its backbone is pre-trained, with the weights of {', '.join(sorted(sources))}"
    return "none: it starts from random weights (train.init_checkpoint)"


def describe_learning_rate(config: DictConfig, findings: Findings) -> dict:
    """Tells the learning rate, and what it would be for other batch sizes."""
    batch_size, rate = config.dataloader.train.get("total_batch_size"), config.optimizer.get("lr")
    if batch_size and rate:
        others = sorted({batch_size // 2, batch_size * 2, batch_size * 4} - {0})
        rule = ", ".join(f"{rate * size / batch_size:g} for {size}" for size in others)
        scaled = "that on the command line rescales it" if config.train.reference_batch_size else "nothing rescales it"
        findings.show(
            f"\nLearning rate {rate:g} for {batch_size} images an iteration, {config.train.max_iter} iterations; "
            f"by the linear rule {rule} ({scaled})"
        )
    return {"lr": rate, "total_batch_size": batch_size, "max_iter": config.train.max_iter}

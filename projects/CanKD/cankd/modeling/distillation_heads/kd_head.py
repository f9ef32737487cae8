import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import UserError
from torch import Tensor

from .checks import check_temperature
from .distillation_head import DistillationHead, StepContext

__all__ = ["KDHead"]


class KDHead(DistillationHead):
    """KD: the student's class probabilities are pulled towards the teacher's (Hinton, Vinyals and Dean, 2015).

    With student logits s, teacher logits t and temperature τ, the loss of whole images, ``(N, K)``, is
    ``weight * τ² / N * sum_n KL(softmax(t_n / τ) ‖ softmax(s_n / τ))``.

    Maps of logits, ``(N, K, H, W)``, are compared position by position. Their loss is ``weight`` times the mean of KL's
    summands over all N·K·H·W entries, without τ², as in the published segmentation form (Shu et al. 2021, code). A
    weight of K τ² makes it τ² times the mean over positions.

    For classifiers that end in sigmoids, as those of RetinaNet and FCOS, KL is that of each class's own probability,
    summed over classes. There is no published form of it; the divisors are those of the softmax.

    Published settings, none of them by the authors:

    ===========================================  ======  ===  ================================================
    pair                                         weight  τ    code
    ===========================================  ======  ===  ================================================
    ResNet-18 ← 34, MobileNetV2 ← ResNet-50      3       1    mmrazor
    ResNet-18 ← 34, MobileNetV1 ← ResNet-50      0.5     1    mdistiller; cross-entropy times 0.5
    ImageNet classifiers                         1       4    image_classification_sota; cross-entropy times 0.9
    PSPNet-R18 ← R101, maps                      10      1    TorchDistiller
    ===========================================  ======  ===  ================================================
    """

    name = "kd"
    adapts_channels = False

    def __init__(
        self,
        *,
        weight: float = 3.0,
        temperature: float = 1.0,
        sigmoid: bool = False,
        num_classes: int | None = None,
        **kwargs,
    ):
        """
        Args:
            weight: factor of the loss, at least 0.
            temperature: τ, what the logits are divided by.
            sigmoid: whether each class has a probability of its own; softmax if not.
            num_classes: classes of one anchor, K, where the channels are those of several anchors one after another, as
                RetinaNet's A·K are: each anchor has its own softmax. All channels are one anchor's if not given.
            kwargs: ``levels``, ``in_channels``, ``student_channels``, ``seed``, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        check_temperature(temperature)
        super().__init__(weight=weight, **kwargs)
        self.temperature = temperature
        self.sigmoid = sigmoid
        self.num_classes = num_classes

    def build_level(self, pair: LevelPair) -> None:
        """Checks that both models have the same classes; nothing is trained.

        Raises:
            UserError: if they have not, or ``num_classes`` does not fit.
        """
        channels = pair.teacher_channels
        if pair.student_channels != channels:
            raise UserError(
                f"level {pair.student!r} has {pair.student_channels} logits in the student and {channels} in the "
                "teacher, but KD compares class by class: train both on the same classes, or use a method for features"
            )
        num_classes = channels if self.num_classes is None else self.num_classes
        if num_classes < 1 or channels % num_classes:
            raise UserError(
                f"head.num_classes is {num_classes}, but level {pair.student!r} has {channels} logits, which is no "
                "multiple of it: set it to the classes of one anchor, or leave it out"
            )
        if num_classes == 1 and not self.sigmoid:
            raise UserError(f"level {pair.student!r} has one class, whose softmax is always 1: set head.sigmoid=True")

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`.

        Raises:
            UserError: if the two are not of one shape, ``(N, K)`` or ``(N, K, H, W)``.
        """
        if student.shape != teacher.shape or student.ndim not in (2, 4):
            raise UserError(
                f"level {level!r} is {tuple(student.shape)} in the student and {tuple(teacher.shape)} in the teacher, "
                "but KD compares logits (N, K) or (N, K, H, W) of one shape: name levels that are alike"
            )
        split = (-1, self.num_classes or student.shape[1])
        student, teacher = (x.unflatten(1, split) / self.temperature for x in (student, teacher))  # (N, A, K, …)
        divergence = _sigmoid_divergence(student, teacher) if self.sigmoid else _softmax_divergence(student, teacher)
        if student.ndim == 3:
            return self.temperature**2 * divergence / len(student)
        return divergence / student.numel()


def _softmax_divergence(student, teacher):
    return F.kl_div(student.log_softmax(2), teacher.log_softmax(2), reduction="sum", log_target=True)


def _sigmoid_divergence(student, teacher):
    # With p = sigmoid(t), log(p / (1 - p)) is t itself: KL = p (t - s) + log(1 - p) - log(1 - sigmoid(s)).
    return (teacher.sigmoid() * (teacher - student) + F.logsigmoid(-teacher) - F.logsigmoid(-student)).sum()

import math

from cankd.modeling.levels import LevelPair
from cankd.utils import TooSmallError, UserError
from torch import Tensor
from torchvision.ops import roi_align

from .box_masks import box_masks, boxes_in_cells
from .detkds_operations import (
    DISTANCES,
    FIRST_OPERATIONS,
    FLATTENS,
    NEEDS_BATCH,
    RANDOM_FACTORS,
    RESIZES,
    SECOND_OPERATIONS,
    THIRD_OPERATIONS,
)
from .distillation_head import DistillationHead, StepContext

__all__ = ["DetKDSHead"]

SCOPES = ("global", "foreground", "instance", "logits")


class DetKDSHead(DistillationHead):
    """DetKDS: one term of a searched distiller, given by its genes (Li et al., ICML 2024).

    With three operations f and a distance d of :mod:`.detkds_operations`, the loss of an input u is
    ``weight * D(u_s, u_t)``, ``D(a, b) = mean(d(f3(f2(f1(a))), f3(f2(f1(b)))))``. The input is

    - "global": the level's feature;
    - "foreground": two terms, the features times FGD's masks F and, with half the weight, G (:func:`.box_masks`);
    - "instance": f of the whole feature, of which RoIAlign takes 14×14 positions for each ground-truth box;
    - "logits": the sigmoid of a level that has scores, such as "head:0:0". Its first and second operation are "no".

    A whole distiller is a :class:`SumOfHeads` of several. Those published, all with † (the student inherits the
    teacher's neck and head), G being catt, scale_r2, norm_N, l1:

    ====================  ======  =============================================================================
    RetinaNet, R101       P3–P7   G, weight 6; foreground no, local_s4, norm_HW, l1, weight 2
    RetinaNet, X101       P3–P7   instance catt, scale_r1, norm_C, l1, weight 50
    FCOS                  P3–P7   G, weight 5; foreground mask, scale_r1, norm_C, l1, weight 2
    RepPoints, GFL        P3–P7   G, weight 10
    Faster R-CNN, R101    P2–P5   G, weight 2; foreground mask, no, norm_C, l1, weight 2;
                                  instance mask, scale_r1, norm_C, pear, weight 0.1; logits softmax_C, pear, 0.1
    ====================  ======  =============================================================================

    "norm_N" makes the loss depend on the number of images on each GPU. Where the published code differs: its foreground
    always has the distance l1, whatever is configured (the last line says "l2"); a batch without boxes makes its
    instance term NaN, here 0; with "kl" it gives the teacher's logarithms to the distance, which needs probabilities.
    """

    name = "detkds"
    needs_maps = True

    def __init__(
        self,
        *,
        scope: str = "global",
        first: str = "no",
        second: str = "no",
        third: str = "no",
        distance: str = "l1",
        weight_background: float = 0.5,
        pooled_size: int = 14,
        boxes_by_stride: bool = False,
        **kwargs,
    ):
        """
        Args:
            scope: what is compared: "global", "foreground", "instance" or "logits".
            first, second, third: names of the three operations.
            distance: its name.
            weight_background: of the background, beside ``weight``; for the scope "foreground".
            pooled_size: side of what RoIAlign takes of a box; for the scope "instance".
            boxes_by_stride: whether the level's stride brings boxes to the map, which mends the published way, see
                :func:`.box_masks`.
            kwargs: ``weight``, ``levels``, ``in_channels``, ``student_channels``, ``seed``, see
                :class:`DistillationHead`.

        Raises:
            UserError: if a name is unknown, or the operations do not fit together or the scope.
        """
        super().__init__(**kwargs)
        self.scope, self.first, self.second, self.third, self.distance = scope, first, second, third, distance
        self.weight_background = weight_background
        self.pooled_size = pooled_size
        self.boxes_by_stride = boxes_by_stride
        self._check_arguments()
        self._check_form()
        self.needs_annotations = scope in ("foreground", "instance")
        if scope == "foreground":
            self.terms = ("foreground", "background")
        else:
            self.name = f"detkds_{scope}"

    def _check_arguments(self):
        known = {
            "scope": SCOPES,
            "first": (*FIRST_OPERATIONS, *RANDOM_FACTORS),
            "second": SECOND_OPERATIONS,
            "third": THIRD_OPERATIONS,
            "distance": DISTANCES,
        }
        for gene, names in known.items():
            if (name := getattr(self, gene)) not in names:
                raise UserError(f"DetKDS's {gene} is {name!r}; it has to be one of {', '.join(names)}")
        if not (self.weight_background >= 0 and self.pooled_size >= 1):
            raise UserError(
                f"DetKDS's weight_background is {self.weight_background} and pooled_size {self.pooled_size}; they have "
                "to be at least 0 and 1"
            )

    def _check_form(self):
        if self.distance == "kl" and not self.third.startswith("logsoftmax"):
            raise UserError(
                f"the distance 'kl' compares logarithms of probabilities, and third is {self.third!r}: choose "
                "logsoftmax_N, logsoftmax_C or logsoftmax_HW"
            )
        if self.distance == "cos":
            raise UserError("the distance 'cos' is a similarity, and minimising it drives the two apart: choose 'pear'")
        if self.second.startswith("local") and self.third == "bmm":
            raise UserError(
                f"after {self.second!r} each patch is a channel, and 'bmm' compares all with all, which no memory "
                "holds: choose another third operation"
            )
        if self.scope == "instance" and (self.second in RESIZES or self.third in FLATTENS):
            raise UserError(
                f"after {self.second!r} and {self.third!r} the boxes are elsewhere, or there are no positions: the "
                f"scope 'instance' admits no {', '.join(sorted(RESIZES | FLATTENS))}"
            )
        if self.scope == "logits" and (self.first, self.second) != ("no", "no"):
            raise UserError(
                f"first is {self.first!r} and second {self.second!r}: the scope 'logits' has a third operation only, "
                "the others are 'no'"
            )

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`; nothing is trained.

        Raises:
            UserError: if logits of other numbers would be compared.
        """
        if self.scope == "logits" and pair.student_channels != pair.teacher_channels:
            raise UserError(
                f"level {pair.student!r} has {pair.student_channels} scores and the teacher's {pair.teacher!r} "
                f"{pair.teacher_channels}: logits are compared one by one, so both models need the same classes and "
                "anchors"
            )

    def compare(
        self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None
    ) -> Tensor | dict[str, Tensor]:
        """See :meth:`DistillationHead.compare`."""
        self._check_batch(len(student))
        if self.scope == "instance":
            return self._compare_instances(level, student, teacher, context)
        if self.scope == "logits":
            student, teacher = student.sigmoid(), teacher.sigmoid()
        if self.scope != "foreground":
            return self._measure(level, *self._transform(level, student, teacher))
        foreground, background = (
            self._measure(level, *self._transform(level, student * mask, teacher * mask))
            for mask in box_masks(context, level, student, by_stride=self.boxes_by_stride)
        )
        return {"foreground": foreground, "background": self.weight_background * background}

    def _compare_instances(self, level, student, teacher, context):
        boxes = boxes_in_cells(context, level, student, by_stride=self.boxes_by_stride)
        if not sum(map(len, boxes)):
            return 0.0 * student.sum()
        pooled = (roi_align(x, boxes, self.pooled_size) for x in self._transform(level, student, teacher))
        return self._measure(level, *pooled)

    def _transform(self, level, student, teacher):
        """Returns f of both features."""
        of_teacher = self.third.removeprefix("log") if self.distance == "kl" else self.third
        return self._operate(level, student, self.third), self._operate(level, teacher, of_teacher)

    def _operate(self, level, feature, third):
        if self.first in RANDOM_FACTORS:
            feature = feature * self.draw_factor(feature)
        else:
            feature = FIRST_OPERATIONS[self.first](feature)
        feature = SECOND_OPERATIONS[self.second](feature)
        self._check_size(level, feature)
        return THIRD_OPERATIONS[third](feature)

    def draw_factor(self, feature: Tensor) -> Tensor:
        """Draws what the first operations "mask" and "drop" multiply by, ``(N, 1, H, W)`` and ``(N, C, 1, 1)``.

        It is called for the student's feature, then for the teacher's; for the foreground, then for the background.
        """
        return RANDOM_FACTORS[self.first](feature, self.generator(feature.device))

    def _measure(self, level, student, teacher):
        if self.distance == "pear" and student.shape[1] < 3:
            raise UserError(
                f"level {level!r} is {tuple(student.shape)} when it is compared, and 'pear' correlates "
                f"{student.shape[1]} numbers: it needs three, choose another distance"
            )
        return DISTANCES[self.distance](student, teacher)

    def _check_batch(self, images):
        over_batch = NEEDS_BATCH & {self.first, self.third, self.distance}
        least = 3 if self.distance == "cor" else 2  # standardised, two are -1 and 1
        if over_batch and images < least:
            raise UserError(
                f"{', '.join(sorted(over_batch))} of DetKDS compares the images of a batch, at least {least} on each "
                f"GPU, and this one has {images}: raise dataloader.train.total_batch_size, or choose another operation"
            )

    def _check_size(self, level, feature):
        """Over one entry a norm leaves its sign and a softmax 1; standardised, two are -1 and 1: nothing to learn."""
        images, channels, *size = feature.shape
        positions = math.prod(size)
        entries = {"C": channels, "HW": positions, "batchnorm": images * positions}
        least = 3 if self.third == "batchnorm" else 2
        axis = self.third.rpartition("_")[2]
        if entries.get(axis, least) < least:
            is_small_whatever_the_image = axis == "C" or self.second.startswith("local")
            raise (UserError if is_small_whatever_the_image else TooSmallError)(
                f"level {level!r} is {tuple(feature.shape)} after {self.second!r}, too small for {self.third}: choose "
                "another operation, or leave the level out of head.levels"
            )

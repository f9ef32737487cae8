import logging
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from cankd.utils import UserError
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

__all__ = ["Classifier"]

logger = logging.getLogger(__name__)


class Classifier(nn.Module):
    """Meta-architecture for image classification: backbone, mean over positions, linear layer (supplement, Sec. 9)."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        in_feature: str,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        label_smoothing: float = 0.0,
    ):
        """
        Args:
            backbone: any; of :class:`cankd.modeling.backbone.TimmBackbone`, the weights of the classifier that came
                with its pre-trained ones are taken over where it has as many classes.
            in_feature: the backbone's output that is classified: a map, which is averaged, or a vector, as "pooled".
            num_classes: of the predictions.
            pixel_mean, pixel_std: of the images, by channel.
            input_format: channel order of the images, "BGR" or "RGB".
            label_smoothing: share of the target that is spread over all classes, from 0 to 1.

        Raises:
            UserError: if the backbone has no such output, or the share is none.
        """
        super().__init__()
        shapes = backbone.output_shape()
        if in_feature not in shapes:
            raise UserError(f"in_feature is {in_feature!r}, but the backbone gives {', '.join(shapes)}")
        if not 0 <= label_smoothing <= 1:
            raise UserError(f"label_smoothing is {label_smoothing}; it has to be from 0 to 1")
        self.backbone = backbone
        self.in_feature = in_feature
        self.num_classes = num_classes
        self.classifier = nn.Linear(shapes[in_feature].channels, num_classes)
        self.input_format = input_format
        self.label_smoothing = label_smoothing
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        if pretrained := getattr(backbone, "pretrained_classifier", None):
            self._take_over(pretrained)
        elif getattr(backbone, "initial_weights", ""):
            logger.warning("The backbone is pre-trained, but the linear layer behind it starts from random weights.")
        if known := getattr(backbone, "pretrained_normalization", None):
            self._compare_normalization(known)

    def _take_over(self, pretrained):
        if pretrained["weight"].shape == self.classifier.weight.shape:
            self.classifier.load_state_dict(pretrained)
            return
        logger.info(
            "The pre-trained classifier has %d classes; that of %d starts from random weights.",
            len(pretrained["weight"]),
            self.num_classes,
        )

    def _compare_normalization(self, known):
        used = {"pixel_mean": self.pixel_mean.flatten().tolist(), "pixel_std": self.pixel_std.flatten().tolist()}
        if any(abs(a - b) > 1 for name in used for a, b in zip(used[name], known[name])):
            wanted = ", ".join(f"{name}={[round(value, 3) for value in known[name]]}" for name in used)
            logger.warning("The backbone was pre-trained on RGB images with %s: give the model the same.", wanted)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Sequence[Mapping]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """
        Args:
            batched_inputs: records with "image", a tensor ``(3, H, W)``, and in training "label", the class.

        Returns:
            In training, the loss "loss_cls", the cross-entropy. In evaluation, for each record the "scores" of all
            classes, their probabilities ``(num_classes,)``, the highest first, and these "classes", ``(num_classes,)``.

        Raises:
            UserError: in training, if a record has no label.
        """
        images = self.preprocess_image(batched_inputs)
        feature = self.backbone(images.tensor)[self.in_feature]
        if feature.ndim == 4:
            feature = feature.mean((2, 3))
        logits = self.classifier(feature).float()
        if self.training:
            labels = torch.tensor([_label_of(record) for record in batched_inputs], device=self.device)
            return {"loss_cls": F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}
        scores, classes = logits.softmax(1).sort(descending=True)
        return [{"scores": s, "classes": c} for s, c in zip(scores, classes)]

    def preprocess_image(self, batched_inputs: Sequence[Mapping]) -> ImageList:
        """Normalises the images and makes a batch of them.

        Images of several sizes are padded below and to the right, as everywhere in Detectron2. The padding counts in
        the mean over positions, so that such a batch predicts a little else than its images one by one.
        """
        images = [(record["image"].to(self.device) - self.pixel_mean) / self.pixel_std for record in batched_inputs]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)


def _label_of(record):
    if "label" not in record:
        raise UserError(
            f"{record.get('file_name', 'a record')} has no label: train a classifier on records with one, as "
            "cankd.data.register_image_folders makes them"
        )
    return record["label"]

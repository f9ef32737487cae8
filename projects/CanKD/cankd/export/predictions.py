from cankd.utils import UserError
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from torch import Tensor, nn

__all__ = ["predict_tensors"]


def predict_tensors(model: nn.Module, record: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns what a model in evaluation mode predicts for one image, as named tensors.

    Args:
        model: a meta-architecture.
        record: with "image", ``(3, H, W)``.

    Returns:
        A detector's "pred_boxes" ``(N, 4)``, as (x0, y0, x1, y1) in pixels of the image, "pred_classes" and "scores",
        ``(N,)``, of Mask R-CNN "pred_masks" ``(N, 1, 28, 28)``, before they are pasted into the image; a segmentor's
        "sem_seg" ``(num_classes, H, W)``; a classifier's "scores", the highest first, and their "classes".

    Raises:
        UserError: if there is more than that, as in panoptic segmentation.
    """
    if isinstance(model, GeneralizedRCNN) and not isinstance(model, PanopticFPN):
        output = {"instances": model.inference([record], do_postprocess=False)[0]}
    else:
        output = model([record])[0]
    if set(output) == {"instances"}:
        fields = output["instances"].get_fields()
        return {name: getattr(value, "tensor", value) for name, value in fields.items()}
    if set(output) not in ({"sem_seg"}, {"classes", "scores"}):
        raise UserError(
            f"{type(model).__name__} cannot be exported: it predicts {', '.join(output)}. Detectors, semantic "
            "segmentors and classifiers can be"
        )
    return output

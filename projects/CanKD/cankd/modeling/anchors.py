from cankd.utils import UserError
from torch import nn

__all__ = ["check_anchors"]

# Where anchors are made, beside the head that predicts a box for each, and its layer that does (of RPN or RetinaNet).
_PREDICTORS = (("proposal_generator", "rpn_head.anchor_deltas"), ("", "head.bbox_pred"))


def check_anchors(detector: nn.Module) -> None:
    """Makes sure that RetinaNet's head and RPN's predict as many boxes a position as there are anchors.

    Args:
        detector: any model; what has other parts than Detectron2's is not checked.

    Raises:
        UserError: if a head and its anchors do not fit.
    """
    for name, layer in _PREDICTORS:
        try:
            part = detector.get_submodule(name)
            anchors, predicted = part.anchor_generator, part.get_submodule(layer).out_channels
            made = {count * anchors.box_dim for count in anchors.num_anchors}
        except AttributeError:
            continue
        if made != {predicted}:
            counts = " or ".join(str(count // anchors.box_dim) for count in sorted(made))
            raise UserError(
                f"{type(part).__name__}'s anchor generator makes {counts} anchors a position, its head predicts boxes "
                f"for {predicted / anchors.box_dim:g}: make num_anchors of the head the number of sizes times that of "
                "aspect_ratios, the same at each level"
            )

import pytest
from cankd.modeling import check_anchors
from detectron2.config import instantiate

from tests.tiny import detector_config


@pytest.mark.parametrize(
    "kind, head, generator",
    [("retinanet", "RetinaNet", ""), ("faster_rcnn", "RPN", "proposal_generator.")],
)
def test_heads_fit_their_anchors(kind, head, generator):
    config = detector_config(kind)
    check_anchors(instantiate(config))
    anchors = config.proposal_generator.anchor_generator if generator else config.anchor_generator
    sizes = len(anchors.sizes[0])
    anchors.aspect_ratios = [1.0]
    message = f"{head}'s anchor generator makes {sizes} anchors a position, its head predicts boxes for {3 * sizes}: "
    with pytest.raises(ValueError, match=message):
        check_anchors(instantiate(config))


def test_what_has_no_anchors_is_not_checked():
    check_anchors(instantiate(detector_config("fcos")))

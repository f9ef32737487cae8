import re

import pytest
import torch
from cankd.checkpoint import inherit_weights
from detectron2.config import instantiate
from torch import nn

from tests.tiny import detector, detector_config


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_copies_what_matches_and_nothing_else():
    student, teacher = detector("retinanet"), detector("retinanet", width=24)
    before, source = state(student), teacher.state_dict()
    inherit_weights(student, teacher, "head.*")
    copied = inherit_weights(student, teacher, ["backbone.fpn_output*", "head.*"])
    assert "head.cls_score.weight" in copied and "backbone.fpn_output5.bias" in copied
    for name, value in student.state_dict().items():
        expected = source[name] if name.startswith(("backbone.fpn_output", "head.")) else before[name]
        assert torch.equal(value, expected), name
        assert (name in copied) == name.startswith(("backbone.fpn_output", "head."))


@pytest.mark.parametrize(
    "patterns, message",
    [
        (["head.*", "neck.*"], "'neck.*', which matches nothing in the student. Its parts are: .*backbone.fpn_output3"),
        (["head.*", "backbone.fpn_*"], r"lateral3.weight: \(64, 32, 1, 1\) in the student, \(64, 48, 1, 1\) in the"),
    ],
)
def test_refuses_and_changes_nothing(patterns, message):
    student, teacher = detector("retinanet"), detector("retinanet", width=24)
    before = state(student)
    with pytest.raises(ValueError, match=message):
        inherit_weights(student, teacher, patterns)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_refuses_other_classes_and_other_architectures():
    config = detector_config("retinanet")
    config.num_classes = 3
    with pytest.raises(ValueError, match=r"another number of classes.*\n.*head.cls_score.bias: \(27,\).*\(90,\)"):
        inherit_weights(instantiate(config), detector("retinanet"), ["head.*"])
    with pytest.raises(ValueError, match="head.cls_score.bias: absent from the teacher"):
        inherit_weights(detector("retinanet"), detector("faster_rcnn"), ["head.*"])


def test_maps_to_names_that_differ_in_the_teacher(caplog):
    """Cascade R-CNN has three box heads, whose regressors know no classes; the first is nearest to Faster R-CNN's."""
    student, teacher = detector("faster_rcnn"), detector("cascade_rcnn")
    patterns = {
        "roi_heads.box_head.*": "roi_heads.box_head.0.*",
        "roi_heads.box_predictor.cls_score.*": "roi_heads.box_predictor.0.cls_score.*",
    }
    with caplog.at_level("INFO"):
        copied = inherit_weights(student, teacher, patterns)
    assert len(copied) == 4
    assert torch.equal(student.roi_heads.box_head.fc1.weight, teacher.roi_heads.box_head[0].fc1.weight)
    predictor = teacher.roi_heads.box_predictor[0]
    assert torch.equal(student.roi_heads.box_predictor.cls_score.bias, predictor.cls_score.bias)
    assert "keep their own start, in " in caplog.text and "roi_heads.box_predictor.bbox_pred" in caplog.text
    patterns["roi_heads.box_predictor.*"] = "roi_heads.box_predictor.0.*"
    with pytest.raises(ValueError, match=r"bbox_pred.bias \(from .*0.bbox_pred.bias\): \(40,\) in the student, \(4,\)"):
        inherit_weights(student, teacher, patterns)
    for pattern in ("roi_heads", "roi_[hx]eads.*", "*heads.*"):
        with pytest.raises(ValueError, match="to 'heads.0.*': both need one '.*', at the end"):
            inherit_weights(student, teacher, {pattern: "heads.0.*"})


@pytest.mark.parametrize(
    "student, teacher, expected",
    [
        ("retinanet", "retinanet", ("backbone.fpn_output", "head.")),
        ("faster_rcnn", "faster_rcnn", ("backbone.fpn_output", "roi_heads.")),
        (
            "faster_rcnn",
            "cascade_rcnn",
            ("backbone.fpn_output", "roi_heads.box_head.", "roi_heads.box_predictor.cls_score."),
        ),
        ("retinanet", "faster_rcnn", ("backbone.fpn_output",)),
    ],
)
def test_auto_takes_neck_and_head_as_far_as_they_fit(student, teacher, expected):
    student, teacher = detector(student), detector(teacher, width=24)  # so that the lateral convolutions differ
    before = state(student)
    copied = inherit_weights(student, teacher, "auto")
    assert copied == [name for name in sorted(before) if name.startswith(expected)]
    for name, value in student.state_dict().items():
        source = teacher.state_dict().get(name, teacher.state_dict().get(re.sub(r"(box_\w+)", r"\1.0", name)))
        assert torch.equal(value, source if name in copied else before[name]), name


def test_auto_keeps_a_head_whose_own_parameter_has_no_counterpart():
    student, teacher = detector("retinanet"), detector("retinanet")
    student.head.scales = nn.Parameter(torch.ones(3))
    copied = inherit_weights(student, teacher, "auto")
    assert "head.cls_score.weight" in copied and "head.scales" not in copied


def test_auto_refuses_what_has_nothing_in_common():
    with pytest.raises(ValueError, match="neither neck nor head of the teacher fits the student"):
        inherit_weights(nn.Conv2d(1, 1, 1), detector("retinanet"), "auto")

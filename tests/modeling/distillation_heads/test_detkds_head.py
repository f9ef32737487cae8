import pytest
import torch
from cankd.modeling import SumOfHeads
from cankd.modeling.distillation_heads.detkds_head import DetKDSHead
from cankd.modeling.distillation_heads.distillation_head import StepContext
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.published import DTYPES, assert_equals, load
from tests.tiny import batch, distiller

GLOBAL = dict(scope="global", first="catt", second="scale_r2", third="norm_N")
FOREGROUND = dict(scope="foreground", first="mask", second="scale_r1", third="norm_C")
INSTANCE = dict(scope="instance", first="mask", second="scale_r1", third="norm_C", distance="pear")
LOGITS = dict(scope="logits", third="softmax_C", distance="pear")
REFERENCES = {
    "detkds_global": GLOBAL,
    "detkds_foreground": dict(scope="foreground", second="local_s4", third="norm_HW"),
    "detkds_foreground_masked": FOREGROUND,
    "detkds_instance": dict(scope="instance", first="catt", second="scale_r1", third="norm_C"),
    "detkds_instance_pearson": INSTANCE,
    "detkds_logits": LOGITS,
}


def step_context(boxes, image_sizes, stride=8):
    """Returns a step's context by boxes and by height and width of each image."""
    records = []
    for corners, (height, width) in zip(boxes, image_sizes):
        instances = Instances((height, width), gt_boxes=Boxes(corners))
        records.append({"image": torch.zeros(3, height, width, dtype=torch.uint8), "instances": instances})
    return StepContext(records, {"p3": stride})


def file_context(data):
    sizes = data["image_sizes"].tolist() if "image_sizes" in data else []
    return step_context([data[f"boxes_{i}"] for i in range(len(sizes))], sizes)


def file_weights(data):
    if "weight" in data:
        return {"weight": data["weight"].item()}
    foreground, background = (data[f"weight_{ground}"].item() for ground in ("foreground", "background"))
    return {"weight": foreground, "weight_background": background / foreground}


def give_masks(head, data):
    """Replaces the head's draws by those of a file, in the order in which the head asks for them."""
    order = ("student", "teacher", "foreground_student", "foreground_teacher", "background_student")
    masks = iter([data[f"mask_{x}"] for x in (*order, "background_teacher") if f"mask_{x}" in data])
    head.draw_factor = lambda feature: next(masks).to(feature)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype, tolerance", DTYPES, ids=["float64", "float32"])
def test_equals_the_reference(name, dtype, tolerance):
    data = load(name)
    pooled = {"pooled_size": int(data["pooled_size"])} if "pooled_size" in data else {}
    channels = data["student"].shape[1]
    head = DetKDSHead(levels=["p3"], in_channels=channels, **REFERENCES[name], **file_weights(data), **pooled)
    give_masks(head, data)
    assert_equals(head, data, dtype, tolerance, file_context(data))


def test_a_published_distiller_is_a_sum_of_heads(tmp_path):
    """Faster R-CNN R50 from R101."""
    names = {"levels": ["p3", "p4"]}
    terms = [DetKDSHead(weight=w, **names, **form) for w, form in [(2.0, GLOBAL), (2.0, FOREGROUND), (0.1, INSTANCE)]]
    logits = [f"proposal_generator.rpn_head:0:{i}" for i in range(2)]
    head = SumOfHeads(heads=[*terms, DetKDSHead(levels=logits, weight=0.1, **LOGITS)])
    model = distiller(tmp_path, "faster_rcnn", "faster_rcnn", head=head).train()
    with EventStorage():
        losses = model(batch())
    scopes = ("global", "foreground", "background", "instance")
    expected = {f"loss_detkds_{scope}_{level}" for scope in scopes for level in ("p3", "p4")}
    expected |= {f"loss_detkds_logits_{level}" for level in logits}
    assert expected == set(head.loss_names) <= losses.keys()
    found = {name: losses[name].item() for name in expected}
    assert all(0 < value < 10 for value in found.values())
    sum(losses[name] for name in expected if "logits" not in name).backward(retain_graph=True)
    assert model.student.backbone.fpn_output3.weight.grad.any()
    assert model.student.proposal_generator.rpn_head.objectness_logits.weight.grad is None
    sum(losses[name] for name in expected if "logits" in name).backward()
    assert model.student.proposal_generator.rpn_head.objectness_logits.weight.grad.any()


def test_adapts_other_channels_and_trains_the_adapter(tmp_path):
    head = DetKDSHead(levels=["backbone.bottom_up:res3"], **GLOBAL)
    with EventStorage():
        losses = distiller(tmp_path, head=head).train()(batch())
    losses["loss_detkds_global_backbone.bottom_up:res3"].backward()
    assert list(head.state_dict()) == [f"adapters.backbone/bottom_up:res3.{name}" for name in ("weight", "bias")]
    assert all(parameter.grad.any() for parameter in head.parameters())


@pytest.mark.parametrize("first", ["mask", "drop"])
def test_student_and_teacher_get_different_draws(first):
    feature = {"p3": torch.randn(2, 8, 12, 10)}
    heads = [DetKDSHead(levels=["p3"], in_channels=8, first=first, seed=seed) for seed in (0, 0, 1)]
    state = torch.get_rng_state()
    losses = [head(feature, feature)["loss_detkds_global_p3"] for head in heads]
    assert losses[0] == losses[1] != losses[2] and losses[0] > 0
    assert torch.equal(state, torch.get_rng_state())


def test_a_batch_without_boxes_has_no_instance_loss():
    head = DetKDSHead(levels=["p3"], in_channels=4, **INSTANCE)
    student, teacher = torch.randn(2, 2, 4, 4, 8).unbind()
    student.requires_grad_()
    loss = head({"p3": student}, {"p3": teacher}, step_context([torch.zeros(0, 4)] * 2, [(32, 64)] * 2))
    loss["loss_detkds_instance_p3"].backward()
    assert loss["loss_detkds_instance_p3"] == 0 and not student.grad.any()


@pytest.mark.parametrize("scope", ["foreground", "instance"])
def test_boxes_by_stride_are_elsewhere_in_a_smaller_image(scope):
    """The map of 4×8 cells is that of a padded batch: the image of 32×32 fills its left half."""
    student, teacher = torch.zeros(2, 1, 4, 4, 8).unbind()
    student[..., 4:] = 1  # padding
    boxes = step_context([torch.tensor([[1.0, 1, 23, 31]])], [(32, 32)])
    losses = []
    for by_stride in (True, False):
        head = DetKDSHead(levels=["p3"], in_channels=4, scope=scope, boxes_by_stride=by_stride)
        losses.append(next(iter(head({"p3": student}, {"p3": teacher}, boxes).values())))
    assert losses[0] == 0 < losses[1]


def test_divergence_is_zero_for_equal_features_alone():
    feature = torch.randn(2, 2, 4, 6, 5, dtype=torch.double)
    for axis in ("N", "C", "HW"):
        head = DetKDSHead(levels=["p3"], in_channels=4, third=f"logsoftmax_{axis}", distance="kl")
        same = head({"p3": feature[0]}, {"p3": feature[0]})["loss_detkds_global_p3"]
        other = head({"p3": feature[0]}, {"p3": feature[1]})["loss_detkds_global_p3"]
        assert same.item() == pytest.approx(0, abs=1e-12) and other > 0.01


@pytest.mark.parametrize(
    "genes, message",
    [
        ({"scope": "box"}, "scope is 'box'; it has to be one of global, foreground, instance, logits"),
        ({"first": "norm_C"}, "first is 'norm_C'; it has to be one of no, satt, catt, natt, mask, drop"),
        ({"second": "local_s3"}, "second is 'local_s3'"),
        ({"third": "softmax"}, "third is 'softmax'"),
        ({"distance": "kld"}, "distance is 'kld'; it has to be one of l1, l2"),
        ({"distance": "kl", "third": "softmax_C"}, "'kl' compares logarithms .* third is 'softmax_C': choose logsoft"),
        ({"distance": "cos"}, "minimising it drives the two apart: choose 'pear'"),
        ({"second": "local_s4", "third": "bmm"}, "after 'local_s4' each patch is a channel, and 'bmm' compares all"),
        ({"scope": "instance", "second": "scale_r2"}, "the boxes are elsewhere"),
        ({"scope": "instance", "third": "batch"}, "there are no positions"),
        ({"scope": "logits", "first": "catt"}, "'logits' has a third operation only"),
        ({"scope": "logits", "second": "scale"}, "'logits' has a third operation only"),
        ({"weight_background": -1.0}, "weight_background is -1.0 and pooled_size 14"),
        ({"pooled_size": 0}, "weight_background is 0.5 and pooled_size 0"),
    ],
)
def test_refuses_forms(genes, message):
    with pytest.raises(ValueError, match=message):
        DetKDSHead(levels=["p3"], in_channels=4, **genes)


@pytest.mark.parametrize(
    "genes, images, message",
    [
        ({"third": "norm_N"}, 1, "norm_N of DetKDS compares the images of a batch, at least 2 .* has 1"),
        ({"first": "natt"}, 1, "natt of DetKDS compares the images of a batch"),
        ({"distance": "cor"}, 2, "cor of DetKDS compares the images of a batch, at least 3 .* has 2"),
        ({"second": "local_s1", "third": "norm_HW"}, 2, "level 'p3' is .* after 'local_s1', too small for norm_HW"),
        ({"second": "local_s1", "third": "batchnorm"}, 2, "after 'local_s1', too small for batchnorm"),
        (
            {"third": "mm", "distance": "pear"},
            2,
            r"'p3' is \(2, 2\) when it is compared, and 'pear' correlates 2 numbers",
        ),
        ({"scope": "foreground"}, 2, "level 'p3' is weighed by ground-truth boxes"),
        ({"scope": "instance"}, 2, "level 'p3' is weighed by ground-truth boxes"),
    ],
)
def test_refuses_batches(genes, images, message):
    head = DetKDSHead(levels=["p3"], in_channels=4, **genes)
    feature = {"p3": torch.randn(images, 4, 8, 8)}
    with pytest.raises(ValueError, match=message):
        head(feature, feature)


def test_refuses_levels():
    with pytest.raises(ValueError, match="level 'p3' is no map of positions, which detkds_global compares"):
        DetKDSHead(levels=["p3"], in_channels=4)({"p3": torch.randn(2, 4)}, {"p3": torch.randn(2, 4)})
    with pytest.raises(ValueError, match="has 6 scores and the teacher's 'p3' 9: logits are compared one by one"):
        DetKDSHead(levels=["p3"], student_channels=6, in_channels=9, scope="logits")
    one = {"p3": torch.randn(2, 1, 4, 4)}
    with pytest.raises(ValueError, match=r"level 'p3' is \(2, 1, 4, 4\) after 'no', too small for softmax_C"):
        DetKDSHead(levels=["p3"], in_channels=1, **LOGITS)(one, one)


def test_a_level_that_is_too_small_is_left_out(tmp_path):
    head = DetKDSHead(levels=["p3", "p4", "p5"], scope="global", third="norm_HW")
    model = distiller(tmp_path, head=head).train()
    with EventStorage():
        losses = model(batch(size=32))
    assert losses["loss_detkds_global_p5"] == 0 < losses["loss_detkds_global_p3"]
    assert model.skipped_batches == {"p5": 1}

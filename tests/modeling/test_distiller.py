import copy
import dataclasses

import pytest
import torch
from cankd.modeling import CanKDHead, Distiller, KDHead, PKDHead, SumOfHeads, Teacher
from cankd.utils import UserError
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling import SimpleFeaturePyramid
from detectron2.utils.events import EventStorage
from torch import nn

from tests.tiny import DETECTORS, batch, detector, detector_config, distiller, save_weights, teacher

NAMES = {"loss_cankd_p3", "loss_cankd_p4", "loss_cankd_p5"}


@pytest.mark.parametrize("student", DETECTORS)
@pytest.mark.parametrize("teacher_kind", DETECTORS)
def test_every_pairing_trains_student_and_head_but_not_the_teacher(tmp_path, student, teacher_kind):
    model = distiller(tmp_path, student, teacher_kind).train()
    assert [(pair.student_stride, pair.teacher_stride) for pair in model.pairs] == [(8, 8), (16, 16), (32, 32)]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with torch.no_grad(), EventStorage():
        model(batch())  # folds the teacher's norms
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    for step in range(2):
        with EventStorage(step):
            losses = model(batch(seed=step))
        assert NAMES < losses.keys() and all(loss.isfinite() for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())
    assert all(p.grad is not None for p in model.student.backbone.parameters())
    # Since the first step the attention's output counts, and with it whatever leads there.
    assert all(p.grad is not None and p.grad.any() for n, p in model.head.named_parameters() if n.endswith("weight"))


def test_loss_is_the_heads_on_the_students_own_features(tmp_path):
    """One forward pass of the student: what its losses come from is what is compared."""
    model = distiller(tmp_path).train()
    calls = []
    model.student.backbone.register_forward_hook(lambda module, inputs, outputs: calls.append(outputs))
    with EventStorage():
        model.distillation_scale = 0.25
        losses = model(batch())
    (features,) = calls
    teacher_features = model.teacher(batch(), "BGR")
    expected = model.head({k: features[k] for k in teacher_features}, teacher_features)
    for name in NAMES:
        torch.testing.assert_close(losses[name], 0.25 * expected[name])


def test_the_teacher_starts_before_the_student(tmp_path):
    model = distiller(tmp_path).train()
    order = []
    for name, part in (("teacher", model.teacher), ("student", model.student)):
        part.register_forward_hook(lambda *_, name=name: order.append(name))
    with EventStorage():
        model(batch())
    assert order == ["teacher", "student"]


def test_task_losses_and_their_gradients_are_untouched(tmp_path):
    model = distiller(tmp_path).train()
    model.head.weight = 0.0
    alone = detector("retinanet")
    alone.load_state_dict(model.student.state_dict())
    with EventStorage():
        found, expected = model(batch()), alone(batch())
    assert found.keys() - NAMES == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    sum(found.values()).backward()
    sum(expected.values()).backward()
    for (name, p), q in zip(model.student.named_parameters(), alone.parameters()):
        assert torch.equal(p.grad, q.grad), name
    assert all(p.grad is None for p in model.head.parameters())


@pytest.mark.parametrize("scale, weight", [(0.0, 5.0), (1.0, 0.0)])
def test_neither_teacher_nor_head_runs_at_scale_zero(tmp_path, scale, weight):
    model = distiller(tmp_path).train()
    model.distillation_scale, model.head.weight = scale, weight
    for part in (model.teacher, model.head):
        part.register_forward_hook(lambda *_: pytest.fail("it ran"))
    with EventStorage():
        losses = model(batch())
    assert all(losses[name] == 0 for name in NAMES)


def without_labels(records):
    return [{"image": record["image"], "unlabelled": True} for record in records]


def test_losses_and_gradients_with_unlabelled_images_are_the_means_over_all_images(tmp_path):
    model = distiller(tmp_path).train()
    for level in ("p3", "p4", "p5"):
        torch.nn.init.ones_(model.head.non_local[level].norm.weight)  # the attention counts from the first step on
    model.distillation_scale = 0.5
    by_hand = copy.deepcopy(model)
    labelled, unlabelled = batch(2), without_labels(batch(3, size=64, seed=1))
    with EventStorage():
        losses = model([unlabelled[0], *labelled, *unlabelled[1:]])
        expected = by_hand.student(labelled)
    by_images = []
    for records in (labelled, unlabelled):
        features = by_hand.student.backbone(by_hand.student.preprocess_image(records).tensor)
        by_images.append(by_hand.head(features, by_hand.teacher(records, "BGR")))
    for name in NAMES:
        expected[name] = 0.5 * (2 * by_images[0][name] + 3 * by_images[1][name]) / 5
    assert losses.keys() == expected.keys()
    torch.testing.assert_close(losses, expected)
    for found in (losses, expected):
        sum(found.values()).backward()
    for part in ("student", "head"):
        for (name, p), q in zip(getattr(model, part).named_parameters(), getattr(by_hand, part).parameters()):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6, msg=lambda m: f"{name}: {m}")


@pytest.mark.parametrize("student", DETECTORS)
def test_the_pass_of_unlabelled_images_ends_at_the_last_level(tmp_path, student):
    model = distiller(tmp_path, student=student, head=CanKDHead(levels=["p4", "p5"], pool_size=1)).train()
    passes = dict.fromkeys(["stem", "fpn_output3"], 0)

    def count(name):
        passes[name] += 1

    bottom_up = model.student.backbone.bottom_up
    bottom_up.stem.register_forward_hook(lambda *_: count("stem"))
    model.student.backbone.fpn_output3.register_forward_hook(lambda *_: count("fpn_output3"))
    with EventStorage():
        losses = model([*batch(), *without_labels(batch())])
    assert passes == {"stem": 2, "fpn_output3": 1}
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_cankd_p5"] > 0
    assert bottom_up.stem.conv1.norm.num_batches_tracked == 2


def test_unlabelled_images_are_distilled_by_their_logits(tmp_path):
    model = distiller(tmp_path, head=KDHead(levels=["head:0:0", "head:0:2"], sigmoid=True)).train()
    with EventStorage():
        alone, mixed = model(batch()), model([*batch(), *without_labels(batch(seed=1))])
    assert all(0 < mixed[name] != alone[name] for name in ("loss_kd_head:0:0", "loss_kd_head:0:2"))


@torch.jit.optimized_execution(False)  # Detectron2's focal loss differs in its last bit once it is optimised
@pytest.mark.parametrize("scale, weight", [(0.0, 5.0), (1.0, 0.0)])
def test_unlabelled_images_are_left_alone_at_scale_zero(tmp_path, scale, weight):
    model = distiller(tmp_path).train()
    model.distillation_scale, model.head.weight = scale, weight
    alone = copy.deepcopy(model.student)
    sizes = []
    model.student.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    with EventStorage():
        found, expected = model([*batch(), *without_labels(batch(3))]), alone(batch())
    assert sizes == [2]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_unlabelled_images_draw_no_random_numbers_from_the_others(tmp_path):
    model = distiller(tmp_path).train()

    def drop(module, inputs):
        torch.rand(3)  # as dropout does

    model.student.backbone.register_forward_pre_hook(drop)
    following = []
    for unlabelled in ([], without_labels(batch())):
        torch.manual_seed(0)
        with EventStorage():
            model([*batch(), *unlabelled])
        following.append(torch.rand(1))
    assert following[0] == following[1]


def test_in_evaluation_it_is_the_student(tmp_path):
    model = distiller(tmp_path).eval()
    model.teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    found, expected = model(batch()), model.student(batch())
    for a, b in zip(found, expected):
        assert torch.equal(a["instances"].scores, b["instances"].scores)


def test_adapts_channels_on_the_students_side(tmp_path):
    config = detector_config("retinanet")
    config.backbone.out_channels = 32
    config.head.input_shape = [{**shape, "channels": 32} for shape in config.head.input_shape]
    head = CanKDHead(levels=["p3", "p5"], in_channels=64, pool_size=1)
    model = Distiller(student=instantiate(config), teacher=teacher(tmp_path), head=head).train()
    assert head.adapters["p3"].weight.shape == head.adapters["p5"].weight.shape == (64, 32, 1, 1)
    with EventStorage():
        losses = model(batch())
    sum(losses.values()).backward()
    assert head.adapters["p3"].weight.grad.any()


def test_mapped_levels_of_other_strides_are_resized(tmp_path):
    model = distiller(tmp_path, head=CanKDHead(levels=["p4"], in_channels=64), levels={"p4": "p3"}).train()
    sizes = []
    model.head.register_forward_hook(lambda m, inputs, out: sizes.extend(x["p4"].shape[2:] for x in inputs[:2]))
    with EventStorage():
        model(batch(size=96))
    assert sizes == [(12, 12), (12, 12)]


@pytest.mark.parametrize("levels", [["p3", "p4"], None])
def test_a_teacher_at_twice_the_scale_teaches_each_level_by_its_coarser_one(tmp_path, levels):
    model = Distiller(
        student=detector("retinanet"), teacher=teacher(tmp_path, scale=2), head=CanKDHead(levels=levels)
    ).train()
    assert [(pair.student, pair.teacher, pair.adapter) for pair in model.pairs] == [
        ("p3", "p4", "none"),
        ("p4", "p5", "none"),
    ]
    with EventStorage():
        losses = model(batch(size=100))  # padded to 128 by the student, 200 to 224 by the teacher
    assert losses["loss_cankd_p3"] > 0 and losses["loss_cankd_p4"] > 0
    features = model.compute_features(batch(size=100))
    assert [feature["p3"].shape[2:] for feature in features] == [(14, 14)] * 2


def test_crops_maps_that_padding_made_unequal(tmp_path):
    config = detector_config("retinanet")
    config.backbone.square_pad = 160
    model = Distiller(
        student=instantiate(config),
        teacher=teacher(tmp_path),
        head=CanKDHead(levels=["p3"], in_channels=64),
    ).train()
    sizes = []
    model.head.register_forward_hook(lambda m, inputs, out: sizes.extend(x["p3"].shape[2:] for x in inputs[:2]))
    with EventStorage():
        model(batch(size=90))
    assert sizes == [(12, 12), (12, 12)]


@pytest.mark.parametrize("name", ["cankd", "sum"])
def test_levels_that_are_too_small_are_left_out_of_the_batch_and_counted(tmp_path, caplog, name):
    head = CanKDHead(levels=["p3", "p4", "p5"], pool_size=1)
    model = distiller(tmp_path, head=head if name == "cankd" else SumOfHeads(heads=[head])).train()
    with EventStorage() as storage:
        for size in (96, 32, 32, 96):
            losses = model(batch(size=size))
            model.zero_grad()
            sum(losses.values()).backward()
            assert all(p.grad is not None for p in model.head.parameters())  # as DistributedDataParallel wants
            assert (losses["loss_cankd_p5"] == 0) == (size == 32) and losses["loss_cankd_p4"] > 0
    assert model.skipped_batches == {"p5": 2}
    assert storage.latest()["[metric]skipped_p5"][0] == 2 and "[metric]skipped_p4" not in storage.latest()
    assert caplog.text.count("Images of 32×32, 32×32 leave too few positions at level 'p5'") == 1
    with pytest.raises(ValueError, match="level 'p5' is 1×1"):
        model.head(*model.compute_features(batch(size=32)))


def test_a_head_that_cannot_work_shows_the_table(tmp_path):
    class RefusingHead(CanKDHead):
        def compare(self, level, student, teacher, context):
            raise UserError(f"{level} is not to my taste")

    model = distiller(tmp_path, head=RefusingHead()).train()
    with EventStorage(), pytest.raises(
        ValueError, match=r"p3 is not to my taste(.*\n)+.*p5 \(stride 32, 64 channels\)"
    ):
        model(batch())


def test_a_simple_feature_pyramid_teaches_a_resnet(tmp_path):
    """As in ViTDet: strides 8 to 32 from one map of stride 16, images padded to squares, the levels named alike."""
    config = detector_config("retinanet")
    plain = config.backbone.bottom_up
    plain.out_features = ["res4"]
    config.backbone = L(SimpleFeaturePyramid)(
        net=plain, in_feature="res4", out_channels=96, scale_factors=[2.0, 1.0, 0.5], norm="LN", square_pad=96
    )
    config.head.input_shape = [{**shape, "channels": 96} for shape in config.head.input_shape]
    config.update(pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375], input_format="RGB")
    vitdet = instantiate(config)
    model = Distiller(
        student=detector("fcos"),
        teacher=Teacher(model=vitdet, weights=save_weights(vitdet, tmp_path / "vitdet.pth")),
        head=CanKDHead(levels=["p3", "p4", "p5"], in_channels=96, pool_size=1),
    ).train()
    assert all(pair.student_stride == pair.teacher_stride for pair in model.pairs)
    with EventStorage():
        losses = model(batch(size=80))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert model.head.adapters["p5"].weight.grad.any() and model.student.backbone.fpn_output3.weight.grad.any()
    assert all(p.grad is None for p in model.teacher.parameters())


def test_images_are_bgr_unless_the_student_or_the_config_says_otherwise(tmp_path):
    assert distiller(tmp_path, student="fcos").input_format == "BGR"  # FCOS has no such attribute
    assert distiller(tmp_path, input_format="RGB").input_format == "RGB"


def test_says_which_channels_the_head_should_have(tmp_path):
    with pytest.raises(ValueError, match="head.in_channels is 256, but the teacher's level 'p3' has 64"):
        distiller(tmp_path, head=CanKDHead(levels=["p3"], in_channels=256))


def test_logs_correlations_periodically(tmp_path):
    model = distiller(tmp_path, correlation_period=2).train()
    with EventStorage() as storage:
        for storage.iter in range(3):
            model(batch())
    history = storage.history("[metric]correlation_p3").values()
    assert [iteration for _, iteration in history] == [1]
    assert -1 <= history[0][0] <= 1


def test_a_stride_that_is_declared_wrongly_is_refused(tmp_path):
    model = distiller(tmp_path).train()
    model.pairs = [dataclasses.replace(pair, student_stride=pair.student_stride // 2) for pair in model.pairs]
    for compare in (model, model.compute_features):
        with EventStorage(), pytest.raises(
            UserError, match=r"for images of 96×96 .*which their strides do not explain"
        ):
            compare(batch())


@pytest.mark.parametrize("scale", [0.5, 2])
def test_square_padding_of_a_scaled_teacher_is_no_wrong_stride(tmp_path, scale):
    model = distiller(tmp_path)
    model.teacher.scale = scale
    model.teacher.model.backbone = nn.Module()
    model.teacher.model.backbone.padding_constraints = {"square_size": 256}
    assert model.teacher.padded_size((96, 128)) == (256 / scale, 256 / scale)


def test_a_student_may_have_no_losses_of_its_own(tmp_path):
    model = distiller(tmp_path).train()
    backbone = model.student.backbone
    model.student.forward = lambda records: backbone(model.student.preprocess_image(records).tensor) and {}
    with EventStorage():
        assert model(batch()).keys() == NAMES
        model.distillation_scale = 0
        with pytest.raises(UserError, match="the student gives no loss in training, and nothing is distilled"):
            model(batch())


def test_a_level_of_two_heads_that_is_mapped_is_both_heads_level(tmp_path):
    head = SumOfHeads(heads=[CanKDHead(levels=None), PKDHead(levels=["p3"])])
    Distiller(student=detector("retinanet"), teacher=teacher(tmp_path), head=head, levels={"p3": "p4"})
    assert head.heads[0].levels == ("p3",)

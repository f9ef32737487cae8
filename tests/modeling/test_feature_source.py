import pytest
import timm
import torch
from cankd.modeling import CanKDHead, DistillationHead, Distiller, FeatureSource, Teacher
from cankd.modeling.feature_source import BLANK_SIZES, _common_stride
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.utils.events import EventStorage
from torch import nn

from tests.tiny import batch, detector


class NeckWithTuple(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, width, 3, stride=4, padding=1), nn.Conv2d(width, 5, 2, stride=2)])

    def forward(self, x):
        fine = self.convs[0](x).relu()
        return fine, {"coarse": [self.convs[1](fine)]}


class ToyDetector(nn.Module):
    """A detector of nobody's kind: no backbone, pixel_mean or preprocess_image; its neck returns a tuple."""

    def __init__(self, width=6):
        super().__init__()
        self.neck = NeckWithTuple(width)
        self.classifier = nn.Linear(width, 7)
        self.unused = nn.Linear(1, 1)

    def forward(self, records):
        fine, _ = self.neck(torch.stack([record["image"] for record in records]).float() / 255)
        logits = self.classifier(fine.mean((2, 3)))
        return {"loss_toy": logits.square().mean()} if self.training else logits


class Tokens(nn.Module):
    """A model around a ViT of timm's."""

    def __init__(self):
        super().__init__()
        options = dict(img_size=64, patch_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=3)
        self.backbone = timm.models.VisionTransformer(**options, dynamic_img_size=True)

    def forward(self, records):
        return self.backbone(torch.stack([record["image"] for record in records]).float() / 255)


def shapes(source):
    return {level: (shape.channels, shape.stride) for level, shape in source.output_shape().items()}


def test_entries_of_the_backbone_are_declared_and_cost_no_pass():
    model = detector("retinanet")
    model.backbone.register_forward_hook(lambda *_: pytest.fail("it ran"))
    assert shapes(FeatureSource(model, ["p3", "p5"])) == {"p3": (64, 8), "p5": (64, 32)}


def test_a_toy_detector_of_nobodys_kind():
    model = ToyDetector().train()
    source = FeatureSource(model, ["neck:0", "neck:1:coarse:0", "classifier"])
    assert shapes(source) == {"neck:0": (6, 4), "neck:1:coarse:0": (5, 8), "classifier": (7, None)}
    assert model.training and model.neck.training
    features = source.compute(batch(size=64))
    assert features["neck:0"].shape == (2, 6, 16, 16) and features["classifier"].shape == (2, 7)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_toy_detector_teaches_another():
    head = CanKDHead(levels=["neck:0", "neck:1:coarse:0"], pool_size=1)
    model = Distiller(student=ToyDetector(4), teacher=Teacher(model=ToyDetector(8), weights=None), head=head).train()
    with EventStorage():
        losses = model(batch())
    assert losses.keys() == {"loss_toy", "loss_cankd_neck:0", "loss_cankd_neck:1:coarse:0"}
    sum(losses.values()).backward()
    assert model.student.neck.convs[1].weight.grad.any() and head.adapters["neck:0"].weight.grad.any()


class LogitsHead(DistillationHead):
    name = "mse"
    adapts_channels = False

    def compare(self, level, student, teacher, context):
        assert context.strides == {level: None} or context.strides == {level: 4}
        return (student - teacher).square().mean()


def test_logits_of_a_classifier_and_of_semantic_fpn():
    model = Distiller(
        student=ToyDetector(4),
        teacher=Teacher(model=ToyDetector(8), weights=None),
        head=LogitsHead(levels=["classifier"]),
    ).train()
    assert model.pairs[0].adapter == "none"
    with EventStorage():
        assert model(batch())["loss_mse_classifier"] > 0

    level = "sem_seg_head.predictor"
    teacher = Teacher(model=detector("semantic_fpn", width=24), weights=None)
    model = Distiller(student=detector("semantic_fpn"), teacher=teacher, head=LogitsHead(levels=[level])).train()
    assert [(pair.teacher, pair.student_stride, pair.teacher_channels) for pair in model.pairs] == [(level, 4, 11)]
    with EventStorage():
        losses = model(batch())
    assert losses[f"loss_mse_{level}"] > 0


@pytest.mark.parametrize("square_pad, size", [(0, 6), (512, 32)])
def test_blocks_of_detectron2s_vit(square_pad, size):
    """Their channels come last, and in ViTDet the padded image may be of one size for all."""
    model = detector("retinanet").eval()
    vit = ViT(img_size=64, embed_dim=48, depth=2, num_heads=2, use_rel_pos=False, out_feature="last")
    model.backbone = SimpleFeaturePyramid(
        vit, "last", 64, scale_factors=[2.0, 1.0, 0.5], norm="LN", square_pad=square_pad
    ).eval()
    level = "backbone.net.blocks.0"
    source = FeatureSource(model, [level, "p3"])
    assert shapes(source) == {level: (48, 16), "p3": (64, 8)}
    blocks = []
    vit.blocks[0].register_forward_hook(lambda module, inputs, output: blocks.append(output))
    feature = source.compute(batch(size=96))[level]
    assert feature.shape == (2, 48, size, size) and torch.equal(feature, blocks[0].permute(0, 3, 1, 2))


def test_tokens_of_timms_vit_become_a_map():
    source = FeatureSource(model := Tokens().eval(), ["backbone.blocks.1"])
    assert shapes(source) == {"backbone.blocks.1": (32, 16)}
    tokens = []
    model.backbone.blocks[1].register_forward_hook(lambda module, inputs, output: tokens.append(output))
    records = [{"image": torch.randint(256, (3, 64, 96))} for _ in range(2)]
    feature = source.compute(records)["backbone.blocks.1"]
    assert feature.shape == (2, 32, 4, 6)
    assert torch.equal(feature[:, :, 1, 2], tokens[0][:, 1 + 1 * 6 + 2])  # behind the class token


@pytest.mark.parametrize(
    "kind, level, message",
    [
        ("retinanet", "p9", r"has no level 'p9': it is no output of its backbone \(p3, p4, p5\) and no sub-module"),
        ("retinanet", "haed.cls_score", "has no level 'haed.cls_score'.* of RetinaNet. Near it are head.cls_score"),
        ("retinanet", "head.cls_score", "'head.cls_score' runs several times .*as head:0:2 for"),
        ("retinanet", "head", "the model's level 'head' is no feature but a tuple: name the entry .* 'head:0'"),
        ("retinanet", "head:0:7", "no entry '7' in what head returns, a list of 3"),
        ("faster_rcnn", "roi_heads.box_predictor:0", "'roi_heads.box_predictor:0' depends on proposals"),
        ("toy", "unused", "the model's level 'unused' does not run"),
    ],
)
def test_refuses_by_name(kind, level, message):
    model = ToyDetector() if kind == "toy" else detector(kind)
    with pytest.raises(ValueError, match=message):
        FeatureSource(model, [level])


def test_a_model_that_fails_on_blank_images_is_said():
    class Picky(ToyDetector):
        def forward(self, records):
            return super().forward([{"image": record["views"]} for record in records])

    with pytest.raises(
        ValueError, match="'neck:0' cannot be measured: .* fails on two blank images with KeyError: 'vi"
    ):
        FeatureSource(Picky(), ["neck:0"])


def test_a_levels_third_logits_of_a_retinanet():
    model = detector("retinanet").eval()
    source = FeatureSource(model, ["head:0:2"])
    assert shapes(source) == {"head:0:2": (90, 32)}  # 9 anchors of 10 classes


def test_measuring_changes_neither_statistics_nor_random_numbers():
    model = detector("semantic_fpn").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    FeatureSource(model, ["sem_seg_head.predictor"])
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_follows_in_place_does_not_change_a_level():
    model = detector("retinanet").eval()
    level = "backbone.bottom_up.res3.0.conv2"  # the block adds the shortcut to it, and takes ReLU, in place
    source = FeatureSource(model, [level])
    with source.record() as features:
        model(batch())
    assert features[level].min() < 0
    torch.testing.assert_close(features[level], source.compute(batch())[level])


def test_a_level_stays_in_the_graph_also_where_two_record_it():
    model = detector("retinanet").train()
    sources = [FeatureSource(model, ["backbone.bottom_up.res3.0.conv2"]) for _ in range(2)]
    with EventStorage(), sources[0].record() as outer, sources[1].record() as inner:
        loss = sum(model(batch()).values())
    (outer,), (inner,) = outer.values(), inner.values()
    for value, feature in ((loss, outer), (loss, inner), (inner.sum(), outer)):
        assert torch.autograd.grad(value, feature, retain_graph=True)[0].abs().sum() > 0


def test_a_level_that_only_evaluation_has_is_refused_in_training():
    model = detector("semantic_fpn").train()
    source = FeatureSource(model, ["sem_seg_head:0"])
    with pytest.raises(ValueError, match="'sem_seg_head:0', a tensor when the model is evaluated, is none when it"):
        with source.record():
            model(batch())


def test_records_only_while_the_context_lasts():
    model = detector("retinanet").eval()
    source = FeatureSource(model, ["p3", "p4"])
    with source.record() as features:
        model(batch())
        expected = dict(features)
        assert expected.keys() == {"p3", "p4"}
    model(batch(seed=1))
    assert all(features[level] is expected[level] for level in expected)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "positions, stride",
    [
        ([(16, 32), (32, 48)], 8),
        ([(21, 42), (42, 64)], 6),  # a convolution of 6×6, without padding
        ([(2, 5), (5, 8)], None),  # 43 and 48 would do
        ([(7, 7), (7, 7)], None),
        ([(42, 64), (32, 48)], None),  # a map that shrinks as the image grows
    ],
)
def test_strides_are_measured_where_they_are_plain(positions, stride):
    sides = [(a, b, m, n) for a, b, m, n in zip(*BLANK_SIZES, *positions)]
    assert _common_stride(sides) == stride

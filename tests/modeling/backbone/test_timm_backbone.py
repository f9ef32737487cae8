import pytest
import torch
from cankd.modeling import FeatureSource, Teacher
from cankd.modeling.backbone import TimmBackbone
from cankd.modeling.meta_arch import Classifier
from detectron2.modeling.backbone import FPN

timm = pytest.importorskip("timm", reason="the backbones are timm's")

NETWORK = "test_efficientnet"  # as EfficientNet-Lite: a convolution between the last stage and the classifier


def test_stages_are_named_by_their_strides():
    backbone = TimmBackbone(name=NETWORK, out_features=["res5", "res2", "pooled"]).eval()
    shapes = {name: (shape.channels, shape.stride) for name, shape in backbone.output_shape().items()}
    assert shapes == {"res2": (24, 4), "res5": (64, 32), "pooled": (256, None)}
    features = backbone(torch.rand(2, 3, 64, 96))
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        "res2": (2, 24, 16, 24),
        "res5": (2, 64, 2, 3),
        "pooled": (2, 256),
    }


def test_mobilenet_v1_is_the_published_one():
    backbone = TimmBackbone(name="mobilenetv1_100", out_features=["res5"])
    assert backbone.output_shape()["res5"].channels == 1024
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 3206976  # 13 separable blocks


@pytest.mark.parametrize("name, options", [(NETWORK, {}), ("test_vit", {"dynamic_img_size": True}), ("dla46_c", {})])
def test_a_checkpoint_makes_the_classifier_that_timm_has(name, options, tmp_path):
    """Whatever lies between the last stage and the linear layer, which may be a convolution: another one, a token."""
    network = timm.create_model(name, num_classes=7, **options).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = TimmBackbone(
        name=name, out_features=["pooled"], checkpoint=str(tmp_path / "weights.pth"), num_classes=7, **options
    )
    model = classifier(backbone, 7)
    image = torch.randint(256, (3, 64, 96), dtype=torch.uint8)
    output = model([{"image": image}])[0]
    expected = network((image[None] - 100.0) / 50).softmax(1)[0]
    torch.testing.assert_close(output["scores"], expected.sort(descending=True)[0])
    assert output["classes"][0] == expected.argmax()
    assert classifier(backbone, 5)([{"image": image}])[0]["scores"].shape == (5,)  # other classes: one of its own


def test_a_classifier_that_is_not_taken_over_is_said(tmp_path, caplog):
    name = "deit_tiny_distilled_patch16_224"  # two linear layers
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    classifier(TimmBackbone(name=name, out_features=["pooled"], checkpoint=str(tmp_path / "weights.pth")), 1000)
    assert "the linear layer behind it starts from random weights" in caplog.text


@pytest.mark.parametrize("mean, said", [(100.0, False), (123.7, True)])
def test_another_normalisation_than_that_of_the_weights_is_said(mean, said, caplog):
    backbone = TimmBackbone(name=NETWORK, out_features=["pooled"])
    backbone.pretrained_normalization = {"pixel_mean": [mean] * 3, "pixel_std": [50.0] * 3}
    classifier(backbone, 3)
    expected = "was pre-trained on RGB images with pixel_mean=[123.7, 123.7, 123.7], pixel_std="
    assert (expected in caplog.text) == said


def test_timms_own_weights_say_their_normalisation(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **rest: create(name, **rest))
    backbone = TimmBackbone(name="mobilenetv1_100", pretrained=True)
    assert backbone.pretrained_normalization == {"pixel_mean": [127.5] * 3, "pixel_std": [127.5] * 3}
    assert TimmBackbone(name="mobilenetv1_100").pretrained_normalization == {}


def classifier(backbone, num_classes):
    normalisation = dict(pixel_mean=[100.0] * 3, pixel_std=[50.0] * 3)
    return Classifier(backbone=backbone, in_feature="pooled", num_classes=num_classes, **normalisation).eval()


def test_blocks_of_a_vision_transformer_are_levels():
    backbone = TimmBackbone(name="test_vit", out_features=["block1", "block5", "pooled"], dynamic_img_size=True)
    assert backbone.output_shape()["block5"].stride == backbone.size_divisibility == 16
    source = FeatureSource(classifier(backbone, 3), ["block1", "classifier"])
    features = source.compute([{"image": torch.zeros(3, 50, 64, dtype=torch.uint8)}])
    assert features["block1"].shape == (1, 64, 4, 4) and features["classifier"].shape == (1, 3)


def test_a_teacher_has_the_features_of_its_network():
    model = classifier(TimmBackbone(name=NETWORK, out_features=["res5", "pooled"]), 3)
    records = [{"image": torch.randint(256, (3, 64, 64), dtype=torch.uint8)}]
    with torch.no_grad():
        expected = model.backbone(model.preprocess_image(records).tensor)
    teacher = Teacher(model=model, weights=None)
    teacher.choose_levels(["res5", "classifier"])
    features = teacher(records, "RGB")
    torch.testing.assert_close(features["res5"], expected["res5"])
    torch.testing.assert_close(features["classifier"], model.classifier(expected["pooled"]))


def test_below_an_fpn_every_parameter_is_trained():
    bottom_up = TimmBackbone(name=NETWORK, out_features=["res3", "res4", "res5"])
    fpn = FPN(bottom_up=bottom_up, in_features=["res3", "res4", "res5"], out_channels=8)
    features = fpn(torch.rand(2, 3, 64, 64))
    assert [tuple(features[level].shape[2:]) for level in ("p3", "p4", "p5")] == [(8, 8), (4, 4), (2, 2)]
    sum(feature.square().mean() for feature in features.values()).backward()
    assert all(parameter.grad is not None for parameter in fpn.parameters())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(name="mobilenetv1_10"), "timm has no network 'mobilenetv1_10'; near it are mobilenetv1_100"),
        (dict(name="xyz"), "timm has no network 'xyz'; timm.list_models"),
        (dict(name=NETWORK, out_features=["res6"]), r"out_features has \['res6'\]; .* has res1, .* res5, pooled"),
        (dict(name=NETWORK, pretrained=True, depth=3), f"timm cannot build {NETWORK} with pretrained weights: .*depth"),
        (dict(name=NETWORK, checkpoint="absent.pth"), f"there is no checkpoint absent.pth for {NETWORK}"),
    ],
)
def test_refuses_what_timm_does_not_have(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**arguments)


def test_refuses_a_checkpoint_of_another_network(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"cannot build .* with the weights .*weights.pth: .*Missing key"):
        TimmBackbone(name=NETWORK, checkpoint=str(tmp_path / "weights.pth"))


def test_refuses_a_network_without_feature_maps(monkeypatch):
    network = timm.create_model(NETWORK)
    network.feature_info = None
    monkeypatch.setattr(timm, "create_model", lambda name, **_: network)
    with pytest.raises(ValueError, match=f"{NETWORK} gives no feature maps of its stages"):
        TimmBackbone(name=NETWORK)


def test_says_that_timm_is_absent(monkeypatch):
    def import_module(name, *args):
        if name == "timm":
            raise ImportError(name)
        return original(name, *args)

    original = __import__
    monkeypatch.setattr("builtins.__import__", import_module)
    with pytest.raises(ValueError, match=r"timm, which is not installed: pip install 'cankd\[classification\]'"):
        TimmBackbone(name=NETWORK)

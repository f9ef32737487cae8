import pytest
import torch
from cankd.modeling.backbone import MobileNetV1
from cankd.utils import UserError


def test_it_is_the_published_network():
    """With timm's weights, which come in the same order, it computes timm's features."""
    timm = pytest.importorskip("timm", reason="timm has the network to compare with")
    network = timm.create_model("mobilenetv1_100", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    backbone = MobileNetV1(out_features=["res2", "res3", "res4", "res5"]).eval()
    backbone.load_state_dict(dict(zip(backbone.state_dict(), network.state_dict().values(), strict=True)))
    image = torch.rand(2, 3, 64, 96)
    for found, expected in zip(backbone(image).values(), network(image), strict=True):
        torch.testing.assert_close(found, expected)


def test_levels_of_a_thin_one():
    backbone = MobileNetV1(out_features=["res4", "res1"], width_mult=0.25)
    shapes = {name: (shape.channels, shape.stride) for name, shape in backbone.output_shape().items()}
    assert shapes == {"res1": (16, 2), "res4": (128, 16)}
    features = backbone(torch.rand(1, 3, 64, 96))
    assert {name: tuple(x.shape) for name, x in features.items()} == {"res1": (1, 16, 32, 48), "res4": (1, 128, 4, 6)}
    assert "res5" not in backbone.levels  # nothing is computed that nobody asked for


@pytest.mark.parametrize("out_features", [[], ["res6"]])
def test_an_unknown_level_is_refused(out_features):
    with pytest.raises(UserError, match="name some of res1, res2"):
        MobileNetV1(out_features=out_features)

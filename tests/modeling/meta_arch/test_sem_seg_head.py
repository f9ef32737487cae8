import math

import pytest
import torch
import torch.nn.functional as F
from cankd.modeling.meta_arch import PyramidPooling, SemSegHead
from torch import nn


def head(**arguments):
    arguments = {"in_feature": "res5", "context": nn.Identity(), "context_channels": 4, "num_classes": 3, **arguments}
    return SemSegHead(stride=2, dropout=0.0, **arguments)


def test_scores_have_the_size_of_the_image():
    scores, losses = head().eval()({"res5": torch.randn(2, 4, 3, 5)})
    assert scores.shape == (2, 3, 6, 10) and losses == {}


def test_loss_by_hand():
    module = head(loss_weight=2.0)
    nn.init.zeros_(module.predictor.weight)
    nn.init.zeros_(module.predictor.bias)
    targets = torch.tensor([[[0, 255], [255, 255]]])
    none, losses = module({"res5": torch.randn(1, 4, 1, 1)}, targets)
    assert none is None and losses["loss_sem_seg"].item() == pytest.approx(2 * math.log(3))
    with torch.no_grad():
        module.predictor.bias.copy_(torch.tensor([0.0, 50, 0]))
    targets[0, 1] = 1  # two of the three labels are right
    assert module({"res5": torch.zeros(1, 4, 1, 1)}, targets)[1]["loss_sem_seg"].item() == pytest.approx(2 * 50 / 3)


@pytest.mark.parametrize("channels", (16, 512))
def test_first_scores_do_not_shrink_with_the_width(channels):
    """With weights of 0.01, as published for 512 channels, a narrow PSPNet calls every pixel background for ever."""
    module = head(context_channels=channels, num_classes=100)
    assert 0.4 < module.predictor(torch.randn(1, channels, 50, 50)).std() < 0.8


def test_auxiliary_head_counts_in_training_only():
    auxiliary = head(in_feature="res4", loss_name="loss_auxiliary", loss_weight=0.4)
    module = head(auxiliary=auxiliary)
    features = {"res4": torch.randn(1, 4, 2, 2), "res5": torch.randn(1, 4, 2, 2)}
    losses = module(features, torch.zeros(1, 4, 4, dtype=torch.int64))[1]
    assert losses.keys() == {"loss_sem_seg", "loss_auxiliary"}
    auxiliary.register_forward_hook(lambda *_: pytest.fail("it ran"))
    module.eval()(features)


def test_label_to_ignore_may_not_be_a_class():
    with pytest.raises(ValueError, match="ignore_value is 2, which is one of the 3 classes: use 255"):
        head(ignore_value=2)


def test_batch_that_is_wholly_ignored_has_no_loss():
    loss = head()({"res5": torch.randn(1, 4, 1, 1)}, torch.full((1, 2, 2), 255))[1]["loss_sem_seg"]
    assert loss == 0


def test_pyramid_pooling_by_hand():
    """With convolutions that pass on their input, it is the map beside its poolings."""
    module = PyramidPooling(1, 1, sizes=(1, 2), norm="")
    for branch in module.branches:
        nn.init.ones_(branch[1].weight)
        nn.init.zeros_(branch[1].bias)
    assert module.bottleneck.weight.shape == (1, 3, 3, 3)
    nn.init.zeros_(module.bottleneck.bias)
    feature = torch.rand(1, 1, 4, 6)
    whole = feature.mean()
    halves = F.interpolate(F.adaptive_avg_pool2d(feature, 2), size=(4, 6), mode="bilinear")
    for index, expected in enumerate((feature, whole.expand_as(feature), halves)):
        with torch.no_grad():
            module.bottleneck.weight.zero_()
            module.bottleneck.weight[0, index, 1, 1] = 1
        torch.testing.assert_close(module(feature), expected)

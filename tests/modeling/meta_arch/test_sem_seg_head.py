import math

import pytest
import torch
from cankd.modeling.meta_arch import SemSegHead
from torch import nn


def head(**arguments):
    arguments = {"in_feature": "res5", "context": nn.Identity(), "context_channels": 4, "num_classes": 3, **arguments}
    return SemSegHead(stride=2, dropout=0.0, **arguments)


def test_scores_have_the_size_of_the_image():
    scores, losses = head().eval()({"res5": torch.randn(2, 4, 3, 5)})
    assert scores.shape == (2, 3, 6, 10) and losses == {}


@pytest.mark.parametrize("average_labelled, share", [(False, 3 / 4), (True, 1)])
def test_loss_by_hand(average_labelled, share):
    """One pixel of four is to be ignored; the mean is over all four, or over three."""
    module = head(loss_weight=2.0, average_labelled=average_labelled)
    nn.init.zeros_(module.predictor.weight)
    nn.init.zeros_(module.predictor.bias)
    targets = torch.tensor([[[0, 255], [1, 1]]])
    none, losses = module({"res5": torch.randn(1, 4, 1, 1)}, targets)
    assert none is None and losses["loss_sem_seg"].item() == pytest.approx(2 * math.log(3) * share)
    with torch.no_grad():
        module.predictor.bias.copy_(torch.tensor([0.0, 50, 0]))  # two of the three labels are right
    loss = module({"res5": torch.zeros(1, 4, 1, 1)}, targets)[1]["loss_sem_seg"]
    assert loss.item() == pytest.approx(2 * 50 / 3 * share)


@pytest.mark.parametrize("channels", (16, 512))
def test_first_scores_do_not_shrink_with_the_width(channels):
    """With the published start a narrow PSPNet calls every pixel background for ever."""
    module = head(context_channels=channels, num_classes=100, published_start=False)
    assert 0.4 < module.predictor(torch.randn(1, channels, 50, 50)).std() < 0.8


def test_published_start_reaches_the_context():
    context = nn.Conv2d(64, 64, kernel_size=3)
    before = context.weight.detach().clone()
    head(context=context, context_channels=64, published_start=False)
    assert torch.equal(context.weight, before)
    module = head(context=context, context_channels=64, num_classes=100)
    assert context.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.03)
    assert module.predictor.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not context.bias.any() and not module.predictor.bias.any()


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


@pytest.mark.parametrize("average_labelled", [False, True])
def test_batch_that_is_wholly_ignored_has_no_loss(average_labelled):
    loss = head(average_labelled=average_labelled)({"res5": torch.randn(1, 4, 1, 1)}, torch.full((1, 2, 2), 255))[1][
        "loss_sem_seg"
    ]
    assert loss == 0


def test_an_auxiliary_loss_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="both losses are named 'loss_sem_seg'"):
        head(auxiliary=head())
    losses = head(auxiliary=head(loss_name="loss_auxiliary"))(
        {"res5": torch.randn(1, 4, 2, 2)}, torch.ones(1, 4, 4, dtype=torch.int64)
    )[1]
    assert losses.keys() == {"loss_sem_seg", "loss_auxiliary"}


def test_images_need_be_no_multiple_of_the_stride():
    feature, targets = torch.randn(1, 4, 2, 3), torch.ones(1, 4, 6, dtype=torch.int64)
    module = head()
    whole = module({"res5": feature}, torch.nn.functional.pad(targets[:, :3, :5], (0, 1, 0, 1), value=255))
    module.average_labelled = True
    expected = module({"res5": feature}, torch.nn.functional.pad(targets[:, :3, :5], (0, 1, 0, 1), value=255))[1]
    torch.testing.assert_close(module({"res5": feature}, targets[:, :3, :5])[1], expected)
    assert whole[0] is None

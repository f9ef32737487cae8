"""Gradients that are infinite or NaN although the loss is finite."""

import pytest
import torch
from cankd.engine import DistillationTrainer, GradientClipping
from cankd.utils import NonFiniteError
from torch import nn


class Root(nn.Module):
    """Its loss is finite; its gradient with respect to ``broken`` is infinite where the image is black."""

    def __init__(self):
        super().__init__()
        self.sound = nn.Parameter(torch.ones(2))
        self.broken = nn.Parameter(torch.zeros(2))

    def forward(self, batched_inputs):
        image = torch.stack([record["image"] for record in batched_inputs]).mean()
        return {"loss": (self.broken + image).sqrt().sum() + self.sound.sum() * image}


def trainer(images, clip=None, **options):
    model = Root()
    batches = [[{"image": torch.tensor(value), "image_id": i}] for i, value in enumerate(images)]
    trainer = DistillationTrainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.1), **options)
    trainer.register_hooks([GradientClipping(clip)] if clip else [])
    return model, trainer


@pytest.mark.parametrize("clip", [None, 1.0])
def test_no_step_is_taken_and_the_image_named(clip):
    model, training = trainer([4.0, 0.0], clip)
    with pytest.raises(NonFiniteError, match=r"the gradient of broken became .* at iteration 1 \(images \[1\]; loss="):
        model.broken.data.zero_()  # a first step that leaves it where the gradient is infinite
        training.optimizer.param_groups[0]["lr"] = 0.0
        training.train(0, 2)
    torch.testing.assert_close(model.sound.data, torch.ones(2))
    assert not model.sound.grad.isnan().any() and model.broken.grad.isinf().all()


def test_a_sum_of_squares_that_overflows_is_no_infinite_gradient():
    model, training = trainer([1e30])
    training.optimizer.param_groups[0]["lr"] = 1e-31
    training.train(0, 1)
    torch.testing.assert_close(model.sound.data, torch.full((2,), 0.9))


def test_float16_lowers_its_scale_and_gives_up_in_the_end():
    model, training = trainer([0.0] * 100, clip=1.0, precision=torch.float16)
    with pytest.raises(NonFiniteError, match="the gradients are infinite or NaN in float16 at whatever scale"):
        training.train(0, 100)
    assert training.iter == 40  # from 2^16 to 2^-25
    torch.testing.assert_close(model.sound.data, torch.ones(2))

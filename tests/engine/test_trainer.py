import pytest
import torch
from cankd.engine import DistillationTrainer, GradientClipping
from cankd.engine.trainer import EndOfTraining
from detectron2.engine import HookBase
from torch import nn


class Regressor(nn.Module):
    """A model without norms whose losses are means over images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 2)

    def forward(self, records):
        outputs = self.layer(torch.stack([record["image"] for record in records]))
        return {"loss_one": outputs.square().mean(), "loss_two": (outputs[:, 0] - 1).abs().mean()}


def batches(steps, images=6):
    generator = torch.Generator().manual_seed(1)
    return [
        [{"image": torch.randn(4, generator=generator), "image_id": i} for i in range(images)] for _ in range(steps)
    ]


def train(accumulate, *, precision=None, extra_hooks=(), images=6):
    model = Regressor()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = DistillationTrainer(model, batches(3, images), optimizer, precision=precision, accumulate=accumulate)
    if precision == torch.float16:
        trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=256.0)  # the usual one has to be found first
    gradients, losses = [], []

    class Record(HookBase):
        def after_backward(self):
            gradients.append(model.layer.weight.grad.clone())

        def after_step(self):
            losses.append({k: v.latest() for k, v in self.trainer.storage.histories().items() if "loss" in k})

    trainer.register_hooks([*extra_hooks, Record()])
    trainer.train(0, 3)
    return gradients, losses


@pytest.mark.parametrize("precision", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("accumulate, images", [(3, 6), (4, 6), (8, 3)])
def test_parts_of_a_batch_give_its_gradients_and_losses(precision, accumulate, images):
    whole, parts = (
        train(n, precision=precision, images=images, extra_hooks=[GradientClipping(0.5)]) for n in (1, accumulate)
    )
    tolerance = 1e-6 if precision is None else 0.02
    for expected, found in zip(whole[0], parts[0]):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        assert found.norm() <= 0.5 + 1e-6
    for expected, found in zip(whole[1], parts[1]):
        assert found.keys() == expected.keys() == {"loss_one", "loss_two", "total_loss"}
        assert list(found.values()) == pytest.approx(list(expected.values()), rel=tolerance)


def test_a_hook_ends_training_in_order(caplog):
    class End(HookBase):
        def after_step(self):
            if self.trainer.iter == 1:
                raise EndOfTraining

    class Note(HookBase):
        def after_train(self):
            self.iteration = self.trainer.iter

    note = Note()
    gradients, _ = train(1, extra_hooks=[note, End()])
    assert len(gradients) == 2 and note.iteration == 1
    assert "Exception" not in caplog.text


def test_a_single_loss_is_taken_and_what_is_none_is_named():
    class Single(nn.Linear):
        def forward(self, data):
            return self.weight.square().sum() if data else None

    model = Single(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.item()
    trainer = DistillationTrainer(model, [[{}]], optimizer)
    trainer.train(0, 1)
    assert model.weight.item() == pytest.approx(0.8 * before)
    with pytest.raises(ValueError, match="the model gives a NoneType in training; it has to give a dict of losses"):
        DistillationTrainer(model, [[]], optimizer).train(0, 1)

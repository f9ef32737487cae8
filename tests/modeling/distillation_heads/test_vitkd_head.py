import numpy as np
import pytest
import timm
import torch
from cankd.modeling import Distiller, Teacher
from cankd.modeling.distillation_heads.vitkd_head import ViTKDHead
from detectron2.utils.events import EventStorage
from torch import nn

from tests.references import reference
from tests.tiny import batch

LEVELS = ("backbone.blocks.0", "backbone.blocks.1", "backbone.norm")
PUBLISHED_NAMES = {f"adapters.{level.replace('.', '/')}": f"shallow_adapter_{i}" for i, level in enumerate(LEVELS[:2])}
PUBLISHED_NAMES |= {f"adapters.{LEVELS[2].replace('.', '/')}": "deep_adapter", "masked_generator": "generator"}


def published_parameters(head):
    """Returns the head's parameters as the published parts are called."""
    parameters = {}
    for name, parameter in head.named_parameters():
        ours = next((prefix for prefix in PUBLISHED_NAMES if name.startswith(prefix)), name)
        parameters[name.replace(ours, PUBLISHED_NAMES.get(ours, ours))] = parameter
    return parameters


def to_maps(shallow, deep):
    """Brings tokens, those of all shallow levels in one tensor and the deep ones, to maps by level."""
    tokens = dict(zip(LEVELS, [*shallow.unbind(1), deep]))
    return {level: x.mT.unflatten(2, (int(x.shape[1] ** 0.5), -1)) for level, x in tokens.items()}


@pytest.mark.parametrize("name", ["vitkd", "vitkd_same_width"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["float64", "float32"])
def test_equals_the_reference(name, dtype, tolerance, monkeypatch):
    """The published implementation's values."""
    data = {k: torch.as_tensor(v) for k, v in np.load(reference(f"{name}.npz")).items()}
    head = ViTKDHead(
        levels=LEVELS,
        in_channels=data["teacher_deep"].shape[2],
        student_channels=data["student_deep"].shape[2],
        weight_shallow=data["weight_shallow"].item(),
        weight_deep=data["weight_deep"].item(),
        masked_fraction=data["masked_fraction"].item(),
    ).to(dtype)
    monkeypatch.setattr(head, "draw_uniform", lambda like: data["uniform"])
    parameters = published_parameters(head)
    assert parameters.keys() == {k.removeprefix("param.") for k in data if k.startswith("param.")}
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(data[f"param.{key}"].reshape(parameter.shape))

    students = [data[f"student_{part}"].to(dtype).requires_grad_() for part in ("shallow", "deep")]
    teachers = [data[f"teacher_{part}"].to(dtype) for part in ("shallow", "deep")]
    masked = head._draw_mask(LEVELS[2], to_maps(*students)[LEVELS[2]])
    assert torch.equal(masked.flatten(1).double(), data["mask"])
    loss = sum(head(to_maps(*students), to_maps(*teachers)).values())
    loss.backward()

    torch.testing.assert_close(loss.double(), data["loss"], rtol=tolerance, atol=0)
    pairs = {k: (p.grad, data[f"grad.{k}"]) for k, p in parameters.items()}
    pairs |= {f"student_{i}": (s.grad, data[f"grad_student_{i}"]) for i, s in zip(("shallow", "deep"), students)}
    for key, (found, expected) in pairs.items():
        bound = tolerance * expected.abs().max().item()
        found = found.reshape(expected.shape).double()
        torch.testing.assert_close(found, expected, rtol=0, atol=bound, msg=lambda m: f"{key}: {m}")


def test_starts_as_published():
    head = ViTKDHead(levels=LEVELS, in_channels=24, student_channels=16)
    assert not head.mask_token.any()
    layers = [*head.adapters.values(), head.masked_generator.conv1, head.masked_generator.conv2]
    assert len(layers) == 5
    for layer in layers:
        bound = layer.weight[0].numel() ** -0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound and 0 < layer.bias.abs().max() <= bound
    assert (head.weight, head.weight_shallow, head.weight_deep, head.masked_fraction) == (1.0, 3e-5, 3e-6, 0.5)


def test_masks_a_share_of_each_images_tokens():
    head, feature = ViTKDHead(levels=LEVELS, masked_fraction=0.3), torch.randn(4, 3, 5, 7)
    before = torch.get_rng_state()
    first, second = (head._draw_mask("deep", feature) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert first.shape == (4, 1, 5, 7) and (first.flatten(1).sum(1) == 35 - int(0.7 * 35)).all()
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    again = ViTKDHead(levels=LEVELS, masked_fraction=0.3)
    assert torch.equal(first, again._draw_mask("deep", feature))


def test_one_level_alone_is_deep():
    head = ViTKDHead(levels=["norm"], in_channels=3, weight=2.0, weight_deep=0.5, masked_fraction=0.25)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    teacher = torch.ones(2, 3, 4, 4)
    # 4 of 16 tokens are compared, with nothing: 3 channels of 1 each, over a share of 1/4.
    assert head({"norm": torch.randn(2, 3, 4, 4)}, {"norm": teacher})["loss_vitkd_norm"].item() == 2 * 0.5 * 4 * 3 * 4


class Classifier(nn.Module):
    """A ViT of timm's that takes records."""

    def __init__(self, width, depth):
        super().__init__()
        options = dict(img_size=64, patch_size=16, embed_dim=width, depth=depth, num_heads=2, num_classes=3)
        self.backbone = timm.models.VisionTransformer(**options, dynamic_img_size=True)

    def forward(self, records):
        logits = self.backbone(torch.stack([record["image"] for record in records]).float() / 255)
        return {"loss_cls": logits.square().mean()} if self.training else logits


def test_trains_beside_a_vit():
    head = ViTKDHead(levels=LEVELS)
    teacher = Teacher(model=Classifier(24, depth=4), weights=None)
    model = Distiller(student=Classifier(16, depth=3), teacher=teacher, head=head).train()
    with EventStorage():
        losses = model(batch(size=64))
    assert losses.keys() == {"loss_cls", *(f"loss_vitkd_{level}" for level in LEVELS)} == {"loss_cls", *head.loss_names}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    assert model.student.backbone.blocks[0].mlp.fc1.weight.grad.any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"masked_fraction": 0.0}, "masked_fraction is 0.0; it has to be between 0 and 1"),
        ({"masked_fraction": 1.0}, "masked_fraction is 1.0"),
        ({"weight_shallow": -1.0}, "weight_shallow=-1.0 and weight_deep=.* have to be 0 or more"),
        ({"weight_deep": float("nan")}, "weight_deep=nan have to be 0 or more"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViTKDHead(levels=["norm"], in_channels=4, **arguments)


@pytest.mark.parametrize(
    "size, message",
    [
        ((2, 4), "level 'norm' is no map of positions, which vitkd compares: use KDHead for it"),
        ((2, 4, 1, 1), "level 'norm' is 1×1, and masked_fraction=0.5 leaves no token: train on larger images"),
    ],
)
def test_refuses_features(size, message):
    head = ViTKDHead(levels=["norm"], in_channels=4)
    with pytest.raises(ValueError, match=message):
        head({"norm": torch.randn(size)}, {"norm": torch.randn(size)})

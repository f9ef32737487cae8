import numpy as np
import pytest
import torch
from cankd.modeling import Distiller, Teacher
from cankd.modeling.distillation_heads.bottleneck import Bottleneck
from cankd.modeling.distillation_heads.denoiser import Denoiser
from cankd.modeling.distillation_heads.diffkd_head import DiffKDHead
from cankd.modeling.levels import LevelPair
from detectron2.utils.events import EventStorage
from torch import nn

from tests.references import reference
from tests.tiny import batch, distiller


def published_name(name, logits):
    """Our parameter's name as the published parts are called."""
    name = name.replace(".p3.", ".").replace(".layers.", ".").replace("decoder.", "decoder.conv.")
    return name.replace("noise_adapter.block.", "noise_adapter.") if logits else name


def reference_case(name, dtype):
    """Returns a case's values, its head with the published parameters, and its parameters by published name."""
    data = {k: torch.as_tensor(v) for k, v in np.load(reference(f"{name}.npz")).items()}
    logits = "param.denoiser.block1.conv1.weight" not in data
    encoder = data.get("param.encoder.conv.weight")
    head = DiffKDHead(
        levels=["p3"],
        in_channels=data["teacher"].shape[1],
        student_channels=data["student"].shape[1],
        latent_channels=None if encoder is None else len(encoder),
        logits=logits,
        steps=data["steps"].item(),
    ).to(dtype)
    parameters = {published_name(k, logits): p for k, p in head.named_parameters()}
    assert parameters.keys() == {k.removeprefix("param.") for k in data if k.startswith("param.")}
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(data[f"param.{key}"])
    return data, head, parameters


@pytest.mark.parametrize("name", ["diffkd", "diffkd_logits"])
@pytest.mark.parametrize(
    "dtype, tolerance, rounding",
    [(torch.float64, 1e-9, 1e-12), (torch.float32, 1e-4, 5e-6)],
    ids=["float64", "float32"],
)
def test_equals_the_reference(name, dtype, tolerance, rounding, monkeypatch):
    """The published implementation's values."""
    data, head, parameters = reference_case(name, dtype)
    draws = iter([data["noise_adapter_draw"], data["noise_training_draw"]])
    monkeypatch.setattr(head, "draw_noise", lambda like: next(draws).to(like))
    monkeypatch.setattr(head, "draw_timesteps", lambda like: data["timestep"])
    shape = (lambda x: x.flatten(1)) if head.logits else (lambda x: x)

    student = data["student"].to(dtype).requires_grad_()
    losses = head({"p3": shape(student)}, {"p3": shape(data["teacher"].to(dtype))})
    loss = sum(losses.values())
    loss.backward()

    torch.testing.assert_close(loss.double(), data["loss"], rtol=tolerance, atol=0)
    parts = {f"loss_diffkd_{k.removeprefix('part_')}_p3": v for k, v in data.items() if k.startswith("part_")}
    assert losses.keys() == parts.keys()
    for key, value in parts.items():
        torch.testing.assert_close(losses[key].double(), value, rtol=tolerance, atol=0)
    found = {"student": student.grad, **{k: p.grad for k, p in parameters.items()}}
    expected = {k: data[f"grad.{k}"] for k in parameters} | {"student": data["grad_student"]}
    largest = max(value.abs().max().item() for value in expected.values())
    for key, value in expected.items():
        # What a batch norm cancels, or a saturated softmax all but cancels, is the rounding of larger gradients.
        bound = max(tolerance * value.abs().max().item(), rounding * largest)
        torch.testing.assert_close(found[key].double(), value, rtol=0, atol=bound, msg=lambda m: f"{key}: {m}")


@pytest.mark.parametrize("name", ["diffkd", "diffkd_logits"])
def test_way_to_the_reference(name, monkeypatch):
    """The noise schedule, γ of each image, and the refined student."""
    data, head, _ = reference_case(name, torch.float64)
    monkeypatch.setattr(head, "draw_noise", lambda like: data["noise_adapter_draw"])
    torch.testing.assert_close(head.denoiser["p3"].alphas_cumprod, data["alphas_cumprod"], rtol=1e-12, atol=0)
    share = head.noise_adapter["p3"](head.student_adapter["p3"](data["student"]))
    torch.testing.assert_close(share, data["noise_adapter_weight"], rtol=1e-9, atol=0)
    torch.testing.assert_close(head._refine("p3", data["student"]), data["refined"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_perfect_predictor_removes_all_noise(steps):
    denoiser = Denoiser(channels=4, steps=steps).double()
    clean, noise = torch.randn(2, 3, 4, 5, 6, dtype=torch.double)
    visited = []

    def predict(module, inputs, output):
        visited.append(inputs[1].item())
        return noise

    denoiser.register_forward_hook(predict)
    first = (steps - 1) * (500 // steps)
    noisy = denoiser.add_noise(clean, noise, torch.full((3,), first))
    torch.testing.assert_close(denoiser.denoise(noisy), clean)
    assert visited == {1: [0], 3: [332, 166, 0], 5: [400, 300, 200, 100, 0]}[steps]


@pytest.mark.parametrize("latent_channels, count", [(None, 694_722), (128, 339_554)])
def test_has_the_published_parts(latent_channels, count):
    head = DiffKDHead(levels=["p3"], in_channels=256, latent_channels=latent_channels)
    assert sum(p.numel() for p in head.parameters()) == count
    table = head.denoiser["p3"].time_embedding.weight
    assert table.mean().abs() < 0.02 and abs(table.std() - 1) < 0.02
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound and 0 < module.bias.abs().max() <= bound


def test_bottleneck_adds_its_input():
    block = Bottleneck(channels=3, reduction=4)
    x = torch.randn(2, 3, 5, 5)
    assert block.conv2.weight.shape == (1, 1, 3, 3)
    nn.init.zeros_(block.norm3.weight)
    assert torch.equal(block(x), x)


def test_each_loss_trains_its_parts_alone():
    head = DiffKDHead(levels=["p3"], in_channels=6, student_channels=5, latent_channels=8)
    student = torch.randn(2, 5, 4, 4, requires_grad=True)
    losses = head({"p3": student}, {"p3": torch.randn(2, 6, 4, 4)})
    trained = {}
    for name, loss in losses.items():
        head.zero_grad()
        loss.backward(retain_graph=True)
        trained[name] = {k.split(".")[0] for k, p in head.named_parameters() if p.grad is not None}
    student_parts = {"student_adapter", "noise_adapter", "denoiser", "projection"}
    assert trained == {
        "loss_diffkd_autoencoder_p3": {"encoder", "decoder"},
        "loss_diffkd_distance_p3": student_parts,
        "loss_diffkd_diffusion_p3": {"denoiser"},
    }
    assert student.grad.any()


def test_weights_of_the_terms():
    def losses(**weights):
        head = DiffKDHead(levels=["p3"], in_channels=4, latent_channels=4, **weights)
        for parameter in head.parameters():
            nn.init.constant_(parameter, 0.1)
        features = torch.arange(64.0).view(1, 4, 4, 4)
        return head({"p3": features}, {"p3": features.square()})

    weights = {"distance": 2.0, "diffusion": 3.0, "autoencoder": 0.5}
    plain = losses()
    for name, loss in losses(weight=10.0, **{f"weight_{k}": v for k, v in weights.items()}).items():
        torch.testing.assert_close(loss, 10 * weights[name.split("_")[2]] * plain[name])


def test_draws_come_from_its_own_generator():
    features = torch.randn(64, 2, 8, 8)
    heads = [DiffKDHead(levels=["p3"], in_channels=2, seed=seed) for seed in (0, 0, 1)]
    before = torch.get_rng_state()
    noises = [head.draw_noise(features) for head in heads]
    timesteps = [head.draw_timesteps(features) for head in heads]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[2])
    assert torch.equal(timesteps[0], timesteps[1]) and not torch.equal(timesteps[0], timesteps[2])
    assert noises[0].shape == features.shape and abs(noises[0].mean()) < 0.05 and abs(noises[0].std() - 1) < 0.05
    assert timesteps[0].shape == (64,) and 0 <= timesteps[0].min() < 200 and 800 < timesteps[0].max() < 1000


@pytest.mark.parametrize("latent_channels", [None, 16])
def test_trains_beside_a_detector(tmp_path, latent_channels):
    model = distiller(tmp_path, head=DiffKDHead(latent_channels=latent_channels)).train()
    with EventStorage():
        losses = model(batch())
    assert {name for name in losses if "diffkd" in name} == set(model.head.loss_names)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.head.parameters())
    assert all(level.conv.weight.grad.any() for level in model.head.projection.values())


class Classifier(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.backbone = nn.Conv2d(3, width, 8, stride=8)
        self.classifier = nn.Linear(width, 7)

    def forward(self, records):
        features = self.backbone(torch.stack([record["image"] for record in records]).float() / 255)
        logits = self.classifier(features.relu().mean((2, 3)))
        return {"loss_cls": logits.square().mean()} if self.training else logits


def test_trains_beside_a_classifier():
    head = DiffKDHead(levels=["classifier"], logits=True)
    model = Distiller(student=Classifier(4), teacher=Teacher(model=Classifier(8), weights=None), head=head).train()
    with EventStorage():
        losses = model(batch(images=3, size=64))
    sum(losses.values()).backward()
    assert head.loss_names == ("loss_diffkd_distance_classifier", "loss_diffkd_diffusion_classifier")
    assert all(p.grad is not None for p in head.parameters()) and model.student.classifier.weight.grad.any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"latent_channels": 0}, "latent_channels is 0 with logits=False; it has to be at least 1"),
        ({"latent_channels": 8, "logits": True}, "logits have no autoencoder: set latent_channels=None"),
        ({"steps": 0}, "steps is 0; denoising takes 1 to 500 steps"),
        ({"steps": 501}, "steps is 501"),
        ({"weight_diffusion": float("nan")}, "'diffusion': nan.*each has to be 0 or more"),
        ({"weight_distance": -1.0}, "weights of DiffKD's losses are {'distance': -1.0.*each has to be 0 or more"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiffKDHead(levels=["p3"], in_channels=4, **arguments)


@pytest.mark.parametrize(
    "logits, size, message",
    [
        (False, (2, 4), r"level 'p3' is \(2, 4\), logits, and the head has logits=False: set logits=True"),
        (True, (2, 4, 3, 3), r"level 'p3' is \(2, 4, 3, 3\), a map, and the head has logits=True: set logits=False"),
        (True, (1, 4), r"level 'p3' is \(1, 4\): .* needs 2 values a channel. Train with 2 images or more"),
        (False, (1, 4, 1, 1), "needs 2 values a channel"),
    ],
)
def test_refuses_features(logits, size, message):
    head = DiffKDHead(levels=["p3"], in_channels=4, logits=logits)
    with pytest.raises(ValueError, match=message):
        head({"p3": torch.randn(size)}, {"p3": torch.randn(size)})


def test_a_level_of_one_position_is_left_out():
    head, skipped = DiffKDHead(levels=["p3"], in_channels=4), set()
    losses = head({"p3": torch.randn(1, 4, 1, 1)}, {"p3": torch.randn(1, 4, 1, 1)}, skipped=skipped)
    assert skipped == {"p3"} and all(loss == 0 for loss in losses.values())


def test_refuses_a_student_that_it_was_not_built_for():
    head = DiffKDHead(levels=["p3"], in_channels=4)
    with pytest.raises(ValueError, match="head.student_channels is 4, but the student's level 'p3' has 3 channels"):
        head.connect([LevelPair("p3", "p3", 8, 8, 3, 4)])

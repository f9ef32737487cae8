import copy

import pytest
import torch
import torch.nn.functional as F
from cankd.modeling import CanKDHead
from cankd.modeling.distillation_heads import covariances as covariances_module
from cankd.modeling.distillation_heads.covariances import BLOCK, covariances, instance_normalized_mse


def features(height, width, dtype=torch.double):
    torch.manual_seed(0)
    return torch.randn(2, 4, height, width, dtype=dtype), torch.randn(2, 4, height, width, dtype=dtype)


def matrices():
    torch.manual_seed(1)
    return torch.randn(3, 4, dtype=torch.double), torch.randn(2, 4, 3, dtype=torch.double)


def slowly(student, teacher, inner, outer):
    """The same by torch.cov, image by image."""
    mapped = torch.einsum("ncd,dk,nkhw->nchw", outer, inner, student)
    rows = torch.cat([mapped, student, teacher], dim=1).flatten(2)
    matrix = torch.stack([torch.cov(image, correction=0) for image in rows]).unflatten(1, (3, 4)).unflatten(3, (3, 4))
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    return student.mean((2, 3)), *(matrix[:, a, :, b].diagonal(dim1=1, dim2=2) for a, b in pairs)


@pytest.mark.parametrize("block", [BLOCK, 4 * 16])  # all at once, and in several blocks
@pytest.mark.parametrize("size", [(1, 2), (5, 7)])
def test_moments_and_gradients_equal_those_of_torch(size, block, monkeypatch):
    monkeypatch.setattr(covariances_module, "BLOCK", block)
    student, teacher = features(*size)
    results = []
    for function in (covariances, slowly):
        inputs = [x.clone().requires_grad_() for x in (student, *matrices())]
        moments = function(inputs[0], teacher, *inputs[1:])
        weights = [torch.randn(m.shape, dtype=m.dtype, generator=torch.Generator().manual_seed(1)) for m in moments]
        sum((w * m).sum() for w, m in zip(weights, moments[:6])).backward()
        results.append([*moments, *(x.grad for x in inputs)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
    assert [moment.requires_grad for moment in results[0][:7]] == [True] * 6 + [False]


def loss_and_gradients(student, teacher, dtype, plain=False):
    """Returns those of the student's feature and of the parameters together, by covariances or through z."""
    torch.manual_seed(0)
    head = CanKDHead(levels=["p3"], in_channels=64, weight=1.0)
    torch.nn.init.normal_(head.non_local["p3"].norm.weight)
    head.to(dtype)
    student, teacher = student.to(dtype, copy=True).requires_grad_(), teacher.to(dtype)
    if plain:
        loss = F.mse_loss(F.instance_norm(head.non_local["p3"](student, teacher)), F.instance_norm(teacher))
    else:
        loss = head({"p3": student}, {"p3": teacher})["loss_cankd_p3"]
    loss.backward()
    parameters = torch.cat([parameter.grad.flatten() for parameter in head.parameters()])
    return loss.detach(), student.grad, parameters


def collinear(x):
    return x[:, :1] + 1e-3 * x


@pytest.mark.parametrize(
    "change, tolerance",
    [
        (lambda x, y: (x, y), 1e-5),
        (lambda x, y: (x, y + 1e4), 3e-4),
        (lambda x, y: (x + 1e2, y), 1e-4),
        (lambda x, y: (collinear(x), y), 1e-2),
        (lambda x, y: (1e-6 * x, 1e-6 * y), 1e-5),
        (lambda x, y: (1e6 * x, 1e6 * y), 1e-4),
        (lambda x, y: (1e8 * x, 1e8 * y), 1e-4),
        (lambda x, y: (x, 1e8 * y), 1e-4),
    ],
    ids=["as_is", "teacher_mean", "student_mean", "collinear", "tiny", "huge", "overflowing", "huge_teacher"],
)
def test_rounding_stays_small(change, tolerance):
    generator = torch.Generator().manual_seed(0)
    student, teacher = change(*(torch.randn(2, 64, 24, 24, generator=generator) for _ in range(2)))
    found = loss_and_gradients(student, teacher, torch.float32)
    expected = loss_and_gradients(student, teacher, torch.float64, plain=True)
    for value, wanted in zip(found, expected):
        assert (value - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_near_collinear_features_round_no_worse_than_by_the_fused_feature():
    """A variance of z is a sum of moments that may nearly cancel each other."""
    errors = {False: [], True: []}
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (collinear(torch.randn(2, 64, 24, 24, generator=generator)) for _ in range(2))
        expected = loss_and_gradients(student, teacher, torch.float64, plain=True)
        for plain, found in errors.items():
            values = loss_and_gradients(student, teacher, torch.float32, plain=plain)
            found.append([(v - w).abs().max() / w.abs().max() for v, w in zip(values[1:], expected[1:])])
    worst, allowed = (torch.tensor(errors[plain]).amax(0) for plain in (False, True))
    assert (worst <= 2 * allowed).all()


def test_a_mean_far_from_zero_costs_the_features_gradient_no_digits():
    student, teacher = features(24, 24, torch.float)
    teacher = teacher + 1e4
    found, expected = (
        loss_and_gradients(student.repeat(1, 16, 1, 1), teacher.repeat(1, 16, 1, 1), dtype, plain)[1]
        for dtype, plain in ((torch.float32, False), (torch.float64, True))
    )
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("norm", ["BN", ""])
@pytest.mark.parametrize("training", [True, False])
def test_a_unit_of_the_mapped_feature_changes_nothing(norm, training):
    """A teacher that makes it a thousand times as large, in float64, where nothing overflows."""
    head = CanKDHead(levels=["p3"], in_channels=4, weight=1.0, norm=norm).double().train(training)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    plain = copy.deepcopy(head.non_local["p3"])
    student, teacher = features(8, 8)
    teacher = 50 * teacher
    expected = F.mse_loss(F.instance_norm(plain(student, teacher)), F.instance_norm(teacher))
    found = head({"p3": student}, {"p3": teacher})["loss_cankd_p3"]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    for name, value in plain.norm.named_buffers():
        torch.testing.assert_close(head.non_local["p3"].norm.get_buffer(name), value)


def test_a_channel_that_is_constant_is_no_infinity():
    student, teacher = features(6, 6, torch.float)
    student[:, 0], teacher[:, 1] = 3.0, 0.0
    student.requires_grad_()
    head = CanKDHead(levels=["p3"], in_channels=4, residual=False)
    loss = head({"p3": student}, {"p3": teacher})["loss_cankd_p3"]
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())


def test_rounding_below_zero_is_no_root_of_a_negative_number():
    loss = instance_normalized_mse(torch.tensor([[-1.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    torch.testing.assert_close(loss, torch.tensor(1.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_keeps_the_running_statistics_of_batch_norm(training):
    head = CanKDHead(levels=["p3"], in_channels=4, weight=1.0).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    module = head.non_local["p3"]
    plain = copy.deepcopy(module)
    student, teacher = features(9, 8)
    for step in range(3):
        student = student + step
        expected = F.mse_loss(F.instance_norm(plain(student, teacher)), F.instance_norm(teacher))
        found = head({"p3": student}, {"p3": teacher})["loss_cankd_p3"]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        if step == 0 and not training:
            head.eval(), plain.eval()
    assert plain.norm.num_batches_tracked == (3 if training else 1)
    for name, value in plain.norm.named_buffers():
        torch.testing.assert_close(getattr(module.norm, name), value)


@pytest.mark.parametrize("norm", ["BN", ""])
def test_every_parameter_takes_part(norm):
    """DistributedDataParallel waits for each."""
    head = CanKDHead(levels=["p3"], in_channels=4, norm=norm)
    student, teacher = features(6, 6, torch.float)
    head({"p3": student.requires_grad_()}, {"p3": teacher})["loss_cankd_p3"].backward()
    assert all(p.grad is not None for p in head.parameters())


def test_gradients_are_nearly_the_same_if_they_are_asked_for_under_autocast():
    student, teacher = features(5, 7, dtype=torch.float32)
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        head = CanKDHead(levels=["a"], in_channels=4)
        torch.nn.init.ones_(head.non_local["a"].norm.weight)  # it starts at 0, and the attention would not count
        x = student.clone().requires_grad_()
        loss = head({"a": x}, {"a": teacher})["loss_cankd_a"]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss.backward()
        gradients.append([x.grad, head.non_local["a"].theta.weight.grad, head.non_local["a"].g.weight.grad])
    for expected, found in zip(*gradients):  # the convolutions around it are of bfloat16 then
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())

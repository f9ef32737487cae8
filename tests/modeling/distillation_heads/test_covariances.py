import copy

import pytest
import torch
import torch.nn.functional as F
from cankd.modeling import CanKDHead
from cankd.modeling.distillation_heads.covariances import BLOCK, covariances, instance_normalized_mse


def features(height, width, dtype=torch.double):
    torch.manual_seed(0)
    return torch.randn(2, 4, height, width, dtype=dtype), torch.randn(2, 4, height, width, dtype=dtype)


def slowly(student, teacher):
    """The same by torch.cov, image by image."""
    both = torch.stack([torch.cov(torch.cat(pair).flatten(1), correction=0) for pair in zip(student, teacher)])
    return student.mean((2, 3)), both[:, :4, :4], both[:, :4, 4:], both[:, 4:, 4:].diagonal(dim1=1, dim2=2)


@pytest.mark.parametrize("size", [(1, 2), (5, 7), (70, 130)])  # the last takes several blocks
def test_moments_and_gradients_equal_those_of_torch(size):
    student, teacher = features(*size)
    assert size != (70, 130) or 70 * 130 > 2 * BLOCK
    results = []
    for function in (covariances, slowly):
        x = student.clone().requires_grad_()
        moments = function(x, teacher)
        weights = [torch.randn(m.shape, dtype=m.dtype, generator=torch.Generator().manual_seed(1)) for m in moments]
        sum((w * m).sum() for w, m in zip(weights, moments[:3])).backward()
        results.append([*moments, x.grad])
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected)
    assert [moment.requires_grad for moment in results[0][:4]] == [True, True, True, False]


def test_a_mean_far_from_zero_costs_no_digits():
    student, teacher = (1000 + x for x in features(40, 50, torch.float))
    _, xx, xy, yy = covariances(student, teacher)
    loss = instance_normalized_mse(xx.diagonal(dim1=1, dim2=2), xy.diagonal(dim1=1, dim2=2), yy)
    expected = F.mse_loss(F.instance_norm(student.double()), F.instance_norm(teacher.double()))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)


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

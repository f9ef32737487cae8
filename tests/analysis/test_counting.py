import torch
import torchvision
from cankd.analysis.counting import count_by_part, count_executed
from cankd.modeling import CanKDHead
from torch import nn


def test_parts_of_a_toy_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(4 * 36, 5)).train()
    counted = count_by_part(model, torch.zeros(1, 3, 6, 6))
    assert counted["0"] == {"parameters": 108, "flops": 108 * 36, "activations": 144}
    assert counted["2"] == {"parameters": 725, "flops": 720, "activations": 5}
    assert counted["total"] == {"parameters": 833, "flops": 108 * 36 + 720, "activations": 149}
    assert model.training


def test_flops_of_a_convolution():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)).train()
    convolution, norm = 3 * 8 * 9 * 16 * 16, 2 * 8 * 16 * 16
    assert count_by_part(model, torch.zeros(1, 3, 16, 16))["total"]["flops"] == convolution + norm
    assert model.training


def test_flops_of_a_deformable_convolution():
    model = torchvision.ops.DeformConv2d(4, 8, 3, padding=1, groups=2, bias=False)
    assert count_by_part(model, torch.zeros(1, 4, 5, 5), torch.zeros(1, 18, 5, 5))["total"]["flops"] == 8 * 25 * 2 * 9


def test_flops_of_a_head_whose_fused_feature_is_not_computed():
    """Two maps of x and six moments, phi and g, and matrices that know no positions."""
    channels, inner, positions, pooled = 8, 4, 12 * 12, 6 * 6
    head = CanKDHead(levels=["p3"], in_channels=channels)
    feature = {"p3": torch.randn(1, channels, 12, 12)}
    found = count_by_part(head, feature, feature)["total"]["flops"]
    moments = positions * channels * (2 * inner + 6)
    projections = 2 * positions * channels * inner
    matrices = inner * inner * pooled + channels * inner * inner
    assert found == moments + projections + matrices


class Stop(Exception):
    pass


def test_what_a_run_that_is_broken_off_executes():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 1)))
    image = torch.zeros(1, 3, 6, 6)

    def stop(*_):
        raise Stop

    def run():
        handle = model[1][0].register_forward_hook(stop)
        try:
            model(image)
        except Stop:
            handle.remove()

    found = count_executed(model, image, run=run)
    assert found == {"parameters": 16 + 25 + 36, "flops": 36 * (12 + 20), "activations": 36 * (4 + 5)}

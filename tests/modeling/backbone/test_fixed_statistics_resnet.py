import torch
from cankd.modeling.backbone import FixedStatisticsResNet
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import nn


def test_synchronized_norms_are_batch_norms_too():
    stem = BasicStem(in_channels=3, out_channels=4, norm="SyncBN")
    stages = [ResNet.make_stage(BasicBlock, 1, in_channels=4, out_channels=4, norm="BN")]
    model = FixedStatisticsResNet(stem, stages, out_features=["res2"]).train()
    assert model.training and isinstance(stem.conv1.norm, nn.SyncBatchNorm) and not stem.conv1.norm.training


def test_statistics_stay_while_weights_and_biases_train():
    torch.manual_seed(0)
    stages = [
        ResNet.make_stage(BasicBlock, 1, in_channels=width, out_channels=2 * width, norm="BN") for width in (4, 8)
    ]
    stem = BasicStem(in_channels=3, out_channels=4, norm="BN")
    model = nn.Sequential(FixedStatisticsResNet(stem, stages, out_features=["res3"], freeze_at=2)).train()
    frozen, trained = model[0].res2[0].conv1.norm, model[0].res3[0].conv1.norm
    image = torch.randn(2, 3, 32, 32) + 5
    feature = model(image)["res3"]
    feature.square().sum().backward()
    assert (trained.running_mean == 0).all() and (trained.running_var == 1).all()
    assert trained.weight.grad.any() and trained.bias.grad.any()
    assert isinstance(frozen, FrozenBatchNorm2d) and model[0].training and not trained.training
    torch.testing.assert_close(model.eval()(image)["res3"], feature)

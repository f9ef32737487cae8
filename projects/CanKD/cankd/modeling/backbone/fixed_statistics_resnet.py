from detectron2.modeling.backbone import ResNet
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["FixedStatisticsResNet"]


class FixedStatisticsResNet(ResNet):
    """ResNet whose batch norms keep their pre-trained statistics, while their weights and biases are trained.

    This is ``norm_eval`` of mmdetection. Detectron2's "FrozenBN" fixes weights and biases, too. The norms of the stages
    that ``freeze_at`` freezes are fixed whole.
    """

    def train(self, mode: bool = True) -> "FixedStatisticsResNet":
        """Sets the mode of all modules but the batch norms, which stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

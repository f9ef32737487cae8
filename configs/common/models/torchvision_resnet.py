from cankd.modeling.backbone import FixedStatisticsResNet

from .resnext import imagenet_rgb


def with_torchvision_resnet(model):
    """Makes a detector fit torchvision's ResNets: images in RGB, the stride in the 3×3 convolution.

    The norms keep their statistics and train their weights and biases; stem and first stage are frozen.
    """
    resnet = model.backbone.bottom_up
    resnet.update(_target_=FixedStatisticsResNet, freeze_at=2)
    resnet.stem.norm = "BN"
    resnet.stages.update(norm="BN", stride_in_1x1=False)
    model.update(imagenet_rgb, input_format="RGB")
    return model

from .dilated_resnet import DilatedResNet
from .fixed_statistics_resnet import FixedStatisticsResNet
from .mobilenet_v1 import MobileNetV1
from .mobilenet_v2 import MobileNetV2
from .normed_fpn import NormedFPN
from .timm_backbone import TimmBackbone

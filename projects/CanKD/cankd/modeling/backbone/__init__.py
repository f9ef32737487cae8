from .dilated_resnet import DilatedResNet
from .mobilenet_v2 import MobileNetV2
from .normed_fpn import NormedFPN

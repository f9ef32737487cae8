from .dilated_resnet import DilatedResNet
from .mobilenet_v2 import MobileNetV2

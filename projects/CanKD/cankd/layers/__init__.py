from .conv_norm_relu import conv_norm_relu
from .deform_conv import DeformBottleneckBlock, DeformConv
from .fold_norms import fold_norms

from .deform_conv import DeformBottleneckBlock, DeformConv
from .fold_norms import fold_norms

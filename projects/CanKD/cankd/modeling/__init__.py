from .cankd_head import CanKDHead
from .deform_conv import DeformBottleneckBlock, DeformConv
from .distiller import Distiller
from .features import LevelPair, backbone_shapes, compute_features, match_levels, record_features
from .inheritance import inherit_weights
from .non_local import AFFINITIES, CrossNonLocal
from .teacher import Teacher
from .weights import LoadReport, VerifyingCheckpointer, load_all_weights, read_weights

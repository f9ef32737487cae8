from .anchors import check_anchors
from .distillation_heads import (
    AFFINITIES,
    ATHead,
    CanKDHead,
    CrossNonLocal,
    CWDHead,
    DetKDSHead,
    DiffKDHead,
    DistillationHead,
    FGDHead,
    FKDHead,
    KDHead,
    MGDHead,
    PKDHead,
    StepContext,
    SumOfHeads,
    ViTKDHead,
)
from .distiller import Distiller
from .feature_source import FeatureSource, backbone_shapes
from .levels import LevelPair, choose_levels, match_levels
from .teacher import Teacher

from .affinities import AFFINITIES
from .cankd_head import CanKDHead
from .distillation_head import DistillationHead, StepContext
from .non_local import CrossNonLocal
from .sum_of_heads import SumOfHeads

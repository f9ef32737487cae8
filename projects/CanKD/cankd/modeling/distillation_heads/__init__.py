from .affinities import AFFINITIES
from .at_head import ATHead
from .cankd_head import CanKDHead
from .cwd_head import CWDHead
from .detkds_genes import SEARCH_SPACES, SEARCH_WEIGHTS, check_genes
from .detkds_head import DetKDSHead
from .diffkd_head import DiffKDHead
from .distillation_head import DistillationHead, StepContext
from .fgd_head import FGDHead
from .fkd_head import FKDHead
from .kd_head import KDHead
from .mgd_head import MGDHead
from .non_local import CrossNonLocal
from .pkd_head import PKDHead
from .sum_of_heads import SumOfHeads
from .vitkd_head import ViTKDHead

from .aspp import ASPP
from .max_iou_matcher import MaxIoUMatcher
from .point_assigner import PointAssigner
from .points_to_boxes import PointsToBoxes
from .pyramid_pooling import PyramidPooling
from .reppoints import RepPoints
from .reppoints_head import RepPointsHead
from .sem_seg_head import SemSegHead

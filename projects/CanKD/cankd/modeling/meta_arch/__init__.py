from .max_iou_matcher import MaxIoUMatcher
from .point_assigner import PointAssigner
from .points_to_boxes import PointsToBoxes
from .reppoints import RepPoints
from .reppoints_head import RepPointsHead
from .sem_seg_head import PyramidPooling, SemSegHead, conv_norm_relu

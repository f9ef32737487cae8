from .point_assigner import PointAssigner
from .points_to_boxes import PointsToBoxes
from .reppoints import RepPoints
from .reppoints_head import RepPointsHead

from .confusion_matrices import draw_confusion_matrices
from .curves import draw_curves, draw_severity_curves
from .figures import save_figure
from .heatmaps import REDUCTIONS, HeatMap, draw_heatmaps, reduce_channels
from .method_pictures import draw_method_curves, draw_method_points
from .predictions import draw_annotations, draw_class, draw_detections, draw_segmentation, save_grid

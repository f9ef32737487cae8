from .curves import draw_severity_curves
from .predictions import draw_annotations, draw_detections, draw_segmentation, save_grid

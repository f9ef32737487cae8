from .predictions import draw_annotations, draw_detections, save_grid

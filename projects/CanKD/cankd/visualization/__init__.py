from .predictions import draw_annotations, draw_detections, draw_segmentation, save_grid

"""CanKD†: the student's neck starts from the teacher's weights, its box head and classifier from the first stage's.

The cascade's regressors know no classes, so the student's keeps its own start.
"""

from .faster_rcnn_R50_from_cascade_X101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = {
    "backbone.fpn_*": "backbone.fpn_*",
    "roi_heads.box_head.*": "roi_heads.box_head.0.*",
    "roi_heads.box_predictor.cls_score.*": "roi_heads.box_predictor.0.cls_score.*",
}
train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_cascade_X101_inherit"

"""CanKD†: the student's box head and classifier start from those of the teacher's first stage."""

from .faster_rcnn_R10_from_cascade_X26 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = {
    "backbone.fpn_output*": "backbone.fpn_output*",
    "roi_heads.box_head.*": "roi_heads.box_head.0.*",
    "roi_heads.box_predictor.cls_score.*": "roi_heads.box_predictor.0.cls_score.*",
}

train.output_dir = "output/DigitScenes/faster_rcnn_R10_from_cascade_X26_inherit"

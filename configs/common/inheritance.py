"""Which parts of a student start from its teacher's weights in the paper's †, by architecture."""

# RetinaNet and FCOS: neck and head.
dense = ["backbone.fpn_*", "backbone.top_block.*", "head.*"]
reppoints = [*dense, "points_to_boxes.*"]
# Faster R-CNN: neck and box head, the RPN does not.
faster_rcnn = ["backbone.fpn_*", "roi_heads.box_*"]
mask_rcnn = [*faster_rcnn, "roi_heads.mask_head.*"]
# From a cascade: box head and classifier of the first stage. Its regressors know no classes.
faster_rcnn_from_cascade = {
    "backbone.fpn_*": "backbone.fpn_*",
    "roi_heads.box_head.*": "roi_heads.box_head.0.*",
    "roi_heads.box_predictor.cls_score.*": "roi_heads.box_predictor.0.cls_score.*",
}

# Digit Scenes: teachers are wider than students, so that the neck's lateral convolutions do not fit.
small_dense = ["backbone.fpn_output*", "head.*"]
small_reppoints = [*small_dense, "points_to_boxes.*"]
small_faster_rcnn = ["backbone.fpn_output*", "roi_heads.box_*"]
small_mask_rcnn = [*small_faster_rcnn, "roi_heads.mask_head.*"]
small_faster_rcnn_from_cascade = {
    "backbone.fpn_output*": "backbone.fpn_output*",
    "roi_heads.box_head.*": "roi_heads.box_head.0.*",
    "roi_heads.box_predictor.cls_score.*": "roi_heads.box_predictor.0.cls_score.*",
}
small_semantic_fpn = ["backbone.fpn_output*", "sem_seg_head.*"]

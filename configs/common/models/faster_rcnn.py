"""Faster R-CNN with FPN, as in Detectron2's model zoo: Mask R-CNN without its mask branch."""

from detectron2.model_zoo import get_config

model = get_config("common/models/mask_rcnn_fpn.py").model
for _part in ("mask_in_features", "mask_pooler", "mask_head"):
    del model.roi_heads[_part]

"""Faster R-CNN with FPN, as in Detectron2's model zoo: Mask R-CNN without its mask branch."""

from detectron2.model_zoo import get_config


def without_masks(model):
    for part in ("mask_in_features", "mask_pooler", "mask_head"):
        del model.roi_heads[part]
    return model


model = without_masks(get_config("common/models/mask_rcnn_fpn.py").model)

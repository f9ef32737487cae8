"""Cascade R-CNN with FPN, as in Detectron2's model zoo: Cascade Mask R-CNN without its mask branch."""

from detectron2.model_zoo import get_config

from .faster_rcnn import without_masks

model = without_masks(get_config("common/models/cascade_rcnn.py").model)

"""CanKD: Faster R-CNN-R50 from Cascade Mask R-CNN-X101 (64x4d), which cascade_mask_rcnn_X101.py trains."""

from .cascade_mask_rcnn_X101 import model as _teacher
from .cascade_mask_rcnn_X101 import train as _teacher_train
from .faster_rcnn_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"

train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_cascade_X101"

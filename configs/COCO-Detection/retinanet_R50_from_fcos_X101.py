"""CanKD between architectures, 12 epochs: RetinaNet-R50 from FCOS-X101 (64x4d), which fcos_X101.py trains."""

from ..common.schedules import coco_1x as lr_multiplier
from ..common.schedules import coco_1x_iterations
from .fcos_X101 import model as _teacher
from .fcos_X101 import train as _teacher_train
from .retinanet_R50_from_R101 import dataloader, model, optimizer, train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"
model.teacher.input_format = "RGB"  # FCOS itself does not say

train.max_iter = coco_1x_iterations
train.output_dir = "output/COCO-Detection/retinanet_R50_from_fcos_X101"

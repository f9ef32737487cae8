"""CanKD: RetinaNet-R50 from RetinaNet-X101 (64x4d), which retinanet_X101.py trains."""

from .retinanet_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_X101 import model as _teacher
from .retinanet_X101 import train as _teacher_train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"

train.output_dir = "output/COCO-Detection/retinanet_R50_from_X101"

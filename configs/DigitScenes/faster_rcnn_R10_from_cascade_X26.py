"""CanKD from a Cascade R-CNN with a ResNeXt, which cascade_rcnn_X26.py trains."""

from .cascade_rcnn_X26 import model as _teacher
from .cascade_rcnn_X26 import train as _teacher_train
from .faster_rcnn_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"

train.output_dir = "output/DigitScenes/faster_rcnn_R10_from_cascade_X26"

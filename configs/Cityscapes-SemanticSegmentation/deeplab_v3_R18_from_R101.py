"""CanKD: DeepLabV3-R18 from DeepLabV3-R101, which deeplab_v3_R101.py trains."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .deeplab_v3_R18 import dataloader, lr_multiplier, model, optimizer, train
from .deeplab_v3_R101 import model as _teacher
from .deeplab_v3_R101 import train as _teacher_train

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights=f"{_teacher_train.output_dir}/model_final.pth", input_format="RGB"),
    head=L(CanKDHead)(levels=["res5"], in_channels=2048),
    input_format="RGB",
)

train.output_dir = "output/Cityscapes-SemanticSegmentation/deeplab_v3_R18_from_R101"

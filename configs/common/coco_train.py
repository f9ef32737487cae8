"""Training options of the published COCO recipes."""

from torchvision.models import ResNet50_Weights

from .schedules import coco_2x_iterations, coco_epoch
from .train import train

train.init_checkpoint = ResNet50_Weights.IMAGENET1K_V1.url
train.reference_batch_size = 4
train.max_iter = coco_2x_iterations
train.eval_period = coco_epoch
train.checkpointer = dict(period=coco_epoch, max_to_keep=3)
train.clip_gradients.max_norm = 35.0

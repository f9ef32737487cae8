"""Optimisers and learning rates: AdamW with one cycle for the embedded data, the paper's SGD for the public sets."""

from cankd.solver import PolynomialDecay
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

adamw = get_config("common/optim.py").AdamW
adamw.lr = 2e-3
adamw.weight_decay = 1e-4

one_cycle = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0), warmup_factor=0.04, warmup_length=0.2
)

# For a total batch of 4 images.
sgd = get_config("common/optim.py").SGD
sgd.lr = 0.005
sgd.weight_decay = 1e-4
sgd.params.weight_decay_norm = 1e-4

# 24 epochs of COCO's 117,266 annotated training images, 4 an iteration.
coco_epoch = 29317
coco_1x_iterations = 12 * coco_epoch
coco_20e_iterations = 20 * coco_epoch
coco_2x_iterations = 24 * coco_epoch


def _coco_steps(iterations, milestones):
    """A tenth at each milestone, in epochs, after 500 iterations of warm-up."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=milestones),
        warmup_factor=0.001,
        warmup_length=500 / iterations,
    )


coco_1x = _coco_steps(coco_1x_iterations, [8, 11, 12])
coco_20e = _coco_steps(coco_20e_iterations, [16, 19, 20])
coco_2x = _coco_steps(coco_2x_iterations, [16, 22, 24])

# For a total batch of 8 crops. The rate ends at 1e-4.
cityscapes_sgd = get_config("common/optim.py").SGD
cityscapes_sgd.lr = 0.01
cityscapes_sgd.weight_decay = 5e-4
cityscapes_sgd.params.weight_decay_norm = 5e-4

cityscapes_poly = L(PolynomialDecay)(power=0.9, end_value=0.01)

# For a total batch of 256 images; an epoch is ImageNet's 1,281,167 training images.
imagenet_sgd = get_config("common/optim.py").SGD
imagenet_sgd.lr = 0.1
imagenet_sgd.weight_decay = 1e-4
imagenet_sgd.params.weight_decay_norm = 1e-4

imagenet_epoch = 5005
imagenet_iterations = 100 * imagenet_epoch
imagenet_steps = L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01, 0.001], milestones=[30, 60, 90, 100])

"""The student, distilled on the 150 labelled images and, beside them, on the 2,850 others without their labels."""

from .retinanet_R10_150_from_R18 import dataloader, lr_multiplier, model, optimizer, train

train.distillation.unlabelled = dict(dataset="digit_scenes_train_2850_unlabelled", share=1.0)

train.output_dir = "output/DigitScenes/retinanet_R10_150_from_R18_unlabelled"

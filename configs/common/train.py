"""Detectron2's common training options and those that distillation adds."""

import torch
from detectron2 import model_zoo

train = model_zoo.get_config("common/train.py").train

train.device = "cuda" if torch.cuda.is_available() else "cpu"
train.seed = 0

# Total batch size that learning rate and schedule are meant for; when a config is loaded, its own. Another one on the
# command line, dataloader.train.total_batch_size, scales the rate by the linear rule and every number of iterations
# inversely; what a file says is never changed. 0 leaves all as it is.
train.reference_batch_size = 0

# Mixed precision: float16 (with loss scaling) or bfloat16, which the CPU has too.
train.amp.precision = "float16" if torch.cuda.is_available() else "bfloat16"

# L2 norm above which the gradients are scaled down, None for never.
train.clip_gradients = dict(max_norm=None)

# The distillation losses grow from 0 over warmup_iters and are off from stop_iter on (None: never).
train.distillation = dict(warmup_iters=0, stop_iter=None)

# The inheriting strategy (†): parts of the student that start from the teacher's weights, a list of wildcards, or a map
# from them to the teacher's names. None for no part.
train.inherit = None

# What is kept as model_best.pth: the student with the highest value of a metric of the evaluations, "bbox/AP" or
# "sem_seg/mIoU" for example. "auto" takes the main metric of the task, if there is an eval_period; None keeps none.
train.best = "auto"

# Training ends after `patience` evaluations in a row in which that metric has not risen by more than min_delta.
train.early_stopping = dict(patience=None, min_delta=0.0)

# An exponential moving average of the student's weights, which is evaluated and saved as the student.
train.ema = dict(enabled=False, decay=0.999)

# A batch is computed in so many parts, one after the other, which takes less memory. total_batch_size stays the number
# of images of a step, so that learning rate and schedule stay as they are.
train.accumulate = 1

# Weights & Biases, beside TensorBoard, if there is a project. What else is here is an argument of wandb.init.
train.wandb = dict(project=None, name=None, entity=None)

# Annotations and images are checked before training. skip_broken goes on without those that cannot be used, and
# says how many. read_all_images reads each image whole, which finds those that are cut off, and not its head alone.
# Training images of classification are checked only if one of the two is set: there are millions.
train.skip_broken = False
train.read_all_images = False

"""Detectron2's common training options and those that distillation adds."""

import torch
from detectron2 import model_zoo

train = model_zoo.get_config("common/train.py").train

train.device = "cuda" if torch.cuda.is_available() else "cpu"
train.seed = 0

# Total batch size that learning rate and schedule are meant for, when a config is loaded its own. Another one on the
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

"""Broken configs and overrides, and hostile ones."""

import itertools
import os
from collections.abc import Iterator

__all__ = ["BROKEN_CONFIGS", "BROKEN_OVERRIDES", "broken_values"]

BROKEN_CONFIGS = {
    "a syntax error.py": "model = (\n",
    "an unknown name.py": "model = unknown\n",
    "an unknown module.py": "import unknown_module\n",
    "division by zero.py": "1 / 0\n",
    "empty.py": "",
    "without a model.py": "train = dict(max_iter=1)\n",
    "a model that is a number.py": "model = 3\ntrain = dict(max_iter=1)\ndataloader = dict()\n",
    "parts that are strings.py": "model = train = dataloader = 'x'\n",
    "parts that are lists.py": "model = train = dataloader = []\n",
    "an import of an absent file.py": "from .nowhere import model\n",
    "no text.py": b"\xff\xfe\x00\x80",
    "zero bytes.py": b"\0" * 100,
    "no text.yaml": b"\xff\xfe\x00\x80",
    "empty.yaml": "",
    "no YAML.yaml": "a: [1,\nb: }",
    "a list.yaml": "- 1\n- 2\n",
    "a number.yaml": "7\n",
    "an unknown key.yaml": "MODEL:\n  UNKNOWN: 3\n",
    "a wrong type.yaml": "MODEL:\n  RETINANET: 3\n",
    "a base that is absent.yaml": "_BASE_: nowhere.yaml\n",
    "a base that is itself.yaml": "_BASE_: 'a base that is itself.yaml'\n",
    "a target that is no function.yaml": "model: {_target_: 3}\ntrain: {max_iter: 1}\ndataloader: {}\n",
    "a target that is absent.yaml": "model: {_target_: nowhere.Model}\ntrain: {max_iter: 1}\ndataloader: {}\n",
    "code, as the model.yaml": (
        "model: {_target_: os.system, command: 'touch MARKER'}\ntrain: {max_iter: 1}\ndataloader: {}\n"
    ),
    "code, as an evaluator.yaml": (
        "model: {_target_: torch.nn.Identity}\ntrain: {max_iter: 1, device: cpu}\n"
        "optimizer: {params: {}}\nlr_multiplier: {}\n"
        "dataloader: {train: {total_batch_size: 1}, test: {_target_: builtins.list}, "
        "evaluator: {_target_: os.system, command: 'touch MARKER'}}\n"
    ),
    "code, as a loader.yaml": (
        "model: {_target_: torch.nn.Identity}\ntrain: {max_iter: 1, device: cpu}\n"
        "optimizer: {params: {}}\nlr_multiplier: {}\n"
        "dataloader: {train: {_target_: subprocess.check_call, args: [touch, MARKER]}}\n"
    ),
    "code, as a tag.yaml": "model: !!python/object/apply:os.system ['touch MARKER']\n",
    "code, as a tag of a yacs file.yaml": "MODEL:\n  WEIGHTS: !!python/object/apply:os.system ['touch MARKER']\n",
    "a pipe.py": os.mkfifo,
    "a folder.py": os.mkdir,
    "absent.py": lambda path: None,
}
"""Contents of config files, or functions that make them, by their names.

MARKER stands for a file that code makes if it is run.

A ``.py`` config is code, which is run: none of these does harm.
"""

BROKEN_OVERRIDES = (
    "train.max_itr=3",
    "trian.max_iter=3",
    "train.max_iter",
    "=3",
    "train.=3",
    "train..max_iter=3",
    "model.student.nowhere=3",
    "model.head.levels.0=p3",
    "model.head.levels=p3",
    "model.head.levels=[]",
    "model.head.levels=[p9]",
    "model.head.levels=[p3",
    "model.head.affinity=unknown",
    "model.head.pool_size=-1",
    "model.head.weight=nan",
    "model.head.weight=-inf",
    "model.head._target_=nowhere.Head",
    "model.head._target_=os.getcwd",
    "model=null",
    "model.student=null",
    "model.teacher=null",
    "model.teacher.weights=nowhere.pth",
    "model.teacher.scale=-1",
    "model.teacher.scale=0",
    "model.student.num_classes=0",
    "model.student.num_classes=-1",
    "model.student.num_classes=3",
    "model.student.backbone=null",
    "model.student.head.num_anchors=5",
    "train=null",
    "train.device=quantum",
    "train.device=cuda:99",
    "train.output_dir=/proc/nowhere",
    "train.output_dir=/dev/null",
    "train.init_checkpoint=nowhere.pth",
    "train.max_iter=-5",
    "train.max_iter=0",
    "train.max_iter=1.5",
    "train.max_iter=1e400",
    "train.max_iter=soon",
    "train.seed=2.5",
    "train.log_period=0",
    "train.log_period=-1",
    "train.eval_period=-1",
    "train.checkpointer.period=0",
    "train.checkpointer.period=-1",
    "train.checkpointer.max_to_keep=-1",
    "train.accumulate=0",
    "train.accumulate=3",
    "train.accumulate=1000",
    "train.ema.enabled=True train.ema.decay=2",
    "train.ema.enabled=True train.ema.decay=-1",
    "train.amp.enabled=True train.amp.precision=float3",
    "train.clip_gradients.max_norm=-1",
    "train.clip_gradients.max_norm=nan",
    "train.distillation.warmup_iters=-1",
    "train.distillation.warmup_iters=many",
    "train.distillation.stop_iter=-1",
    "train.inherit=[nowhere.*]",
    "train.inherit=7",
    "train.best=bbox/UNKNOWN train.eval_period=1",
    "train.early_stopping.patience=-1 train.eval_period=1",
    "optimizer=null",
    "optimizer.lr=-1",
    "optimizer.lr=nan",
    "optimizer.lr=inf",
    "optimizer.lr=fast",
    "optimizer.weight_decay=-1",
    "optimizer.betas=[2,2]",
    "optimizer._target_=torch.nowhere",
    "lr_multiplier=null",
    "dataloader.train=null",
    "dataloader.train.dataset.names=nowhere",
    "dataloader.train.dataset.names=[]",
    "dataloader.train.dataset.names=7",
    "dataloader.train.total_batch_size=0",
    "dataloader.train.total_batch_size=-4",
    "dataloader.train.total_batch_size=1.5",
    "dataloader.train.total_batch_size=many",
    "dataloader.train.num_workers=-1",
    "dataloader.train.mapper=null",
    "dataloader.train.mapper.image_format=XYZ",
    "dataloader.train.mapper.augmentations=7",
    "dataloader.test.batch_size=0",
    "dataloader.test.batch_size=-1",
    "dataloader.evaluator.tasks=[unknown]",
    "dataloader.evaluator.dataset_name=nowhere",
)
"""Overrides that are wrong, each alone; some need a second one to matter."""

_SETTINGS = (
    "train.max_iter",
    "train.seed",
    "train.log_period",
    "train.eval_period",
    "train.accumulate",
    "train.checkpointer.period",
    "train.distillation.warmup_iters",
    "train.amp.enabled",
    "train.ema.enabled",
    "train.skip_broken",
    "train.read_all_images",
    "train.reference_batch_size",
    "optimizer.lr",
    "optimizer.weight_decay",
    "dataloader.train.total_batch_size",
    "dataloader.train.num_workers",
    "dataloader.test.batch_size",
    "model.head.weight",
    "model.student.num_classes",
)


def broken_values() -> Iterator[str]:
    """Yields overrides that give numbers and switches a value of another type."""
    for setting, value in itertools.product(_SETTINGS, ("abc", "[1]", "{a: 1}", "null", "''")):
        yield f"{setting}={value}"

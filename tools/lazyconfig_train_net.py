#!/usr/bin/env python
"""Trains or evaluates what a LazyConfig describes: a distilled student, a baseline, or a teacher.

Examples:

Distil:
    tools/lazyconfig_train_net.py --config-file configs/DigitScenes/retinanet_R10_from_R18.py

Distil a model of your own, whose config is a LazyConfig or yacs:
    tools/lazyconfig_train_net.py --config-file student.yaml --teacher teacher.py --teacher-weights teacher.pth

Continue an interrupted run:
    tools/lazyconfig_train_net.py --config-file C --resume

Evaluate the student of a checkpoint, or the config's teacher:
    tools/lazyconfig_train_net.py --config-file C --eval-only train.init_checkpoint=output/model_final.pth
    tools/lazyconfig_train_net.py --config-file C --eval-only --model teacher

On corrupted images, COCO-C; finished cells of the grid are kept, and several models share each corrupted image:
    tools/lazyconfig_train_net.py --config-file C --eval-only --coco-c train.init_checkpoint=output/model_final.pth
    tools/lazyconfig_train_net.py --config-file C --eval-only --coco-c --corruptions noise,fog --severities 0,3 \\
        --models alone=output/alone/model_final.pth cankd=output/cankd/model_final.pth teacher

Several GPUs and machines, and changed options; torchrun and SLURM's srun may start the processes, too:
    tools/lazyconfig_train_net.py --config-file C --num-gpus 8 dataloader.train.total_batch_size=16
    tools/lazyconfig_train_net.py --config-file C --num-gpus 8 --num-machines 2 --machine-rank 0 --dist-url tcp://A:P
    torchrun --nproc-per-node 8 tools/lazyconfig_train_net.py --config-file C
    srun --ntasks-per-node 8 --gpus-per-node 8 tools/lazyconfig_train_net.py --config-file C
"""

import argparse
import contextlib
import os
import re
import shlex
import sys

import cankd.utils.quiet  # noqa: F401
from cankd.data import CORRUPTION_GROUPS, SEVERITIES, choose_cells
from cankd.engine import evaluate, launch, load_config, lock_output_dir, prepare_run, train
from cankd.robustness import compare_robustness, evaluate_robustness
from cankd.utils import NonFiniteError, add_model_arguments, model_arguments, report_mistakes
from detectron2.engine import default_argument_parser

CONFIG_FILE = "a LazyConfig (.py), a yacs config (.yaml), or a name of Detectron2's model zoo"
RESUME = "continue from the last checkpoint of train.output_dir, if there is one"
OPTS = "options of the config, key=value, for example train.max_iter=1000; of a yacs config also SOLVER.BASE_LR=0.01"


@report_mistakes("Training continues from the last checkpoint with --resume, --coco-c with the same command.")
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    with contextlib.nullcontext() if args.eval_only else lock_output_dir(config.train.output_dir):
        prepare_run(config, args)
        if args.coco_c:
            evaluate_on_corruptions(config, args)
        elif args.eval_only:
            evaluate(config, role=args.model)
        else:
            try:
                train(config, resume=args.resume)
            except NonFiniteError as error:
                raise NonFiniteError(f"{error}; then --resume, or start anew") from error


def evaluate_on_corruptions(config, args):
    models = dict(args.models or [(args.model, config.train.init_checkpoint)])
    cells = choose_cells(args.corruptions or "benchmark", args.severities or SEVERITIES)
    output_dir = os.path.join(config.train.output_dir, "robustness")
    grids = evaluate_robustness(config, models, cells, output_dir, channel_order=args.channel_order or "RGB")
    if grids:
        command = shlex.join(["tools/lazyconfig_train_net.py", *sys.argv[1:]])
        print(compare_robustness(grids, output_dir, command=command))
        print(f"Tables and curves: {output_dir}/robustness.*")


def split_models(words):
    """Splits what follows --models into models and overrides of the config, whose keys have dots."""
    overrides = [word for word in words if re.match(r"[\w-]+\.[^=]*=", word)]
    models = [tuple(word.partition("=")[::2]) for word in words if word not in overrides]
    for name, checkpoint in models:
        if not re.fullmatch(r"[\w-]+", name) or (name == "teacher") == bool(checkpoint):
            raise ValueError(f"--models: {name!r} is neither NAME=CHECKPOINT (letters, digits, _ and -) nor 'teacher'")
    if len(dict(models)) < len(models):
        raise ValueError("--models: two models have the same name")
    return models, overrides


def severities(text):
    if not re.fullmatch(r"\d(,\d)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of severities such as 0,1,2,3,4,5")
    return [int(digit) for digit in text.split(",")]


def parse_arguments(argv=None):
    parser = default_argument_parser(epilog=__doc__)
    for action in parser._actions:  # Detectron2 explains its older configs there
        action.help = {"opts": OPTS, "config_file": CONFIG_FILE, "resume": RESUME}.get(action.dest, action.help)
        if action.dest == "opts":
            action.nargs = "*"  # and not all that follows, so that options may stand behind overrides
    parser.set_defaults(dist_url="auto")  # a free port
    add_model_arguments(parser)
    parser.add_argument("--model", choices=("student", "teacher"), default="student", help="whom --eval-only evaluates")
    group = parser.add_argument_group("evaluation on corrupted images")
    group.add_argument("--coco-c", action="store_true", help="with --eval-only: over corruptions and severities")
    choices = ", ".join(["benchmark", "all", *CORRUPTION_GROUPS])
    group.add_argument("--corruptions", help=f"{choices}, or names, separated by commas; benchmark if not given")
    group.add_argument(
        "--severities", type=severities, help="0 (the clean image) to 5, separated by commas; all if not given"
    )
    help = "of the images while they are corrupted; RGB if not given, BGR to compare with figures made in that way"
    group.add_argument("--channel-order", choices=("RGB", "BGR"), help=help)
    help = "instead of --model: checkpoints of the student, and the word 'teacher' for the config's teacher"
    group.add_argument("--models", nargs="+", metavar="NAME=CHECKPOINT", help=help)
    args = parser.parse_intermixed_args(argv)
    if args.coco_c and not args.eval_only:
        parser.error("--coco-c evaluates: add --eval-only")
    for option in ("corruptions", "severities", "channel_order", "models"):
        if getattr(args, option) and not args.coco_c:
            parser.error(f"--{option.replace('_', '-')} belongs to --coco-c")
    try:
        args.models, overrides = split_models(args.models or ())
    except ValueError as error:
        parser.error(str(error))
    args.opts = [*overrides, *args.opts]
    return args


@report_mistakes()
def run(args):
    machines = dict(num_machines=args.num_machines, machine_rank=args.machine_rank, dist_url=args.dist_url)
    launch(main, args.num_gpus, args=(args,), **machines)


def cli():
    """The console command."""
    run(parse_arguments())


if __name__ == "__main__":
    cli()

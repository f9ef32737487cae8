#!/usr/bin/env python
"""Trains or evaluates what a LazyConfig describes: a distilled student, a baseline, or a teacher.

Examples:

Distil:
    tools/lazyconfig_train_net.py --config-file configs/DigitScenes/retinanet_R10_from_R18.py

Continue an interrupted run:
    tools/lazyconfig_train_net.py --config-file C --resume

Evaluate the student of a checkpoint, or the config's teacher:
    tools/lazyconfig_train_net.py --config-file C --eval-only train.init_checkpoint=output/model_final.pth
    tools/lazyconfig_train_net.py --config-file C --eval-only --model teacher

Several GPUs and machines, and changed options:
    tools/lazyconfig_train_net.py --config-file C --num-gpus 8 dataloader.train.total_batch_size=16
    tools/lazyconfig_train_net.py --config-file C --num-gpus 8 --num-machines 2 --machine-rank 0 --dist-url URL
"""

from cankd.engine import evaluate, launch, load_config, prepare_run, report_mistakes, train
from detectron2.engine import default_argument_parser


@report_mistakes("--resume continues from the last checkpoint.")
def main(args):
    config = load_config(args.config_file, args.opts)
    prepare_run(config, args)
    if args.eval_only:
        evaluate(config, role=args.model)
    else:
        train(config, resume=args.resume)


def parse_arguments(argv=None):
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument("--model", choices=("student", "teacher"), default="student", help="whom --eval-only evaluates")
    return parser.parse_args(argv)


@report_mistakes()
def run(args):
    machines = dict(num_machines=args.num_machines, machine_rank=args.machine_rank, dist_url=args.dist_url)
    launch(main, args.num_gpus, args=(args,), **machines)


if __name__ == "__main__":
    run(parse_arguments())

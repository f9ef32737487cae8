#!/usr/bin/env python
"""Trains or evaluates what a LazyConfig describes: a distilled student, a baseline, or a teacher.

Examples:

Distil:
    tools/lazyconfig_train_net.py --config-file configs/DigitScenes/retinanet_R10_R18_cankd.py

Continue an interrupted run:
    tools/lazyconfig_train_net.py --config-file C --resume

Evaluate the student of a checkpoint, or the config's teacher:
    tools/lazyconfig_train_net.py --config-file C --eval-only train.init_checkpoint=output/model_final.pth
    tools/lazyconfig_train_net.py --config-file C --eval-only --model teacher

Several GPUs and machines, and changed options:
    tools/lazyconfig_train_net.py --config-file C --num-gpus 8 train.amp.enabled=True optimizer.lr=0.01
    tools/lazyconfig_train_net.py --config-file C --num-gpus 8 --num-machines 2 --machine-rank 0 --dist-url URL
"""

import sys

from cankd.engine import evaluate, load_config, prepare_run, report_mistakes, train
from detectron2.engine import default_argument_parser, launch
from torch.multiprocessing import ProcessExitedException


@report_mistakes
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


if __name__ == "__main__":
    arguments = parse_arguments()
    try:
        launch(
            main,
            arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
    except ProcessExitedException as error:  # a process has reported what is wrong
        sys.exit(error.exit_code)

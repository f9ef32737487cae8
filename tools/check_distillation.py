#!/usr/bin/env python
"""Tells, before hours of training, whether a distillation will work: levels, weights, scores
before training, sizes of all images, gradients, hours, memory, cost.

Example:
    tools/check_distillation.py --config-file configs/DigitScenes/retinanet_R10_from_R18.py

Exits with 0 if the run is ready.
"""

import os
import sys

import cankd.utils.quiet  # noqa: F401
from cankd.analysis import check_distillation
from cankd.engine import load_config
from cankd.utils import ConfigArgumentParser, model_arguments, report_mistakes
from cankd.utils.files import make_output_dir, write_json


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    if args.json:
        make_output_dir(os.path.dirname(args.json))
    found = check_distillation(config, num_images=args.images, num_gpus=max(1, args.num_gpus))
    if args.json:
        write_json(args.json, found)
    sys.exit(1 if found["problems"] else 0)


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__, config="of a distillation, or of a student")
    parser.add_argument(
        "--images",
        type=int,
        default=50,
        help="test images on which teacher and student are evaluated, or 0 (default: 50)",
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="of all machines; the step is that of one of them")
    parser.add_argument("--json", metavar="FILE", help="where to write what was found, as JSON")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

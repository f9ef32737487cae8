#!/usr/bin/env python
"""Distils a small detector on Digit Scenes and shows what it gained: `make demo`. Resumes where it was interrupted."""

import cankd.utils.quiet  # noqa: F401
from cankd import model_zoo
from cankd.engine import load_config
from cankd.reporting import run_demo
from cankd.utils import OverridesArgumentParser, report_mistakes


@report_mistakes("The same command continues.")
def main(args):
    student, distilled = (
        load_config(model_zoo.get_config_file(f"DigitScenes/{name}.py"), args.opts)
        for name in ("retinanet_R10", "retinanet_R10_from_R18")
    )
    run_demo(student, distilled, args.output, report=print)


def parse_arguments(argv=None):
    parser = OverridesArgumentParser(__doc__, help="options of both configs, for example train.max_iter=400")
    parser.add_argument("--output", default="output/demo", metavar="DIR", help="where all results go")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

#!/usr/bin/env python
"""Plots training runs together: AP or mIoU, losses, distillation losses and correlations by level (supplement, fig. 3).

Examples:
    tools/plot_curves.py alone=output/alone cankd=output/cankd --teacher 64.1
    tools/plot_curves.py output/cankd --metric bbox/AP50 --output ap50.png
"""

import argparse

import cankd.utils.quiet  # noqa: F401
from cankd.reporting import plot_runs, read_curves
from cankd.utils import named_path, report_mistakes


@report_mistakes()
def main(args):
    curves = {name: read_curves(path) for name, path in args.runs}
    plot_runs(curves, args.output, teacher=args.teacher, metric=args.metric)
    print(f"{args.output}, .json")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=named_path, nargs="+", metavar="[NAME=]RUN", help="output directories of trainings"
    )
    parser.add_argument("--teacher", type=float, metavar="VALUE", help="its metric, drawn as a line")
    parser.add_argument("--metric", default="", help="default: the first that there is, as bbox/AP")
    parser.add_argument("--output", default="output/curves.png", metavar="PNG")
    args = parser.parse_args(argv)
    if len(dict(args.runs)) < len(args.runs):
        parser.error("two runs have the same name: give names as NAME=RUN")
    return args


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

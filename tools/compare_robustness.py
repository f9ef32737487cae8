#!/usr/bin/env python
"""Compares models on corrupted images: clean, mPC and rPC (table 1 of the supplement), the grid, curves by severity.

Example:
    tools/compare_robustness.py alone=output/alone/robustness/student cankd=output/cankd/robustness/student \\
        --output output/comparison
"""

import argparse
import shlex

import cankd.utils.quiet  # noqa: F401
from cankd.robustness import compare_robustness, read_grids
from cankd.utils import named_path, report_mistakes


@report_mistakes()
def main(args):
    runs = " ".join(shlex.quote(f"{name}={folder}") for name, folder in args.runs)
    command = f"tools/compare_robustness.py {runs} --output {shlex.quote(args.output)}"
    print(compare_robustness(read_grids(dict(args.runs)), args.output, command=command))
    print(f"Tables and curves: {args.output}/robustness.*")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help = "a model's results, OUTPUT_DIR/robustness/NAME as --coco-c of lazyconfig_train_net.py writes them"
    parser.add_argument("runs", type=named_path, nargs="+", metavar="[NAME=]FOLDER", help=help)
    parser.add_argument("--output", default="output/robustness", help="where tables and curves go")
    args = parser.parse_args(argv)
    if len(dict(args.runs)) < len(args.runs):
        parser.error("two models have the same name")
    return args


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

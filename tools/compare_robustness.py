#!/usr/bin/env python
"""Compares models on corrupted images: clean, mPC and rPC (table 1 of the supplement), the grid, curves by severity.

Example:
    tools/compare_robustness.py alone=output/alone/robustness/student cankd=output/cankd/robustness/student \\
        --output output/comparison
"""

import argparse
import shlex

from cankd.engine import compare_robustness, read_grid, report_mistakes


@report_mistakes()
def main(args):
    grids = {name: read_grid(folder) for name, folder in args.runs}
    runs = " ".join(shlex.quote(f"{name}={folder}") for name, folder in args.runs)
    print(compare_robustness(grids, args.output, command=f"tools/compare_robustness.py {runs}"))
    print(f"Tables and curves: {args.output}/robustness.*")


def run(text):
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, folder


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help = "a model's results, OUTPUT_DIR/robustness/NAME as --coco-c of lazyconfig_train_net.py writes them"
    parser.add_argument("runs", type=run, nargs="+", metavar="NAME=FOLDER", help=help)
    parser.add_argument("--output", default="output/robustness", help="where tables and curves go")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(parse_arguments())

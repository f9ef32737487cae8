#!/usr/bin/env python
"""Gathers all that there is about training runs into one HTML page: tables, curves, pictures, robustness, configs.

Runs of the same name are seeds of one method. Pictures and tables that the other tools wrote into the runs' folders
and into those of --include are taken in, for example a comparison of methods (compare_methods.py) with its verdict.

Example:
    tools/make_report.py alone=output/alone_0 alone=output/alone_1 cankd=output/cankd_0 cankd=output/cankd_1 \\
        --include output/confusion output/features --teacher 64.1 --output output/report
"""

import argparse

import cankd.utils.quiet  # noqa: F401
from cankd.reporting import make_report
from cankd.utils import named_path, report_mistakes


@report_mistakes()
def main(args):
    print(make_report(args.runs, args.output, include=args.include, teacher=args.teacher, title=args.title))


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=named_path, nargs="+", metavar="[NAME=]RUN", help="output directories of trainings"
    )
    parser.add_argument(
        "--include", nargs="+", default=[], metavar="DIR", help="more directories with pictures and tables"
    )
    parser.add_argument("--teacher", type=float, metavar="VALUE", help="its AP or mIoU, drawn as a line")
    parser.add_argument("--title", default="CanKD: report")
    parser.add_argument("--output", default="output/report", metavar="DIR")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

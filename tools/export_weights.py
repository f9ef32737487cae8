#!/usr/bin/env python
"""Writes a checkpoint's weights alone: a run's student, to deploy it or to teach others.

Examples:
    tools/export_weights.py output/DigitScenes/retinanet_R18/model_final.pth teacher.pth --float16
    tools/export_weights.py output/DigitScenes/retinanet_R18/model_final.pth student.safetensors
"""

import argparse

import cankd.utils.quiet  # noqa: F401
from cankd.checkpoint import export_weights
from cankd.utils import report_mistakes


@report_mistakes()
def main(args):
    size = export_weights(args.source, args.target, float16=args.float16)
    print(f"{args.target}: {size / 1e6:.1f} MB")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="checkpoint, for example model_final.pth of a run")
    parser.add_argument("target", help="file to write, .pth or .safetensors")
    parser.add_argument("--float16", action="store_true", help="halve the file")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

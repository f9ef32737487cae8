#!/usr/bin/env python
"""Draws which teacher positions a position of the student draws on, at each distilled level.

Examples:

A point, in pixels of the image that the models see:
    tools/visualize_attention.py --config-file C --point 80,60 train.init_checkpoint=output/distilled/model_final.pth

The mean over a box, on one's own image:
    tools/visualize_attention.py --config-file C --box 40,40,90,100 --input photo.jpg \\
        train.init_checkpoint=output/distilled/model_final.pth
"""

import argparse

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config
from cankd.reporting import draw_attention
from cankd.utils import PictureArgumentParser, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    paths = draw_attention(
        load_config(args.config_file, args.opts, **model_arguments(args)),
        args.output,
        point=args.point,
        box=args.box,
        inputs=args.input,
        images=args.images,
        levels=args.levels,
    )
    print(*paths, sep="\n")


def pixels(count):
    def parse(text):
        try:
            values = tuple(float(word) for word in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"{text!r} is not {count} numbers, separated by commas")
        return values

    return parse


def parse_arguments(argv=None):
    parser = PictureArgumentParser(__doc__, images=1, baseline=False)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--point", type=pixels(2), metavar="X,Y")
    where.add_argument("--box", type=pixels(4), metavar="X0,Y0,X1,Y1")
    parser.add_argument("--output", default="output/attention", metavar="DIR")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

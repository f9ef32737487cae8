#!/usr/bin/env python
"""Draws images of a data set with their annotated boxes, masks and keypoints, their segmentations or their classes.

Example:
    tools/visualize_data.py --config-file configs/DigitScenes/retinanet_R10.py --output samples.png
"""

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config, test_data
from cankd.reporting import draw_data
from cankd.utils import ConfigArgumentParser, UserError, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    if args.split == "train" and config.dataloader.get("train") is None:
        raise UserError("the config has no dataloader.train: draw its test set, by --split test")
    loader = test_data(config) if args.split == "test" else config.dataloader.train
    draw_data(loader.dataset, args.output, images=args.images)


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__, config="whose data is drawn")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="which of the config's loaders")
    parser.add_argument("--images", type=int, default=8, help="how many, four a row")
    parser.add_argument("--output", default="output/samples.png", metavar="PNG", help="default: output/samples.png")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

#!/usr/bin/env python
"""Draws what student, distilled student and teacher predict, side by side, beside the ground truth where there is one.

Examples:

The first images of the test set:
    tools/visualize_predictions.py --config-file C --baseline output/student/model_final.pth \\
        train.init_checkpoint=output/distilled/model_final.pth

Images of one's own:
    tools/visualize_predictions.py --config-file C --input photo.jpg holidays/ train.init_checkpoint=model_final.pth
"""

import argparse
import os

from cankd.engine import draw_predictions, load_config, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts)
    draw_predictions(config, args.output, baseline=args.baseline, inputs=args.input, images=args.images)
    print(args.output)


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config-file", required=True, metavar="FILE", help="config of a distillation, or of one model"
    )
    parser.add_argument("--baseline", default="", metavar="FILE", help="checkpoint of the student trained alone")
    parser.add_argument("--input", nargs="+", default=[], metavar="PATH", help="images, or folders of images")
    parser.add_argument("--images", type=int, default=4, help="how many of the test set, where there is no --input")
    parser.add_argument("--output", default="predictions.png", metavar="PNG")
    parser.add_argument("opts", nargs="*", help="options of the config, key=value")
    args = parser.parse_args(argv)
    args.opts += [entry for entry in args.input if "=" in entry and not os.path.exists(entry)]
    args.input = [entry for entry in args.input if entry not in args.opts]
    return args


if __name__ == "__main__":
    main(parse_arguments())

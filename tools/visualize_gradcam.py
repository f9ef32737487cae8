#!/usr/bin/env python
"""Draws where student, distilled student and teacher see a class, by Grad-CAM (supplement, figure 7).

Of a classifier, the logit of a class is explained; of a detector, the score of its surest detection.

Examples:

The predicted classes, at all stages of the backbone, on the first images of the test set:
    tools/visualize_gradcam.py --config-file C --baseline output/student/model_final.pth \\
        train.init_checkpoint=output/distilled/model_final.pth

A class of one's own choice, on one's own image, at the last stage:
    tools/visualize_gradcam.py --config-file C --class-name tabby --levels res5 --input photo.jpg \\
        train.init_checkpoint=output/distilled/model_final.pth
"""

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config
from cankd.reporting import choose_records, draw_gradcam, load_models
from cankd.utils import PictureArgumentParser, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    paths = draw_gradcam(
        load_models(config, baseline=args.baseline),
        config,
        choose_records(config, inputs=args.input, images=args.images),
        args.output,
        levels=args.levels,
        class_name=args.class_name,
        class_index=args.class_index,
    )
    print(*paths, sep="\n")


def parse_arguments(argv=None):
    parser = PictureArgumentParser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--class-name", default="", metavar="NAME", help="class to explain (default: the predicted one)")
    which.add_argument("--class-index", type=int, metavar="NUMBER", help="the same by its number, from 0")
    parser.add_argument("--output", default="output/gradcam", metavar="DIR")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

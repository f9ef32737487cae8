#!/usr/bin/env python
"""Confusion matrices of student, distilled student and teacher on the test set (supplement, figures 1 and 2).

Of classifiers, each image counts for its label and the most probable class, and --counting, --iou and --score do not
matter. The picture also shows the distilled student's matrix minus the student's.

Example:
    tools/confusion_matrix.py --config-file C --baseline output/student/model_final.pth \\
        train.init_checkpoint=output/distilled/model_final.pth
"""

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config
from cankd.evaluation import COUNTINGS
from cankd.reporting import compare_confusion, load_models
from cankd.utils import ConfigArgumentParser, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    compare_confusion(
        load_models(config, baseline=args.baseline),
        config.dataloader.test,
        args.output,
        counting=args.counting,
        iou_threshold=args.iou,
        score_threshold=args.score,
        images=args.images,
    )
    print(f"{args.output}/confusion.png, .json, .csv")


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__)
    parser.add_argument("--baseline", default="", metavar="FILE", help="checkpoint of the student trained alone")
    help = "what counts for an object: one detection at most, or every one that overlaps it, as in the paper's figures"
    parser.add_argument("--counting", choices=COUNTINGS, default="one-to-one", help=help)
    parser.add_argument("--iou", type=float, default=0.5, help="lowest IoU of a match")
    parser.add_argument("--score", type=float, default=0.3, help="lowest score of a detection that counts")
    parser.add_argument("--images", type=int, help="how many of the test set, instead of all")
    parser.add_argument("--output", default="output/confusion", metavar="DIR")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

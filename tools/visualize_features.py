#!/usr/bin/env python
"""Draws the feature levels of student, distilled student and teacher over images (supplement, figure 6).

Examples:

Mean over channels, on the first images of the test set:
    tools/visualize_features.py --config-file C --baseline output/student/model_final.pth \\
        train.init_checkpoint=output/distilled/model_final.pth

How far the students are from the teacher, at one level of one's own images:
    tools/visualize_features.py --config-file C --quantity correlation --levels p3 --input photo.jpg \\
        train.init_checkpoint=output/distilled/model_final.pth
"""

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config
from cankd.reporting import QUANTITIES, choose_records, draw_features, load_models
from cankd.utils import PictureArgumentParser, model_arguments, report_mistakes
from cankd.visualization import REDUCTIONS


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    paths = draw_features(
        load_models(config, baseline=args.baseline),
        config,
        choose_records(config, inputs=args.input, images=args.images),
        args.output,
        levels=args.levels,
        quantity=args.quantity,
        reduction=args.reduction,
        top_k=args.top_k,
    )
    print(*paths, sep="\n")


def parse_arguments(argv=None):
    parser = PictureArgumentParser(__doc__)
    parser.add_argument("--quantity", choices=QUANTITIES, default="feature", help="or a student's against the teacher")
    parser.add_argument("--reduction", choices=REDUCTIONS, default="mean", help="of the channels")
    parser.add_argument("--top-k", type=int, default=8, help="channels of the reduction 'top'")
    parser.add_argument("--output", default="output/features", metavar="DIR")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

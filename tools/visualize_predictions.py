#!/usr/bin/env python
"""Draws what student, distilled student and teacher predict, side by side, beside the ground truth where there is one.

Examples:

The first images of the test set:
    tools/visualize_predictions.py --config-file C --baseline output/student/model_final.pth \\
        train.init_checkpoint=output/distilled/model_final.pth

Those on which the students differ most:
    tools/visualize_predictions.py --config-file C --only differing --baseline output/student/model_final.pth \\
        train.init_checkpoint=output/distilled/model_final.pth

Images of one's own:
    tools/visualize_predictions.py --config-file C --input photo.jpg holidays/ train.init_checkpoint=model_final.pth
"""

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config
from cankd.reporting import draw_predictions
from cankd.utils import PictureArgumentParser, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    draw_predictions(
        config,
        args.output,
        baseline=args.baseline,
        inputs=args.input,
        images=args.images,
        score_threshold=args.score,
        only_differing=args.only == "differing",
    )
    print(args.output)


def parse_arguments(argv=None):
    parser = PictureArgumentParser(__doc__, levels=False)
    parser.add_argument("--score", type=float, default=0.3, help="lowest score of a detection that is drawn")
    help = "test images on which one student finds objects that the other misses, most first"
    parser.add_argument("--only", choices=["differing"], help=help)
    parser.add_argument(
        "--output", default="output/predictions.png", metavar="PNG", help="default: output/predictions.png"
    )
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

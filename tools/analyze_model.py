#!/usr/bin/env python
"""Parameters, FLOPs and activations of a config's models by part: student, teacher and distillation head, by fvcore.

FLOPs are multiply-adds, without element-wise operations. "teacher, distilled levels" is what of it
a training step computes; its parameters are the whole teacher's.

Examples:
    tools/analyze_model.py --config-file configs/COCO-Detection/retinanet_R50_from_R101.py --size 800x1344
    tools/analyze_model.py --config-file configs/Cityscapes-SemanticSegmentation/pspnet_R18.py --size 512x1024 --json
"""

import json

import cankd.utils.quiet  # noqa: F401
from cankd.analysis import cost_table, count_config_costs
from cankd.engine import load_config
from cankd.utils import ConfigArgumentParser, image_size, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    config.train.device = "cpu"  # counting takes no time
    costs = count_config_costs(config, *args.size)
    print(
        json.dumps(costs, indent=2)
        if args.json
        else f"{cost_table(costs)}\n\nfor an image of {'×'.join(map(str, args.size))}"
    )


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__)
    parser.add_argument(
        "--size", type=image_size, default="800x1344", metavar="HEIGHTxWIDTH", help="of the image, in pixels"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

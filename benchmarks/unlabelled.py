#!/usr/bin/env python
"""What images without labels add, where few have some: 150 labelled images of Digit Scenes and 2,850 others.

Trains, with each seed, the student alone on the 150, distilled on the 150, and distilled on all, of which the 2,850
have no labels. Runs that are done are not repeated, interrupted ones continue. Tables, the picture and the JSON of each
run go to benchmarks/methods/few_labels/.

Example:
    benchmarks/unlabelled.py --seeds 0 1 2
"""

import cankd.utils.quiet  # noqa: F401
from cankd import model_zoo
from cankd.engine import load_config
from cankd.reporting import compare_methods, parse_method
from cankd.utils import OverridesArgumentParser, report_mistakes
from measuring import HERE, command

CONFIG = "DigitScenes/retinanet_R10_150_from_R18.py"
WITH_UNLABELLED = "DigitScenes/retinanet_R10_150_from_R18_unlabelled.py"


def list_methods():
    """Returns the rows of the table; the last has the unlabelled images of its config."""
    options = load_config(model_zoo.get_config_file(WITH_UNLABELLED)).train.distillation.unlabelled
    overrides = ",".join(f"train.distillation.unlabelled.{key}={value}" for key, value in options.items())
    return [parse_method(text) for text in ("alone", "cankd", f"cankd_unlabelled=cankd:{overrides}")]


@report_mistakes("The same command continues.")
def main(args):
    print(
        compare_methods(
            model_zoo.get_config_file(CONFIG),
            list_methods(),
            args.seeds,
            str(args.output),
            overrides=args.opts,
            runs_dir=args.runs,
            jobs=args.jobs,
            command=command(),
        )
    )


def parse_arguments(argv=None):
    parser = OverridesArgumentParser(__doc__, help="options of every run, key=value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; they share the cores (default: 1)")
    parser.add_argument("--output", default=HERE / "methods" / "few_labels", metavar="DIR")
    parser.add_argument("--runs", default="output/benchmarks/few_labels", metavar="DIR", help="where the runs go")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(parse_arguments())

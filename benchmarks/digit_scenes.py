#!/usr/bin/env python
"""What each method gains on Digit Scenes, over seeds: tools/compare_methods.py for each small pair of models.

Runs whose JSON is in benchmarks/methods/MODEL/ are done and not repeated. Table, picture and the JSON of each new run
go there, those of other methods or seeds (--methods, --seeds) to output/benchmarks/methods/MODEL/ alone; the trainings
themselves go to output/benchmarks/MODEL/. If it is interrupted, the same command continues.

Examples:
    benchmarks/digit_scenes.py --model retinanet --jobs 2
    benchmarks/digit_scenes.py --model semantic_fpn --methods cankd cankd_inherit --seeds 0
"""

import argparse

import cankd.utils.quiet  # noqa: F401
from cankd import model_zoo
from cankd.reporting import compare_methods, parse_method
from cankd.utils import report_mistakes
from measuring import HERE, command

SEEDS = [0, 1, 2]

# Config and methods of each model. Where there are rows with †, the config names the parts that fit: without † it is
# the plain one. The published weights of AT and DetKDS do harm; the others were chosen on seed 3 (retinanet_weights/).
MODELS = {
    "retinanet": (
        "retinanet_R10_from_R18_inherit",
        "alone cankd no_attention linear pkd at cwd fgd mgd fkd diffkd detkds kd cankd+kd "
        "alone_inherit cankd_inherit pkd_inherit fgd_inherit "
        "at_10=at:model.head.weight=10 detkds_006=detkds:model.head.weight=0.06",
    ),
    "faster_rcnn": ("faster_rcnn_R10_from_R18_inherit", "alone cankd pkd fgd linear no_attention diffkd cankd_inherit"),
    "mask_rcnn": ("mask_rcnn_R10_from_R18_inherit", "alone cankd"),
    "reppoints": ("reppoints_R10_from_X26_inherit", "alone cankd pkd cwd fgd mgd cankd_inherit"),
    "semantic_fpn": (
        "semantic_fpn_R10_from_R18_inherit",
        "alone cankd no_attention linear pkd at cwd mgd diffkd detkds kd cwd_logits cankd+cwd_logits "
        "alone_inherit cankd_inherit pkd_inherit cankd+cwd_logits_inherit diffkd_inherit",
    ),
    "pspnet": ("pspnet_R10_from_R18", "alone cankd no_attention pkd cwd mgd cwd_logits cankd+cwd_logits"),
}


@report_mistakes("The same command continues.")
def main(args):
    config, methods = MODELS[args.model]
    text = compare_methods(
        model_zoo.get_config_file(f"DigitScenes/{config}.py"),
        [parse_method(method) for method in args.methods or methods.split()],
        args.seeds,
        f"{args.output or choose_output(args)}/{args.model}",
        runs_dir=f"{args.runs}/{args.model}",
        jobs=args.jobs,
        command=command(),
    )
    print(text)


def choose_output(args):
    """Returns the folder of the committed tables for the whole comparison, and another one for a part of it."""
    is_whole = not args.methods and args.seeds == SEEDS
    return HERE / "methods" if is_whole else "output/benchmarks/methods"


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(MODELS), required=True)
    help = "rows of the table, as tools/compare_methods.py takes them (default: those in MODELS)"
    parser.add_argument("--methods", nargs="+", metavar="[TITLE=]METHOD", help=help)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 0 1 2")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; they share the cores (default: 1)")
    help = "default: benchmarks/methods, and output/benchmarks/methods with --methods or --seeds"
    parser.add_argument("--output", metavar="DIR", help=help)
    parser.add_argument("--runs", default="output/benchmarks", metavar="DIR", help="default: output/benchmarks")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(parse_arguments())

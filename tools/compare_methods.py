#!/usr/bin/env python
"""Compares distillation methods on your own pair of models and data, over seeds: table, picture and verdict.

Each method trains with each seed, from the same initial weights and on the same batches as the student alone. A method
is a name, several names with "+" between them, or a name with "_inherit" behind it (†) or "_published" (its published
levels and †). Options of one method change by TITLE=METHOD:key=value,key=value. With train.eval_period=100 each run is
evaluated on the way, and the page also says after how many iterations a method has what the student alone ends with. If
it is interrupted, the same command continues; what is done is not repeated. To tell two methods apart, give one of them
as --baseline: the student alone is not trained then.

Examples:
    tools/compare_methods.py --config-file configs/DigitScenes/retinanet_R10_from_R18.py \\
        --methods cankd pkd cwd fgd --seeds 0 1 2
    tools/compare_methods.py --config-file C --methods cankd cankd+kd strong=fgd:model.head.weight=10 --seeds 0 1 \\
        --jobs 2 train.max_iter=2000
    tools/compare_methods.py --config-file C --methods cankd pkd --baseline pkd --seeds 0 1 2 3 4 5 6 7 8 9
"""

import shlex
import sys

import cankd.utils.quiet  # noqa: F401
from cankd.engine import METHODS, is_method
from cankd.reporting import compare_methods, parse_method
from cankd.utils import ConfigArgumentParser, model_arguments, report_mistakes


@report_mistakes("The same command continues.")
def main(args):
    overrides = list(args.opts)
    if args.iterations:
        overrides.append(f"train.max_iter={args.iterations}")
    text = compare_methods(
        args.config_file,
        [parse_method(method) for method in args.methods],
        args.seeds,
        args.output,
        baseline=args.baseline,
        overrides=overrides,
        models=model_arguments(args),
        runs_dir=args.runs,
        jobs=args.jobs,
        command=shlex.join(["tools/compare_methods.py", *sys.argv[1:]]),
    )
    print(f"\n{text}\n{args.output}/methods.md, .json, .png")


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__, config="of a distillation, or of a student", methods=False)
    help = (
        f"alone (there by itself), {', '.join(METHODS)}; own, the config's; TITLE=FILE of search_distiller.py; sums "
        "such as cankd+kd; any of these with _inherit (†) behind it, or _published"
    )
    parser.add_argument("--methods", nargs="+", required=True, metavar="[TITLE=]METHOD", help=help)
    help = "title of the method that the others are compared with (default: alone, the student without distillation)"
    parser.add_argument("--baseline", default="alone", metavar="TITLE", help=help)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--iterations", type=int, help="of each training, instead of the config's train.max_iter")
    help = "trainings at a time, each on a GPU of its own if there are enough (default: 1)"
    parser.add_argument("--jobs", type=int, default=1, help=help)
    parser.add_argument("--output", default="output/methods", metavar="DIR", help="default: output/methods")
    parser.add_argument("--runs", metavar="DIR", help="where the trainings write (default: OUTPUT/runs)")
    args = parser.parse_args(argv)
    words = [*args.methods, *args.opts]  # options may follow --methods
    args.opts = [word for word in words if _is_override(word)]
    args.methods = [word for word in words if word not in args.opts]
    if args.jobs < 1:
        parser.error(f"--jobs is {args.jobs}; it has to be at least 1")
    return args


def _is_override(word):
    """Tells an option of the config, such as model.head.weight=1, SOLVER.BASE_LR=0.01 or SEED=0, from a method."""
    key, equals, value = word.lstrip("+").partition("=")
    if not equals or ":" in key or is_method(value.partition(":")[0]):
        return False
    return "." in key or key.isupper()


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

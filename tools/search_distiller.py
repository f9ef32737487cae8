#!/usr/bin/env python
"""Searches for the form of distillation that suits a student, its teacher and the data, as DetKDS does.

Each candidate is trained for a few iterations and evaluated; a line tells its metric, scope, operations, distance and
weight. The search ends with a file that is a method for the other scripts. Run again, it goes on where it was.

Examples:

On features, and at the ground-truth boxes:
    tools/search_distiller.py --config-file configs/DigitScenes/retinanet_R10_from_R18_inherit.py \\
        --scope global --scope instance --iterations 200 --budget 12000 --output output/search
    tools/lazyconfig_train_net.py --config-file configs/DigitScenes/retinanet_R10_from_R18_inherit.py \\
        --method output/search/best.json

Class scores as well, of two levels alone:
    tools/search_distiller.py ... --scope global --scope logits=head:0:0,head:0:1

Random draws under the same budget, for comparison:
    tools/search_distiller.py ... --random
"""

import cankd.utils.quiet  # noqa: F401
from cankd.engine import launch, load_config
from cankd.engine.distiller_search import search_distiller
from cankd.engine.preflight import check_device
from cankd.utils import ConfigArgumentParser, model_arguments, report_mistakes
from detectron2.utils import comm


@report_mistakes("The same command goes on where the search was.")
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    check_device(config.train.device)
    path = search_distiller(
        config,
        dict(args.scope),
        args.output,
        iterations=args.iterations,
        budget=args.budget,
        metric=args.metric,
        evolves=not args.random,
        population=args.population,
        seed=args.seed,
    )
    if comm.is_main_process():
        print(f"The best distiller: {path}. Train with it: the same config, and --method {path}")


def scope_and_levels(word):
    scope, _, levels = word.partition("=")
    return scope, levels.split(",") if levels else None


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__, config="of a distillation, or of a student")
    parser.add_argument("--output", required=True, metavar="DIR", help="where results and the best distiller go")
    parser.add_argument(
        "--scope",
        required=True,
        action="append",
        type=scope_and_levels,
        metavar="SCOPE[=LEVEL,…]",
        help="global, foreground, instance or logits, with its levels if they are not the config's; may be given "
        "several times",
    )
    parser.add_argument("--iterations", type=int, default=200, help="of a candidate (default: 200)")
    parser.add_argument(
        "--budget", type=int, default=12000, help="iterations of all candidates together (default: 12000)"
    )
    parser.add_argument(
        "--metric", default="bbox/AP", metavar="TASK/NAME", help="what is to be large (default: bbox/AP)"
    )
    parser.add_argument("--random", action="store_true", help="draw all candidates at random")
    parser.add_argument("--population", type=int, default=8, help="candidates that may become parents (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    parser.add_argument("--num-gpus", type=int, default=1, help="each trains on its share of a batch")
    return parser.parse_args(argv)


@report_mistakes()
def run(args):
    launch(main, args.num_gpus, args=(args,), dist_url="auto")


def cli():
    """The console command."""
    run(parse_arguments())


if __name__ == "__main__":
    cli()

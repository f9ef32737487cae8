#!/usr/bin/env python
"""Whether RepPoints learns as well as RetinaNet, and where its points best start: AP on Digit Scenes at equal length.

Trains each variant with each seed; runs that are done are not repeated, interrupted ones continue. The table goes to
benchmarks/reppoints.md and .json.

Example:
    benchmarks/reppoints.py --seeds 0 1
"""

import argparse
import json
import statistics

from cankd import model_zoo
from cankd.reporting import Method, compare_methods
from cankd.utils import markdown_table, report_mistakes, spread, write_json
from measuring import HERE, write_page

# Config and variants; none distils.
VARIANTS = {
    "retinanet_R10_from_R18": [Method("RetinaNet", "alone")],
    "reppoints_R10_from_X26": [
        Method("RepPoints, points start on the grid", "alone"),
        Method("RepPoints, points start at the position", "alone", ("model.student.head.start_on_grid=False",)),
    ],
}


def train(args):
    """Returns the AP of each variant by seed."""
    found = {}
    for config, methods in VARIANTS.items():
        output_dir = f"{args.output}/{config}_{args.iterations}"
        config_file = model_zoo.get_config_file(f"DigitScenes/{config}.py")
        compare_methods(config_file, methods, args.seeds, output_dir, overrides=[f"train.max_iter={args.iterations}"])
        with open(f"{output_dir}/methods.json") as f:
            found |= json.load(f)["tasks"]["bbox"]["values"]
    return found


@report_mistakes("The same command continues.")
def main(args):
    results = train(args)
    retinanet = statistics.mean(results["RetinaNet"].values())
    rows = []
    for title, by_seed in results.items():
        values = by_seed.values()
        share = statistics.mean(values) / retinanet
        rows.append([title, ", ".join(f"{v:.1f}" for v in values), spread(values), f"{share:.0%}"])
    table = markdown_table(rows, ["", "AP by seed", "AP", "of RetinaNet's"])
    command = f"benchmarks/reppoints.py --seeds {' '.join(map(str, args.seeds))} --iterations {args.iterations}"
    about = f"`{command}`: AP on Digit Scenes, ResNet-10, without distillation."
    text = f"# RepPoints against RetinaNet\n\n{about}\n\n{table}\n"
    write_page("reppoints.md", text)
    write_json(str(HERE / "reppoints.json"), {"command": command, "results": results})


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--output", default="output/benchmarks/reppoints", metavar="DIR", help="where the runs go")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(parse_arguments())

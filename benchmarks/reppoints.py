#!/usr/bin/env python
"""Whether RepPoints learns as well as RetinaNet, and where its points best start: AP on Digit Scenes at equal length.

Trains each variant with each seed, one after another; runs that are done are not repeated, interrupted ones continue.
The table goes to benchmarks/reppoints.md and .json.

Example:
    benchmarks/reppoints.py --seeds 0 1
"""

import argparse
import pathlib
import statistics

from cankd.utils import markdown_table, spread, write_json
from digit_scenes import BASELINE, run
from measuring import HERE, write_page
from tqdm import tqdm

# Title: (folder, detector, overrides)
VARIANTS = {
    "RetinaNet": ("retinanet", "retinanet", []),
    "RepPoints, points start on the grid": ("reppoints", "reppoints", []),
    "RepPoints, points start at the position": ("reppoints_position", "reppoints", ["model.head.start_on_grid=False"]),
}


def main(args):
    results = {title: {} for title in VARIANTS}
    for title, seed in tqdm([(title, seed) for seed in args.seeds for title in VARIANTS], unit="run"):
        folder, detector, overrides = VARIANTS[title]
        args.name = f"reppoints/{folder}_{args.iterations}"
        args.opts = [f"train.max_iter={args.iterations}", *overrides]
        results[title][seed] = run(detector, BASELINE, seed, args)
    means = {title: statistics.mean(metrics["AP"] for metrics in runs.values()) for title, runs in results.items()}
    rows = []
    for title, runs in results.items():
        values = [metrics["AP"] for metrics in runs.values()]
        share = means[title] / means["RetinaNet"]
        rows.append([title, ", ".join(f"{v:.1f}" for v in values), spread(values), f"{share:.0%}"])
    table = markdown_table(rows, ["", "AP by seed", "AP", "of RetinaNet's"])
    command = f"benchmarks/reppoints.py --seeds {' '.join(map(str, args.seeds))} --iterations {args.iterations}"
    about = f"`{command}`: AP on Digit Scenes, ResNet-10, without distillation."
    text = f"# RepPoints against RetinaNet\n\n{about}\n\n{table}\n"
    write_page("reppoints.md", text)
    write_json(str(HERE / "reppoints.json"), {"command": command, "results": results})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--output", type=pathlib.Path, default="output/benchmarks", help="where the runs go")
    main(parser.parse_args())

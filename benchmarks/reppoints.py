#!/usr/bin/env python
"""Whether RepPoints learns as well as RetinaNet: AP on Digit Scenes at equal backbone and length.

Trains each detector with each seed, one after another; runs that are done are not repeated, interrupted ones continue.
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

DETECTORS = ("retinanet", "reppoints")


def main(args):
    results = {detector: {} for detector in DETECTORS}
    args.opts = [f"train.max_iter={args.iterations}"]
    for detector, seed in tqdm([(detector, seed) for seed in args.seeds for detector in DETECTORS], unit="run"):
        args.name = f"reppoints/{detector}_{args.iterations}"
        results[detector][seed] = run(detector, BASELINE, seed, args)
    means = {d: statistics.mean(metrics["AP"] for metrics in runs.values()) for d, runs in results.items()}
    rows = []
    for detector, runs in results.items():
        values = [metrics["AP"] for metrics in runs.values()]
        share = means[detector] / means["retinanet"]
        rows.append([detector, ", ".join(f"{v:.1f}" for v in values), spread(values), f"{share:.0%}"])
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

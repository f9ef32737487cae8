#!/usr/bin/env python
"""How long training waits for its data, in the shipped configs: `make bench`.

Trains each for some iterations and reads ``data_time`` and ``time`` of metrics.json. The table goes to
benchmarks/loader.md.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

from cankd.utils import markdown_table
from measuring import command, environment, training_command, write_page
from tqdm import tqdm

CONFIGS = [f"{model}_R10{pair}" for model in ("retinanet", "faster_rcnn", "semantic_fpn") for pair in ("", "_from_R18")]


def measure(config, iterations):
    """Returns the medians, over the last 20 iterations, of the time that a step waits and takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = training_command(f"DigitScenes/{config}.py", folder, iterations)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        *_, last = (pathlib.Path(folder) / "metrics.json").read_text().splitlines()
    metrics = json.loads(last)
    return metrics["data_time"], metrics["time"]


def main(args):
    rows = []
    for config in tqdm(CONFIGS, unit="config"):
        waited, total = measure(config, args.iterations)
        rows.append([config, f"{waited / total:.1%}"])
    text = (
        f"# Waiting for data\n\n`{command()}`: share of a training step that waits for the loader, with the "
        f"config's one worker beside the training, {environment()}; median of 20 iterations.\n\n"
        f"{markdown_table(rows, ['config', 'waits'])}\n"
    )
    write_page("loader.md", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=60)
    main(parser.parse_args())

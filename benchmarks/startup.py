#!/usr/bin/env python
"""Start-up: what importing cankd adds to Detectron2, and how long a run takes to its first iteration: `make bench`.

Each measurement is a process of its own. The table goes to benchmarks/startup.md.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from cankd import model_zoo
from measuring import TRAINING_SCRIPT, environment, pipe_table, ratio, write_page
from tqdm import tqdm

IMPORTS = {
    "import Detectron2": "import detectron2.engine, detectron2.evaluation, detectron2.model_zoo",
    "import cankd": "import cankd.engine",
}
RUNS = {"student alone": "DigitScenes/retinanet_R10.py", "CanKD": "DigitScenes/retinanet_R10_from_R18.py"}


def run(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(args):
    with tempfile.TemporaryDirectory() as folder:
        options = [
            "train.max_iter=1",
            f"train.output_dir={folder}",
            "train.init_checkpoint=''",
            "dataloader.evaluator=null",
        ]
        commands = {name: [sys.executable, "-c", code] for name, code in IMPORTS.items()}
        for name, config in RUNS.items():
            commands[name] = [
                sys.executable,
                TRAINING_SCRIPT,
                "--config-file",
                model_zoo.get_config_file(config),
                *options,
            ]
        seconds = {name: [] for name in commands}
        for repeat in tqdm(range(args.repeats + 1), unit="round"):
            for name, command in commands.items():
                elapsed = run(command)
                if repeat:  # the first fills the disk's cache and builds the data set
                    seconds[name].append(elapsed)
    baseline = "import Detectron2"
    titles = {"student alone": "one iteration, student alone", "CanKD": "one iteration, CanKD"}
    rows = [[titles.get(name, name), ratio(values, seconds[baseline])] for name, values in seconds.items()]
    text = (
        f"# Start-up\n\n`benchmarks/startup.py`: whole processes, from the command to the exit, {environment()}; "
        f"median of {args.repeats} alternating ratios to importing Detectron2's engine, evaluation and model zoo "
        f"(smallest–largest). A run of one iteration (RetinaNet R10, Digit Scenes) reads the data set, builds student "
        f"and teacher, trains on one batch and saves the checkpoint.\n\n{pipe_table(rows, ['', 'time / import'])}\n"
    )
    write_page("startup.md", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args())

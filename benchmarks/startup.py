#!/usr/bin/env python
"""Start-up: what importing cankd adds to Detectron2, and how long a run takes to its first iteration: `make bench`.

Each measurement is a process of its own. The table goes to benchmarks/startup.md.
"""

import argparse
import functools
import subprocess
import sys
import tempfile

from cankd.utils import markdown_table
from measuring import command, environment, ratio, take_turns, training_command, write_page

IMPORTS = {
    "import Detectron2": "import detectron2.engine, detectron2.evaluation, detectron2.model_zoo",
    "import cankd": "import cankd.engine",
}
RUNS = {"student alone": "DigitScenes/retinanet_R10.py", "CanKD": "DigitScenes/retinanet_R10_from_R18.py"}


def main(args):
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: [sys.executable, "-c", code] for name, code in IMPORTS.items()}
        commands.update({name: training_command(config, folder, 1) for name, config in RUNS.items()})
        quiet = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        steps = {name: functools.partial(subprocess.run, command, **quiet) for name, command in commands.items()}
        # The round that warms up fills the disk's cache and builds the data set.
        seconds = take_turns(steps, args.repeats, "cpu", unit="process")
    baseline = "import Detectron2"
    titles = {"student alone": "one iteration, student alone", "CanKD": "one iteration, CanKD"}
    rows = [[titles.get(name, name), ratio(values, seconds[baseline])] for name, values in seconds.items()]
    text = (
        f"# Start-up\n\n`{command()}`: whole processes, from the command to the exit, {environment()}; "
        f"median of {args.repeats} alternating ratios to importing Detectron2's engine, evaluation and model zoo "
        f"(smallest–largest). A run of one iteration (RetinaNet R10, Digit Scenes) reads the data set, builds student "
        f"and teacher, trains on one batch and saves the checkpoint.\n\n{markdown_table(rows, ['', 'time / import'])}\n"
    )
    write_page("startup.md", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args())

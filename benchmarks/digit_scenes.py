#!/usr/bin/env python
"""What distillation gains on Digit Scenes, over several seeds and against its parts.

Trains, one after another, each method with each seed; runs that are done are not repeated, interrupted ones continue.
The tables go to benchmarks/digit_scenes_<detector>.md and .json.

Example:
    benchmarks/digit_scenes.py --detector retinanet --seeds 0 1 2
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from cankd import model_zoo
from cankd.engine import evaluate, load_config
from cankd.reporting import gap_closed
from cankd.utils import markdown_table, spread, write_json
from measuring import HERE, TRAINING_SCRIPT, write_page
from tqdm import tqdm

# Task in metrics.json, and the metrics of the table, the headline first.
BOXES = ("bbox", ("AP", "AP50", "AP75", "APs", "APm"))
LABELS = ("sem_seg", ("mIoU", "fwIoU", "mACC", "pACC"))
TASKS = {"retinanet": BOXES, "faster_rcnn": BOXES, "semantic_fpn": LABELS, "pspnet": LABELS}
BASELINE = "student alone"
# Title: (folder, config, overrides)
METHODS = {
    BASELINE: ("alone", "R10", []),
    "instance norm and MSE, no attention": ("no_attention", "R10_from_R18", ["model.head.attention=False"]),
    "CanKD": ("cankd", "R10_from_R18", []),
    "† alone, no distillation": ("inherit", "R10_from_R18_inherit", ["model.head.weight=0"]),
    "CanKD†": ("cankd_inherit", "R10_from_R18_inherit", []),
}


def run(detector, method, seed, args):
    """Trains one method with one seed, unless that is done, and returns its metrics."""
    folder, config, overrides = METHODS[method]
    output_dir = args.output / args.name / f"{folder}_seed{seed}"
    task, (headline, *_) = TASKS.get(detector, BOXES)
    metrics = read_metrics(output_dir, task, headline)
    if metrics is None:
        os.makedirs(output_dir, exist_ok=True)
        command = [sys.executable, TRAINING_SCRIPT, "--resume"]
        command += ["--config-file", model_zoo.get_config_file(f"DigitScenes/{detector}_{config}.py")]
        command += [*overrides, *args.opts, f"train.seed={seed}", f"train.output_dir={output_dir}"]
        with open(output_dir / "console.txt", "a") as console:
            subprocess.run(command, check=True, stdout=console, stderr=subprocess.STDOUT)
        metrics = read_metrics(output_dir, task, headline)
    return metrics


def read_metrics(output_dir, task, headline):
    """Returns the final metrics of a run, or None if it is not done."""
    path = output_dir / "metrics.json"
    if not (output_dir / "model_final.pth").exists() or not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    evaluations = [line for line in lines if f"{task}/{headline}" in line]
    if not evaluations:
        return None
    return {k.removeprefix(f"{task}/"): v for k, v in evaluations[-1].items() if k.startswith(f"{task}/")}


def make_table(results, teacher, metrics):
    """Returns a row a method: headline of each seed, mean and spread, gain over the baseline by seed, gap closed."""
    headline, *others = metrics
    baseline = [found[headline] for found in results[BASELINE].values()]
    rows = []
    for method, runs in results.items():
        values = [found[headline] for found in runs.values()]
        gains = [a - b for a, b in zip(values, baseline)]
        means = [statistics.mean(found[name] for found in runs.values()) for name in others]
        row = [method, ", ".join(f"{v:.1f}" for v in values), spread(values), *(f"{v:.1f}" for v in means)]
        share = gap_closed(statistics.mean(baseline), statistics.mean(values), teacher[headline])
        rows.append([*row, *(("", "") if method == BASELINE else (spread(gains), f"{share:.0%}"))])
    rows.append(["teacher", "", *(f"{teacher[name]:.1f}" for name in metrics), "", ""])
    headers = ["", f"{headline} by seed", *metrics, "gain", "gap closed"]
    return markdown_table(rows, headers)


def main(args):
    results = {method: {} for method, (folder, *_) in METHODS.items() if folder in args.methods}
    pairs = [(method, seed) for seed in args.seeds for method in results]
    for method, seed in tqdm(pairs, unit="run"):
        results[method][seed] = run(args.detector, method, seed, args)
    distilled = load_config(model_zoo.get_config_file(f"DigitScenes/{args.detector}_R10_from_R18.py"), args.opts)
    task, metrics = TASKS[args.detector]
    teacher = evaluate(distilled, role="teacher")[task]
    table = make_table(results, teacher, metrics)
    opts = "".join(f" {option}" for option in args.opts)
    command = f"benchmarks/digit_scenes.py --detector {args.detector} --seeds {' '.join(map(str, args.seeds))}"
    if len(results) < len(METHODS):
        command += f" --methods {' '.join(args.methods)}"
    command += opts
    text = (
        f"# Digit Scenes, {args.detector}, {distilled.train.max_iter} iterations\n\n`{command}`: metrics on the "
        f"val split, mean ± sample standard deviation over seeds; the gain over the student alone is taken seed by "
        f"seed.\n\n"
        f"{table}\n"
    )
    write_page(f"{args.name}.md", text)
    write_json(str(HERE / f"{args.name}.json"), {"command": command, "results": results, "teacher": teacher})


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=tuple(TASKS), default="retinanet")
    folders = [folder for folder, *_ in METHODS.values()]
    parser.add_argument("--methods", nargs="+", choices=folders, default=folders, help="beside the student alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=pathlib.Path, default="output/benchmarks", help="where the runs go")
    parser.add_argument("--name", help="of table and runs; needed beside options")
    parser.add_argument("opts", nargs="*", help="options of every run, for example train.max_iter=2400")
    arguments = parser.parse_args(argv)
    if arguments.opts and not arguments.name:
        parser.error("options make other results: --name them")
    arguments.methods = [folder for folder in folders if folder in {"alone", *arguments.methods}]
    arguments.name = arguments.name or f"digit_scenes_{arguments.detector}"
    return arguments


if __name__ == "__main__":
    main(parse_arguments())

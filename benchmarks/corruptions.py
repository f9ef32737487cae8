#!/usr/bin/env python
"""Speed of reading corrupted images: each corruption against clean images, and against the model that waits for them.

For each corruption at one severity, over the same images in one run: images per second that the loader gives by itself,
as a ratio to clean images; and the share of the evaluation's time in which the model waits for images. What is slower
than the model is marked. The table goes to benchmarks/corruptions.md.

Example:
    benchmarks/corruptions.py --config-file configs/DigitScenes/retinanet_R18.py
"""

import argparse
import pathlib
import time

import torch
from cankd.data import Cell, choose_cells, compile_corruptions
from cankd.engine import corrupted_loader, load_config
from cankd.engine.files import replace_file
from detectron2.config import instantiate
from detectron2.evaluation.evaluator import inference_context
from tabulate import tabulate
from tqdm import tqdm

HERE = pathlib.Path(__file__).parent
CLEAN = Cell("clean", 0)


def measure(loader, model=None):
    """Returns the seconds that a pass takes, and those of them in which it waits for images."""
    waited, start = 0.0, time.perf_counter()
    batches = iter(loader)
    for _ in range(len(loader)):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        if model is not None:
            model(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
    return time.perf_counter() - start, waited


def main(args):
    config = load_config(args.config_file, args.opts)
    test = config.dataloader.test
    records = instantiate(test.dataset)[: args.images]
    cells = [CLEAN, *choose_cells(args.corruptions, [args.severity])]
    compile_corruptions(cells)
    model = instantiate(config.model.get("student", config.model)).to(config.train.device)
    alone, evaluation = {}, {}
    with inference_context(model), torch.no_grad():
        for cell in tqdm(cells, unit="corruption"):
            loader = corrupted_loader(test, records, [cell])
            alone[cell] = min(measure(loader)[0] for _ in range(args.repeats))
            evaluation[cell] = min(measure(loader, model) for _ in range(args.repeats))
    model_seconds = min(total - waited for total, waited in evaluation.values())
    rows = []
    for cell in cells:
        total, waited = evaluation[cell]
        slower = "slower than the model" if alone[cell] > model_seconds else ""
        rows.append([cell.corruption, f"{alone[CLEAN] / alone[cell]:.2f}", f"{waited / total:.0%}", slower])
    headers = ["", "images/s against clean", "time that the model waits", ""]
    table = tabulate(rows, headers, "pipe", colalign=("left", "right", "right", "left"), disable_numparse=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    text = (
        f"# Reading corrupted images\n\n`benchmarks/corruptions.py --config-file {args.config_file}"
        f"{''.join(f' {option}' for option in args.opts)}`: {len(records)} images of {size(records)} pixels, severity "
        f"{args.severity}, workers: {test.num_workers}, {device}; the best of {args.repeats} passes each. The loader "
        f"by itself gives clean images {model_seconds / alone[CLEAN]:.1f} times as fast as the model takes them.\n\n"
        f"{table}\n"
    )
    print(text)
    with replace_file(str(HERE / "corruptions.md"), "w") as f:
        f.write(text)


def size(records):
    return f"{records[0]['height']}×{records[0]['width']}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/DigitScenes/retinanet_R18.py")
    parser.add_argument("--corruptions", default="all", help="as of lazyconfig_train_net.py")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--images", type=int, default=96, help="of the test set, at most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("opts", nargs="*", help="options of the config, for example dataloader.test.num_workers=4")
    main(parser.parse_args())

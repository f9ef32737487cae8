#!/usr/bin/env python
"""Speed of reading corrupted images, against clean ones and against the model that waits for them: `make bench`.

For each corruption at one severity, over the same images: images per second that the loader gives by itself, as a ratio
to clean images; and the share of the evaluation's time in which the model waits for images. What is slower than the
model is marked. The table goes to benchmarks/corruptions.md, on a GPU to corruptions_gpu.md.

Example:
    benchmarks/corruptions.py --config-file configs/DigitScenes/retinanet_R18.py
"""

import argparse
import statistics
import time

import torch
from cankd.data import Cell, choose_cells, compile_corruptions
from cankd.engine import corrupted_loader, load_config
from detectron2.config import instantiate
from detectron2.evaluation.evaluator import inference_context
from measuring import environment, measure_time, page_name, pipe_table, ratio, write_page
from tqdm import tqdm

CLEAN = Cell("clean", 0)


def evaluate(loader, model):
    """Returns the seconds in which the model waits for images, and those in which it does not."""
    waits = works = 0.0
    before = time.perf_counter()
    for batch in loader:
        arrived = time.perf_counter()
        model(batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        waits, works, before = waits + arrived - before, works + time.perf_counter() - arrived, time.perf_counter()
    return waits, works


def main(args):
    config = load_config(args.config_file, args.opts)
    test = config.dataloader.test
    records = instantiate(test.dataset)[: args.images]
    cells = [CLEAN, *choose_cells(args.corruptions, [args.severity])]
    compile_corruptions(cells)
    model = instantiate(config.model.get("student", config.model)).to(config.train.device)
    loaders = {cell: corrupted_loader(test, records, [cell]) for cell in cells}
    seconds, evaluations = ({cell: [] for cell in cells} for _ in range(2))
    rounds = [(number, cell) for number in range(args.repeats + 1) for cell in cells]
    with inference_context(model), torch.no_grad():
        for number, cell in tqdm(rounds, unit="corruption"):
            found = measure_time(lambda: list(loaders[cell]), "cpu"), evaluate(loaders[cell], model)
            if number:  # the first round warms up
                seconds[cell].append(found[0])
                evaluations[cell].append(found[1])
    model_seconds = statistics.median(works for found in evaluations.values() for _, works in found)
    rows = []
    for cell in cells:
        shares = [waits / (waits + works) for waits, works in evaluations[cell]]
        slower = "slower than the model" if statistics.median(seconds[cell]) > model_seconds else ""
        rows.append([cell.corruption, ratio(seconds[CLEAN], seconds[cell]), f"{statistics.median(shares):.0%}", slower])
    table = pipe_table(rows, ["", "images/s against clean", "time that the model waits", ""])
    options = "".join(f" {option}" for option in args.opts)
    first = records[0]
    text = (
        f"# Reading corrupted images\n\n`benchmarks/corruptions.py --config-file {args.config_file}{options}`: "
        f"{len(records)} images of {first['height']}×{first['width']} pixels, severity {args.severity}, workers: "
        f"{test.num_workers}, {environment()}; median of {args.repeats} alternating ratios (smallest–largest). The "
        f"loader by itself gives clean images {model_seconds / statistics.median(seconds[CLEAN]):.1f} times as fast as "
        f"the model takes them.\n\n{table}\n"
    )
    write_page(page_name("corruptions", config.train.device), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/DigitScenes/retinanet_R18.py")
    parser.add_argument("--corruptions", default="all", help="as of lazyconfig_train_net.py")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--images", type=int, default=96, help="of the test set, at most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("opts", nargs="*", help="options of the config, for example dataloader.test.num_workers=4")
    main(parser.parse_args())

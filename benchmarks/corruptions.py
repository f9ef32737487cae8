#!/usr/bin/env python
"""Speed of reading corrupted images, against clean ones and against the model that waits for them: `make bench`.

For each corruption at one severity, over the same images: images per second that the loader gives by itself, as a ratio
to clean images; and the share of the evaluation's time in which the model waits for images. What is slower than the
model is marked. The table goes to benchmarks/corruptions.md, on a GPU to corruptions_gpu.md.

Example:
    benchmarks/corruptions.py --config-file configs/DigitScenes/retinanet_R18.py
"""

import functools
import statistics
import time

import torch
from cankd.data import Cell, choose_cells, compile_corruptions
from cankd.engine import load_config
from cankd.robustness import corrupted_loader
from cankd.utils import OverridesArgumentParser, markdown_table
from detectron2.config import instantiate
from detectron2.evaluation.evaluator import inference_context
from measuring import environment, page_name, ratio, take_turns, write_page

CLEAN = Cell("clean", 0)


def evaluate(loader, model, waits):
    """Runs the model over the images, and appends to ``waits`` the seconds in which it waits for them."""
    waited, asked = 0.0, time.perf_counter()
    for batch in loader:
        waited += time.perf_counter() - asked
        model(batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        asked = time.perf_counter()
    waits.append(waited)


def main(args):
    config = load_config(args.config_file, args.opts)
    test = config.dataloader.test
    records = instantiate(test.dataset)[: args.images]
    cells = [CLEAN, *choose_cells(args.corruptions, [args.severity])]
    compile_corruptions(cells)
    model = instantiate(config.model.get("student", config.model)).to(config.train.device)
    waits, steps = {cell: [] for cell in cells}, {}
    for cell in cells:
        loader = corrupted_loader(test, records, [cell])
        steps["read", cell] = functools.partial(list, loader)
        steps["evaluate", cell] = functools.partial(evaluate, loader, model, waits[cell])
    with inference_context(model), torch.no_grad():
        seconds = take_turns(steps, args.repeats, "cpu", unit="pass")
    passes = {cell: list(zip(seconds["evaluate", cell], waits[cell][1:])) for cell in cells}  # without the warm-up
    model_seconds = statistics.median(total - waited for found in passes.values() for total, waited in found)
    clean = seconds["read", CLEAN]
    rows = []
    for cell in cells:
        alone = seconds["read", cell]
        share = statistics.median(waited / total for total, waited in passes[cell])
        slower = "slower than the model" if statistics.median(alone) > model_seconds else ""
        rows.append([cell.corruption, ratio(clean, alone), f"{share:.0%}", slower])
    table = markdown_table(rows, ["", "images/s against clean", "time that the model waits", ""])
    options = "".join(f" {option}" for option in args.opts)
    first = records[0]
    text = (
        f"# Reading corrupted images\n\n`benchmarks/corruptions.py --config-file {args.config_file}{options}`: "
        f"{len(records)} images of {first['height']}×{first['width']} pixels, severity {args.severity}, workers: "
        f"{test.num_workers}, {environment(config.train.device)}; the model has random weights and "
        f"finds nothing; median of {args.repeats} alternating ratios "
        f"(smallest–largest). The loader by itself gives clean images "
        f"{model_seconds / statistics.median(clean):.1f} times as fast as the model takes them.\n\n{table}\n"
    )
    write_page(page_name("corruptions", config.train.device), text)


if __name__ == "__main__":
    parser = OverridesArgumentParser(__doc__, help="options of the config, for example dataloader.test.num_workers=4")
    parser.add_argument("--config-file", default="configs/DigitScenes/retinanet_R18.py")
    parser.add_argument("--corruptions", default="all", help="as of lazyconfig_train_net.py")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--images", type=int, default=96, help="of the test set, at most")
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args())

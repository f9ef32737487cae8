#!/usr/bin/env python
"""Every method's head, forward and backward, and a whole RetinaNet step with each: `make bench`.

The floor is that of CanKD, its four 1×1 convolutions. The tables go to benchmarks/heads.md, on a GPU to
benchmarks/heads_gpu.md with absolute times.

Example:
    benchmarks/heads.py --methods cankd pkd --sizes 50x84
"""

import argparse

import torch
from cankd import model_zoo
from cankd.engine import METHODS, build_model, load_config, use_method
from cankd.modeling import StepContext
from cankd.utils import markdown_table
from detectors import PAIRS, build_optimizer, damp, random_batch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from head import BATCH, CHANNELS, build_floor
from measuring import (
    ABSOLUTE_HEADERS,
    absolute_figures,
    add_arguments,
    command,
    environment,
    page_name,
    peak_growth,
    peak_growth_apart,
    ratio,
    take_turns,
    write_page,
)
from tqdm import tqdm

SIZES = ("50x84", "100x168")
FLOOR = "floor"
ON_MAPS = [name for name in METHODS if name not in ("kd", "cwd_logits")]
STRIDE = 8  # of the measured map


def build_config(method, device):
    config = load_config(model_zoo.get_config_file(PAIRS["RetinaNet"]), [f"train.device={device}"])
    config.model.teacher.weights = None
    return use_method(config, method)


def build_step(method, size, device):
    """Returns one forward and backward pass of a method's head at one level, or of the floor."""
    torch.manual_seed(0)
    height, width = map(int, size.split("x"))
    shape = (BATCH, CHANNELS, height, width)
    student, teacher = torch.randn(shape, device=device, requires_grad=True), torch.randn(shape, device=device)
    if method == FLOOR:
        return build_floor(student, teacher)
    description = build_config(method, device).model.head
    description.update(levels=["p3"], in_channels=CHANNELS)
    head = instantiate(description).to(device)
    context = StepContext(random_batch(BATCH, STRIDE * height, STRIDE * width), {"p3": STRIDE})
    return lambda: sum(head({"p3": student}, {"p3": teacher}, context).values()).backward()


def build_training_step(method, args):
    """Returns one training step of a RetinaNet."""
    model = build_model(build_config(method, args.device))
    damp(model.student), damp(model.teacher.model)
    model.train()
    batch, optimizer = random_batch(2, 320, 512), build_optimizer(model)

    def step():
        with EventStorage():
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step


def compare_heads(args):
    """Returns a row of ratios to the floor for each method and size."""
    rows = []
    for size in tqdm(args.sizes, unit="size"):
        steps = {name: build_step(name, size, args.device) for name in (FLOOR, *args.methods)}
        seconds = take_turns(steps, args.repeats, args.device, shortest=5)
        memory = {name: peak_growth_apart(args, name, size) for name in steps}
        for name in args.methods:
            row = [name, size.replace("x", "×"), ratio(seconds[name], seconds[FLOOR])]
            row.append(f"{memory[name] / memory[FLOOR]:.2f}")
            if args.device == "cuda":
                row += absolute_figures(seconds[name], memory[name])
            rows.append(row)
    return rows


def compare_steps(args):
    """Returns a row of the ratio to the student alone for each method."""
    alone, rows = build_training_step("alone", args), []
    for name in tqdm(args.methods, unit="method"):  # one at a time: many models do not fit into memory
        pair = {"alone": alone, name: build_training_step(name, args)}
        found = take_turns(pair, max(3, args.repeats // 2), args.device)
        rows.append([name, ratio(found[name], found["alone"])])
    return rows


def main(args):
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(peak_growth(build_step(*args.memory_of, args.device), args.device))
        return
    headers = ["method", "positions", "time / floor", "memory / floor"]
    headers += ABSOLUTE_HEADERS if args.device == "cuda" else []
    where = environment(args.device, args.threads)
    text = (
        f"# The methods' heads\n\n`{command()}`: forward and backward of one level at {BATCH}×{CHANNELS} "
        f"channels, float32, {where}. The floor is the four 1×1 convolutions of CanKD; [head.md](head.md) "
        f"counts what its head takes beside them. Time: median of {args.repeats} or more alternating ratios "
        f"(smallest–largest); memory: ratio of what the first step adds to the peak in a process of its own.\n\n"
        f"{markdown_table(compare_heads(args), headers)}\n\n## A training step\n\n"
        f"RetinaNet R50 ← R101, 2 images of 320×512, against the student alone.\n\n"
        f"{markdown_table(compare_steps(args), ['method', 'time / student alone'])}\n"
    )
    write_page(page_name("heads", args.device), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="HxW")
    parser.add_argument("--methods", nargs="+", choices=ON_MAPS, default=ON_MAPS)
    add_arguments(parser, repeats=5)
    main(parser.parse_args())

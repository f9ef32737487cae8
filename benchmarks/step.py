#!/usr/bin/env python
"""A whole training step: the student alone, with the teacher's forward pass, and with CanKD: `make bench`.

RetinaNet and Faster R-CNN, R50 ← R101, random weights and images; 320×512 pixels and 2 images on the CPU, 800×1344 and
4 images with mixed precision on a GPU. The tables go to benchmarks/step.md and growth.png, on a GPU to step_gpu.md and
growth_gpu.png with absolute times and what a COCO run costs.
"""

import argparse
import statistics

import matplotlib.pyplot as plt
import torch
from cankd.utils import markdown_table
from detectors import PAIRS, build_distiller, build_optimizer, random_batch
from detectron2.utils.events import EventStorage
from measuring import (
    ABSOLUTE_HEADERS,
    HERE,
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

PARTS = ("student", "student, teacher's forward", "CanKD")
COCO_IMAGES, COCO_EPOCHS = 117_266, 24


def build_steps(pair, images, height, width, device):
    """Returns the training steps of :data:`PARTS`, and the teacher's forward pass."""
    model = build_distiller(pair, device)
    batch = random_batch(images, height, width)
    optimizer = build_optimizer(model)
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")

    def teach():
        return model.teacher(batch, model.input_format)

    def train(compute_losses):
        with EventStorage():
            with torch.autocast(device, torch.float16, enabled=device == "cuda"):
                losses = compute_losses(batch)
            optimizer.zero_grad()
            scaler.scale(sum(losses.values())).backward()
            scaler.step(optimizer)
            scaler.update()

    def train_beside_teacher():
        teach()
        train(model.student)

    steps = (lambda: train(model.student), train_beside_teacher, lambda: train(model))
    return dict(zip(PARTS, steps)), teach


def compare(pair, args):
    """Returns rows of time, memory and shares."""
    size = (args.images, *args.size)
    steps, teach = build_steps(pair, *size, args.device)
    seconds = take_turns({**steps, "teacher": teach}, args.repeats, args.device)
    memory = {part: peak_growth_apart(args, pair, part, *size) for part in PARTS}
    total = statistics.median(seconds["CanKD"])
    rows, before = [], 0.0
    for part in PARTS:
        here = statistics.median(seconds[part])
        row = [pair, part]
        row += [ratio(seconds[part], seconds[base]) for base in PARTS[:2]]
        row += [f"{(here - before) / total:.0%}", f"{memory[part] / memory[PARTS[0]]:.2f}"]
        if args.device == "cuda":
            row += absolute_figures(seconds[part], memory[part])
        rows.append(row)
        before = here
    sums = [a + b for a, b in zip(seconds[PARTS[0]], seconds["teacher"])]
    return rows, [pair, ratio(seconds["CanKD"], sums)], {part: statistics.median(seconds[part]) for part in PARTS}


def measure_growth(args):
    """Returns rows of time and memory of RetinaNet's steps by image size and batch size, and makes the plot."""
    height, width = args.size
    cases = {(args.images, int(height * scale) // 32 * 32, int(width * scale) // 32 * 32) for scale in args.scales}
    cases |= {(images, height, width) for images in (args.images, *args.batches)}
    found = {}
    for case in tqdm(sorted(cases), unit="size"):
        steps, _ = build_steps("RetinaNet", *case, args.device)
        steps = {part: steps[part] for part in (PARTS[0], PARTS[2])}
        seconds = take_turns(steps, args.growth_repeats, args.device)
        del steps
        found[case] = {
            part: (statistics.median(seconds[part]), peak_growth_apart(args, "RetinaNet", part, *case))
            for part in seconds
        }
    unit = found[(args.images, height, width)][PARTS[0]]
    rows = []
    for (images, h, w), parts in sorted(found.items(), key=lambda item: (item[0][1] * item[0][2], item[0][0])):
        relative = [f"{parts[part][i] / unit[i]:.2f}" for i in (0, 1) for part in parts]
        rows.append([f"{images} × {h}×{w}", *relative, f"{parts[PARTS[2]][0] / parts[PARTS[0]][0]:.2f}"])
    plot_growth(found, unit, args)
    return rows


def plot_growth(found, unit, args):
    height, width = args.size
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharey="row", layout="constrained")
    by_size = sorted((h * w / 1e6, parts) for (images, h, w), parts in found.items() if images == args.images)
    by_batch = sorted((images, parts) for (images, h, w), parts in found.items() if (h, w) == (height, width))
    columns = [(by_size, f"megapixels an image, {args.images} images"), (by_batch, f"images of {height}×{width}")]
    for column, (points, label) in enumerate(columns):
        for row, name in enumerate(("time", "peak memory")):
            axis = axes[row, column]
            for part, marker in zip((PARTS[0], PARTS[2]), "os"):
                values = [parts[part][row] / unit[row] for _, parts in points]
                axis.plot([x for x, _ in points], values, marker=marker, label=part)
            axis.set(ylim=0)
            axis.grid(alpha=0.3)
            if row:
                axis.set_xlabel(label)
            if not column:
                axis.set_ylabel(f"{name} of a step (student, {args.images} × {height}×{width} = 1)")
                axis.yaxis.label.set_size("small")
    axes[0, 0].legend()
    figure.savefig(HERE / page_name("growth", args.device).replace(".md", ".png"), dpi=120)


def describe_coco_cost(seconds, args):
    """Returns the arithmetic of a 2x COCO run from a measured step."""
    iterations = COCO_EPOCHS * COCO_IMAGES / args.images
    rows = []
    for pair, parts in seconds.items():
        for part in (PARTS[0], PARTS[2]):
            hours = iterations * parts[part] / 3600
            arithmetic = f"{iterations:,.0f} × {parts[part]:.3f} s = {hours:.1f} h"
            rows.append([pair, part, arithmetic, f"{hours:.1f} h / 8 = {hours / 8:.1f} h"])
    return (
        f"\n## What a 2x COCO run costs\n\n{COCO_EPOCHS} epochs of {COCO_IMAGES:,} images, {args.images} at a time, "
        f"are {iterations:,.0f} iterations. Eight GPUs are eight such batches at a time and an eighth of the "
        f"iterations; their communication is not measured and comes on top, as does evaluation.\n\n"
        f"{markdown_table(rows, ['pair', 'step', 'one GPU', 'eight GPUs, at best'])}\n"
    )


def main(args):
    torch.set_num_threads(args.threads)
    args.size = args.size or ((800, 1344) if args.device == "cuda" else (320, 512))
    args.images = args.images or (4 if args.device == "cuda" else 2)
    if args.memory_of:
        pair, part, *size = args.memory_of
        steps, _ = build_steps(pair, *map(int, size), args.device)
        print(peak_growth(steps[part], args.device))
        return
    rows, sums, seconds = [], [], {}
    for pair in tqdm(PAIRS, unit="pair"):
        found, against_sum, seconds[pair] = compare(pair, args)
        rows += found
        sums.append(against_sum)
    headers = ["pair", "step", "time / student", "time / both", "share of time", "memory / student"]
    headers += ABSOLUTE_HEADERS if args.device == "cuda" else []
    growth = markdown_table(
        measure_growth(args),
        [
            "images",
            *(f"{name}, {part}" for name in ("time", "memory") for part in (PARTS[0], PARTS[2])),
            "time / student",
        ],
    )
    stem = page_name("growth", args.device).replace(".md", ".png")
    precision = "float16 autocast" if args.device == "cuda" else "float32"
    where = environment(args.device, args.threads)
    text = (
        f"# A training step\n\n"
        f"`{command()}`: R50 ← R101, P3–P5, {args.images} images of {args.size[0]}×{args.size[1]}, random "
        f"weights and images, {precision}, {where}. Time: median of {args.repeats} alternating ratios "
        f"(smallest–largest) to the student alone and to student and teacher's forward pass; share of the whole step "
        f"that a part adds; memory: ratio of what the first step adds to the peak in a process of its own.\n\n"
        f"{markdown_table(rows, headers)}\n\nThe CanKD step against a student's step plus a teacher's forward pass, "
        f"each measured by itself:\n\n{markdown_table(sums, ['pair', 'time / sum'])}\n\n"
        f"## Growth\n\nRetinaNet; time and memory in those of the student's step at {args.images} × {args.size[0]}×"
        f"{args.size[1]}, medians of {args.growth_repeats}.\n\n{growth}\n\n![Time and memory by size]({stem})\n"
    )
    if args.device == "cuda":
        text += describe_coco_cost(seconds, args)
    write_page(page_name("step", args.device), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, help="of a batch")
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[0.5, 0.75, 1.0, 1.5], help="image sizes, for growth"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4], help="batch sizes, for growth")
    parser.add_argument("--growth-repeats", type=int, default=3)
    add_arguments(parser, repeats=7)
    main(parser.parse_args())

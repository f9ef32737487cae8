#!/usr/bin/env python
"""The distillation head, forward and backward, against its floor and its written-out form: `make bench`.

The floor is what no form can do without: the four 1×1 convolutions theta, phi, g and out, forward and backward, without
a gradient to the teacher. The written-out form holds the positions × positions matrix, and is left out where that takes
more than a GiB an image. The table goes to benchmarks/head.md, on a GPU to benchmarks/head_gpu.md with absolute times.

By default glibc gives large blocks of memory back after each use, and each step waits for new ones; the floor, which
does little else, the most. With --keep-memory it keeps them, and the page is benchmarks/head_kept_memory.md.

Examples:
    benchmarks/head.py --sizes 25x42 50x84 --affinities dot_product
    benchmarks/head.py --device cpu --keep-memory --affinities dot_product linear
"""

import argparse
import os
import statistics
import sys

import numpy as np
import torch
from cankd.modeling import AFFINITIES, CanKDHead
from cankd.utils import markdown_table
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
from torch import nn
from tqdm import tqdm
from written_out import written_out_loss

PYRAMID = "100x168+50x84+25x42"  # P3 to P5 of images of 800×1344 pixels, in one head
SIZES = ("25x42", "50x84", "100x168", "200x336", PYRAMID)
BATCH, CHANNELS = 2, 256
# What makes glibc keep memory: blocks below a GiB come from the heap, and the heap does not shrink.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**26)}
SHORTEST = 5  # seconds of a case below which it is repeated more often
FORMS = {
    "cankd": lambda head, student, teacher: sum(head(student, teacher).values()),
    "written_out": lambda head, student, teacher: sum(
        written_out_loss(head, level, student[level], teacher[level]) for level in student
    ),
}


def parse_size(size):
    """Returns height and width of each map, as of "50x84+25x42"."""
    return [tuple(map(int, part.split("x"))) for part in size.split("+")]


def show_size(size):
    return size.replace("x", "×").replace("+", " + ")


def build_step(form, affinity, size, device):
    """Returns one forward and backward pass of a form, or of the floor."""
    torch.manual_seed(0)
    shapes = {f"p{i}": (BATCH, CHANNELS, *sides) for i, sides in enumerate(parse_size(size), start=3)}
    student = {level: torch.randn(shape, device=device, requires_grad=True) for level, shape in shapes.items()}
    teacher = {level: torch.randn(shape, device=device) for level, shape in shapes.items()}
    if form == "floor":
        floors = [build_floor(student[level], teacher[level]) for level in shapes]
        return lambda: [step() for step in floors]
    head = CanKDHead(levels=list(shapes), in_channels=CHANNELS, affinity=affinity).to(device)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.05)
    return lambda: FORMS[form](head, student, teacher).backward()


def build_floor(student, teacher):
    inner = CHANNELS // 2
    theta, phi, g = (nn.Conv2d(CHANNELS, inner, 1).to(student.device) for _ in range(3))
    out = nn.Conv2d(inner, CHANNELS, 1).to(student.device)
    attended = torch.randn_like(student[:, :inner]).requires_grad_()
    gradients = [torch.randn_like(x) for x in (attended, attended, attended, student)]

    def step():
        torch.autograd.backward([theta(student), phi(teacher), g(teacher), out(attended)], gradients)

    return step


def counted_ratio(size):
    """Returns the head's multiply-adds in matrix products over the floor's, with the dot product.

    The head maps x by theta and by ``out`` times the C' × C' context, and y by phi and g, as the floor does. Beside
    that it makes the context from pooled positions, and multiplies it with ``out``, forward and twice backward.
    """
    inner = CHANNELS // 2
    # Theta and out three times, phi and g twice.
    floor = sum(10 * CHANNELS * inner * height * width for height, width in parse_size(size))
    context = sum(3 * inner * inner * (height // 2 * (width // 2) + CHANNELS) for height, width in parse_size(size))
    return 1 + context / floor


def is_written_out(size):
    return all(4 * (height * width) * (height // 2 * (width // 2)) <= 2**30 for height, width in parse_size(size))


def compare(affinity, size, args):
    """Returns a row of ratios, and the median seconds of the head."""
    forms = ["cankd", "floor", *(["written_out"] if is_written_out(size) else [])]
    steps = {form: build_step(form, affinity, size, args.device) for form in forms}
    seconds = take_turns(steps, args.repeats, args.device, shortest=SHORTEST, longest=args.limit)
    memory = {form: peak_growth_apart(args, form, affinity, size) for form in forms}
    row = [affinity, show_size(size)]
    for other in ("floor", "written_out"):
        row.append(ratio(seconds["cankd"], seconds[other]) if other in forms else "")
    for other in ("floor", "written_out"):
        row.append(f"{memory['cankd'] / memory[other]:.2f}" if other in forms else "")
    if args.device == "cuda":
        row += absolute_figures(seconds["cankd"], memory["cankd"])
    return row, statistics.median(seconds["cankd"])


def fit_exponent(sizes, seconds):
    """Returns the k of seconds ~ positions^k by least squares over the logarithms."""
    positions = [sum(height * width for height, width in parse_size(size)) for size in sizes]
    return np.polyfit(np.log(positions), np.log(seconds), 1)[0]


def main(args):
    if args.keep_memory and not KEEPING.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEPING})
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(peak_growth(build_step(*args.memory_of, args.device), args.device))
        return
    cases = [(affinity, size) for affinity in args.affinities for size in args.sizes]
    rows, seconds = [], {affinity: [] for affinity in args.affinities}
    for affinity, size in tqdm(cases, unit="case"):
        row, elapsed = compare(affinity, size, args)
        rows.append(row)
        seconds[affinity].append(elapsed)
    headers = ["affinity", "positions", "time / floor", "time / written out", "memory / floor", "memory / written out"]
    headers += ABSOLUTE_HEADERS if args.device == "cuda" else []
    where = environment(args.device, args.threads) + (", memory kept" if args.keep_memory else "")
    text = (
        f"# Distillation head against its floor and its written-out form\n\n"
        f"`{command()}`: forward and backward at {BATCH}×{CHANNELS} channels, pooling 2, float32, "
        f"{where}. The floor is the four 1×1 convolutions alone; the written-out form holds the positions "
        f"× positions matrix, where that takes no more than a GiB an image. Time: median of {args.repeats} alternating "
        f"ratios (smallest–largest), of more where that takes less than {SHORTEST} s, of fewer where it takes more "
        f"than {args.limit:.0f} s; memory: ratio of what the first step adds to the peak in a process of its own.\n\n"
        f"{markdown_table(rows, headers)}\n"
    )
    if "dot_product" in args.affinities:
        counts = ", ".join(f"{counted_ratio(size):.2f} at {show_size(size)}" for size in args.sizes)
        text += (
            f"\nWith the dot product, the head's matrix products take this many times the floor's multiply-adds: "
            f"{counts}. The rest of its time goes into passes over the features: centring, moments and pooling.\n"
        )
    single = [i for i, size in enumerate(args.sizes) if "+" not in size]
    if len(single) > 1:
        sizes = [args.sizes[i] for i in single]
        exponents = [
            [name, f"{fit_exponent(sizes, [values[i] for i in single]):.2f}"] for name, values in seconds.items()
        ]
        text += (
            f"\nTime grows as a power of the number of positions, fitted over the single maps:\n\n"
            f"{markdown_table(exponents, ['affinity', 'exponent'])}\n"
        )
    write_page(page_name("head_kept_memory" if args.keep_memory else "head", args.device), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="HxW[+HxW…]")
    parser.add_argument("--affinities", nargs="+", choices=AFFINITIES, default=list(AFFINITIES))
    parser.add_argument("--limit", type=float, default=60, help="seconds of a case after which no repeat begins")
    help = "have glibc keep freed memory instead of returning it to the system"
    parser.add_argument("--keep-memory", action="store_true", help=help)
    add_arguments(parser, repeats=9)
    main(parser.parse_args())

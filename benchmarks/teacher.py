#!/usr/bin/env python
"""The teacher's forward pass by its options for speed: `make bench`.

R101, P3–P5, random weights and images: 320×512 pixels and 2 images on the CPU, 800×1344 and 4 images on a GPU. The
table goes to benchmarks/teacher.md, on a GPU to benchmarks/teacher_gpu.md with absolute times. Compiling takes minutes.
"""

import argparse
import statistics

import torch
from cankd.utils import markdown_table
from detectors import build_distiller, random_batch
from measuring import add_arguments, command, environment, page_name, ratio, take_turns, write_page

PLAIN = {"precision": "float32", "fold_norms": False}
FOLDED = {"precision": "float32"}
OPTIONS = {
    "plain": PLAIN,
    "fold_norms (default)": FOLDED,
    "fold_norms, channels_last": {**FOLDED, "channels_last": True},
    "fold_norms, compile": {**FOLDED, "compile": True},
    "fold_norms, bfloat16": {"precision": "bfloat16"},
    "fold_norms, bfloat16, channels_last": {"precision": "bfloat16", "channels_last": True},
    "fold_norms, float16": {"precision": "float16"},  # on a GPU; the CPU emulates it
}


def main(args):
    torch.set_num_threads(args.threads)
    images, *size = (4, 800, 1344) if args.device == "cuda" else (2, 320, 512)
    batch = random_batch(images, *size)
    steps, features = {}, {}
    for name, options in OPTIONS.items():
        if args.device == "cpu" and "float16" in options.values():
            continue
        teacher = build_distiller("RetinaNet", args.device, **options).teacher
        steps[name] = lambda teacher=teacher: teacher(batch, "BGR")
        features[name] = torch.cat([level.float().flatten() for level in steps[name]().values()])
    seconds = take_turns(steps, args.repeats, args.device)
    exact = features["plain"]
    rows = []
    for name, values in seconds.items():
        error = (features[name] - exact).norm() / exact.norm()
        row = [name, ratio(values, seconds["plain"]), f"{error:.1e}"]
        rows.append(row + ([f"{1000 * statistics.median(values):.1f} ms"] if args.device == "cuda" else []))
    headers = ["options", "time / plain", "error of the features", *(["time"] if args.device == "cuda" else [])]
    where = environment(args.device, args.threads)
    text = (
        f"# The teacher's forward pass\n\n`{command()}`: R101, P3–P5 and no other level, {images} images of "
        f"{size[0]}×{size[1]}, random weights and images, {where}. Time: median of {args.repeats} "
        f"alternating ratios (smallest–largest); error: norm of the difference to the plain features over their norm.\n"
        f"\n{markdown_table(rows, headers)}\n"
    )
    write_page(page_name("teacher", args.device), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, repeats=7)
    main(parser.parse_args())

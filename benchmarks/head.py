#!/usr/bin/env python
"""Time and peak memory of the distillation head, forward and backward, against its written-out form: `make bench`.

Both forms take turns in one process for the time, and each has a process of its own for the memory, of which the growth
since before the first step counts. On a GPU the memory is the allocator's peak. The table goes to benchmarks/head.md.
"""

import argparse
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import torch
from cankd.engine.files import replace_file
from cankd.modeling import AFFINITIES, CanKDHead
from tabulate import tabulate
from tqdm import tqdm
from written_out import written_out_loss

FORMS = {
    "cankd": lambda head, student, teacher: head({"p3": student}, {"p3": teacher})["loss_cankd_p3"],
    "written_out": lambda head, student, teacher: written_out_loss(head, "p3", student, teacher),
}


class Step:
    """One forward and backward pass of a form."""

    def __init__(self, form, affinity, size, device):
        torch.manual_seed(0)
        self.form = FORMS[form]
        self.head = CanKDHead(levels=["p3"], in_channels=size[1], affinity=affinity).to(device)
        for parameter in self.head.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        self.student = torch.randn(size, device=device, requires_grad=True)
        self.teacher = torch.randn(size, device=device)

    def __call__(self):
        self.form(self.head, self.student, self.teacher).backward()


def measure_time(step, device):
    """Returns the seconds of one step."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure_memory(step, device):
    """Returns by how many MiB the first steps raise the peak; meant for a fresh process."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = peak_memory()
    for _ in range(3):
        step()
    return peak_memory() - before


def peak_memory():
    """Returns this process's peak resident memory in MiB; Linux counts it from the program's start."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10


def measure_memory_apart(form, affinity, args):
    command = [sys.executable, __file__, "--memory-of", form, "--affinities", affinity, "--threads", str(args.threads)]
    command += ["--device", args.device, "--size", *map(str, args.size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(affinity, args):
    """Returns a row: times and memories of both forms and their ratios."""
    steps = {form: Step(form, affinity, args.size, args.device) for form in FORMS}
    seconds = {form: [] for form in FORMS}
    for repeat in range(args.repeats + 1):
        for form, step in steps.items():
            elapsed = measure_time(step, args.device)
            if repeat:  # the first one warms up
                seconds[form].append(elapsed)
    ratios = sorted(ours / theirs for ours, theirs in zip(*seconds.values()))
    medians = [statistics.median(values) for values in seconds.values()]
    memory = [measure_memory_apart(form, affinity, args) for form in FORMS]
    row = [
        affinity,
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})",
        f"{memory[0] / memory[1]:.2f}",
    ]
    if args.device == "cuda":  # a CPU's absolute figures say more about the machine
        row += [*(f"{1000 * value:.1f} ms" for value in medians), *(f"{value:,.0f} MiB" for value in memory)]
    return row


def main(args):
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(measure_memory(Step(args.memory_of, args.affinities[0], args.size, args.device), args.device))
        return
    rows = [compare(affinity, args) for affinity in tqdm(args.affinities, unit="affinity")]
    headers = ["affinity", "time", "memory", "time", "time, written out", "memory", "memory, written out"][
        : len(rows[0])
    ]
    table = tabulate(rows, headers, "pipe", colalign=("left", *["right"] * (len(headers) - 1)), disable_numparse=True)
    machine = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU threads"
    text = (
        f"# Distillation head against its written-out form\n\n"
        f"`benchmarks/head.py`: forward and backward at {'×'.join(map(str, args.size))}, pooling 2, float32, "
        f"{machine}, PyTorch {torch.__version__.split('+')[0]}, Python {platform.python_version()}. Each figure is a "
        f"ratio: cankd's form divided by the one that holds the positions × positions matrix. Time: median of "
        f"{args.repeats} alternating pairs of steps (smallest and largest); memory: growth of the peak in a process of "
        f"its own.\n\n{table}\n"
    )
    print(text)
    if args.output:
        with replace_file(args.output, "w") as f:
            f.write(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=4, default=[2, 256, 100, 168], metavar=("N", "C", "H", "W"))
    parser.add_argument("--affinities", nargs="+", choices=AFFINITIES, default=list(AFFINITIES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", default=str(pathlib.Path(__file__).with_suffix(".md")), help="table, '' for none")
    parser.add_argument("--memory-of", choices=FORMS, help=argparse.SUPPRESS)
    main(parser.parse_args())

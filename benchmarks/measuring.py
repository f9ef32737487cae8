"""Fair measurements: two things in turns, as ratios of pairs; peak memory in a process of its own."""

import argparse
import itertools
import math
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import cankd.utils.quiet  # noqa: F401
import torch
from cankd import model_zoo
from cankd.utils import peak_memory, replace_file
from tqdm import tqdm

HERE = pathlib.Path(__file__).parent
TRAINING_SCRIPT = HERE.parent / "tools" / "lazyconfig_train_net.py"


def add_arguments(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Adds the options that the benchmarks share."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--memory-of", nargs="+", help=argparse.SUPPRESS)


def measure_time(step: Callable[[], object], device: str) -> float:
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


def take_turns(
    steps: Mapping[Hashable, Callable[[], object]],
    repeats: int,
    device: str,
    shortest: float = 0,
    longest: float = math.inf,
    unit: str | None = None,
) -> dict[Hashable, list[float]]:
    """Measures each step ``repeats`` times or more, one after another, after a first round that warms up.

    There are more rounds if all together take less than ``shortest`` seconds, and fewer, but one, if they would begin
    after more than ``longest``. With a ``unit``, the name of a step, a bar shows the progress.
    """
    seconds = {name: [] for name in steps}
    start = time.perf_counter()
    with tqdm(total=len(steps) * (repeats + 1), unit=unit, disable=unit is None) as bar:
        for measured in itertools.count(-1):  # the first round warms up
            elapsed = time.perf_counter() - start
            if measured >= repeats and elapsed >= shortest or measured >= 1 and elapsed > longest:
                return seconds
            for name, step in steps.items():
                value = measure_time(step, device)
                bar.update()
                if measured >= 0:
                    seconds[name].append(value)


def training_command(config: str, output_dir: str, iterations: int) -> list[str]:
    """Returns the command that trains a config of the model zoo for some iterations and evaluates nothing."""
    options = [f"train.max_iter={iterations}", f"train.output_dir={output_dir}", "train.init_checkpoint=''"]
    config_file = model_zoo.get_config_file(config)
    return [sys.executable, str(TRAINING_SCRIPT), "--config-file", config_file, *options, "dataloader.evaluator=null"]


def ratio(values: Sequence[float], baseline: Sequence[float]) -> str:
    """Returns the median of the ratios of pairs, with the smallest and the largest."""
    ratios = sorted(a / b for a, b in zip(values, baseline))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def command() -> str:
    """Returns the command line of the running script, as a page names it."""
    return shlex.join([f"benchmarks/{pathlib.Path(sys.argv[0]).name}", *sys.argv[1:]])


def peak_growth(step: Callable[[], object], device: str) -> float:
    """Returns by how many MiB the first step raises the peak; meant for a fresh process."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak of building what is measured does not count
    before = peak_memory()
    step()
    return peak_memory() - before


def peak_growth_apart(args: argparse.Namespace, *case: object) -> float:
    """Starts the running script again with ``--memory-of CASE`` and returns what it prints."""
    command = [sys.executable, sys.argv[0], "--device", args.device, "--threads", args.threads, "--memory-of", *case]
    return float(subprocess.run([str(x) for x in command], check=True, stdout=subprocess.PIPE, text=True).stdout)


ABSOLUTE_HEADERS = ["time", "memory"]


def absolute_figures(seconds: Sequence[float], memory: float) -> list[str]:
    """Returns a GPU's median time and its MiB as cells. (A CPU's say more about the machine.)"""
    return [f"{1000 * statistics.median(seconds):.2f} ms", f"{memory:,.0f} MiB"]


def environment(device: str | None = None, threads: int | None = None) -> str:
    """Describes what the figures were measured on; what is not given is what torch takes by itself."""
    on_gpu = device == "cuda" if device else torch.cuda.is_available()
    machine = torch.cuda.get_device_name() if on_gpu else f"{threads or torch.get_num_threads()} CPU threads"
    return f"{machine}, PyTorch {torch.__version__.split('+')[0]}, Python {platform.python_version()}"


def write_page(name: str, text: str) -> None:
    """Prints a page of results and writes it beside the benchmarks."""
    print(text)
    with replace_file(str(HERE / name), "w") as f:
        f.write(text)


def page_name(stem: str, device: str) -> str:
    """Returns the name of a benchmark's page; figures of a GPU have their own."""
    return f"{stem}_gpu.md" if device == "cuda" else f"{stem}.md"

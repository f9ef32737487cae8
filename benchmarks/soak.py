#!/usr/bin/env python
"""Tries what goes wrong in practice, thousands of times: `make soak`.

Annotations, images, checkpoints, configs and overrides are damaged in every way, runs are killed and resumed, disks
become full, and a long run's memory is watched. The tables of what came of it go to benchmarks/soak.md. What is done
is kept in output/soak until all is, so that an interrupted campaign goes on where it was, unless the package's code
has changed since.
"""

import argparse
import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import tempfile

import cankd
import cankd.utils.quiet  # noqa: F401
from cankd.utils import escape_markdown, markdown_table, write_json
from measuring import command, environment, write_page
from reliability.cases import annotation_cases, checkpoint_cases, config_cases, image_cases, try_case, usual_warnings
from reliability.full_disks import SHARES, WRITERS, mount_small_disk, try_full_disk, write_grid
from reliability.kills import Killer
from reliability.memory import measure_memory
from reliability.outcomes import Outcome
from reliability.sandbox import build_project
from tqdm import tqdm

OUTPUT = pathlib.Path("output/soak")
AS_WANTED = (Outcome.CLEAR, Outcome.WARNED, Outcome.HARMLESS)


@functools.cache
def hash_code():
    """Returns a short name of the package's sources: what was tried with others says nothing of these."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(cankd.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Record:
    """The results of a kind, kept in a file as long as the package's code stays the same."""

    def __init__(self, kind):
        self.path = OUTPUT / hash_code() / f"{kind.replace(' ', '_')}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.results = json.loads(self.path.read_text()) if self.path.exists() else {}

    def once(self, name, function):
        """Returns what a function returns, or has returned in an earlier campaign that was interrupted."""
        if name not in self.results:
            self.results[name] = function()
            write_json(str(self.path), self.results)
        return self.results[name]


def try_cases(kind, cases, sound, folder):
    """Returns outcome and message of each case, by its name."""
    record = Record(kind)
    usual = usual_warnings(sound, folder)
    for case in tqdm(cases, kind, unit="case"):
        record.once(case.name, functools.partial(try_case, case, sound, folder, usual))
    return {case.name: record.results[case.name] for case in cases}


def fill_disks(sound, folder):
    """Returns outcome and message of each writer with each share of its room; why not if no disk can be mounted."""
    record = Record("full disks")
    attempts = {f"{writer}, {share:.0%} of the room": (writer, share) for writer in WRITERS for share in SHARES}
    with mount_small_disk(folder) as problem:
        if problem:
            return problem
        write_grid(sound)
        for name, attempt in tqdm(attempts.items(), "full disks", unit="case"):
            record.once(name, functools.partial(try_full_disk, *attempt, sound, folder))
    return {name: record.results[name] for name in attempts}


def kill_runs(count, sound, folder):
    """Returns what became of runs that were killed so often, all together."""
    record, killer = Record("kills"), Killer(sound, folder)
    runs = []
    with tqdm(total=count, desc="kills", unit="kill") as bar:
        for number in itertools.count():
            if bar.n >= count:
                return runs
            run = record.once(str(number), lambda: dataclasses.asdict(killer.kill_until_finished(number)))
            runs.append(run)
            bar.update(run["kills"])


def tables(results, runs, memory):
    """Returns the page's tables, and lists what came out otherwise than wanted."""
    rows, surprises = [], []
    for kind, outcomes in results.items():
        if isinstance(outcomes, str):
            surprises.append(f"- {kind}: not tried, {outcomes}")
            continue
        counts = collections.Counter(outcome for outcome, _ in outcomes.values())
        rows.append([kind, len(outcomes), *(counts[outcome] for outcome in Outcome)])
        for name, (outcome, message) in outcomes.items():
            if outcome not in AS_WANTED:
                surprises.append(f"- {kind}, {outcome}: {escape_markdown(name)}: {_shorten(message)}")
    text = markdown_table(rows, ["what is wrong", "tried", *Outcome])
    problems = [problem for run in runs for problem in run["problems"]]
    killed = sum(run["kills"] for run in runs)
    same = f"{sum(run['same_weights'] for run in runs)} of {len(runs)}"
    text += "\n\n" + markdown_table(
        [[killed, len(runs), len(problems), same]],
        ["kills", "runs", "files damaged, progress lost, errors", "runs that end with the weights of an unkilled one"],
    )
    surprises += [f"- kills: {_shorten(problem)}" for problem in problems]
    if memory:
        steps = sorted(map(int, memory))
        shown = sorted({steps[len(steps) * i // 10] for i in range(1, 10)} | {steps[-1]})
        cells = [[f"{step:,}", f"{memory[str(step)]:.0f}"] for step in shown]
        text += "\n\n" + markdown_table(cells, ["step", "resident memory, MiB"])
    return text, "\n".join(surprises) or "None."


def _shorten(message):
    return escape_markdown(" ".join(message.split())[-200:])


def run(args, folder):
    """Makes the campaign and returns the page's text."""
    sound, project = folder / "sound", folder / "project"
    build_project(sound)
    cases = {
        "annotations": annotation_cases(sound, args.cases or 1500),
        "images": image_cases(args.cases),
        "checkpoints": checkpoint_cases(args.cases),
        "configs and overrides": config_cases(args.cases),
    }
    results = {kind: try_cases(kind, found, sound, project) for kind, found in cases.items()}
    results["full disks"] = fill_disks(sound, folder / "disk")
    runs = kill_runs(args.kills, sound, project)
    memory = Record("memory").once(str(args.steps), lambda: measure_memory(sound, args.steps)) if args.steps else {}
    text, surprises = tables(results, runs, {str(step): value for step, value in memory.items()})
    return (
        f"# What goes wrong in practice\n\n`{command()}`, {environment(threads=1)}. A case is one command on a "
        "small project, in which one thing is wrong. A clear line says what and where, and the command ends; a warning "
        "says so, and it goes on. Harmless is what may be accepted. Silent is what may not be, and is. Lost is a file "
        "of the user's that is damaged or gone, executed is code in a file that is no program. What is tried is in "
        f"[docs/reliability.md](../docs/reliability.md).\n\n{text}\n\n## What ended otherwise\n\n{surprises}\n"
    )


def main(args):
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # what is remembered of images
        write_page("soak.md", run(args, pathlib.Path(folder)))
    shutil.rmtree(OUTPUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, metavar="N", help="some of each kind, instead of all")
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--steps", type=int, default=5000, metavar="N", help="whose memory is watched; 0 for none")
    main(parser.parse_args())

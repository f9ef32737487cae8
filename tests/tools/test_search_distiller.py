import fcntl
import json
import pathlib

import pytest
from cankd.engine import load_config, train

from tests.tiny import write_config

CONFIG = "DigitScenes/retinanet_R10_from_R18_inherit.py"


@pytest.fixture
def search(quick_config, load_tool, tmp_path, capsys):
    """Returns a function that runs the script on a small config and gives what it prints, line by line."""

    def search(*arguments):
        write_config(quick_config(CONFIG), tmp_path / "config.py")
        tool = load_tool("tools/search_distiller.py")
        given = ["--config-file", tmp_path / "config.py", "--output", tmp_path / "search", "--iterations", 2]
        tool.main(tool.parse_arguments([*map(str, given), *arguments]))
        return capsys.readouterr().out.splitlines()

    return search


def test_searches_resumes_and_ends_with_a_method_that_trains(search, tmp_path):
    scopes = ["--scope", "global", "--scope", "logits=head:0:0,head:0:1", "--population", "2"]
    lines = search(*scopes, "--budget", "12")
    assert lines[0].startswith("Nothing evolves: each scope has 2 candidates, no more than the population of 2.")
    assert len(lines) == 8 and all(line.startswith("AP ") for line in lines[1:7])
    results = sorted((tmp_path / "search" / "candidates").glob("*.json"))
    assert len(results) == 6 and not list((tmp_path / "search").rglob("*.pth"))
    heads = [json.loads(path.read_text())["heads"] for path in results]
    assert sorted(len(found) for found in heads) == [1, 1, 1, 1, 2, 2]
    assert {head["scope"] for found in heads for head in found} == {"global", "logits"}

    before = {path: path.stat().st_mtime_ns for path in results}
    results[0].unlink()
    assert search(*scopes, "--budget", "12") == lines
    assert {path: path.stat().st_mtime_ns for path in results[1:]} == {path: before[path] for path in results[1:]}
    assert results[0].exists()

    best = str(tmp_path / "search" / "best.json")
    config = load_config(str(tmp_path / "config.py"), ["train.max_iter=1"], method=best)
    assert len(config.model.head.heads) == 2 and config.train.inherit
    train(config)
    metrics = (tmp_path / "run_best" / "metrics.json").read_text()
    assert "loss_detkds_global_p5" in metrics and "loss_detkds_logits_head:0:1" in metrics


@pytest.mark.parametrize(
    "scopes, own, levels",
    [
        (["global", "logits"], "[p4]", {("p4",), ("head:0:0", "head:0:1", "head:0:2")}),
        (["global"], "null", {None}),  # the distiller's choice
        (["global=p5"], "[p4]", {("p5",)}),
    ],
)
def test_levels_are_the_configs_unless_they_are_named(search, tmp_path, scopes, own, levels):
    options = [word for scope in scopes for word in ("--scope", scope)]
    search(*options, "--budget", str(2 * len(scopes) + 2), f"model.head.levels={own}")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("search/candidates/*.json")]
    chosen = {head["levels"] and tuple(head["levels"]) for found in results for head in found["heads"]}
    assert chosen == levels and not any(found["failure"] for found in results)


def first_iterations(folder):
    """Returns the task's losses of each candidate's first iteration."""
    files = pathlib.Path(folder).glob("candidates/*/metrics.json")
    first = [json.loads(path.read_text().splitlines()[0]) for path in files]
    return [(line["iteration"], line["loss_cls"], line["loss_box_reg"]) for line in first]


def test_candidates_start_alike(search, tmp_path):
    search("--scope", "instance", "--budget", "8", "--random")
    found = first_iterations(tmp_path / "search")
    assert len(found) >= 3 and len(set(found)) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--scope", "box"], "there is no scope box: choose among global, foreground, instance, logits"),
        (["--scope", "global", "--budget", "3"], "3 iterations, 2 for a candidate, leaves 0 candidates"),
        (["--scope", "global", "--population", "1"], "a population of 1 and"),
        (["--scope", "global", "train.seed=-1"], "train.seed is -1"),
        (["--scope", "global=p9"], "no level 'p9'"),
    ],
)
def test_refuses_arguments(search, arguments, message):
    with pytest.raises(SystemExit, match=message):
        search(*arguments)


def test_two_searches_do_not_share_a_folder(search, tmp_path):
    (tmp_path / "search").mkdir()
    with open(tmp_path / "search" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="the directory .*search is in use by another run"):
            search("--scope", "global", "--budget", "12")

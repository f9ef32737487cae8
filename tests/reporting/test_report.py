import html
import json
import os
import re
import shutil

import cv2
import numpy as np
import pytest
from cankd.data import Cell
from cankd.evaluation import METRICS
from cankd.reporting import make_report
from cankd.reporting.method_tables import write_comparison
from cankd.robustness import compare_robustness


def write_run(folder, seed=0, **last):
    """Writes what a run of two evaluations leaves."""
    folder.mkdir()
    lines = [{"iteration": i, "total_loss": 2.0 - 0.1 * i, "loss_cankd_p3": 1.0} for i in range(10)]
    lines.append({"iteration": 10, "bbox/AP": 20.0 + seed, "bbox/APl": float("nan"), **last})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_bytes(f"seed: {seed}  # <b>&\n".encode() + b"name: !!python/name:os.mkdir \xff\n")
    return str(folder)


@pytest.fixture
def page(tmp_path):
    """A report of three runs with a picture of each kind, one of them wide, and a table wider than a phone."""
    runs = [("alone", write_run(tmp_path / f"alone_{seed}", seed)) for seed in (0, 2)]
    runs.append(("cankd", write_run(tmp_path / "cankd", 5, **{f"bbox/AP{size}": 1.0 for size in (50, 75)})))
    for name, shape in (("detections", (300, 2400, 3)), ("a_feature", (50, 40, 3)), ("confusion", (60, 60, 3))):
        cv2.imwrite(str(tmp_path / "cankd" / f"{name}.png"), np.full(shape, 200, np.uint8))
    extra = tmp_path / "extra"
    results = {"bbox": {"AP": 10.0, "AP50": 20.0, "AP75": 5.0}}
    compare_robustness({"cankd": {Cell("clean", 0): results, Cell("fog", 1): results}}, str(extra))
    return make_report(runs, str(tmp_path / "report"), include=[str(extra)], teacher=60.0)


def test_one_page_gathers_everything(page):
    with open(page) as f:
        text = f.read()
    assert "21.0 ± 1.4</td>" in text  # 20 and 22
    assert "25.0 " in text and "– " in text
    for heading in ("Results", "Training curves", "Detections and segmentations", "Confusion matrices", "Features"):
        assert f">{heading}</h2>" in text
    assert "rPC</th>" in text and "mPC is not the benchmark" in text
    assert "seed: 5  # &lt;b&gt;&amp;\nname: !!python/name:os.mkdir \N{REPLACEMENT CHARACTER}" in text  # text, not run
    assert text.count("<figure>") == 5 and "://" not in text and "Attention</h2>" not in text
    assert not [name for name in os.listdir(os.path.dirname(page)) if "unfinished" in name]


def test_tables_of_corruptions_are_escaped(tmp_path):
    results = {"bbox": {"AP": 10.0, "AP50": 20.0, "AP75": 5.0}}
    grid = {Cell("clean", 0): results, Cell("fog", 2): {"bbox": {"AP": 7.25, "AP50": 20.0, "AP75": 5.0}}}
    extra = tmp_path / "extra"
    compare_robustness({"<i>a&b": grid}, str(extra), command="tool <x> & y")
    with open(make_report([("a", write_run(tmp_path / "run"))], str(tmp_path), include=[str(extra)])) as f:
        text = f.read()
    assert "<i>" not in (extra / "robustness.md").read_text()
    assert "<code>tool &lt;x&gt; &amp; y</code>" in text and "<h3>bbox</h3>" in text
    assert "<h4>&lt;i&gt;a&amp;b, AP</h4>" in text and "<i>" not in text
    assert "severity 2</th>" in text and "7.2" in text and text.count("72.5") == 1  # rPC


@pytest.fixture
def comparison(tmp_path):
    """A folder with a comparison of methods over two seeds."""

    def run(ap, seconds=1.0):
        return {"metrics": {"bbox": {"AP": ap}}, "seconds": seconds, "memory": 100.0}

    folder = tmp_path / "comparison"
    folder.mkdir()
    results = {"alone": {0: run(10.0), 1: run(12.0)}, "<i>&": {0: run(16.0, 1.25), 1: run(20.0, 1.25)}}
    command = {"iterations": 5, "command": "tool <x> & y"}
    write_comparison(results, {"bbox": {"AP": 38.0}}, "alone", str(folder), **command)
    cv2.imwrite(str(folder / "methods.png"), np.full((30, 40, 3), 200, np.uint8))
    return folder


def test_a_comparison_of_methods_is_taken_in_escaped(tmp_path, comparison):
    page = make_report([("a", write_run(tmp_path / "run"))], str(tmp_path / "report"), include=[str(comparison)])
    with open(page) as f:
        text = f.read()
    section = text[text.index(">Methods compared</h2>") :]
    section = section[: section.index("<h2")]
    assert "<code>tool &lt;x&gt; &amp; y</code>" in section and "<h3>Boxes</h3>" in section
    assert "the best, &lt;i&gt;&amp;, gains +7.0 (-5.7 to +19.7) AP.</p>" in section
    cells = [html.unescape(cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", section)]
    assert cells[:2] == ["alone", "10.0, 12.0"] and cells[7:9] == ["<i>&", "16.0, 20.0"]
    assert cells[11:14] == ["26%", "1.25", "1.00"]
    assert section.count("<figure>") == 1 and "<i>" not in section


def test_an_older_comparison_has_no_costs(tmp_path, comparison):
    contents = json.loads((comparison / "methods.json").read_text())
    del contents["baseline"], contents["costs"]
    (comparison / "methods.json").write_text(json.dumps(contents))
    page = make_report([("a", write_run(tmp_path / "run"))], str(tmp_path / "report"), include=[str(comparison)])
    with open(page) as f:
        assert "26%" in f.read()


@pytest.mark.parametrize("name, tool", [("robustness", "compare_robustness"), ("methods", "compare_methods")])
@pytest.mark.parametrize("contents", ['{"summary": {}, "cells": {}}', "{", "[]", '{"command": "", "tasks": []}'])
def test_another_file_of_that_name_is_refused(tmp_path, contents, name, tool):
    run = write_run(tmp_path / "run")
    (tmp_path / "run" / f"{name}.json").write_text(contents)
    with pytest.raises(
        ValueError, match=f"run/{name}.json holds no tables of tools/{tool}.py .*: run tools/{tool}.py again"
    ):
        make_report([("a", run)], str(tmp_path / "report"))


@pytest.mark.parametrize("width", [360, 1280])
def test_page_works_in_a_browser(page, width):
    playwright = pytest.importorskip("playwright.sync_api", reason="the report is opened by Playwright")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": 700}, offline=True)
        complaints = []
        view.on("console", lambda message: complaints.append(message.text))
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.goto(f"file://{page}")
        assert view.evaluate("[...document.querySelectorAll('figure img')].every(i => i.complete && i.naturalWidth)")
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.locator("nav a").count() == view.locator("h2").count() == 7
        inject = "s => { const e = document.createElement('script'); e.textContent = s; document.body.append(e) }"
        view.evaluate(inject, "document.title = 'injected'")
        assert view.title() != "injected"  # the page's policy admits its own script alone
        assert "Content Security Policy" in complaints.pop()
        dialog = view.locator("dialog")
        button = view.locator("figure button").nth(1)
        for key in ("Escape", "Enter"):
            button.focus()
            view.keyboard.press("Enter")
            assert dialog.is_visible()
            assert dialog.locator("img").evaluate("image => image.naturalWidth") == 2400
            view.keyboard.press(key)
            assert not dialog.is_visible()
        button.click()
        assert dialog.is_visible()
        view.mouse.click(3, 3)
        assert not dialog.is_visible()
        browser.close()
    assert complaints == []


def test_what_cannot_be_reported_is_named(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="absent/metrics.json cannot be read|absent cannot be read"):
        make_report([("a", str(tmp_path / "absent"))], str(tmp_path / "report"))
    with pytest.raises(ValueError, match="there is no directory .*nowhere"):
        make_report([("a", run)], str(tmp_path / "report"), include=[str(tmp_path / "nowhere")])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="the report cannot be made: .*file"):
        make_report([("a", run)], str(tmp_path / "file"))
    assert not (tmp_path / "report").exists()


def test_each_task_has_its_table(tmp_path):
    last = {f"{task}/{metrics[0]}": 12.5 for task, metrics in METRICS.items()}
    with open(make_report([("a", write_run(tmp_path / "run", **last))], str(tmp_path / "report"))) as f:
        text = f.read()
    headings = ("Boxes", "Masks", "Keypoints", "Panoptic segmentation", "Semantic segmentation", "Classification")
    assert len(headings) == len(METRICS) and all(f"<h3>{heading}</h3>" in text for heading in headings)
    assert "PQ</th>" in text

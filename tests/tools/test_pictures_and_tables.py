"""The scripts that show what was trained, run as a user would."""

import json

import pytest
import torch
from cankd.checkpoint.distillation_checkpointer import DistillationCheckpointer
from cankd.engine.training import build_model
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from tests.tiny import write_config

CANKD = "DigitScenes/retinanet_R10_from_R18.py"


@pytest.fixture
def run(quick_config, load_tool, tmp_path):
    """Returns a function that runs a script on a small config, with one checkpoint for student and baseline."""
    config = quick_config(CANKD)
    distiller = build_model(config)
    DistillationCheckpointer(distiller.student, str(tmp_path), distillation_head=distiller.head).save("run")
    write_config(config, tmp_path / "config.py")

    def run(name, *arguments, baseline=True, override=""):
        tool = load_tool(f"tools/{name}.py")
        command = ["--config-file", str(tmp_path / "config.py"), "--output", str(tmp_path / "out"), *arguments]
        checkpoint = str(tmp_path / "run.pth")
        if baseline:
            command += ["--baseline", checkpoint]
        overrides = [f"train.init_checkpoint={checkpoint}", *filter(None, [override])]
        tool.main(tool.parse_arguments([*command, *overrides]))
        return sorted(path.name for path in (tmp_path / "out").iterdir())

    return run


def test_features(run):
    files = run("visualize_features", "--images", "2", "--levels", "p3,p5", "--reduction", "norm")
    assert files == ["000000_feature.json", "000000_feature.png", "000001_feature.json", "000001_feature.png"]


def test_attention(run, capsys):
    assert run("visualize_attention", "--box", "10,10,40,30", baseline=False) == [
        "000000_attention.json",
        "000000_attention.png",
    ]
    with pytest.raises(SystemExit):
        run("visualize_attention", "--point", "10", baseline=False)
    assert "'10' is not 2 numbers, separated by commas" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="does not lie in the image"):
        run("visualize_attention", "--point", "10,999", baseline=False)


def test_confusion(run, tmp_path):
    assert run("confusion_matrix", "--score", "0.05") == ["confusion.csv", "confusion.json", "confusion.png"]
    found = json.loads((tmp_path / "out" / "confusion.json").read_text())
    assert list(found["counts"]) == ["student", "distilled student", "teacher"]
    teacher = torch.tensor(found["counts"]["teacher"])
    objects = sum(teacher[:-1].sum(1))
    assert teacher.shape == (11, 11) and objects == torch.tensor(found["counts"]["student"])[:-1].sum()
    assert teacher[:-1, :-1].diagonal().sum() > objects / 2
    run("confusion_matrix", "--score", "0.05", "--counting", "published")
    published = json.loads((tmp_path / "out" / "confusion.json").read_text())
    assert (found["counting"], published["counting"]) == ("one-to-one", "published")
    assert torch.tensor(published["counts"]["teacher"])[:-1].sum() > objects


def test_a_broken_image_of_the_test_set_is_named(run, tmp_path):
    whole, cut = tmp_path / "whole.png", tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(whole)
    cut.write_bytes(whole.read_bytes()[:2000])
    box = {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = {"file_name": str(cut), "image_id": 0, "height": 64, "width": 64, "annotations": [box]}
    DatasetCatalog.register("broken", lambda: [record])
    MetadataCatalog.get("broken").thing_classes = list("0123456789")
    try:
        for tool in ("confusion_matrix", "visualize_features"):
            with pytest.raises(SystemExit, match="cut.png cannot be read as an image; it may be cut off"):
                run(tool, override="dataloader.test.dataset.names=broken")
    finally:
        DatasetCatalog.remove("broken")
        MetadataCatalog.remove("broken")


def test_costs(load_tool, capsys):
    tool = load_tool("tools/analyze_model.py")
    tool.main(
        tool.parse_arguments(["--config-file", "configs/DigitScenes/retinanet_R10.py", "--size", "96x128", "--json"])
    )
    assert json.loads(capsys.readouterr().out)["model"]["total"]["parameters"] == 655182
    tool.main(tool.parse_arguments(["--config-file", "configs/DigitScenes/retinanet_R10.py", "--size", "96x128"]))
    (total,) = [line for line in capsys.readouterr().out.splitlines() if "total" in line]
    assert "0.66" in total
    with pytest.raises(SystemExit):
        tool.parse_arguments(["--config-file", "C", "--size", "96"])
    assert "'96' is not HEIGHTxWIDTH" in capsys.readouterr().err


def test_curves_and_report(load_tool, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text('{"iteration": 0, "total_loss": 1.0}\n')
    curves, report = load_tool("tools/plot_curves.py"), load_tool("tools/make_report.py")
    curves.main(curves.parse_arguments([f"{tmp_path}/run", "--output", f"{tmp_path}/new/curves.png"]))
    assert json.loads((tmp_path / "new" / "curves.json").read_text())["curves"] == {"task loss": {"run": {"0": 1}}}
    report.main(report.parse_arguments([f"a={tmp_path}/run", "--output", f"{tmp_path}/report"]))
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path}/report/report.html"
    with pytest.raises(SystemExit):
        curves.parse_arguments([f"{tmp_path}/run", f"{tmp_path}/run"])
    assert "two runs have the same name" in capsys.readouterr().err

import copy
import re
import sys
import textwrap

import cv2
import pytest
import torch
from cankd import export
from cankd.evaluation import annotated_instances
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, pairwise_iou
from torch import nn

from tests.tiny import save_weights, write_config


@pytest.fixture
def run(quick_config, load_tool, tmp_path):
    """Returns a function that runs the script on a config of ours, with the trained weights that come with it."""

    def run(name, *arguments, format="onnx", weights="cankd://{}.pth"):
        write_config(quick_config(f"{name}.py"), tmp_path / "config.py")
        tool = load_tool("tools/export_model.py")
        command = ["--config-file", str(tmp_path / "config.py"), "--format", format, "--check", "3"]
        command += ["--output", str(tmp_path / "model"), *arguments]
        tool.main(tool.parse_arguments([*command, f"train.init_checkpoint={weights.format(name)}"]))

    return run


@pytest.mark.parametrize(
    "name, format, outputs",
    [
        ("faster_rcnn_R18", "torchscript", "pred_boxes, pred_classes, scores"),
        ("faster_rcnn_R18", "onnx", "pred_boxes, pred_classes, scores"),
        ("semantic_fpn_R18", "onnx", "sem_seg"),
    ],
)
def test_the_file_predicts_what_the_model_does(run, capsys, name, format, outputs):
    run(f"DigitScenes/{name}", format=format)
    printed = capsys.readouterr().out
    assert f"image (3, 160, 160), float32 from 0 to 255, BGR -> {outputs}\n" in printed
    assert re.search(r"\| +0 of [1-9]\d* \|", printed)


def test_a_classifier_and_a_size(run, quick_config, capsys, tmp_path):
    weights = save_weights(instantiate(quick_config("DigitPatches/R18.py").model), tmp_path / "weights.pth")
    run("DigitPatches/R18", "--size", "48x40", weights=weights)
    assert "image (3, 48, 40), float32 from 0 to 255, RGB -> classes, scores" in capsys.readouterr().out


def test_a_file_that_predicts_something_else_is_found(run, monkeypatch, capsys):
    def write_another(model, *arguments, **options):
        model = copy.deepcopy(model)
        nn.init.constant_(model.head.cls_score.bias, -2)
        return export.write_exported(model, *arguments, **options)

    monkeypatch.setattr("cankd.export.exporting.write_exported", write_another)
    with pytest.raises(SystemExit, match="model is not written: on 3 test images the export does not predict"):
        run("DigitScenes/retinanet_R18", format="torchscript")
    assert re.search(r"largest difference of scores +\| +\d", capsys.readouterr().out)


def test_images_of_other_sizes_are_fitted(run, quick_config, tmp_path, monkeypatch):
    """Larger than the input, they are made smaller; what they do not cover has the mean colour."""
    seen = []
    compare = export.Agreement.add
    monkeypatch.setattr(export.Agreement, "add", lambda self, *outputs: seen.append(outputs) or compare(self, *outputs))
    run("DigitScenes/retinanet_R18", "--size", "80x128", format="torchscript")
    boxes = torch.cat([found["pred_boxes"] for _, found in seen])
    assert len(boxes) and boxes[:, 0::2].max() > 60 and (boxes[:, 0] < 80).all()


@pytest.mark.parametrize(
    "model, arguments, message",
    [
        ("pspnet_R18", [], "SemanticSegmentor cannot be exported as onnx; torchscript may work .*adaptive_avg_pool2d"),
        ("retinanet_R18", ["--check", "0"], "nothing says the size of the input: give it by --size"),
    ],
)
def test_refuses_what_cannot_be_exported(run, tmp_path, model, arguments, message, capfd):
    with pytest.raises(SystemExit, match=message):
        run(f"DigitScenes/{model}", *arguments)
    assert not (tmp_path / "model").exists()
    assert "graph(" not in capfd.readouterr().out


def test_refuses_other_outputs(tmp_path):
    class Panoptic(nn.Module):
        def forward(self, records):
            return [{"sem_seg": records[0]["image"], "panoptic_seg": (records[0]["image"], [])}]

    with pytest.raises(ValueError, match="Panoptic cannot be exported: it predicts sem_seg, panoptic_seg"):
        export.write_exported(Panoptic(), torch.zeros(3, 8, 8), str(tmp_path / "model"), format="torchscript")


def test_onnx_needs_its_packages(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit, match="ONNX needs onnxruntime, .*: pip install onnx onnxruntime"):
        run("DigitScenes/retinanet_R18")


def test_the_examples_of_the_help(run, load_tool, tiny_scenes, tmp_path, monkeypatch):
    """Both find the objects of a photo that is larger than the input."""
    for format, name in (("onnx", "model.onnx"), ("torchscript", "model.ts")):
        run("DigitScenes/retinanet_R18", "--output", str(tmp_path / name), "--size", "160x240", format=format)
    record = DatasetCatalog.get(tiny_scenes[1])[0]
    cv2.imwrite(str(tmp_path / "photo.jpg"), cv2.resize(cv2.imread(record["file_name"]), None, fx=2, fy=2))
    monkeypatch.chdir(tmp_path)
    text = load_tool("tools/export_model.py").__doc__.split("on a photo:\n")[1].split("Exits with")[0]
    onnx, torchscript = text.replace("800", "160").replace("1344", "240").split("and the same with TorchScript")
    names = {}
    exec(textwrap.dedent(onnx), names)
    true = annotated_instances(record["annotations"], (160, 160)).gt_boxes
    true.scale(2, 2)
    confident = torch.from_numpy(names["boxes"][names["scores"] > 0.5])
    assert len(confident) and (pairwise_iou(Boxes(confident), true).amax(1) > 0.5).all()
    exec(textwrap.dedent(torchscript.partition("\n")[2]), names)
    again = names["boxes"][names["scores"] > 0.5] / names["scale"]
    torch.testing.assert_close(again, confident, atol=0.1, rtol=0)

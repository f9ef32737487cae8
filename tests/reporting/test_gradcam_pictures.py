import json
import pathlib
import sys

import cv2
import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from cankd.modeling.backbone import TimmBackbone
from cankd.reporting import choose_records, draw_gradcam, gradcam_pictures, load_models
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from PIL import Image

from tests.tiny import save_weights, write_config

pytest.importorskip("pytorch_grad_cam", reason="Grad-CAM is the package grad-cam's")

CLASSIFIER = "DigitPatches/R18_from_R34.py"


@pytest.fixture
def load(quick_config, tmp_path):
    """Returns a function that gives a config with student and teacher of random weights."""

    def load(name):
        config = quick_config(name)
        teacher = config.model.teacher
        if not teacher.weights.startswith("cankd://"):
            teacher.weights = save_weights(instantiate(teacher.model), tmp_path / "teacher.pth")
        config.train.init_checkpoint = save_weights(instantiate(config.model.student), tmp_path / "student.pth")
        return config

    return load


@pytest.fixture
def drawn(monkeypatch):
    """Collects the rows of the pictures."""
    calls = []
    original = gradcam_pictures.draw_heatmaps

    def draw(path, image, rows, **options):
        calls.append(rows)
        original(path, image, rows, **options)

    monkeypatch.setattr(gradcam_pictures, "draw_heatmaps", draw)
    return calls


def draw(config, folder, *, baseline="", **options):
    models = load_models(config, baseline=baseline)
    return models, draw_gradcam(models, config, choose_records(config, images=1), str(folder), **options)


def test_models_side_by_side_at_all_stages(load, tmp_path, drawn):
    config = load(CLASSIFIER)
    models, (path,) = draw(config, tmp_path / "out", baseline=config.train.init_checkpoint)
    assert list(drawn[0]) == ["res2", "res3", "res4", "res5"]
    titles = [title.split("\n")[0] for title in drawn[0]["res4"]]
    assert titles == ["student", "distilled student", "teacher"]
    assert all(m.values.shape == (112, 112) and m.values.min() == 0 for m in drawn[0]["res2"].values())
    found = json.loads(pathlib.Path(path).with_suffix(".json").read_text())["classes"]
    record = choose_records(config, images=1)
    with torch.no_grad():
        output = models["teacher"](record)[0]
    assert found["teacher"]["index"] == int(output["classes"][0]) == int(found["teacher"]["class"])
    assert found["teacher"]["score"] == pytest.approx(float(output["scores"][0]))
    assert cv2.imread(path).shape[1] > 1500


def test_rows_have_the_order_of_the_levels_whichever_model_depends_on_them(load, tmp_path, drawn, monkeypatch):
    class Explained:
        category, confidence = 0, 1.0

        def __init__(self, model, source, title, data, category):
            self.levels = ["res3"] if title == "teacher" else ["res5"]

        def compute_map(self, level):
            return np.zeros((112, 112))

    monkeypatch.setattr(gradcam_pictures, "_Explained", Explained)
    draw(load(CLASSIFIER), tmp_path)
    assert list(drawn[0]) == ["res3", "res5"]
    first, last = ([bool(each) for each in maps.values()] for maps in drawn[0].values())
    assert first == [False, True] and last == [True, False]  # the teacher is the last column


def test_at_the_last_stage_it_is_the_classifiers_weights_times_the_feature(load, tmp_path, drawn):
    """As the class's logit is linear in the mean over positions (Zhou et al. 2016)."""
    config = load(CLASSIFIER)
    models, _ = draw(config, tmp_path, levels=["res5"], class_index=3)
    model = models["distilled student"].model
    data = models["distilled student"].read(choose_records(config, images=1))
    with torch.no_grad():
        feature = model.backbone(model.preprocess_image(data).tensor)["res5"][0]
        expected = torch.einsum("c,chw->hw", model.classifier.weight[3], feature).relu().numpy()
    (values, _), _ = drawn[0]["res5"].values()
    expected = cv2.resize(expected - expected.min(), (128, 128))  # four positions of stride 32
    np.testing.assert_allclose(values, (expected / expected.max())[:112, :112], atol=1e-4)
    assert list(drawn[0]["res5"])[0].startswith("distilled student\n3 ")


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "fcos"])
def test_the_surest_detection_of_a_detector(load, tmp_path, drawn, name):
    config = load(f"DigitScenes/{name}_R10_from_R18.py")
    config.train.init_checkpoint = ""
    if name == "fcos":
        config.model.teacher.model.test_score_thresh = 0.0  # its weights are random
    # The model pads images of this size.
    config.dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=100)]
    models, _ = draw(config, tmp_path)
    maps = [row[title].values for row in drawn[0].values() for title in row]
    assert set(drawn[0]) <= {"p3", "p4", "p5"} and all(values.shape == (100, 100) and values.any() for values in maps)
    data = models["teacher"].read(choose_records(config, images=1))[0]
    with torch.no_grad():
        found = models["teacher"].model([{**data, "height": 100, "width": 100}])[0]["instances"]
    x0, y0, x1, y1 = found.pred_boxes.tensor[found.scores.argmax()].tolist()
    y, x = np.unravel_index(sum(maps).argmax(), (100, 100))
    assert x0 - 16 <= x <= x1 + 16 and y0 - 16 <= y <= y1 + 16


def test_what_cannot_be_drawn_is_explained(load, tmp_path):
    config = load(CLASSIFIER)
    with pytest.raises(ValueError, match="there is no class 'ten'; near it are 0, 1, 2"):
        draw(config, tmp_path, class_name="ten")
    with pytest.raises(ValueError, match="the class is number 10, but the distilled student predicts 10, from 0"):
        draw(config, tmp_path, class_index=10)
    with pytest.raises(ValueError, match="the class is given twice, as '3' and as 3"):
        draw(config, tmp_path, class_name="3", class_index=3)
    with pytest.raises(ValueError, match="the distilled student has no level 'res9'"):
        draw(config, tmp_path, levels=["res9"])
    config = load("DigitScenes/semantic_fpn_R10_from_R18.py")
    with pytest.raises(ValueError, match="is a SemanticSegmentor: Grad-CAM explains classifiers and detectors alone"):
        draw(config, tmp_path)
    config = load("DigitScenes/retinanet_R10_from_R18.py")
    config.model.teacher.model.test_score_thresh = 1.0
    config.train.init_checkpoint = ""
    with pytest.raises(ValueError, match="the teacher detects nothing of the class in .*000000.png"):
        draw(config, tmp_path, class_name="7")


def test_the_blocks_of_a_vision_transformer_are_refused(load, tmp_path):
    pytest.importorskip("timm", reason="the network is timm's")
    config = load(CLASSIFIER)
    config.model = config.model.student
    config.model.backbone = L(TimmBackbone)(name="test_vit", out_features=["block5", "pooled"], dynamic_img_size=True)
    config.model.in_feature = "pooled"
    config.train.init_checkpoint = save_weights(instantiate(config.model), tmp_path / "model.pth")
    with pytest.raises(ValueError, match="the score of the model depends on none of block5: .*vision transformer"):
        draw(config, tmp_path)


def test_says_that_grad_cam_is_absent(load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(ValueError, match=r"Grad-CAM needs the package grad-cam: pip install 'cankd\[gradcam\]'"):
        draw(load(CLASSIFIER), tmp_path)


def test_the_tool_draws_images_of_ones_own(load, load_tool, tmp_path, capsys):
    write_config(load(CLASSIFIER), tmp_path / "config.py")
    Image.effect_noise((60, 90), 80).save(tmp_path / "grey.png")
    tool = load_tool("tools/visualize_gradcam.py")
    command = ["--config-file", str(tmp_path / "config.py"), "--input", str(tmp_path / "grey.png")]
    tool.main(tool.parse_arguments([*command, "--class-name", "4", "--output", str(tmp_path / "out")]))
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / "grey_gradcam.png")]
    found = json.loads((tmp_path / "out" / "grey_gradcam.json").read_text())["classes"]
    assert [entry["class"] for entry in found.values()] == ["4", "4"]
    with pytest.raises(SystemExit, match="Error: there is no class 'cat'"):
        tool.main(tool.parse_arguments([*command, "--class-name", "cat"]))

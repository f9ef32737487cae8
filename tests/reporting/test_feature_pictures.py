import json

import cv2
import numpy as np
import pytest
import torch
from cankd.checkpoint.distillation_checkpointer import DistillationCheckpointer
from cankd.engine.training import build_model
from cankd.reporting import attention_pictures, draw_attention, draw_features, feature_pictures, load_models
from detectron2.config import instantiate

from tests.tiny import save_weights

CANKD = "DigitScenes/retinanet_R10_from_R18.py"


@pytest.fixture
def config(quick_config, tmp_path):
    """A config with a checkpoint of its run, head and all, of random weights."""
    config = quick_config(CANKD)
    distiller = build_model(config)
    for module in distiller.head.non_local.values():
        torch.nn.init.ones_(module.norm.weight)
    DistillationCheckpointer(distiller.student, str(tmp_path), distillation_head=distiller.head).save("run")
    config.train.init_checkpoint = str(tmp_path / "run.pth")
    return config


@pytest.fixture
def records(config):
    return instantiate(config.dataloader.test.dataset)[:1]


@pytest.fixture
def drawn(monkeypatch):
    """Collects the rows of the pictures."""
    calls = []
    original = feature_pictures.draw_heatmaps

    def draw(path, image, rows, **options):
        calls.append((image, rows, options))
        original(path, image, rows, **options)

    for module in (feature_pictures, attention_pictures):
        monkeypatch.setattr(module, "draw_heatmaps", draw)
    return calls


def read(path):
    with open(path) as f:
        return json.load(f)


def test_features_of_all_models(config, records, tmp_path, drawn):
    models = load_models(config, baseline=config.train.init_checkpoint)
    (path,) = draw_features(models, config, records, str(tmp_path / "out"))
    assert cv2.imread(path).shape[1] > 1500
    image, rows, _ = drawn[0]
    assert np.array_equal(image, cv2.imread(records[0]["file_name"])[..., ::-1])
    assert list(rows) == ["p3", "p4", "p5"] and list(rows["p3"]) == ["student", "distilled student", "teacher"]
    assert [rows[level]["teacher"].values.shape for level in rows] == [(20, 20), (10, 10), (5, 5)]
    assert [rows[level]["student"].stride for level in rows] == [8, 16, 32]
    numbers = read(tmp_path / "out" / f"{path.rsplit('/')[-1][:-4]}.json")["feature"]
    assert numbers["p4"]["teacher"]["mean"] == pytest.approx(float(rows["p4"]["teacher"].values.mean()))


@pytest.mark.parametrize("quantity, same", [("correlation", 1), ("difference", 0)])
def test_a_copy_of_the_teacher_agrees_with_it_everywhere(config, records, tmp_path, drawn, quantity, same):
    config.model.student = config.model.teacher.model
    config.train.init_checkpoint = config.model.teacher.weights
    draw_features(load_models(config), config, records, str(tmp_path), quantity=quantity, levels=["p4"])
    rows = drawn[0][1]
    assert list(rows) == ["p4"] and list(rows["p4"]) == ["distilled student"]
    np.testing.assert_allclose(rows["p4"]["distilled student"].values, same, atol=1e-4)


def test_features_of_a_plain_model(quick_config, records, tmp_path, drawn):
    config = quick_config("DigitScenes/retinanet_R10.py")
    config.train.init_checkpoint = save_weights(instantiate(config.model), tmp_path / "model.pth")
    draw_features(load_models(config), config, records, str(tmp_path), reduction="top", top_k=3)
    assert list(drawn[0][1]["p5"]) == ["model"]


def test_features_that_cannot_be_drawn_are_named(config, records, tmp_path):
    models = load_models(config)
    with pytest.raises(ValueError, match=r"the distilled student has no level 'p9': .* backbone \(p3, p4, p5\)"):
        draw_features(models, config, records, str(tmp_path), levels=["p9"])
    with pytest.raises(ValueError, match="the teacher has no level 'p9'"):
        draw_features({"teacher": models["teacher"]}, config, records, str(tmp_path), levels=["p9"])
    student = next(title for title in models if title != "teacher")
    with pytest.raises(ValueError, match="correlation is that .* give --teacher and --teacher-weights, too"):
        draw_features({student: models[student]}, config, records, str(tmp_path), quantity="correlation")
    with pytest.raises(ValueError, match="correlation is that .* give a student's checkpoint, too"):
        draw_features({"teacher": models["teacher"]}, config, records, str(tmp_path), quantity="correlation")
    with pytest.raises(ValueError, match="the quantity is 'sum'"):
        draw_features(models, config, records, str(tmp_path), quantity="sum")


def test_attention_of_a_point_is_a_row_of_the_affinity(config, tmp_path, drawn):
    (path,) = draw_attention(config, str(tmp_path / "out"), point=(83, 61))
    rows, options = drawn[0][1:]
    assert [rows[level]["teacher positions"].values.shape for level in rows] == [(10, 10), (5, 5), (2, 2)]
    assert rows["p3"]["teacher positions"].stride == 16 and options["signed"]
    assert options["marks"]["p3"] == [(84, 60)]  # the middle of column 10, row 7
    numbers = read(path[:-4] + ".json")["attention"]
    assert numbers["p4"]["positions"] == [[3, 5]]
    assert cv2.imread(path).shape[1] > 500


def test_attention_of_a_box_is_the_mean_over_its_positions(config, tmp_path, drawn):
    draw_attention(config, str(tmp_path), box=(0, 0, 31, 15), levels=["p4"])
    for point in ((0, 0), (16, 0)):
        draw_attention(config, str(tmp_path), point=point, levels=["p4"])
    box, first, second = (call[1]["p4"]["teacher positions"].values for call in drawn)
    np.testing.assert_allclose(box, (first + second) / 2, rtol=1e-5)


def test_attention_that_cannot_be_drawn_is_explained(config, tmp_path):
    with pytest.raises(ValueError, match=r"\(200, 10, 200, 10\) does not lie in the image.* 160×160"):
        draw_attention(config, str(tmp_path), point=(200, 10))
    with pytest.raises(ValueError, match="p6 is not distilled"):
        draw_attention(config, str(tmp_path), point=(20, 10), levels=["p6"])
    config.train.init_checkpoint = save_weights(instantiate(config.model.student), tmp_path / "alone.pth")
    with pytest.raises(
        ValueError, match="has no distillation head of this config .it holds none.: give a checkpoint of"
    ):
        draw_attention(config, str(tmp_path), point=(20, 10))
    config.train.init_checkpoint = ""
    with pytest.raises(ValueError, match="give a checkpoint of the distillation"):
        draw_attention(config, str(tmp_path), point=(20, 10))
    config.model = config.model.student
    with pytest.raises(ValueError, match="describes one model"):
        draw_attention(config, str(tmp_path), point=(20, 10))


def test_images_of_one_name_keep_their_own_pictures(config, records, tmp_path):
    paths = draw_features(load_models(config), config, [*records, *records], str(tmp_path / "out"), levels=["p5"])
    assert [path.rpartition("/")[2] for path in paths] == ["000000_feature.png", "000000_2_feature.png"]


def test_levels_of_other_strides(config, records, tmp_path, drawn):
    """The student's P3 is resized to the teacher's P4, whose positions it draws on."""
    config.model.levels = {"p3": "p4", "p4": "p4", "p5": "p5"}
    draw_attention(config, str(tmp_path), point=(150, 60), levels=["p3"])
    assert drawn[0][2]["marks"]["p3"] == [(152, 56)] and drawn[0][1]["p3"]["teacher positions"].stride == 32
    draw_features(load_models(config), config, records, str(tmp_path), levels=["p3"])
    assert [heat_map.stride for heat_map in drawn[1][1]["p3"].values()] == [8, 16]
    with pytest.raises(ValueError, match="at level 'p3' the strides differ"):
        draw_features(load_models(config), config, records, str(tmp_path), levels=["p3"], quantity="difference")


def test_a_directory_that_cannot_be_written_is_named_first(config, records, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="the directory .*file cannot be written"):
        draw_features(load_models(config), config, records, str(tmp_path / "file"))


def test_comparisons_of_features_by_hand():
    """Of two channels: 3 times the teacher's plus 1 is the same, its negative the opposite."""
    teacher = torch.tensor([[[1.0, -1.0], [1.0, -1.0]], [[2.0, 2.0], [-2.0, -2.0]]])
    features = {"same": 3 * teacher + 1, "opposite": -teacher, "teacher": teacher}
    difference = feature_pictures._compare(features, "p3", "difference", "mean", 2)
    correlation = feature_pictures._compare(features, "p3", "correlation", "mean", 2)
    for found, same, opposite in ((difference, 0.0, 2.0), (correlation, 1.0, -1.0)):
        assert found.keys() == {"same", "opposite"}
        torch.testing.assert_close(found["same"], torch.full((2, 2), same), rtol=0, atol=1e-4)
        torch.testing.assert_close(found["opposite"], torch.full((2, 2), opposite), rtol=0, atol=1e-4)

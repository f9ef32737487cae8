"""A classifier goes through everything that a detector goes through."""

import json
import pathlib

import cv2
import pytest
import torch
from cankd.analysis import check_distillation, count_config_costs
from cankd.analysis.first_scores import _lowest_score
from cankd.checkpoint import export_weights
from cankd.data import choose_cells
from cankd.engine import evaluate, train
from cankd.modeling.backbone import TimmBackbone
from cankd.reporting import compare_confusion, draw_features, draw_predictions, load_models, make_report
from cankd.robustness import compare_robustness, evaluate_robustness
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts

from tests.tiny import save_weights

R18, MOBILENET = "DigitPatches/R18_from_R34.py", "DigitPatches/MobileNetV1_from_R50.py"


@pytest.fixture
def load(quick_config, tmp_path):
    """Returns a function that gives a distillation with a teacher of random weights."""

    def load(name, **train):
        config = quick_config(name, **train)
        config.model.teacher.weights = save_weights(instantiate(config.model.teacher.model), tmp_path / "teacher.pth")
        return config

    return load


@pytest.fixture
def trained(load):
    """A config whose student was trained for two iterations, and is the baseline, too."""
    config = load(R18, max_iter=2)
    train(config)
    config.train.init_checkpoint = str(pathlib.Path(config.train.output_dir) / "model_final.pth")
    return config


@pytest.mark.parametrize("name", [R18, MOBILENET])
def test_trains_resumes_and_is_evaluated(load, name):
    config = load(name, max_iter=2, checkpointer={"period": 1, "max_to_keep": 1})
    train(config)
    config.train.max_iter = 3
    results = train(config, resume=True)
    folder = pathlib.Path(config.train.output_dir)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    losses = [line for line in lines if "total_loss" in line]
    assert [line["iteration"] for line in losses] == [0, 1, 2]
    assert losses[-1]["loss_cls"] > 0 and losses[-1]["loss_cankd_res5"] > 0
    assert {"top1", "top5", "mACC", "ACC-0", "ACC-9"} < results["classification"].keys()
    config.train.init_checkpoint = str(folder / "model_final.pth")
    assert evaluate(config)["classification"] == pytest.approx(results["classification"])
    assert 0 <= evaluate(config, role="teacher")["classification"]["top1"] <= 100


@pytest.mark.parametrize("inherit", [["classifier.*"], "auto"])
def test_inherits_the_linear_layer(load, inherit):
    config = load(R18, max_iter=1, seed=1, inherit=inherit)
    config.model.student = config.model.teacher.model
    config.optimizer.lr = 0.0
    train(config)
    found = torch.load(pathlib.Path(config.train.output_dir) / "model_final.pth", weights_only=True)["model"]
    teacher = torch.load(config.model.teacher.weights, weights_only=True)["model"]
    assert torch.equal(found["classifier.weight"], teacher["classifier.weight"])
    assert not torch.equal(found["backbone.stem.conv1.weight"], teacher["backbone.stem.conv1.weight"])


def test_inherits_nothing_from_a_wider_teacher(load):
    with pytest.raises(ValueError, match="neither neck nor head"):
        train(load(R18, max_iter=1, inherit="auto"))


def test_a_model_of_more_classes_is_refused_before_training(load):
    config = load(R18, max_iter=1)
    config.model.student.num_classes = 12
    with pytest.raises(ValueError, match="has 10 classes, but the model predicts 12: set num_classes"):
        train(config)
    assert not list(pathlib.Path(config.train.output_dir).glob("*.pth"))


def test_a_pre_trained_backbone_is_no_random_one(load, tmp_path):
    timm = pytest.importorskip("timm", reason="the backbone is timm's")
    config, lines = load(R18), []
    path = str(tmp_path / "timm.pth")
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    config.model.student.backbone = L(TimmBackbone)(name="test_efficientnet", checkpoint=path)
    check_distillation(config, num_images=0, report=lines.append)
    (weights,) = (line for line in lines if line.startswith("\nWeights"))
    assert f"its backbone is pre-trained, with the weights of {path}" in weights and "random" not in weights


@pytest.mark.parametrize("name", [R18, MOBILENET])
def test_is_checked(load, name):
    found = check_distillation(load(name), num_images=0, report=lambda line: None)
    assert found["problems"] == [] and found["gradients"]["res5"]["ratio"] > 0


def test_an_untrained_teacher_shows(load):
    config = load(R18)
    config.model.teacher.model.pixel_mean = [1e6] * 3  # it takes all images for one class
    found = check_distillation(config, num_images=10, report=lambda line: None)
    assert any("the teacher's classification top1 on 10 images is 10.00" in problem for problem in found["problems"])


def test_costs_are_counted(load):
    costs = count_config_costs(load(R18), 112, 112)
    assert costs["student"]["classifier"] == {"parameters": 650, "flops": 640, "activations": 10}
    assert costs["teacher"]["total"]["flops"] > 5 * costs["student"]["total"]["flops"] and "head" in costs


def test_is_drawn_with_the_ground_truth(trained, tmp_path):
    checkpoint = trained.train.init_checkpoint
    draw_predictions(trained, str(tmp_path / "a.png"), baseline=checkpoint, images=2)
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 4 * 450  # two students, teacher, ground truth
    draw_predictions(trained, str(tmp_path / "b.png"), inputs=[str(tmp_path / "a.png")])
    assert cv2.imread(str(tmp_path / "b.png")).shape[1] == 2 * 450
    with pytest.raises(ValueError, match="the two students find the same objects, or are both right"):
        draw_predictions(trained, str(tmp_path / "c.png"), baseline=checkpoint, only_differing=True)
    draw_features(load_models(trained), trained, [{"file_name": str(tmp_path / "a.png")}], str(tmp_path / "features"))
    assert (tmp_path / "features" / "a_feature.png").is_file()


@pytest.mark.parametrize("name", [R18, MOBILENET])
def test_is_exported(load, name, tmp_path):
    config = load(name)
    source, target = config.model.teacher.weights, str(tmp_path / "half.pth")
    student = instantiate(config.model.student)
    export_weights(save_weights(student, source), target, float16=True)
    config.train.init_checkpoint = target
    assert evaluate(config)["classification"]["top5"] >= 0


def test_confusion_and_report(trained, tmp_path):
    models = load_models(trained)
    matrices = compare_confusion(models, trained.dataloader.test, str(tmp_path / "confusion"))
    assert [matrix.counts.sum() for matrix in matrices.values()] == [10, 10]
    page = make_report(
        [("run", trained.train.output_dir)], str(tmp_path / "report"), include=[str(tmp_path / "confusion")]
    )
    text = pathlib.Path(page).read_text()
    assert "<h3>Classification</h3>" in text and "top1" in text and "confusion.png" in text


def test_is_evaluated_on_corruptions(trained, tmp_path):
    pytest.importorskip("imagecorruptions", reason="corruptions come from imagecorruptions-imaug")
    cells = choose_cells("brightness", [0, 3])
    grids = evaluate_robustness(
        trained, {"student": trained.train.init_checkpoint, "teacher": ""}, cells, str(tmp_path)
    )
    clean = evaluate(trained)["classification"]["top1"]
    assert grids["student"][cells[0]]["classification"]["top1"] == clean
    text = compare_robustness(grids, str(tmp_path))
    assert "top1 mCE" in text and "divides by the errors of student" in text


def test_is_not_ready_where_train_and_test_have_other_classes(load):
    config = load(R18)
    DatasetCatalog.register("others", lambda: DatasetCatalog.get(config.dataloader.train.dataset.names))
    MetadataCatalog.get("others").set(image_classes=[*"abcdefghij"])
    config.dataloader.test.dataset = L(get_detection_dataset_dicts)(names="others", filter_empty=False)
    try:
        (problem,) = check_distillation(config, num_images=0, report=lambda line: None)["problems"]
        assert "class 0 is '0' in the one and 'a' in the other" in problem
        config.dataloader.evaluator = None
        assert check_distillation(config, num_images=0, report=lambda line: None)["problems"] == []
    finally:
        DatasetCatalog.remove("others")
        MetadataCatalog.remove("others")


def test_a_teacher_that_does_not_say_its_classes_has_only_to_score():
    assert _lowest_score("top1", torch.nn.Identity()) == 5.0

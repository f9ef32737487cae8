import copy
import json
import re

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from cankd.analysis import check_distillation, first_scores
from cankd.analysis.first_scores import _evaluate_on, compare_first_scores
from cankd.evaluation import FastCOCOEvaluator
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import DatasetEvaluators

from tests.evaluation.test_coco_evaluation import predictions
from tests.tiny import save_weights

CANKD = "DigitScenes/retinanet_R10_from_R18.py"
INHERIT = "DigitScenes/retinanet_R10_from_R18_inherit.py"


def check(config, **arguments):
    lines = []
    found = check_distillation(config, report=lines.append, **{"num_images": 4, **arguments})
    return found, "\n".join(lines)


def test_a_sound_distillation_is_ready(quick_config):
    found, text = check(quick_config(INHERIT))
    assert text.endswith("Ready.") and found["problems"] == []
    assert [row["student level"] for row in found["levels"]] == ["p3", "p4", "p5"]
    assert found["weights"]["teacher"] == {"loaded": 144, "missing": 0, "unexpected": 0, "reshaped": 0}
    assert found["weights"]["student"] is None and "starts from random weights" in text
    assert found["weights"]["inherited"] == 18
    assert found["teacher"]["images"] == 4 and found["teacher"]["bbox"]["AP"] > 20
    assert found["gradients"].keys() == {"p3", "p4", "p5"}
    student, teacher = (found["cost"][name] for name in ("student", "teacher"))
    assert student["parameters"] == 655182 and teacher["flops"] > 2 * student["flops"] > 0
    assert found["cost"]["teacher, distilled levels"]["flops"] < teacher["flops"]
    assert found["learning_rate"] == {"lr": 0.002, "total_batch_size": 2, "max_iter": 4}
    start = found["student"]["bbox"]["AP"]
    assert found["student"]["images"] == 4 and not start > found["teacher"]["bbox"]["AP"]
    assert re.search(r"\| teacher +\| .*\n\| student's start +\|", text)
    assert 0.01 < found["parameters"]["ratio"] < 100 and "At the parameters 0.1 to 100 is known to help" in text
    step = found["step"]
    assert step["images"] == 2 and step["hours"] == step["seconds"] * 4 / 3600 > 0
    assert "A step of 2 images on cpu (" in text and "All 4 iterations at this pace, on this machine: " in text
    assert "Sizes of all 24 images in training: smallest 160×160, median 160×160, largest 160×160" in text
    assert found["notes"] == []


def test_images_of_all_classes_are_looked_at_whatever_their_order(quick_config, monkeypatch):
    seen = []
    monkeypatch.setattr(first_scores, "_evaluate", lambda _, data, evaluator, records, *__: seen.extend(records) or {})
    config = quick_config("DigitPatches/R18_from_R34.py")
    model = instantiate(config.model)
    for classes in ([i // 50 for i in range(500)], [i % 10 for i in range(500)]):  # sorted, and in turns
        seen.clear()
        compare_first_scores(model, config.dataloader, [{"class": c} for c in classes], 50, None)
        assert len(seen) == 100 and len({record["class"] for record in seen}) == 10


def test_leaves_the_predictions_of_a_run_as_they_are(quick_config, tmp_path):
    config = quick_config(CANKD)
    config.dataloader.evaluator.output_dir = str(tmp_path / "inference")
    check(config)
    assert not (tmp_path / "inference").exists()


def test_names_an_optimizer_that_cannot_be_built(quick_config):
    config = quick_config(CANKD)
    config.optimizer.momentun = 0.9
    assert check(config, num_images=0)[0]["problems"][0].startswith("optimizer cannot be built: TypeError: ")


def test_levels_that_small_images_have_no_place_for_are_told(quick_config):
    config = quick_config(CANKD)
    resize = L(T.ResizeShortestEdge)(short_edge_length=[64, 96], max_size=1333, sample_style="choice")
    config.dataloader.train.mapper.augmentations = [resize]
    found, text = check(config, num_images=0)  # P5 of 64×64 is 2×2, which pooling by 2 leaves with one position
    assert found["too small"] == {"p5": 24} and text.endswith("Ready.")
    assert found["sizes"]["smallest"] == (64, 64) and found["sizes"]["largest"] == (96, 96)
    assert "So small are 24 of 24 for p5" in text
    assert re.search(r"Images as small as .*, 64×64 in training, .* distilled without p5, and counted", text)
    config.model.head.pool_size = 1
    assert check(config, num_images=0)[0]["too small"] == {}


def test_a_wrong_teacher_shows(quick_config, tmp_path):
    config = quick_config(CANKD)
    torch.save({"model": instantiate(config.model.teacher.model).state_dict()}, tmp_path / "untrained.pth")
    config.model.teacher.weights = str(tmp_path / "untrained.pth")
    found, text = check(config)
    assert "the teacher's bbox AP on 4 images is " in found["problems"][0] and "Not ready: 1 to mend." in text
    assert "gradients" in found
    assert check(config, num_images=0)[0]["problems"] == []


def test_a_student_that_is_better_than_its_teacher_is_noted(quick_config):
    config = quick_config(CANKD)
    config.model.student = copy.deepcopy(config.model.teacher.model)
    config.train.init_checkpoint = config.model.teacher.weights
    config.model.teacher.model.pixel_std = [2.0, 2.0, 2.0]  # not what it was trained with
    found, text = check(config, num_images=6)
    assert found["student"]["bbox"]["AP"] > found["teacher"]["bbox"]["AP"] > 1
    assert re.search("Note: the student's bbox AP is .* before training, and the teacher's .* take a better one", text)
    assert text.endswith("Ready.")


def test_a_weight_out_of_proportion_gets_another_suggested(quick_config):
    config = quick_config(CANKD)
    config.model.head.weight = 1e5
    found, text = check(config, num_images=0)
    (note,) = found["notes"]
    suggested = float(re.search(r"Try model.head.weight=(\S+) instead of 100000, as a starting point", note)[1])
    assert suggested == pytest.approx(1e5 * 100 / found["parameters"]["ratio"], rel=0.05)
    assert f"Note: {note}" in text and "0.1 to 100 is known to help. Try" in note and text.endswith("Ready.")


def test_all_problems_are_told_at_once(quick_config, tmp_path):
    config = quick_config(CANKD)
    config.model.teacher.weights = str(tmp_path / "absent.pth")
    config.dataloader.train.dataset.names = "no_such_data"
    (tmp_path / "file").touch()
    config.train.output_dir = str(tmp_path / "file" / "run")
    found, text = check(config)
    assert len(found["problems"]) == 3 and text.count("To mend: ") == 3
    for problem, expected in zip(found["problems"], ("cannot be written", "'no_such_data'", "no checkpoint .*absent")):
        assert re.search(expected, problem)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"levels": ["p3", "p9"]}, "no level 'p9'"),
        ({"in_channels": 256}, "in_channels is 256"),
    ],
)
def test_a_pair_that_does_not_fit(quick_config, change, expected):
    config = quick_config(CANKD)
    config.model.head.update(change)
    found, _ = check(config)
    assert len(found["problems"]) == 1 and expected in found["problems"][0]


def test_student_that_knows_too_few_classes(quick_config):
    config = quick_config(CANKD)
    config.model.student.num_classes = 3
    assert "predicts 3" in check(config, num_images=0)[0]["problems"][0]


def test_plain_or_incomplete_config_is_refused(quick_config):
    with pytest.raises(ValueError, match="model has no teacher: only the config of a distillation can be checked"):
        check(quick_config("DigitScenes/retinanet_R10.py"))
    config = quick_config(CANKD)
    del config.optimizer
    with pytest.raises(ValueError, match="the config has no optimizer"):
        check(config)


def test_losses_that_are_nan(quick_config):
    config = quick_config(CANKD)
    config.model.student.pixel_std = [0.0, 0.0, 0.0]
    (problem,) = check(config, num_images=0)[0]["problems"]
    assert "loss_cls and loss_box_reg" in problem and "infinite or NaN in the first step" in problem


def test_step_is_that_of_one_process(quick_config):
    config = quick_config(CANKD)
    config.dataloader.train.total_batch_size = 4
    assert "a step of 2 images" in check(config, num_images=0, num_gpus=2)[1]
    assert "total_batch_size is 4; it has to be a multiple" in check(config, num_images=0, num_gpus=3)[0]["problems"][0]


def test_steps_that_add_up_take_their_time(quick_config):
    config = quick_config(CANKD)
    config.dataloader.train.total_batch_size, config.train.accumulate = 4, 2
    found, lines = check(config, num_images=0)
    step = found["step"]
    assert step["images"] == 2 and "iterations, each of 2 such steps, at this pace" in lines
    assert step["hours"] == pytest.approx(step["seconds"] * 2 * config.train.max_iter / 3600)


def test_a_mapper_that_cannot_be_built_is_one_problem_among_others(quick_config):
    config = quick_config(CANKD)
    config.dataloader.train.mapper.augmentation = []
    problems = check(config, num_images=0)[0]["problems"]
    assert problems and all("mapper" in problem and "augmentation" in problem for problem in problems)


def test_without_distillation_weight_or_evaluator(quick_config):
    config = quick_config(CANKD)
    config.model.head.weight = 0.0
    del config.dataloader.evaluator
    found, text = check(config)
    assert text.endswith("Ready.") and "No distillation" in text and found["gradients"] == {}
    assert "teacher" not in found and found["cost"].keys() == {"student", "teacher"}


@pytest.mark.parametrize(
    "name", ["faster_rcnn_R10_from_cascade_X26_inherit", "fcos_R10_from_R18", "reppoints_R10_from_X26"]
)
def test_every_architecture_is_measured(quick_config, tmp_path, name):
    config = quick_config(f"DigitScenes/{name}.py")
    config.model.teacher.weights = save_weights(instantiate(config.model.teacher.model), tmp_path / "teacher.pth")
    found, _ = check(config, num_images=0)
    assert found["problems"] == [] and all(row["flops"] > 0 for row in found["cost"].values())


def test_absent_device(quick_config, monkeypatch):
    config = quick_config(CANKD, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in check(config)[0]["problems"][0]


@pytest.mark.parametrize("evaluator", ["cankd.evaluation.FastCOCOEvaluator", "detectron2.evaluation.COCOEvaluator"])
def test_teacher_of_more_classes(quick_config, tmp_path, evaluator):
    """The shipped teacher knows ten digits, the test set three."""
    config = quick_config(CANKD)
    metadata = MetadataCatalog.get(config.dataloader.test.dataset.names)
    with open(metadata.json_file) as f:
        contents = json.load(f)
    contents["categories"] = contents["categories"][:3]
    known = {category["id"] for category in contents["categories"]}
    contents["annotations"] = [a for a in contents["annotations"] if a["category_id"] in known]
    (tmp_path / "three.json").write_text(json.dumps(contents))
    register_coco_instances("three_digits", {}, str(tmp_path / "three.json"), metadata.image_root)
    config.dataloader.test.dataset.names = "three_digits"
    config.dataloader.evaluator._target_ = evaluator
    try:
        (problem,) = check(config)[0]["problems"]
    finally:
        DatasetCatalog.remove("three_digits")
        MetadataCatalog.remove("three_digits")
    assert re.search("predictions do not fit the data .*class.* has 3 classes", problem) and "--images 0" in problem


def test_of_several_evaluators_each_sees_the_chosen_images_alone(tiny_scenes, tmp_path):
    evaluators = [FastCOCOEvaluator(tiny_scenes[0], (task,)) for task in ("bbox", "segm")]
    both = DatasetEvaluators(evaluators)
    both.reset()
    records = DatasetCatalog.get(tiny_scenes[0])[:2]
    for inputs, outputs in predictions(records, np.random.default_rng(0)):
        both.process([inputs], [outputs])
    of_some, of_all = _evaluate_on(both, records), both.evaluate()
    assert of_some.keys() == {"bbox", "segm"} and of_some["bbox"]["AP50"] > 3 * of_all["bbox"]["AP50"] > 0

"""Evaluators of Detectron2's configs that do not work here are replaced by those that do."""

from cankd.evaluation import FastCOCOEvaluator, LVISEvaluator, PanopticEvaluator, SemSegEvaluator, build_evaluator
from detectron2 import evaluation, model_zoo
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from omegaconf import OmegaConf


def test_panoptic_segmentation_by_a_config_of_detectron2(tiny_tasks):
    path = model_zoo.get_config_file("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py")
    data = LazyConfig.load(path).dataloader
    data.test.dataset.names = tiny_tasks["panoptic"][1]
    built = build_evaluator(data.evaluator)._evaluators
    assert [type(each) for each in built] == [evaluation.COCOEvaluator, SemSegEvaluator, PanopticEvaluator]


def test_targets_may_be_names(tiny_tasks):
    config = OmegaConf.create(
        {"_target_": "detectron2.evaluation.LVISEvaluator", "dataset_name": tiny_tasks["lvis"][1]}
    )
    assert type(build_evaluator(config)) is LVISEvaluator


def test_changes_are_for_arguments_that_are_given(tiny_scenes, tmp_path):
    evaluator = L(FastCOCOEvaluator)(dataset_name=tiny_scenes[1])
    assert build_evaluator(evaluator, output_dir=str(tmp_path))._output_dir is None
    evaluator.output_dir = str(tmp_path)
    assert build_evaluator(evaluator)._output_dir == str(tmp_path)
    assert build_evaluator(evaluator, output_dir=None)._output_dir is None

"""Masks, keypoints, panoptic segmentation, LVIS and Cityscapes' instances are distilled by configs of Detectron2."""

import json
import pathlib

import cankd
import pytest
import torch
from cankd.analysis import check_distillation
from cankd.engine import evaluate, load_config, train
from detectron2.config import instantiate

from tests.tiny import save_weights

# Of each task the model's config, the options that fit it to the data, and the metrics that it is measured by.
TASKS = {
    "masks": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", {}, {"bbox", "segm"}),
    "keypoints": (
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
        {"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 3, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (8,)},
        {"bbox", "keypoints"},
    ),
    "panoptic": (
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
        {
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2,
            "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
        },
        {"bbox", "segm", "sem_seg", "panoptic_seg"},
    ),
    "lvis": (
        "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
        {"MODEL.ROI_HEADS.NUM_CLASSES": 1203, "TEST.DETECTIONS_PER_IMAGE": 5},
        {"bbox", "segm"},
    ),
    "cityscapes": (
        "Cityscapes/mask_rcnn_R_50_FPN",
        {"MODEL.ROI_HEADS.NUM_CLASSES": 8, "TEST.DETECTIONS_PER_IMAGE": 2},
        {"segm"},
    ),
}
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "''",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_HEADS.NUM_CLASSES": 10,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "INPUT.MIN_SIZE_TRAIN": (96,),
    "INPUT.MIN_SIZE_TEST": 96,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 1,
    "SEED": 0,  # keypoints of some initial weights make Detectron2's own assertion fail
}


@pytest.fixture(params=TASKS)
def task(request, tiny_scenes, tiny_tasks):
    """Returns the name of a task and the names of its data's splits."""
    if request.param == "lvis":
        pytest.importorskip("lvis", reason="Detectron2 reads LVIS by lvis")
    if request.param == "cityscapes":
        pytest.importorskip("shapely", reason="Detectron2 reads the instances of Cityscapes by shapely")
        request.getfixturevalue("cityscapes")
        return request.param, [f"cityscapes_fine_instance_seg_{split}" for split in ("train", "val")]
    return request.param, tiny_tasks.get(request.param, tiny_scenes)


@pytest.fixture
def distillation(task, tmp_path):
    """Returns the config of a small yacs student that learns from a wider teacher, and its task."""
    torch.manual_seed(0)
    name, (training, test) = task
    path, options, _ = TASKS[name]
    options = {
        **SMALL,
        **options,
        "DATASETS.TRAIN": (training,),
        "DATASETS.TEST": (test,),
        "OUTPUT_DIR": tmp_path / "run",
    }
    overrides = [f"{key}={value}" for key, value in options.items()]
    teacher = load_config(f"{path}.yaml", [*overrides, "MODEL.FPN.OUT_CHANNELS=32"])
    weights = save_weights(instantiate(teacher.model), tmp_path / "teacher.pth")
    return cankd.distill(load_config(f"{path}.yaml", overrides), teacher=teacher, weights=weights), name


def test_is_distilled_and_evaluated(distillation):
    config, name = distillation
    results = train(config)
    assert results.keys() == TASKS[name][2]
    run = pathlib.Path(config.train.output_dir)
    losses = json.loads((run / "metrics.json").read_text().splitlines()[0])
    assert {"loss_cankd_p3", "loss_cankd_p4", "loss_cankd_p5"} < losses.keys()
    expected = {"keypoints": "loss_keypoint", "panoptic": "loss_sem_seg"}.get(name, "loss_mask")
    assert losses[expected] > 0
    assert evaluate(config, role="teacher").keys() == results.keys()
    assert not pathlib.Path("matches.json").exists()  # of cityscapesscripts


@pytest.mark.parametrize("task", ["cityscapes"], indirect=True)
def test_what_knows_whole_splits_only_is_left_out_of_the_check(distillation):
    lines = []
    problems = check_distillation(distillation[0], num_images=1, report=lines.append)["problems"]
    assert problems == [] and "CityscapesInstanceEvaluator knows whole splits only" in "\n".join(lines)


def test_masks_by_a_recipe(quick_config, tmp_path):
    config = quick_config("DigitScenes/mask_rcnn_R10_from_R18_inherit.py", max_iter=1)
    config.model.teacher.weights = save_weights(instantiate(config.model.teacher.model), tmp_path / "teacher.pth")
    config.dataloader.evaluator.tasks = ["captions"]
    with pytest.raises(ValueError, match="tasks is .'captions',.; FastCOCOEvaluator knows"):
        train(config)
    assert not list((tmp_path / "run").glob("[!.]*"))  # it shows before training
    config.dataloader.evaluator.tasks = ["bbox", "segm"]
    assert train(config).keys() == {"bbox", "segm"}
    config.dataloader.train.mapper.use_instance_mask = False
    with pytest.raises(ValueError, match="set dataloader.train.mapper.use_instance_mask=True"):
        train(config)

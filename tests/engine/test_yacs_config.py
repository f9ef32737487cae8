import os

import cankd
import numpy as np
import pytest
import torch
import yaml
from cankd.engine import build_model, evaluate, load_config, load_student, train
from cankd.engine.yacs_file import parse_yacs
from cankd.evaluation import FastCOCOEvaluator
from detectron2 import model_zoo
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor, DefaultTrainer, HookBase
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.env import seed_all_rng

from tests.tiny import save_weights, write_config

SMALL = {
    "MODEL": {
        "DEVICE": "cpu",
        "META_ARCHITECTURE": "RetinaNet",
        "PIXEL_STD": [57.4, 57.1, 58.4],
        "BACKBONE": {"NAME": "build_retinanet_resnet_fpn_backbone", "FREEZE_AT": 0},
        "RESNETS": {"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "NORM": "BN", "OUT_FEATURES": ["res3", "res4", "res5"]},
        "FPN": {"IN_FEATURES": ["res3", "res4", "res5"], "OUT_CHANNELS": 16},
        "ANCHOR_GENERATOR": {"SIZES": [[16], [32], [64], [128], [256]]},
        "RETINANET": {"NUM_CLASSES": 10, "NUM_CONVS": 1, "SCORE_THRESH_TEST": 0.0},
    },
    "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TRAIN": (64, 96), "MIN_SIZE_TEST": 64, "CROP": {"ENABLED": True}},
    "DATALOADER": {"NUM_WORKERS": 0},
    "SOLVER": {
        "IMS_PER_BATCH": 2,
        "BASE_LR": 0.02,
        "STEPS": (12, 16),
        "MAX_ITER": 20,
        "WARMUP_ITERS": 6,
        "BIAS_LR_FACTOR": 2.0,
        "NESTEROV": True,
        "CLIP_GRADIENTS": {"ENABLED": True, "CLIP_VALUE": 0.1},
    },
    "SEED": 1,
}


def small_config(tiny_scenes, tmp_path, **model):
    config = get_cfg()
    config.merge_from_other_cfg(type(config)({**SMALL, "MODEL": {**SMALL["MODEL"], **model}}))
    config.DATASETS.TRAIN, config.DATASETS.TEST = tiny_scenes[:1], tiny_scenes[1:]
    config.OUTPUT_DIR = str(tmp_path / "run")
    return config


class Recorder(HookBase):
    def __init__(self):
        self.losses, self.rates = [], []

    def after_step(self):
        self.losses.append(self.trainer.storage.history("total_loss").latest())
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return COCOEvaluator(dataset_name, use_fast_impl=False)


@torch.jit.optimized_execution(False)  # Detectron2's focal loss differs in its last bit once it is optimised
def test_trains_and_evaluates_as_detectron2_does(tiny_scenes, tmp_path):
    config = small_config(tiny_scenes, tmp_path)
    seed_all_rng(config.SEED)
    os.makedirs(config.OUTPUT_DIR)
    trainer = Trainer(config)
    theirs = Recorder()
    trainer.register_hooks([theirs])
    trainer.train()
    weights = f"{config.OUTPUT_DIR}/model_final.pth"

    ours = Recorder()
    distilled = cankd.distill(config, teacher=config, weights=weights, method="alone")
    results = train(load_config(write_config(distilled, tmp_path / "saved.py")), extra_hooks=(ours,))
    assert len(ours.losses) == 20 and ours.losses == theirs.losses
    assert len(set(ours.rates)) == 8 and ours.rates == theirs.rates

    assert results["bbox"] == pytest.approx(trainer._last_eval_results["bbox"], rel=1e-12, nan_ok=True)
    distilled.train.init_checkpoint = weights
    for role in ("student", "teacher"):
        found = evaluate(distilled, role=role)["bbox"]
        assert found == pytest.approx(trainer._last_eval_results["bbox"], rel=1e-12, nan_ok=True)
    assert trainer._last_eval_results["bbox"]["AP50"] > 0

    predictor_config = get_cfg()
    predictor_config.merge_from_file(f"{config.OUTPUT_DIR}_alone/detectron2.yaml")
    image = np.random.default_rng(0).integers(256, size=(64, 80, 3), dtype=np.uint8)
    found = DefaultPredictor(predictor_config)(image)["instances"]
    model = load_student(distilled, f"{config.OUTPUT_DIR}_alone/model_final.pth", "student").eval()
    expected = model([{"image": torch.as_tensor(image[:, :, ::-1].transpose(2, 0, 1).copy())}])[0]["instances"]
    assert len(found)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_the_saved_config_holds_yacs_as_text(tiny_scenes, tmp_path):
    config = small_config(tiny_scenes, tmp_path)
    distilled = cankd.distill(config, teacher=config, weights="teacher.pth")
    LazyConfig.save(distilled, str(tmp_path / "saved.yaml"))
    text = (tmp_path / "saved.yaml").read_text()
    assert "!!python" not in text and "CfgNode" not in text
    assert parse_yacs(yaml.safe_load(text)["train"]["yacs"]) == parse_yacs(config.dump())


def test_files_their_bases_and_names_of_the_model_zoo(tmp_path):
    (tmp_path / "base.yaml").write_text(f"_BASE_: {model_zoo.get_config_file('Base-RetinaNet.yaml')}\n")
    (tmp_path / "mine.yaml").write_text(
        "_BASE_: base.yaml\nMODEL: {RETINANET: {NUM_CLASSES: 7}, WEIGHTS: R-50.pkl}\nOUTPUT_DIR: out\n"
    )
    config = load_config(
        str(tmp_path / "mine.yaml"),
        ["SOLVER.BASE_LR=0.5", "SOLVER.STEPS=(4,)", "train.device=cpu"],
        teacher="COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
        weights="teacher.pth",
        method="pkd+kd",
        inherit=True,
    )
    yacs = parse_yacs(config.model.student.yacs)
    assert (yacs.MODEL.RETINANET.NUM_CLASSES, yacs.SOLVER.STEPS) == (7, (4,))
    assert parse_yacs(config.model.teacher.model.yacs).MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    assert len(yacs.MODEL.ANCHOR_GENERATOR.SIZES[0]) == 3  # by an expression in the model zoo's file
    assert (config.optimizer.lr, config.train.device) == (0.5, "cpu")
    assert (config.train.output_dir, config.train.inherit) == ("out_pkd_kd_inherit", "auto")
    assert config.train.init_checkpoint == "R-50.pkl"
    assert config.model.head.heads[0].weight == 10.0  # PKD's for a RetinaNet
    assert config.model.head.heads[1].levels == [f"head:0:{i}" for i in range(5)]
    config.model.teacher.weights = save_weights(instantiate(config.model.teacher.model), tmp_path / "teacher.pth")
    config.model.head = config.model.head.heads[0]
    assert [pair.teacher for pair in build_model(config).pairs] == ["p3", "p4", "p5"]


@pytest.mark.parametrize(
    "contents, message",
    [
        ("MODEL: !!python/object/apply:os.mkdir [{marker}]", "mine.yaml, line 1, holds code"),
        ("_BASE_: evil.yaml", "evil.yaml, line 1, holds code"),
        ("MODEL: {{RETINANETT: 1}}", "mine.yaml cannot be used: Non-existent config key: MODEL.RETINANETT"),
        ("_BASE_: absent.yaml", "mine.yaml cannot be used"),
    ],
)
def test_refuses_files_and_runs_no_code(tmp_path, contents, message):
    marker = tmp_path / "marker"
    (tmp_path / "evil.yaml").write_text(f"MODEL: !!python/object/apply:os.mkdir [{marker}]")
    (tmp_path / "mine.yaml").write_text(contents.format(marker=marker))
    with pytest.raises(ValueError, match=message):
        load_config(str(tmp_path / "mine.yaml"))
    assert not marker.exists()


def test_what_is_not_done_here_is_refused_or_said(caplog):
    name, clip = "COCO-Detection/retinanet_R_50_FPN_1x.yaml", "SOLVER.CLIP_GRADIENTS"
    tests = [f"TEST.{option}.ENABLED=True" for option in ("PRECISE_BN", "AUG")]
    config = load_config(name, [f"{clip}.ENABLED=True", f"{clip}.CLIP_TYPE=full", *tests])
    assert "TEST.PRECISE_BN is left out" in caplog.text and "TEST.AUG is left out" in caplog.text
    with pytest.raises(ValueError, match="'full' is not a valid GradientClipType"):
        instantiate({**config.optimizer, "params": [torch.zeros(1)]})


def test_overrides_in_capitals_are_yacs_files():
    name = "COCO-Detection/retinanet_R_50_FPN_1x"
    with pytest.raises(ValueError, match="the config .*1x.yaml has no SOLVER.BASE_LRR; did you mean 'BASE_LR'?"):
        load_config(f"{name}.yaml", ["SOLVER.BASE_LRR=1"])
    with pytest.raises(ValueError, match="has no MODEL.BACKBONE.NAME.ANY"):
        load_config(f"{name}.yaml", ["MODEL.BACKBONE.NAME.ANY=1"])
    with pytest.raises(ValueError, match=r"the override SOLVER.STEPS=20 .*write \"SOLVER.STEPS=\('…',\)\" or"):
        load_config(f"{name}.yaml", ["SOLVER.STEPS=20"])
    with pytest.raises(
        ValueError, match="the overrides .'SOLVER.BASE_LR=1'. need a yacs config, and .*R_50_FPN_1x.py is none"
    ):
        load_config(f"{name}.py", ["SOLVER.BASE_LR=1"])


def test_the_evaluator_is_the_data_sets(tiny_scenes):
    def build(name, **options):
        config = load_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml", [f"DATASETS.TEST=('{name}',)"])
        config.dataloader.evaluator.update(options)
        return instantiate(config.dataloader.evaluator)

    assert type(build(tiny_scenes[1])) is FastCOCOEvaluator
    masks = load_config(
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", [f"DATASETS.TEST=('{tiny_scenes[1]}',)"]
    )
    assert instantiate(masks.dataloader.evaluator)._tasks == ("bbox", "segm")  # also where nothing is found
    try:
        MetadataCatalog.get("unheard_of").set(evaluator_type="nothing")
        with pytest.raises(ValueError, match="unheard_of has the evaluator_type 'nothing'; known are coco, "):
            build("unheard_of")
    finally:
        MetadataCatalog.remove("unheard_of")


def test_names_the_part_of_a_model_that_cannot_be_built():
    overrides = ["MODEL.RESNETS.DEPTH=18", "MODEL.RESNETS.RES2_OUT_CHANNELS=32"]
    config = load_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml", overrides)
    with pytest.raises(ValueError, match=r"model cannot be built: AssertionError: Must set MODEL.*resnet.py, line \d+"):
        build_model(config)


def test_mixed_precision_and_clipping_by_norm_are_the_files():
    overrides = ["SOLVER.AMP.ENABLED=True", "SOLVER.CLIP_GRADIENTS.ENABLED=True"]
    overrides += ["SOLVER.CLIP_GRADIENTS.CLIP_TYPE=norm", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE=0.5"]
    config = load_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml", overrides)
    assert config.train.amp.enabled
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    params = [{"params": [parameter], "weight_decay": 0.0, "lr": 1.0}]
    instantiate({**config.optimizer, "params": params, "momentum": 0.0, "nesterov": False}).step()
    torch.testing.assert_close(parameter.detach(), -torch.tensor([0.3, 0.4]), rtol=1e-4, atol=0)


def test_an_override_needs_an_equals_sign():
    with pytest.raises(ValueError, match="SOLVER.BASE_LR has no value: write SOLVER.BASE_LR=value"):
        load_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml", ["SOLVER.BASE_LR"])

import functools
import os

import pytest
import torch
from cankd import model_zoo
from cankd.data import register_subset
from cankd.engine import (
    code_fingerprint,
    decisive_options,
    describe_config,
    fingerprints_agree,
    load_config,
    read_config,
    result_fingerprint,
    result_fingerprints,
    teacher_fingerprints,
)
from cankd.engine.result_fingerprint import config_fingerprint
from detectron2.data import DatasetCatalog, MetadataCatalog


def test_a_teacher_is_evaluated_again_on_other_data():
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    before = teacher_fingerprints(config)["config"]
    config.dataloader.test.num_workers += 1
    assert teacher_fingerprints(config)["config"] == before
    config.dataloader.test.dataset.names = "digit_scenes_train"
    assert teacher_fingerprints(config)["config"] != before


def test_results_count_until_an_option_changes_what_is_trained():
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    expected = config_fingerprint(config)
    config.train.best = None
    for option in ("ema", "early_stopping", "accumulate", "best", "wandb"):
        del config.train[option]  # as in a config from before it
    assert config_fingerprint(config) == expected
    changed = [{"ema": {"enabled": True}}, {"accumulate": 2}, {"early_stopping": {"patience": 3}}]
    configs = [model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py") for _ in changed]
    for config, options in zip(configs, changed):
        config.merge_with({"train": options})
    assert len({expected, *map(config_fingerprint, configs)}) == 4


@pytest.mark.parametrize(
    "part",
    [
        {"train": {"seed": 9}},
        {"train": {"max_iter": 9}},
        {"train": {"init_checkpoint": "other.pth"}},
        {"train": {"inherit": "auto"}},
        {"train": {"distillation": {"stop_iter": 9}}},
        {"train": {"clip_gradients": {"max_norm": 9}}},
        {"train": {"amp": {"enabled": True}}},
        {"train": {"yacs": "SOLVER: {}"}},
        {"model": {"head": {"weight": 9}}},
        {"optimizer": {"lr": 9}},
        {"dataloader": {"train": {"total_batch_size": 9}}},
    ],
    ids=str,
)
def test_what_decides_a_result_makes_older_ones_stale(part):
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    before = config_fingerprint(config)
    config.merge_with(part)
    assert config_fingerprint(config) != before


def test_weights_trained_anew_make_older_results_stale(tmp_path):
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    config.train.init_checkpoint = str(tmp_path / "backbone.pth")
    config.model.teacher.weights = str(tmp_path / "teacher.pth")

    def fingerprint(backbone, teacher):
        for name, text in (("backbone", backbone), ("teacher", teacher)):
            (tmp_path / f"{name}.pth").write_text(text)
        result_fingerprint._hash_file.cache_clear()  # two writes may have one date
        return result_fingerprints(config)["weights"]

    first = fingerprint("a", "a")
    assert len({first, fingerprint("b", "a"), fingerprint("a", "b")}) == 3 and fingerprint("a", "a") == first
    described = result_fingerprints(config)
    config.train.init_checkpoint = os.path.relpath(config.train.init_checkpoint)
    config.model.teacher.weights = os.path.relpath(config.model.teacher.weights)
    assert result_fingerprints(config) == described  # the same files by other paths
    config.model.head.weight = 0  # the student alone sees no teacher
    assert fingerprint("a", "b") == fingerprint("a", "a") != fingerprint("b", "a")


def test_decisive_options_are_those_of_the_fingerprint():
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    before = decisive_options(config)
    assert before["optimizer.lr"] == 0.002 and before["model.head._target_"].endswith("CanKDHead")
    assert "train.output_dir" not in before and before["dataloader.train.num_workers"] == 0
    config.train.output_dir, config.dataloader.train.num_workers = "elsewhere", 7
    assert decisive_options(config) == before
    config.optimizer.lr = 0.001
    assert decisive_options(config) == {**before, "optimizer.lr": 0.001}


@pytest.mark.parametrize(
    "found, agrees",
    [
        ({"config": "a", "weights": "b", "data": "c"}, True),
        ({"config": "a"}, True),  # of a version that did not write the others down
        ({"config": "a", "weights": "b", "data": ""}, True),  # the data had not been drawn yet
        ({"config": "x", "weights": "b", "data": "c"}, False),
        ({"config": "a", "weights": "x", "data": "c"}, False),
        ({"config": "a", "weights": "b", "data": "x"}, False),
    ],
)
def test_results_agree_as_far_as_is_known(found, agrees):
    assert fingerprints_agree(found, {"config": "a", "weights": "b", "data": "c"}) == agrees
    assert fingerprints_agree({**found, "data": "x"}, {"config": "a", "weights": "b", "data": ""}) == (
        found["config"] == "a" and found.get("weights") != "x"
    )


def test_a_part_of_a_data_set_has_the_annotations_of_the_whole(tmp_path):
    file = tmp_path / "whole.json"
    file.write_text("[]")
    MetadataCatalog.get("whole").json_file = str(file)
    register_subset("part", "whole", stop=3)
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    found = []
    try:
        for name in ("whole", "part"):
            config.dataloader.train.dataset.names = config.dataloader.test.dataset.names = name
            found.append(result_fingerprints(config)["data"])
        assert found[0] == found[1] != ""
    finally:
        DatasetCatalog.remove("part")
        for name in ("whole", "part"):
            MetadataCatalog.remove(name)


def test_annotations_that_change_make_older_results_stale(tmp_path):
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    config.dataloader.train.dataset.names = config.dataloader.test.dataset.names = "changing"
    file = tmp_path / "changing.json"
    MetadataCatalog.get("changing").json_file = str(file)
    try:
        before = result_fingerprints(config)
        assert before["data"] == ""
        found = []
        for contents in ("[1]", "[2]"):
            file.write_text(contents)
            result_fingerprint._hash_file.cache_clear()  # two writes may have one date
            found.append(result_fingerprints(config))
        assert found[0]["data"] != found[1]["data"] and found[0]["config"] == found[1]["config"] == before["config"]
    finally:
        MetadataCatalog.remove("changing")


OWN_HEAD = """
from cankd.modeling import DistillationHead

class CosineHead(DistillationHead):
    name = "cosine"

    def compare(self, level, student, teacher, context):
        return (student - teacher).mean()
"""
OWN_CONFIG = """
from cankd import model_zoo
from detectron2.config import LazyCall as L
from .cosine_head import CosineHead

_recipe = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
model, dataloader, train = _recipe.model, _recipe.dataloader, _recipe.train
optimizer, lr_multiplier = _recipe.optimizer, _recipe.lr_multiplier
model.head = L(CosineHead)(levels=["p3"])
"""


def test_code_beside_a_config_has_one_name_at_every_load_and_its_changes_are_seen(tmp_path):
    (tmp_path / "own.py").write_text(OWN_CONFIG)
    fingerprints, codes = [], []
    for text in (OWN_HEAD, OWN_HEAD, OWN_HEAD.replace("mean()", "abs().mean()")):
        (tmp_path / "cosine_head.py").write_text(text)
        result_fingerprint._hash_file.cache_clear()
        config = read_config(str(tmp_path / "own.py"))
        fingerprints.append(result_fingerprints(config)["config"])
        codes.append(code_fingerprint(config))
    assert len(set(fingerprints)) == 1 and codes[0] == codes[1] != codes[2]
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    config.model.student = {"std": torch.ones(3), "norm": functools.partial(torch.nn.BatchNorm2d, eps=1.0), "sum": sum}
    assert code_fingerprint(config) == ""  # nothing of it is the user's own


def test_objects_are_described_without_their_address():
    class Mapper:
        pass

    first, second = (describe_config({"mapper": Mapper()}) for _ in range(2))
    assert first == second and "Mapper" in first


def test_a_precision_that_is_not_used_does_not_count():
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    found = []
    for enabled in (False, True):
        for precision in ("float16", "bfloat16"):
            config.train.amp = {"enabled": enabled, "precision": precision}
            found.append(config_fingerprint(config))
    assert found[0] == found[1] and len(set(found)) == 3


def test_where_and_how_fast_a_yacs_student_trains_does_not_count():
    models = {"teacher": "COCO-Detection/retinanet_R_101_FPN_3x.yaml", "weights": "teacher.pth"}

    def fingerprint(*overrides):
        return config_fingerprint(load_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml", overrides, **models))

    plain = fingerprint()
    for override in (
        "OUTPUT_DIR=x",
        "CUDNN_BENCHMARK=True",
        "VIS_PERIOD=9",
        "MODEL.DEVICE=cpu",
        "DATALOADER.NUM_WORKERS=0",
        "SOLVER.CHECKPOINT_PERIOD=9",
        "TEST.EVAL_PERIOD=9",
    ):
        assert fingerprint(override) == plain, override
    assert len({plain, fingerprint("SOLVER.BASE_LR=0.1"), fingerprint("MODEL.RETINANET.NUM_CLASSES=3")}) == 3


def test_a_checkpoint_whose_names_are_matched_is_a_file_too(tmp_path):
    config = model_zoo.get_config("DigitScenes/retinanet_R10_from_R18.py")
    found = []
    for contents, how in (("a", "?matching_heuristics=True"), ("b", "?matching_heuristics=True"), ("b", "")):
        (tmp_path / "backbone.pth").write_text(contents)
        result_fingerprint._hash_file.cache_clear()
        config.train.init_checkpoint = f"{tmp_path}/backbone.pth{how}"
        found.append(result_fingerprints(config))
    assert found[0]["weights"] != found[1]["weights"] and found[0]["config"] == found[1]["config"]
    assert found[1]["weights"] == found[2]["weights"] and found[1]["config"] != found[2]["config"]

import copy
import itertools
import json
import pathlib

import cankd
import detectron2.data.build
import detectron2.data.transforms as T
import pytest
import torch
from cankd.analysis import check_distillation
from cankd.engine import build_model, build_unlabelled_loader, load_config, train, use_method
from cankd.engine.training import _build_loader
from cankd.engine.unlabelled_loader import MixedLoader
from cankd.utils import UserError
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from tests.engine.test_yacs_config import small_config
from tests.tiny import batch
from tests.tiny import distiller as tiny_distiller

BASELINE = "DigitScenes/retinanet_R10.py"
CANKD = "DigitScenes/retinanet_R10_from_R18.py"


@pytest.fixture(scope="module")
def distiller(tmp_path_factory):
    return tiny_distiller(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def mixed_config(quick_config, tiny_scenes):
    """Returns a function that gives a quick config with the val split as unlabelled images."""

    def load(name=CANKD, unlabelled=None, **train):
        config = quick_config(name, **train)
        config.train.distillation.unlabelled = {"dataset": tiny_scenes[1], **(unlabelled or {})}
        return config

    return load


def first_losses(config):
    with open(pathlib.Path(config.train.output_dir) / "metrics.json") as f:
        return next(line for line in map(json.loads, f) if "total_loss" in line)


@torch.jit.optimized_execution(False)  # Detectron2's focal loss differs in its last bit once it is optimised
def test_task_losses_are_the_baselines_and_without_distillation_no_unlabelled_image_is_read(
    mixed_config, quick_config, tmp_path
):
    silent = use_method(mixed_config(unlabelled={"dataset": "nowhere"}, max_iter=2), "alone")
    configs = {"baseline": quick_config(BASELINE, max_iter=2), "silent": silent, "mixed": mixed_config(max_iter=1)}
    losses, weights = {}, {}
    for name, config in configs.items():
        config.train.output_dir = str(tmp_path / name)
        del config.dataloader.evaluator
        train(config)
        losses[name] = first_losses(config)
        weights[name] = torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
    for loss in ("loss_cls", "loss_box_reg"):
        assert losses["baseline"][loss] == losses["silent"][loss] == losses["mixed"][loss]
    assert losses["mixed"]["loss_cankd_p4"] > 0 == losses["silent"]["loss_cankd_p4"]
    assert all(torch.equal(weights["silent"][name], value) for name, value in weights["baseline"].items())


@pytest.mark.parametrize("workers", [0, 1])
def test_labelled_batches_stay_the_same_and_unlabelled_ones_repeat(mixed_config, distiller, workers):
    config = mixed_config(unlabelled={"share": 1.5})
    config.dataloader.train.num_workers = workers
    config.dataloader.train.mapper.augmentations = [
        L(T.RandomFlip)(),
        L(T.RandomCrop)(crop_type="relative_range", crop_size=[0.3, 0.3]),
    ]

    def read(mixed):
        seed_all_rng(4)
        loader = _build_loader(config.dataloader.train)
        if mixed:
            loader = MixedLoader(loader, build_unlabelled_loader(config, distiller))
        batches = list(itertools.islice(loader, 4))
        return batches, torch.rand(1)

    (alone, number), (mixed, other_number), (again, _) = read(False), read(True), read(True)
    assert number == other_number
    for expected, found, repeated in zip(alone, mixed, again, strict=True):
        assert len(expected) == 2 and len(found) == 5
        assert [bool(record.get("unlabelled")) for record in found] == [False] * 2 + [True] * 3
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(expected, found))
        assert all(torch.equal(a["image"], b["image"]) for a, b in zip(found, repeated))
        assert all("instances" not in record for record in found[2:])


@pytest.mark.parametrize(
    "share, processes, accumulate, images",
    [(1.0, 1, 1, 8), (0.5, 1, 1, 4), (2.0, 2, 1, 8), (0.3, 2, 1, 1), (0.01, 2, 1, 1), (0.1, 1, 2, 2), (0.6, 1, 4, 4)],
)
def test_share_is_of_the_labelled_images_and_the_same_in_every_process_and_part(
    mixed_config, distiller, monkeypatch, share, processes, accumulate, images
):
    for place in (comm, detectron2.data.build):
        monkeypatch.setattr(place, "get_world_size", lambda: processes)
    config = mixed_config(unlabelled={"share": share}, accumulate=accumulate)
    config.dataloader.train.total_batch_size = 8
    assert len(next(iter(build_unlabelled_loader(config, distiller)))) == images


def test_a_folder_and_a_mapper_of_its_own(mixed_config, tiny_scenes, distiller):
    folder = pathlib.Path(DatasetCatalog.get(tiny_scenes[1])[0]["file_name"]).parent
    config = mixed_config(unlabelled={"dataset": str(folder), "mapper": L(read_grey)(level=7)})
    records = next(iter(build_unlabelled_loader(config, distiller)))
    assert {record["image"].unique().item() for record in records} == {7}
    assert all(record["file_name"].startswith(str(folder)) for record in records)


def read_grey(level):
    return lambda record: {**record, "image": torch.full((3, 32, 32), level, dtype=torch.uint8)}


def read_boxes():
    return lambda record: {"image": record["annotations"]}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dataset": None}, "it has to have dataset=NAME or FOLDER, and share"),
        ({"datset": "x"}, "unlabelled has datset; it knows dataset, share, mapper"),
        ({"share": 0}, "unlabelled.share is 0; it has to be a number above 0"),
        ({"share": "half"}, "unlabelled.share is 'half'; it has to be a number"),
        ({"dataset": "tiny_scene_val"}, "'tiny_scene_val' is neither .*; did you mean tiny_scenes_val"),
        (
            {"mapper": L(read_boxes)()},
            r"the mapper of train.distillation.unlabelled fails on .*\.png without annotations with KeyError: "
            r"'annotations' \(.*test_unlabelled.py",
        ),
    ],
)
def test_refuses_options_before_training(mixed_config, distiller, options, message):
    with pytest.raises(UserError, match=message):
        build_unlabelled_loader(mixed_config(unlabelled=options), distiller)


@pytest.mark.parametrize(
    "method, name", [("fgd", "FGDHead"), ("cankd+fgd", "FGDHead"), ("detkds", None), ("fkd", None), ("pkd+kd", None)]
)
def test_refuses_methods_that_look_at_annotations(mixed_config, distiller, method, name):
    config = use_method(mixed_config(), method)
    model = copy.deepcopy(distiller)
    model.head = instantiate(config.model.head)
    if name is None:
        assert build_unlabelled_loader(config, model) is not None
        return
    with pytest.raises(UserError, match=f"{name} looks at annotations, which the images of .* choose another method"):
        build_unlabelled_loader(config, model)


@pytest.mark.parametrize(
    "scope, refused", [("global", False), ("logits", False), ("foreground", True), ("instance", True)]
)
def test_some_forms_of_detkds_look_at_annotations(mixed_config, scope, refused):
    config = use_method(mixed_config(), "detkds")
    head = config.model.head
    head.scope, head.first, head.second, head.third = scope, "no", "no", "no"
    assert instantiate(head).needs_annotations is refused


def test_refuses_a_model_without_teacher_and_a_loader_without_batch_size(mixed_config, distiller):
    config = mixed_config(BASELINE)
    with pytest.raises(UserError, match="unlabelled is set, but this config has no teacher"):
        train(config)
    config = mixed_config()
    del config.dataloader.train.total_batch_size
    with pytest.raises(UserError, match="share is one of dataloader.train.total_batch_size, which is not there"):
        build_unlabelled_loader(config, distiller)


def test_options_on_the_command_line():
    path = cankd.model_zoo.get_config_file(CANKD)
    assert "unlabelled" not in load_config(path).train.distillation  # runs of before keep their fingerprint
    options = ["train.distillation.unlabelled.dataset=photos", "train.distillation.unlabelled.share=0.5"]
    assert load_config(path, options).train.distillation.unlabelled == {"dataset": "photos", "share": 0.5}
    with pytest.raises(UserError, match="unlabelled has dataset, share, mapper; did you mean 'share'"):
        load_config(path, ["train.distillation.unlabelled.shares=0.5"])
    path = cankd.model_zoo.get_config_file("DigitScenes/retinanet_R10_150_from_R18_unlabelled.py")
    config = load_config(path, ["train.distillation.unlabelled=null"])
    assert build_unlabelled_loader(config, None) is None


def test_a_yacs_student_reads_unlabelled_images_by_its_own_mapper(tiny_scenes, tmp_path):
    yacs = small_config(tiny_scenes, tmp_path)
    config = cankd.distill(yacs, teacher=yacs, weights="")
    config.model.teacher.weights = None
    config.train.distillation.unlabelled = {"dataset": tiny_scenes[1]}
    model = build_model(config).train()
    unlabelled = next(iter(build_unlabelled_loader(config, model)))
    assert len(unlabelled) == yacs.SOLVER.IMS_PER_BATCH
    assert all(min(record["image"].shape[1:]) in yacs.INPUT.MIN_SIZE_TRAIN for record in unlabelled)
    with EventStorage():
        alone, mixed = model(batch(size=160)), model([*batch(size=160), *unlabelled])
    assert all(0 < mixed[name] != alone[name] for name in model.head.loss_names)


def test_the_check_finds_what_is_wrong_with_unlabelled_images(mixed_config):
    config = mixed_config(unlabelled={"dataset": "photos"})
    config.dataloader.train.dataset.names = "nowhere"  # no step is taken without labelled images
    problems = check_distillation(config, num_images=0, report=lambda line: None)["problems"]
    assert "no data set is registered as 'nowhere'" in problems[0]
    assert "'photos' is neither a registered data set nor a folder" in problems[1]

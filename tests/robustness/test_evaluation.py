import importlib.metadata
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from cankd.data import Cell, choose_cells
from cankd.engine import evaluate, launch, load_config
from cankd.robustness import compare_robustness, evaluate_robustness
from cankd.robustness import evaluation as robustness
from cankd.robustness import read_grids
from cankd.robustness.cell_store import CellStore
from cankd.robustness.evaluation import corrupted_loader
from cankd.utils import UserError
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from tests.tiny import save_weights, write_config

pytest.importorskip("imagecorruptions", reason="corruptions come from imagecorruptions-imaug")

CELLS = choose_cells("gaussian_noise,glass_blur", [0, 2])


@pytest.fixture
def config(quick_config):
    """A config whose student, too, is the shipped teacher: it finds something."""
    config = quick_config("DigitScenes/retinanet_R10_from_R18.py")
    config.dataloader.test.batch_size = 4
    config.model.student = config.model.teacher.model
    config.train.init_checkpoint = config.model.teacher.weights
    return config


@pytest.fixture
def run(config, tmp_path):
    """Returns a function that evaluates on ``CELLS`` and writes to ``tmp_path / "robustness"``."""

    def run(models=None, cells=CELLS, **options):
        models = models or {"student": config.train.init_checkpoint}
        return evaluate_robustness(config, models, cells, str(tmp_path / "robustness"), **options)

    return run


def pixels(config, workers, records=None):
    config.dataloader.test.num_workers = workers
    loader = corrupted_loader(config.dataloader.test, records or instantiate(config.dataloader.test.dataset), CELLS)
    images = [record for batch in loader for record in batch]
    per_cell = len(images) // len(CELLS)
    return {(str(CELLS[i // per_cell]), r["image_id"]): r["image"].numpy() for i, r in enumerate(images)}


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("workers", [1, 3])
def test_pixels_do_not_depend_on_workers(config, workers):
    np.random.seed(0)
    expected = pixels(config, 0)
    assert len(expected) == 18
    np.random.seed(1)
    assert same(pixels(config, workers), expected)


def test_pixels_do_not_depend_on_order(config):
    records = instantiate(config.dataloader.test.dataset)
    assert same(pixels(config, 0, records[::-1]), pixels(config, 0, records))


def evaluate_in_a_process(config_file, json_file, image_root, folder):
    from detectron2.data.datasets import register_coco_instances

    config = load_config(config_file)
    register_coco_instances(config.dataloader.test.dataset.names, {}, json_file, image_root)
    np.savez(f"{folder}/{comm.get_rank()}.npz", **{" ".join(map(str, key)): v for key, v in pixels(config, 1).items()})
    evaluate_robustness(config, {"student": config.train.init_checkpoint}, CELLS, f"{folder}/two")


def test_two_processes_give_the_same_pixels_and_results(config, run, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    metadata = MetadataCatalog.get(config.dataloader.test.dataset.names)
    write_config(config, tmp_path / "config.py")
    args = str(tmp_path / "config.py"), metadata.json_file, metadata.image_root, str(tmp_path)
    launch(evaluate_in_a_process, 2, args=args, dist_url="auto")
    found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in (0, 1)]
    assert not found[0].keys() & found[1].keys() and len(found[0]) == len(found[1])
    expected = {" ".join(map(str, key)): image for key, image in pixels(config, 0).items()}
    assert same(found[0] | found[1], expected)
    one, two = run()["student"], read_grids({"two": str(tmp_path / "two" / "student")})["two"]
    assert one.keys() == two.keys()
    for cell in one:
        assert two[cell]["bbox"]["AP"] == pytest.approx(one[cell]["bbox"]["AP"]), cell


def test_workers_that_stand_still_are_told(config, run, monkeypatch):
    monkeypatch.setattr(robustness, "_PATIENCE", 1)
    monkeypatch.setattr(robustness.CorruptedDataset, "__getitem__", lambda self, i: time.sleep(60))
    config.dataloader.test.num_workers = 1
    with pytest.raises(UserError, match="no image has come .* for 1 seconds. The same command goes on"):
        run()


def test_clean_cell_is_the_usual_evaluation(config, run):
    clean = run(cells=[Cell("clean", 0)])["student"][Cell("clean", 0)]
    assert clean["bbox"]["AP"] == pytest.approx(evaluate(config)["bbox"]["AP"])


def test_several_models_share_each_corrupted_image(config, run, monkeypatch):
    corrupted = []
    original = robustness.CorruptedDataset.__getitem__
    monkeypatch.setattr(
        robustness.CorruptedDataset, "__getitem__", lambda self, i: corrupted.append(i) or original(self, i)
    )
    grids = run({"one": config.train.init_checkpoint, "two": config.train.init_checkpoint, "teacher": ""})
    assert sorted(corrupted) == list(range(18))
    assert grids["one"] == grids["two"] == grids["teacher"]
    assert grids["one"][CELLS[0]]["bbox"]["AP"] > grids["one"][CELLS[1]]["bbox"]["AP"] > 0


def test_a_teacher_of_another_channel_order_sees_its_own(config, run):
    expected = run({"teacher": ""}, CELLS[:1])["teacher"][CELLS[0]]["bbox"]["AP"]
    config.dataloader.test.mapper.image_format = "RGB"
    config.model.student.input_format = "RGB"
    assert run({"teacher": ""}, CELLS[:1])["teacher"][CELLS[0]]["bbox"]["AP"] == expected


def test_an_interrupted_run_does_the_rest(run, tmp_path, monkeypatch):
    saved = []

    def interrupted(self, cell, results):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(cell)
        original(self, cell, results)

    original = CellStore.save
    monkeypatch.setattr(CellStore, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    folder = tmp_path / "robustness" / "student"
    assert sorted(path.name for path in folder.iterdir()) == ["clean.json", "gaussian_noise_2.json"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    saved.append("counts from here")
    monkeypatch.setattr(
        CellStore, "save", lambda self, cell, results: saved.append(cell) or original(self, cell, results)
    )
    assert list(run()["student"]) == CELLS
    assert saved[3:] == CELLS[2:]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    run()
    assert saved[3:] == CELLS[2:]


def test_a_changed_model_or_setting_starts_over(config, run, tmp_path):
    run()
    folder = tmp_path / "robustness" / "student"
    assert len(os.listdir(folder)) == len(CELLS)
    first = json.loads((folder / "clean.json").read_text())["fingerprints"]
    config.train.init_checkpoint = save_weights(instantiate(config.model.student), tmp_path / "other.pth")
    run(cells=CELLS[:1])  # the other cells are of the former model and go
    assert os.listdir(folder) == ["clean.json"]
    second = json.loads((folder / "clean.json").read_text())["fingerprints"]
    config.model.student.test_score_thresh = 0.2
    run(cells=CELLS[:1])
    third = json.loads((folder / "clean.json").read_text())["fingerprints"]
    config.dataloader.test.num_workers = 1  # changes nothing
    run(cells=CELLS[:1])
    assert json.loads((folder / "clean.json").read_text())["fingerprints"] == third
    assert first["data"] == second["data"] == third["data"]
    assert len({first["model"], second["model"], third["model"]}) == 3


def test_what_changes_the_images_changes_the_fingerprint(config, run, tmp_path):
    """Also where the mapper only refers to another part of the config, as in the recipes for COCO."""
    config.dataloader.test.mapper.image_format = "${...train.mapper.image_format}"
    folder = tmp_path / "robustness" / "teacher"

    def fingerprints():
        run({"teacher": ""}, CELLS[:1])
        return json.loads((folder / "clean.json").read_text())["fingerprints"]

    first = fingerprints()
    config.dataloader.train.mapper.image_format = "RGB"
    second = fingerprints()
    config.model.teacher.input_format = "RGB"
    third = fingerprints()
    assert first["data"] != second["data"] == third["data"]
    assert first["model"] == second["model"] != third["model"]


def test_the_channel_order_changes_results_and_fingerprint(run, tmp_path):
    cells, found = [Cell("frost", 3)], {}
    for order in ("RGB", "BGR"):
        results = run(cells=cells, channel_order=order)["student"][cells[0]]["bbox"]["AP"]
        kept = json.loads((tmp_path / "robustness" / "student" / "frost_3.json").read_text())
        found[order] = results, kept["fingerprints"]["data"]
    assert found["RGB"][0] != found["BGR"][0] and found["RGB"][1] != found["BGR"][1]


def test_several_evaluators_make_one(config, run):
    cells = [Cell("clean", 0)]
    expected = run(cells=cells)["student"]
    evaluator = {**config.dataloader.evaluator}  # a list would lead its reference to the data set astray
    config.dataloader.evaluator = [evaluator]
    assert run(cells=cells)["student"] == expected


def test_the_original_package_is_refused(run, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ValueError, match="corruptions need imagecorruptions-imaug and numba"):
        run()
    assert run(cells=CELLS[:1])  # clean images need no package


def test_segmentation(quick_config, tmp_path):
    config = quick_config("DigitScenes/semantic_fpn_R10_from_R18.py")
    weights = save_weights(instantiate(config.model.student), tmp_path / "student.pth")
    grids = evaluate_robustness(config, {"student": weights}, CELLS, str(tmp_path / "robustness"))
    assert all(0 <= grids["student"][cell]["sem_seg"]["mIoU"] <= 100 for cell in CELLS)


class MaskOfTheMiddle(torch.nn.Module):
    """Finds one object an image, box and mask: its middle."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batched_inputs):
        outputs = []
        for record in batched_inputs:
            height, width = record["height"], record["width"]
            found = Instances((height, width))
            found.pred_boxes = Boxes(torch.tensor([[40.0, 40.0, 120.0, 120.0]]))
            found.pred_masks = torch.zeros(1, height, width, dtype=torch.bool)
            found.pred_masks[:, 40:120, 40:120] = True
            found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([3])
            outputs.append({"instances": found})
        return outputs


def test_instance_masks(config, run, tmp_path):
    config.model = L(MaskOfTheMiddle)()
    config.dataloader.evaluator.tasks = ("bbox", "segm")
    weights = save_weights(MaskOfTheMiddle(), tmp_path / "masks.pth")
    grid = run({"masks": weights})["masks"]
    assert all({"bbox", "segm"} <= results.keys() for results in grid.values())
    text = compare_robustness({"masks": grid}, str(tmp_path / "tables"))
    assert "## bbox" in text and "## segm" in text and (tmp_path / "tables" / "robustness_segm.png").exists()


def test_a_full_disk_keeps_finished_cells(run, tmp_path, monkeypatch):
    def full(path, mode="wb"):
        if "gaussian" in path:
            raise OSError(28, "No space left on device", path)
        return original(path, mode)

    original = robustness.CellStore.save.__globals__["write_json"].__globals__["replace_file"]
    monkeypatch.setattr("cankd.utils.files.replace_file", full)
    with pytest.raises(ValueError, match="gaussian_noise_2.json cannot be written .No space left on device.*is kept"):
        run()
    assert os.listdir(tmp_path / "robustness" / "student") == ["clean.json"]


def test_small_images_are_named_before_the_run(run, config, tmp_path):
    path = str(tmp_path / "small.png")
    cv2.imwrite(path, np.zeros((31, 64, 3), np.uint8))
    DatasetCatalog.register("small", lambda: [{"file_name": path, "image_id": 1, "annotations": []}])
    config.dataloader.test.dataset.names = "small"
    try:
        with pytest.raises(ValueError, match="1 of 1 images are smaller than 32 pixels .*small.png"):
            run()
    finally:
        DatasetCatalog.remove("small")
    assert not (tmp_path / "robustness").exists()


def test_configs_that_cannot_be_evaluated_are_refused(run, config):
    with pytest.raises(ValueError, match="there is no checkpoint .*absent.pth"):
        run({"student": "absent.pth"})
    config.model = config.model.student
    with pytest.raises(ValueError, match="this config has no teacher"):
        run({"teacher": ""})
    del config.dataloader.evaluator
    with pytest.raises(ValueError, match="no dataloader.evaluator"):
        run()


def test_results_that_do_not_belong_together_are_not_read(tmp_path):
    for folder, cell, data, model in (
        ("a", "fog", "x", "1"),
        ("a", "snow", "x", "2"),
        ("b", "fog", "x", "1"),
        ("c", "fog", "y", "1"),
    ):
        CellStore(str(tmp_path / folder), data, model).save(Cell(cell, 1), {"bbox": {"AP": 1.0}})
    a, b, c = (str(tmp_path / name) for name in "abc")
    with pytest.raises(ValueError, match="results of different models, data or settings"):
        read_grids({"a": a})
    with pytest.raises(ValueError, match="b and c were evaluated on different test sets"):
        read_grids({"b": b, "c": c})
    pathlib.Path(a, "snow_1.json").write_text("{")
    with pytest.raises(ValueError, match="snow_1.json holds no results of a cell .* or remove the file"):
        read_grids({"a": a})
    with pytest.raises(ValueError, match="absent holds no results on corrupted images: give the folder of a model"):
        read_grids({"b": b, "d": str(tmp_path / "absent")})


@pytest.mark.parametrize(
    "entry",
    [
        {"results": None},
        {"results": {"bbox": None}},
        {"results": {"bbox": {"AP": "high"}}},
        {"results": {"bbox": {"AP": [1]}}},
        {"severity": "1"},
        {"severity": None},
        {"corruption": "rain"},
        {"corruption": ["fog"]},
        {"fingerprints": None},
        {"fingerprints": {}},
    ],
)
def test_a_damaged_cell_is_named(tmp_path, entry):
    CellStore(str(tmp_path), "x", "1").save(Cell("fog", 1), {"bbox": {"AP": math.nan}})
    assert read_grids({"a": str(tmp_path)})["a"] == {Cell("fog", 1): {"bbox": {"AP": None}}}
    path = tmp_path / "fog_1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entry}))
    with pytest.raises(UserError, match="fog_1.json holds no results of a cell .* or remove the file"):
        read_grids({"a": str(tmp_path)})


def test_cells_are_read_in_the_benchmarks_order(tmp_path):
    store = CellStore(str(tmp_path), "x", "1")
    cells = [Cell("clean", 0), Cell("gaussian_noise", 2), Cell("fog", 1), Cell("contrast", 1)]
    for cell in reversed(cells):
        store.save(cell, {})
    assert list(read_grids({"a": str(tmp_path)})["a"]) == cells


def test_broken_images_are_named_first(run, config, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"none")
    records = [{"file_name": str(tmp_path / "broken.jpg"), "image_id": 0}]
    config.dataloader.test.dataset = L(lambda: records)()
    with pytest.raises(UserError, match="1 images that cannot be used, of 1; the first: .*broken.jpg cannot be read"):
        run()


def test_a_mapper_that_cannot_be_built_is_named(run, config):
    config.dataloader.test.mapper.bad = 1
    with pytest.raises(UserError, match="mapper cannot be built"):
        run()


def test_two_evaluations_do_not_write_to_one_folder(run, tmp_path):
    code = "import cankd.utils as u, sys\nwith u.lock_directory(sys.argv[1]): print(flush=True), input()"
    (tmp_path / "robustness").mkdir()
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "robustness")], **pipes) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="^the directory .*robustness is in use by another run"):
            run()
        other.communicate(b"\n")

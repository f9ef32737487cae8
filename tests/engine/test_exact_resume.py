"""A run that was killed and resumed ends with the weights of one that was not, bit for bit."""

import functools
import logging

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cankd.data import DigitScenes, register_digit_scenes
from cankd.engine import DistillationTrainer, load_config, train, use_method
from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from tests.engine.test_distributed import run_in_two_processes
from tests.engine.test_resume import Kill, KillBefore
from tests.tiny import batch, write_config

CANKD = "DigitScenes/retinanet_R10_from_R18.py"
KILLS = (3, 5)  # each one step after a checkpoint


class SomeAreWide(DatasetMapper):
    """Lets every third image pass for a wide one, so that images wait for others."""

    def __call__(self, record):
        record = super().__call__(record)
        return {**record, "width": record["height"] + (record["image_id"] % 3 == 0)}


def vary(config, workers):
    """Returns a config with random flips and aspect-ratio grouping, and a checkpoint after every second iteration."""
    data = config.dataloader.train
    data.num_workers = workers
    if data.mapper._target_ is DatasetMapper:
        data.mapper._target_ = SomeAreWide
        data.mapper.augmentations = [L(T.RandomFlip)(), L(T.Resize)(shape=[64, 64])]
        data.aspect_ratio_grouping = True
    del config.dataloader["evaluator"]
    config.train.checkpointer.period = 2
    return config


def train_to_the_end(config, kills):
    """Trains, and resumes after each kill."""
    for i, iteration in enumerate(kills):
        with pytest.raises(Kill):
            train(config, resume=i > 0, extra_hooks=(KillBefore(iteration),))
    train(config, resume=bool(kills))


def assert_same(found, expected, name=""):
    assert type(found) is type(expected), name
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), name
        for key in expected:
            assert_same(found[key], expected[key], f"{name}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert_same(dict(enumerate(found)), dict(enumerate(expected)), name)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), name
    else:
        assert found == expected, name


def assert_whole_and_broken_agree(load, folder, kills=KILLS):
    runs = []
    for name, interruptions in (("whole", ()), ("broken", kills)):
        config = load()
        config.train.output_dir = str(folder / name)
        train_to_the_end(config, interruptions)
        runs.append(torch.load(folder / name / "model_final.pth", weights_only=True))
    for entry in ("model", "trained", "distillation_head"):
        assert_same(runs[1].get(entry), runs[0].get(entry), entry)
    states = [run["trainer"]["hooks"]["RunState"]["processes"] for run in runs]
    assert_same(states[1], states[0])


def test_retinanet_with_a_method_that_draws(quick_config, tiny_scenes, tmp_path):
    """MGD draws masks; RetinaNet keeps a running normaliser. Without workers, and with images that wait."""

    def load():
        config = vary(use_method(quick_config(CANKD, max_iter=6), "mgd"), 0)
        config.train.distillation.unlabelled = {"dataset": tiny_scenes[1], "share": 1.5}
        return config

    assert_whole_and_broken_agree(load, tmp_path)
    state = torch.load(tmp_path / "whole" / "model_0000003.pth", weights_only=True)["trainer"]["hooks"]["RunState"]
    assert state["processes"][0]["numbers"]


def test_with_workers_averaged_weights_and_images_too_small_for_a_level(quick_config, tmp_path):
    def load():
        config = vary(quick_config(CANKD, max_iter=6), 2)
        config.dataloader.train.mapper.augmentations[1].shape = [32, 32]
        config.train.ema.enabled = True
        return config

    assert_whole_and_broken_agree(load, tmp_path)
    final = torch.load(tmp_path / "broken" / "model_final.pth", weights_only=True)
    assert final["trainer"]["hooks"]["RunState"]["processes"][0]["skipped_batches"]["p5"] == 6


def test_faster_rcnn_samples_the_same_proposals(quick_config, tmp_path, monkeypatch):
    def load():
        config = vary(quick_config("DigitScenes/faster_rcnn_R10.py", max_iter=4), 2)
        config.dataloader.train.aspect_ratio_grouping = False
        config.train.amp.update(enabled=True, precision="float16")
        return config

    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=4.0))
    assert_whole_and_broken_agree(load, tmp_path, kills=(3,))


def test_a_classifier_and_evaluations_that_a_resumed_run_has_not_made_again(quick_config, tmp_path, monkeypatch):
    """The kill of one run comes within an evaluation, after the checkpoint."""

    def evaluate(*args):
        torch.rand(1), np.random.rand()
        return {}

    def load():
        config = vary(quick_config("DigitPatches/R18.py", max_iter=4, eval_period=2, accumulate=2), 1)
        config.dataloader.train.mapper.augmentations[0].size = 64
        config.train.amp.update(enabled=True, precision="bfloat16")
        return config

    monkeypatch.setattr("cankd.engine.training.test", evaluate)
    assert_whole_and_broken_agree(load, tmp_path, kills=(2, 3))


def register_and_train_thrice(config_file, names, folder):
    for name, split in zip(names, ("train", "val")):
        register_digit_scenes(name, DigitScenes(split=split, num_images={"train": 24, "val": 6}[split]))
    assert_whole_and_broken_agree(lambda: load_config(config_file), folder, kills=(3,))
    (folder / f"{comm.get_rank()} agrees").touch()


def test_two_processes(quick_config, tiny_scenes, tmp_path, monkeypatch):
    """Each has random numbers, images and a normaliser of its own."""
    root = MetadataCatalog.get(tiny_scenes[0]).json_file.split(f"/{tiny_scenes[0]}")[0]
    monkeypatch.setenv("DETECTRON2_DATASETS", root)
    config = vary(use_method(quick_config(CANKD, max_iter=4), "mgd"), 0)
    config.dataloader.train.total_batch_size = 4
    run_in_two_processes(register_and_train_thrice, write_config(config, tmp_path / "config.py"), tiny_scenes, tmp_path)
    assert len(list(tmp_path.glob("* agrees"))) == 2
    processes = torch.load(tmp_path / "whole" / "model_final.pth", weights_only=True)["trainer"]["hooks"]["RunState"]
    first, second = processes["processes"]
    assert first["numbers"] != second["numbers"] and first["random"] != second["random"]
    assert not torch.equal(first["heads"][0]["cpu"], second["heads"][0]["cpu"])


def warnings_of_a_resume(config, caplog):
    with caplog.at_level(logging.WARNING, logger="cankd.engine.run_state"):
        train(config, resume=True)
    return [record.getMessage() for record in caplog.records if record.name == "cankd.engine.run_state"]


def test_a_checkpoint_of_an_older_version_resumes_and_says_so(quick_config, tmp_path, caplog):
    config = vary(quick_config("DigitScenes/retinanet_R10.py", max_iter=1), 0)
    train(config)
    path = tmp_path / "run" / "model_final.pth"
    contents = torch.load(path, weights_only=True)
    del contents["trainer"]["hooks"]["RunState"]
    torch.save(contents, path)
    config.train.max_iter = 2
    assert warnings_of_a_resume(config, caplog) == [
        "This resume is not exact: the checkpoint has no random states and no place in the data, which both begin anew."
    ]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_run_of_a_gpu_goes_on_without_one_and_says_so(quick_config, tmp_path, caplog):
    config = vary(use_method(quick_config(CANKD, max_iter=1), "mgd"), 0)
    train(config)
    path = tmp_path / "run" / "model_final.pth"
    contents = torch.load(path, weights_only=True)
    (own,) = contents["trainer"]["hooks"]["RunState"]["processes"]
    own["cuda"] = torch.zeros(16, dtype=torch.uint8)
    (head,) = own["heads"]
    head["cuda"] = head.pop("cpu")
    torch.save(contents, path)
    config.train.max_iter = 2
    assert warnings_of_a_resume(config, caplog) == [
        "This resume is not exact: the checkpoint has the random numbers of a GPU, and the run goes on without one."
    ]


def test_another_number_of_workers_goes_on_in_the_data_and_says_so(quick_config, caplog):
    config = vary(quick_config("DigitScenes/retinanet_R10.py", max_iter=1), 0)
    train(config)
    config.train.max_iter = 2
    config.dataloader.train.num_workers = 1
    assert warnings_of_a_resume(config, caplog) == [
        "This resume is not exact: dataloader.train goes on at about the same place, with workers=1 instead of 0."
    ]


def build_batches(dataset, total_batch_size):
    return [batch(total_batch_size, size=64)] * 2


def test_a_loader_of_the_users_own_begins_anew_and_says_so(quick_config, caplog):
    config = vary(quick_config("DigitScenes/retinanet_R10.py", max_iter=1), 0)
    config.dataloader.train = L(build_batches)(dataset=config.dataloader.train.dataset, total_batch_size=2)
    train(config)
    config.train.max_iter = 2
    assert warnings_of_a_resume(config, caplog) == [
        "This resume is not exact: dataloader.train is no loader of Detectron2's with one of its samplers, so its data "
        "begin anew."
    ]


def focal_loss(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As fvcore's."""
    probability = torch.sigmoid(inputs)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    right = probability * targets + (1 - probability) * (1 - targets)
    return ((0.25 * targets + 0.75 * (1 - targets)) * loss * ((1 - right) ** 2.0)).sum()


def test_a_scripted_loss_has_the_same_gradient_at_its_first_call_as_later():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.randn(1000))
            self.loss = torch.jit.script(focal_loss)

        def forward(self, batch):
            return {"loss": self.loss(self.logits, batch)}

    class Note(HookBase):
        def after_backward(self):
            gradients.append(model.logits.grad.clone())

    gradients, model, targets = [], Model(), (torch.rand(1000) < 0.1).float()
    trainer = DistillationTrainer(model, [targets] * 4, torch.optim.SGD(model.parameters(), lr=0.0))
    trainer.register_hooks([Note()])
    trainer.train(0, 4)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)

import copy
import json
import pathlib

import cankd.engine.training
import cv2
import numpy as np
import pytest
import torch
from cankd.checkpoint import read_weights
from cankd.engine import DistillationTrainer, build_model, describe_config, evaluate, student_of, train
from cankd.utils import NonFiniteError, UserError
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase, SimpleTrainer, hooks
from detectron2.structures import Boxes, Instances
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny import batch, distiller

BASELINE = "DigitScenes/retinanet_R10.py"
CANKD = "DigitScenes/retinanet_R10_from_R18.py"
INHERIT = "DigitScenes/retinanet_R10_from_R18_inherit.py"


def weights(path, entry="model"):
    return torch.load(pathlib.Path(path) / "model_final.pth", weights_only=True)[entry]


def metrics(config):
    """Returns the lines of metrics.json that belong to training iterations."""
    with open(pathlib.Path(config.train.output_dir) / "metrics.json") as f:
        return [line for line in map(json.loads, f) if "total_loss" in line]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def train_by_detectron2(config, model_config):
    """What Detectron2's own lazyconfig_train_net.py does, without its output."""
    seed_all_rng(config.train.seed)
    model = instantiate(model_config)
    config.optimizer.params.model = model
    optimizer = instantiate(config.optimizer)
    trainer = SimpleTrainer(model, instantiate(config.dataloader.train), optimizer)
    trainer.register_hooks([hooks.LRScheduler(scheduler=instantiate(config.lr_multiplier))])
    trainer.train(0, config.train.max_iter)
    return model.state_dict()


@pytest.fixture
def repeatable():
    """Detectron2's focal loss is TorchScript, which computes its first calls otherwise than later ones."""
    with torch.jit.optimized_execution(False):
        yield


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_without_distillation_weights_are_detectron2s_bit_for_bit(quick_config, repeatable, detector):
    reference, silent = (
        quick_config(f"DigitScenes/{detector}_R10_from_R18.py", clip_gradients={"max_norm": None}) for _ in range(2)
    )
    silent.model.head.weight = 0.0
    expected = train_by_detectron2(reference, reference.model.student)
    train(silent)
    assert_same(weights(silent.train.output_dir), expected)


def test_student_and_batches_are_the_baselines(quick_config, tmp_path):
    runs = []
    for name in (BASELINE, CANKD):
        config = quick_config(name, output_dir=str(tmp_path / pathlib.Path(name).stem))
        train(config)
        runs.append(metrics(config))
    baseline, distilled = runs
    assert len(baseline) == len(distilled) == 4
    assert baseline[0]["loss_cls"] == distilled[0]["loss_cls"]
    assert baseline[3]["loss_cls"] != distilled[3]["loss_cls"]
    # Depends on the annotations alone, so it tells one batch from another.
    positives = [[line["num_pos_anchors"] for line in run] for run in runs]
    assert positives[0] == positives[1] and len(set(positives[0])) > 1


def test_building_head_and_teacher_leaves_the_random_numbers_alone(quick_config):
    states = []
    for name in (BASELINE, CANKD):
        seed_all_rng(3)
        model = build_model(quick_config(name))
        states.append((student_of(model).state_dict(), torch.rand(1), np.random.rand()))
    assert_same(states[0][0], states[1][0])
    assert states[0][1:] == states[1][1:]


def test_logs_losses_scale_and_correlation(quick_config):
    config = quick_config(CANKD, distillation={"warmup_iters": 2, "stop_iter": 3})
    config.model.correlation_period = 1
    train(config)
    lines = metrics(config)
    assert [line["distillation_scale"] for line in lines] == [0, 0.5, 1, 0]
    for name in ("loss_cankd_p3", "loss_cankd_p4", "loss_cankd_p5"):
        values = [line[name] for line in lines]
        assert values[0] == 0 and values[1] > 0  # later lines are medians
    assert -1 <= lines[1]["[metric]correlation_p4"] <= 1
    log = EventAccumulator(config.train.output_dir).Reload()
    assert {"loss_cankd_p3", "[metric]correlation_p3", "distillation_scale"} <= set(log.Tags()["scalars"])


@pytest.mark.parametrize("attention", [True, False])
def test_trains_through_steps_without_distillation(quick_config, attention):
    config = quick_config(CANKD, distillation={"warmup_iters": 1, "stop_iter": 3})
    config.model.head.attention = attention
    train(config)
    assert [line["distillation_scale"] for line in metrics(config)] == [0, 1, 1, 0]


def test_resumes_with_the_configs_learning_rate(quick_config):
    """A run that diverged is rescued by a lower one."""
    train(quick_config(BASELINE, max_iter=2))
    config = quick_config(BASELINE, max_iter=4)
    config.optimizer.lr = 1e-6
    train(config, resume=True)
    rates = {line["iteration"]: line["lr"] for line in metrics(config)}
    assert rates[1] > 1e-5 and rates[2] < 1e-6


def test_averaged_weights_are_the_student(quick_config, tmp_path):
    def run(folder, ema=True, **arguments):
        config = quick_config(BASELINE, output_dir=str(tmp_path / folder))
        config.train.ema.enabled = ema
        del config.dataloader["evaluator"]
        train(config, **arguments)

    run("raw", ema=False)
    run("averaged")
    assert_same(weights(tmp_path / "averaged", "trained")["model"], weights(tmp_path / "raw"))
    name = "head.cls_score.weight"
    assert not torch.equal(weights(tmp_path / "averaged")[name], weights(tmp_path / "raw")[name])
    assert weights(tmp_path / "averaged", "trained")["n_averaged"] == 5  # the initial weights and 4 steps'
    with pytest.raises(ValueError, match=r"was saved with averaged weights \(train.ema.enabled\)"):
        run("averaged", ema=False, resume=True)


def test_without_an_evaluator_nothing_is_evaluated(quick_config):
    """Also where the command line says null; the test set need not exist then."""
    config = quick_config(BASELINE, max_iter=1)
    config.dataloader.evaluator = None
    config.dataloader.test.dataset = None
    assert train(config) == {}


@pytest.mark.parametrize("part, message", [("test", "no dataloader.test"), ("evaluator", "no dataloader.evaluator")])
def test_to_evaluate_takes_a_test_set_and_an_evaluator(quick_config, part, message):
    config = quick_config(CANKD)
    config.dataloader[part] = None
    with pytest.raises(ValueError, match=message):
        evaluate(config, role="teacher")


def test_names_a_mapper_that_cannot_be_built(quick_config):
    config = quick_config(BASELINE)
    config.dataloader.train.mapper.augmentations = 7
    with pytest.raises(ValueError, match=r"the data loader's mapper cannot be built: TypeError: 'int' object is not"):
        train(config)


def read_and_halve(record):
    """A mapper as a user may write it."""
    image = cv2.imread(record["file_name"])[::2, ::2]
    instances = Instances(image.shape[:2])
    instances.gt_boxes = Boxes([[x / 2, y / 2, (x + w) / 2, (y + h) / 2] for x, y, w, h in boxes_of(record)])
    instances.gt_classes = torch.tensor([annotation["category_id"] for annotation in record["annotations"]])
    image = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return {"image": image, "image_id": record["image_id"], "instances": instances}


def boxes_of(record):
    return [annotation["bbox"] for annotation in record["annotations"]]


def test_a_mapper_may_be_a_function(quick_config, tmp_path):
    config = quick_config(CANKD, max_iter=1)
    config.dataloader.train.mapper = read_and_halve
    del config.dataloader["evaluator"]
    sizes = []

    class Note(HookBase):
        def before_train(self):
            student = self.trainer.model.student
            student.register_forward_pre_hook(lambda m, inputs: sizes.extend(r["image"].shape for r in inputs[0]))

    LazyConfig.save(config, str(tmp_path / "config.yaml"))
    describe_config(config)
    train(config, extra_hooks=(Note(),))
    assert sizes == [(3, 80, 80)] * 2


def test_periodic_evaluations_keep_the_best_and_end_the_run(quick_config):
    config = quick_config("DigitScenes/retinanet_R18.py", max_iter=4, eval_period=1)
    config.train.init_checkpoint = quick_config(CANKD).model.teacher.weights
    config.optimizer.lr = 0.0  # no evaluation is better than the first
    config.train.early_stopping.patience = 2
    train(config)
    folder = pathlib.Path(config.train.output_dir)
    iterations = {
        name: torch.load(folder / name, weights_only=True)["iteration"]
        for name in ("model_best.pth", "model_final.pth")
    }
    assert iterations == {"model_best.pth": 0, "model_final.pth": 2}


def test_inheritance_starts_from_the_teacher_but_not_again_on_resume(quick_config):
    config = quick_config(INHERIT, max_iter=1, checkpointer={"period": 1, "max_to_keep": 5})
    config.optimizer.lr = 0.0
    train(config)
    found = weights(config.train.output_dir)
    teacher = instantiate(config.model.teacher).model.state_dict()
    assert torch.equal(found["head.cls_score.weight"], teacher["head.cls_score.weight"])
    assert torch.equal(found["backbone.fpn_output3.weight"], teacher["backbone.fpn_output3.weight"])

    path = pathlib.Path(config.train.output_dir) / "model_final.pth"
    contents = torch.load(path, weights_only=True)
    contents["model"]["head.cls_score.weight"].zero_()
    torch.save(contents, path)
    config.train.max_iter = 2
    train(config, resume=True)
    assert not weights(config.train.output_dir)["head.cls_score.weight"].any()


def test_teacher_is_evaluated_in_its_own_channel_order(quick_config, tmp_path):
    config = quick_config(CANKD)
    expected = evaluate(config, role="teacher")["bbox"]
    model = config.model.teacher.model  # the same teacher, rewritten for RGB
    weights = read_weights(config.model.teacher.weights)
    weights["backbone.bottom_up.stem.conv1.weight"] = weights["backbone.bottom_up.stem.conv1.weight"].flip(1)
    config.model.teacher.weights = str(tmp_path / "rgb.pth")
    torch.save({"model": weights}, tmp_path / "rgb.pth")
    model.pixel_mean, model.pixel_std, model.input_format = model.pixel_mean[::-1], model.pixel_std[::-1], "RGB"
    found = evaluate(config, role="teacher")["bbox"]
    assert found["AP"] == pytest.approx(expected["AP"], abs=0.5)
    model.input_format = "BGR"
    assert evaluate(config, role="teacher")["bbox"]["AP"] < expected["AP"] - 5


def test_evaluates_student_and_teacher(quick_config):
    config = quick_config(CANKD, max_iter=1)
    results = train(config)
    config.train.init_checkpoint = str(pathlib.Path(config.train.output_dir) / "model_final.pth")
    np.testing.assert_equal(evaluate(config)["bbox"], results["bbox"])  # NaN, where undefined, equals NaN
    assert evaluate(config, role="teacher")["bbox"]["AP"] > 20
    with pytest.raises(ValueError, match="this config has no teacher: it describes a plain model"):
        evaluate(quick_config(BASELINE), role="teacher")
    config.train.init_checkpoint = ""
    with pytest.raises(ValueError, match=r"student \(train.init_checkpoint\) has no weights"):
        evaluate(config)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("run", [train, evaluate])
def test_a_device_that_is_not_there_is_refused(quick_config, run):
    config = quick_config(CANKD, device="cuda")
    config.train.init_checkpoint = ""
    with pytest.raises(UserError, match="finds no CUDA device: add train.device=cpu"):
        run(config)


def test_a_task_that_the_last_evaluation_lacks_has_no_result(quick_config, monkeypatch):
    found = iter([{"bbox": {"AP": 1.0}, "segm": {"AP": 1.0}}, {"bbox": {"AP": 2.0}}])
    monkeypatch.setattr(cankd.engine.training, "test", lambda *_: next(found))
    assert train(quick_config(BASELINE, max_iter=2, eval_period=1)) == {"bbox": {"AP": 2.0}}


def test_a_resume_that_is_refused_leaves_the_runs_records(quick_config, tmp_path):
    config = quick_config(CANKD, max_iter=1)
    train(config)
    losses = (tmp_path / "run" / "distillation_losses.json").read_text()
    config.model.head.attention = False
    config.model.head.levels = ["p3"]
    with pytest.raises(UserError, match="was saved with another distillation_head"):
        train(config, resume=True)
    assert (tmp_path / "run" / "distillation_losses.json").read_text() == losses


@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_mixed_precision_trains_on_the_cpu(tmp_path, precision):
    model = distiller(tmp_path)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    trainer = DistillationTrainer(model, [batch(seed=i) for i in range(8)], optimizer, precision=precision)
    used = []
    model.student.backbone.register_forward_hook(lambda m, inputs, outputs: used.append(outputs["p3"].dtype))
    before = model.student.head.cls_score.weight.clone()
    trainer.train(0, 8)  # float16 finds its loss scale in the first steps
    assert used == [precision or torch.float32] * 8
    assert not torch.equal(before, model.student.head.cls_score.weight)
    assert ("grad_scaler" in trainer.state_dict()) == (precision == torch.float16)


class Probe(HookBase):
    """Sees what a step is made of; it runs after the hooks of Detectron2."""

    def before_train(self):
        self.precisions, self.norms = [], []
        self.trainer.model.student.backbone.register_forward_hook(
            lambda module, inputs, outputs: self.precisions.append(outputs["p3"].dtype)
        )

    def after_backward(self):
        parameters = [p for p in self.trainer.model.parameters() if p.grad is not None]
        self.norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters]).item())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_options_of_train_reach_each_step(quick_config, precision):
    config = quick_config(
        CANKD,
        max_iter=2,
        accumulate=2,
        clip_gradients={"max_norm": 1e-3},
        amp={"enabled": True, "precision": precision},
    )
    config.dataloader.evaluator = None
    probe = Probe()
    train(config, extra_hooks=(probe,))
    assert probe.precisions == [getattr(torch, precision)] * 4  # two passes a step
    assert 0 < probe.norms[-1] <= 1.001e-3  # the first of float16 is infinite, until its loss scale is found


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_an_fcos_trains_in_mixed_precision(quick_config, precision):
    """Detectron2's losses fail on what its head gives then."""
    config = quick_config("DigitScenes/fcos_R10_from_R18.py", amp={"enabled": True})
    config.model.teacher.weights = None
    model = build_model(config).train()
    with EventStorage(), torch.autocast("cpu", precision):
        losses = model(batch(size=128))
    assert losses["loss_fcos_loc"] > 0 and all(loss.isfinite() for loss in losses.values())


def test_an_unknown_precision_is_refused(quick_config):
    with pytest.raises(
        ValueError, match=r"train.amp.precision is 'half'; it has to be one of \['bfloat16', 'float16'\]"
    ):
        train(quick_config(CANKD, amp={"enabled": True, "precision": "half"}))


def test_gradients_are_unscaled_before_hooks_see_them(tmp_path):
    class Norm(HookBase):
        def after_backward(self):
            self.norm = self.trainer.model.student.head.cls_score.weight.grad.norm()

    norms = []
    for precision in (None, torch.float16):
        model = distiller(tmp_path)
        torch.manual_seed(1)
        for parameter in model.student.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.0)
        trainer = DistillationTrainer(model, [batch()], optimizer, precision=precision)
        hook = Norm()
        trainer.register_hooks([hook])
        trainer.train(0, 1)
        norms.append(hook.norm.item())
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


def test_nan_names_iteration_level_and_images(quick_config):
    class Poison(HookBase):
        def before_step(self):
            if self.trainer.iter == 2:
                self.trainer.model.head.non_local["p4"].theta.weight.data.fill_(float("nan"))

    config = quick_config(CANKD, checkpointer={"period": 1, "max_to_keep": 9})
    with pytest.raises(FloatingPointError) as error:
        train(config, extra_hooks=(Poison(),))
    message = str(error.value)
    assert message.startswith("loss_cankd_p4 became infinite or NaN at iteration 2 (images [")
    folder = pathlib.Path(config.train.output_dir)
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    assert all(
        v.isfinite().all() for v in torch.load(folder / "model_0000001.pth", weights_only=True)["model"].values()
    )
    assert not list(folder.glob("*0002*")) and not list(folder.glob("*unfinished"))


def test_proposals_that_are_nan_name_iteration_and_images(quick_config):
    class Poison(HookBase):
        def before_step(self):
            if self.trainer.iter == 1:
                self.trainer.model.proposal_generator.rpn_head.objectness_logits.bias.data.fill_(float("nan"))

    config = quick_config("DigitScenes/faster_rcnn_R10.py")
    with pytest.raises(NonFiniteError, match=r"^the proposals became infinite or NaN at iteration 1 \(images \["):
        train(config, extra_hooks=(Poison(),))
    assert not list(pathlib.Path(config.train.output_dir).glob("*.pth"))


def one_broken_box(name):
    records = copy.deepcopy(DatasetCatalog.get(name))[:4]
    records[1]["annotations"][0]["bbox"] = [float("nan"), 0, 5, 5]
    return records


def test_broken_annotations_end_in_one_line_or_are_left_out(quick_config):
    config = quick_config("DigitScenes/retinanet_R10.py", max_iter=1)
    config.dataloader.train.dataset = L(one_broken_box)(name=config.dataloader.train.dataset.names)
    with pytest.raises(ValueError, match=r"boxes with NaN or infinity: 1, the first is .nan, 0, 5, 5. in .*000001.png"):
        train(config)
    config.train.skip_broken = True
    assert "bbox" in train(config)


def cut_images(name, folder):
    records = copy.deepcopy(DatasetCatalog.get(name))[:2]
    for i, record in enumerate(records):
        path = folder / f"cut_{i}.jpg"
        path.write_bytes(pathlib.Path(record["file_name"]).read_bytes()[:-300])
        record["file_name"] = str(path)
    return records


def test_an_image_that_breaks_in_training_is_named(quick_config, tmp_path):
    config = quick_config("DigitScenes/retinanet_R10.py", max_iter=1)
    config.dataloader.train.dataset = L(cut_images)(name=config.dataloader.train.dataset.names, folder=tmp_path)
    with pytest.raises(ValueError, match=r"cut_\d.jpg cannot be used: OSError: .*truncated"):
        train(config)
    with pytest.raises(ValueError, match="images that cannot be used, of 2; the first: .*cut_0.jpg .*may be cut off"):
        config.train.read_all_images = True
        train(config)
    config.dataloader.train.dataset, config.dataloader.test.dataset = (
        config.dataloader.test.dataset,
        config.dataloader.train.dataset,
    )
    with pytest.raises(ValueError, match="images that cannot be used, of 2; the first: .*cut_0.jpg .*may be cut off"):
        train(config)  # before it, and not at the first evaluation

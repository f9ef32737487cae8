import builtins
import json
import math
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from cankd import model_zoo
from cankd.checkpoint import DistillationCheckpointer, VerifyingCheckpointer, export_weights, load_all_weights
from cankd.engine import train
from cankd.layers import DeformBottleneckBlock
from cankd.modeling.backbone import MobileNetV2
from cankd.utils.files import replace_file, write_json
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from omegaconf import OmegaConf
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.resnet import Bottleneck

from tests.tiny import detector, save_weights, write_config

PLAIN_DETECTRON2 = """
import sys
sys.modules["cankd"] = None  # importing it fails from here on
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.data.datasets import register_coco_instances
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.evaluation import COCOEvaluator, inference_on_dataset

config_file, checkpoint, json_file, images = sys.argv[1:]
config = LazyConfig.load(config_file)
model = instantiate(config.model)
register_coco_instances("scenes", {}, json_file, images)
checkpointer = DetectionCheckpointer(model)
incompatible = []
checkpointer._log_incompatible_keys = incompatible.append
checkpointer.load(checkpoint)
assert not any(incompatible[0]), incompatible
loader = build_detection_test_loader(
    dataset=get_detection_dataset_dicts("scenes", filter_empty=False), mapper=instantiate(config.mapper)
)
results = inference_on_dataset(model.eval(), loader, COCOEvaluator("scenes", ("bbox",)))
print("AP", results["bbox"]["AP"])
"""


def test_result_is_a_plain_detectron2_checkpoint(quick_config, tiny_scenes, tmp_path):
    from detectron2.data import MetadataCatalog

    config = quick_config("DigitScenes/retinanet_R10_from_R18_inherit.py", max_iter=2)
    results = train(config)
    folder = pathlib.Path(config.train.output_dir)
    config_file = write_config(
        OmegaConf.create({"model": config.model.student, "mapper": config.dataloader.test.mapper}),
        tmp_path / "config.py",
    )
    metadata = MetadataCatalog.get(tiny_scenes[1])
    arguments = [config_file, folder / "model_final.pth", metadata.json_file, metadata.image_root]
    output = subprocess.run(
        [sys.executable, "-c", PLAIN_DETECTRON2, *map(str, arguments)], capture_output=True, text=True
    )
    assert output.returncode == 0, output.stderr
    assert float(output.stdout.split("AP ")[-1]) == pytest.approx(results["bbox"]["AP"])


def test_a_failed_save_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    checkpointer = DistillationCheckpointer(nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("model_0")
    before = (tmp_path / "model_0.pth").read_bytes()

    def fail(contents, f):
        f.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    for name in ("model_0", "model_1"):
        with pytest.raises(OSError, match="no space left"):
            checkpointer.save(name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0.pth"]
    assert (tmp_path / "model_0.pth").read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == "model_0.pth"


def test_replace_file_keeps_what_was_there(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replace_file(str(path), "w") as f:
        f.write("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with replace_file(str(path), "w") as f:
        f.write("new")
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_json_has_no_nan(tmp_path):
    write_json(str(tmp_path / "a.json"), {"AP": math.nan, "ratios": [math.inf, 1.5], "names": ("a",)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"AP": None, "ratios": [None, 1.5], "names": ["a"]}


def start(model, path):
    checkpointer = DistillationCheckpointer(model)
    checkpointer.resume_or_load(str(path), resume=False)
    return checkpointer.report


def test_other_classes_start_afresh_and_another_backbone_does_not(tmp_path):
    path = save_weights(detector("retinanet"), tmp_path / "start.pth")
    model = detector("retinanet")
    model.head.cls_score = nn.Conv2d(64, 27, 3, padding=1)
    report = start(model, path)
    assert [name for name, _, _ in report.reshaped] == ["head.cls_score.weight", "head.cls_score.bias"]
    assert not report.missing and "backbone.fpn_lateral3.weight" in report.loaded

    with pytest.raises(ValueError, match="another architecture .* its backbone does not fit, .*bottom_up.stem"):
        start(detector("retinanet", width=24), path)
    with pytest.raises(ValueError, match=r"some weights are missing; .*\?matching_heuristics=True"):
        start(detector("faster_rcnn"), path)
    assert start(detector("faster_rcnn"), f"{path}?matching_heuristics=True").missing
    export_weights(str(path), str(tmp_path / "start.safetensors"))
    assert start(detector("faster_rcnn"), f"{tmp_path}/start.safetensors?matching_heuristics=True").missing
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "stranger.pth")
    with pytest.raises(ValueError, match="none of its keys is one of the model's"):
        start(model, tmp_path / "stranger.pth")


def test_pretrained_backbone_has_to_fit_whole(tmp_path):
    backbone = {k: v for k, v in detector("retinanet").backbone.bottom_up.state_dict().items()}
    path = tmp_path / "R10.pth"
    torch.save({"model": backbone, "matching_heuristics": True}, path)
    model = detector("retinanet")
    start(model, path)
    assert torch.equal(model.backbone.bottom_up.stem.conv1.weight, backbone["stem.conv1.weight"])
    for name in [name for name in backbone if "running" in name]:
        del backbone[name]  # as in Detectron2's R-50.pkl, whose norms are folded
    torch.save({"model": backbone, "matching_heuristics": True}, path)
    start(detector("retinanet"), path)
    del backbone["res4.0.conv1.weight"]
    torch.save({"model": backbone, "matching_heuristics": True}, path)
    with pytest.raises(ValueError, match="its backbone does not fit, beginning with .*res4.0.conv1.weight"):
        start(model, path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_starts_from_torchvisions_backbones(tmp_path, wrapped):
    """As the recipes with a ResNeXt do: grouped bottlenecks, whose norms are frozen."""
    source = torchvision.models.ResNet(Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1)
    weights = source.state_dict()
    torch.save({"state_dict": weights, "meta": {}} if wrapped else weights, tmp_path / "resnext.pth")
    model = nn.Module()
    model.backbone = nn.Module()
    resnext = LazyConfig.load(model_zoo.get_config_file("common/models/resnext.py"), "resnext")
    model.backbone.bottom_up = instantiate(resnext((1, 1, 1, 1), 32, 4, norm="FrozenBN", freeze_at=2))
    report = start(model, tmp_path / "resnext.pth")
    assert not report.missing and not report.reshaped
    nodes = {"layer2": "res3", "layer4": "res5"}
    extractor = create_feature_extractor(source.eval(), nodes)
    image = torch.randn(1, 3, 64, 64)
    found, expected = model.eval().backbone.bottom_up(image), extractor(image)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_what_is_used_of_a_pickle_is_what_was_read_safely(tmp_path, monkeypatch):
    """Another file takes the place of the one that is read, as soon as it is open."""
    path, other = tmp_path / "zoo.pkl", tmp_path / "other.pkl"
    for file, value in ((path, 1), (other, 2)):
        weights = {name: np.full(shape, value, np.float32) for name, shape in (("weight", (2, 2)), ("bias", (2,)))}
        file.write_bytes(pickle.dumps({"model": weights, "__author__": "zoo"}))

    def open_and_replace(file, *args, **kwargs):
        opened = original(file, *args, **kwargs)
        if file == str(path) and other.exists():
            os.replace(other, path)
        return opened

    original = open
    monkeypatch.setattr(builtins, "open", open_and_replace)
    model = nn.Linear(2, 2)
    load_all_weights(model, str(path), "model")
    assert not other.exists() and (model.weight == 1).all() and (model.bias == 1).all()


@pytest.mark.parametrize("is_detector", [True, False])
def test_starts_from_caffe2s_pickles(tmp_path, is_detector):
    model = detector("retinanet")
    conv = model.backbone.bottom_up.stem.conv1
    blobs = {"conv1_w": np.random.rand(*conv.weight.shape).astype(np.float32)}
    blobs["conv1_w_momentum"] = np.zeros_like(blobs["conv1_w"])
    contents = {"blobs": blobs, "cfg": "a: 1"} if is_detector else blobs
    (tmp_path / "R.pkl").write_bytes(pickle.dumps(contents))
    checkpointer = VerifyingCheckpointer(model)
    checkpointer.load(str(tmp_path / "R.pkl"))
    assert np.array_equal(conv.weight.detach(), blobs["conv1_w"])
    assert checkpointer.report.loaded == ["backbone.bottom_up.stem.conv1.weight"]
    assert checkpointer.report.unexpected == [] and checkpointer.matched_by_suffix


def test_starts_from_openmmlabs_v1c_stem(tmp_path):
    """A stem of three convolutions, which is one sequence there: convolution, norm, ReLU, and again."""
    model = nn.Module()
    resnet_v1c = LazyConfig.load(model_zoo.get_config_file("common/models/dilated_segmentation.py"), "resnet_v1c")
    model.backbone = instantiate(resnet_v1c(18, "BN"))
    own = torchvision.models.resnet18().state_dict()
    weights = {key: value for key, value in own.items() if not key.startswith(("conv1", "bn1"))}
    for index, (inside, outside) in enumerate(((3, 32), (32, 32), (32, 64))):
        weights[f"stem.{3 * index}.weight"] = torch.randn(outside, inside, 3, 3)
        norm = nn.BatchNorm2d(outside).state_dict()
        weights.update({f"stem.{3 * index + 1}.{key}": torch.rand_like(value.float()) for key, value in norm.items()})
    torch.save({"state_dict": weights}, tmp_path / "v1c.pth")
    report = start(model, tmp_path / "v1c.pth")
    assert not report.missing and not report.reshaped and set(report.unexpected) == {"fc.weight", "fc.bias"}
    for index in range(3):
        conv = getattr(model.backbone.stem, f"conv{index + 1}")
        assert torch.equal(conv.weight, weights[f"stem.{3 * index}.weight"])
        assert torch.equal(conv.norm.running_var, weights[f"stem.{3 * index + 1}.running_var"])


def test_starts_from_torchvisions_mobilenet(tmp_path):
    model = nn.Module()
    model.backbone = MobileNetV2(out_features=["res4", "res5"])
    weights = torchvision.models.mobilenet_v2().state_dict()
    torch.save(weights, tmp_path / "mobilenet.pth")
    assert not start(model, f"{tmp_path}/mobilenet.pth?matching_heuristics=True").missing
    name = "features.17.conv.0.0.weight"
    assert torch.equal(model.backbone.state_dict()[name], weights[name])


def test_deformable_blocks_start_from_plain_ones(tmp_path):
    def backbone(block):
        stage = ResNet.make_stage(block, 1, in_channels=64, out_channels=64, bottleneck_channels=16, norm="BN")
        model = nn.Module()
        model.backbone = nn.Module()
        model.backbone.bottom_up = ResNet(BasicStem(), [stage], out_features=["res2"])
        return model

    path = save_weights(backbone(BottleneckBlock), tmp_path / "plain.pth")
    report = start(backbone(DeformBottleneckBlock), f"{path}?matching_heuristics=True")
    assert {name.rsplit(".", 2)[1] for name in report.missing} == {"conv2_offset"}


def test_resume_refuses_another_run(tmp_path):
    student, head, trainer = detector("retinanet"), nn.Linear(2, 2), torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0)

    def resume(model=student, **parts):
        DistillationCheckpointer(model, str(tmp_path), **parts).resume_or_load("")

    DistillationCheckpointer(student, str(tmp_path), distillation_head=head, trainer=trainer).save("model_0")
    resume(distillation_head=head, trainer=trainer)
    with pytest.raises(ValueError, match="model_0.pth was saved with another distillation_head.*start anew"):
        resume(distillation_head=nn.Linear(3, 2), trainer=trainer)
    with pytest.raises(ValueError, match="model_0.pth was saved with another student"):
        resume(detector("faster_rcnn"), distillation_head=head, trainer=trainer)
    with pytest.raises(ValueError, match="model_0.pth was saved with a distillation_head"):
        resume(trainer=trainer)
    with pytest.raises(ValueError, match="model_0.pth was saved with another trainer"):
        resume(distillation_head=head, trainer=torch.optim.SGD([nn.Parameter(torch.ones(1)) for _ in range(2)], 1.0))
    DistillationCheckpointer(student, str(tmp_path), trainer=trainer).save("model_1")
    with pytest.raises(ValueError, match="model_1.pth was saved with no distillation_head"):
        resume(distillation_head=head, trainer=trainer)


def test_weights_that_are_nan_are_not_saved(tmp_path):
    model = nn.Linear(2, 2)
    checkpointer = DistillationCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0")
    model.bias.data[1] = float("nan")
    with pytest.raises(
        FloatingPointError, match="beginning with bias: model_1 is not saved, and earlier checkpoints are intact"
    ):
        checkpointer.save("model_1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0.pth"]


class Stateful(nn.Linear):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


def test_a_state_that_is_no_tensor_is_named(tmp_path):
    with pytest.raises(ValueError, match="the student's state has _extra_state, which is no tensor: model_final"):
        DistillationCheckpointer(Stateful(1, 1), str(tmp_path)).save("model_final")
    assert not list(tmp_path.iterdir())


def test_a_last_checkpoint_that_is_gone_is_named(tmp_path):
    checkpointer = DistillationCheckpointer(nn.Linear(1, 1), str(tmp_path))
    checkpointer.save("model_0000001")
    (tmp_path / "model_0000001.pth").unlink()
    with pytest.raises(ValueError, match="last_checkpoint says to continue from model_0000001.pth, which is not there"):
        checkpointer.resume_or_load("")

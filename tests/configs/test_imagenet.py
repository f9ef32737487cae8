"""The ImageNet recipes, on a small tree of fake ImageNet, through the real loaders and the real evaluation."""

import pathlib

import numpy as np
import pytest
import torch
import torchvision
from cankd import model_zoo
from cankd.checkpoint import load_all_weights
from cankd.data import register_image_folders
from cankd.engine import build_model, train
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage
from PIL import Image

from tests.tiny import save_weights

pytest.importorskip("timm", reason="MobileNetV1 is timm's")

FOLDER = pathlib.Path(model_zoo.get_config_file("ImageNet-Classification/R18.py")).parent
PAIRS = ["R18_from_R34", "MobileNetV1_from_R50"]
LITE = "EfficientNetLite0_from_Lite2"
METHODS = ["", "_kd", "_at", "_mgd", "_diffkd"]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Registers two classes of two images each; returns the names of the splits."""
    root = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = generator.integers(256, size=(70, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{name}_{i}.JPEG")
    register_image_folders("fake_imagenet", str(root))
    names = "fake_imagenet_train", "fake_imagenet_val"
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def recipe(name):
    return model_zoo.get_config(f"ImageNet-Classification/{name}.py")


@pytest.mark.parametrize("name", [pair + method for pair in PAIRS for method in METHODS])
def test_recipe_has_the_published_values(name):
    config = recipe(name)
    assert config.dataloader.train.total_batch_size == config.train.reference_batch_size == 256
    assert config.train.max_iter == 500500
    sgd = config.optimizer
    assert (sgd.lr, sgd.momentum, sgd.weight_decay, sgd.params.weight_decay_norm) == (0.1, 0.9, 1e-4, 1e-4)
    rates = [instantiate(config.lr_multiplier)(epoch / 100) for epoch in (0, 29.9, 30.1, 60.1, 90.1)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.001])
    assert config.train.clip_gradients.max_norm == (5.0 if name == "MobileNetV1_from_R50_mgd" else None)
    if name in PAIRS:
        head = instantiate(config.model.head)
        assert (head.name, head.weight, head.levels) == ("cankd", 5.0, ("res5",))


def test_all_recipes_are_tested():
    found = {path.stem for path in FOLDER.glob("*_from_*.py")}
    assert found == {pair + method for pair in PAIRS for method in METHODS} | {LITE}


@pytest.mark.parametrize("depth", [34, 50])
def test_teacher_is_torchvisions(depth, tmp_path):
    source = getattr(torchvision.models, f"resnet{depth}")()
    torch.save(source.state_dict(), tmp_path / "teacher.pth")
    model = instantiate(recipe(f"R{depth}").model)
    report = load_all_weights(model, str(tmp_path / "teacher.pth"), "teacher")
    assert not report.unexpected
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    normalised = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = source.eval()(normalised.view(1, 3, 1, 1).expand(1, 3, 64, 64)).softmax(1)[0]
        found = model.eval()([{"image": image}])[0]
    torch.testing.assert_close(found["scores"], expected.sort(descending=True)[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pair", [*PAIRS, LITE])
def test_pair_trains_a_step_and_is_evaluated(pair, tmp_path, imagenet):
    config = recipe(pair)
    data = config.dataloader
    data.train.dataset.names, data.test.dataset.names = imagenet
    data.train.num_workers = data.test.num_workers = 0
    data.train.total_batch_size = 2
    data.train.mapper.augmentations[0].size = data.test.mapper.augmentations[1].size = 128
    data.test.mapper.augmentations[0].short_edge_length = 136
    config.train.update(device="cpu", output_dir=str(tmp_path / "run"), max_iter=1)
    config.model.student.num_classes = config.model.teacher.model.num_classes = 2
    config.model.teacher.weights = save_weights(instantiate(config.model.teacher.model), tmp_path / "teacher.pth")
    assert 0 <= train(config)["classification"]["top1"] <= 100


@pytest.mark.parametrize("name", [pair + method for pair in PAIRS for method in METHODS[1:]])
def test_other_methods_train_a_step(name):
    config = recipe(name)
    config.train.device = "cpu"
    config.model.teacher.weights = None
    model = build_model(config).train()
    image = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with EventStorage():
        losses = model([{"image": image[i], "label": i} for i in range(2)])
    assert all(loss.isfinite() for loss in losses.values()) and set(model.head.loss_names) < losses.keys()
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)

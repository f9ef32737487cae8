import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cankd.modeling import Teacher
from detectron2.config import instantiate
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from tests.tiny import batch, detector, detector_config, save_weights, teacher

LEVELS = ["p3", "p4", "p5"]


def test_loads_freezes_and_stays_in_evaluation_mode(tmp_path):
    model = detector("retinanet")
    found = Teacher(model=detector("retinanet"), weights=save_weights(model, tmp_path / "teacher.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value)
    found.choose_levels(LEVELS)
    found(batch(), "BGR")  # folds the norms
    assert not any(p.requires_grad for p in found.parameters())
    found.train()
    assert not any(module.training for module in found.modules())
    before = {name: value.clone() for name, value in found.state_dict().items()}
    features = found(batch(), "BGR")
    assert features.keys() == set(LEVELS) and not any(f.requires_grad for f in features.values())
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())


def test_prepares_images_as_its_own_model_does(tmp_path):
    config = detector_config("retinanet")
    config.update(pixel_mean=[123.0, 116.0, 103.0], pixel_std=[58.0, 57.0, 56.0], input_format="RGB")
    model = instantiate(config).eval()
    weights = save_weights(model, tmp_path / "teacher.pth")
    found = Teacher(model=model, weights=weights, fold_norms=False)  # folded ones round otherwise
    found.choose_levels(LEVELS)
    bgr = batch(size=90)  # padded to the pyramid's 32
    rgb = [{**record, "image": record["image"].flip(0)} for record in bgr]
    expected = model.backbone(model.preprocess_image(rgb).tensor)
    for level in LEVELS:
        assert torch.equal(found(bgr, "BGR")[level], expected[level])
        assert torch.equal(found(rgb, "RGB")[level], expected[level])


@pytest.mark.parametrize(
    "option, tolerance",
    [({}, 1e-4), ({"channels_last": True}, 1e-4), ({"precision": "float32"}, 1e-4), ({"precision": "bfloat16"}, 0.1)],
    ids=str,
)
def test_options_for_speed_change_the_features_by_rounding_alone(tmp_path, option, tolerance):
    plain = teacher(tmp_path, fold_norms=False)
    expected = plain(batch(), "BGR")
    fast = Teacher(model=plain.model, weights=str(tmp_path / "teacher.pth"), **option)
    fast.choose_levels(LEVELS)
    for _ in range(2):
        found = fast(batch(), "BGR")
        for level in LEVELS:
            assert found[level].dtype == (torch.bfloat16 if "bfloat16" in option.values() else torch.float32)
            error = (found[level].float() - expected[level]).norm() / expected[level].norm()
            assert 0 < error < tolerance


def test_norms_are_folded_in_place_at_the_first_batch_and_not_before(tmp_path):
    """A student may inherit until then, and there is no second copy of the weights."""
    found, student = teacher(tmp_path), detector("retinanet")
    weights = sum(value.numel() for value in found.state_dict().values())
    assert "head.cls_score.weight" in found.give_weights(student, ["head.*"])
    assert torch.equal(student.head.cls_score.weight, found.model.head.cls_score.weight)
    before = found.model([{**batch()[0]}])[0]["instances"]
    found(batch(), "BGR")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in found.modules())
    assert sum(value.numel() for value in found.state_dict().values()) < weights
    with pytest.raises(ValueError, match="the teacher has run, .* only before, or with model.teacher.fold_norms=False"):
        found.give_weights(student, ["head.*"])
    after = found.model([{**batch()[0]}])[0]["instances"]  # whole, as evaluation and pictures use it
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-3, atol=1e-4)


def test_what_is_made_for_speed_follows_the_model(tmp_path):
    found = teacher(tmp_path)
    assert found(batch(), "BGR")["p4"].dtype == torch.float
    assert found.double()(batch(), "BGR")["p4"].dtype == torch.double


@pytest.mark.parametrize(
    "kind, levels, idle",
    [
        ("retinanet", ["p5"], {"fpn_output4", "fpn_output3", "fpn_lateral4", "fpn_lateral3"}),
        ("retinanet", ["p4", "p5"], {"fpn_output3", "fpn_lateral3"}),
        ("with_p6", ["p3", "p4", "p5"], {"top_block"}),
        ("with_p6", ["p4"], {"fpn_output3", "fpn_lateral3", "top_block"}),
        ("with_p6", ["p3", "p6"], set()),
    ],
)
def test_levels_that_nobody_asks_for_are_not_computed(tmp_path, kind, levels, idle):
    model = detector("retinanet").eval()
    if kind == "with_p6":
        small = model.backbone
        model.backbone = FPN(small.bottom_up, small.in_features, 64, top_block=LastLevelMaxPool()).eval()
    expected = model.backbone(model.preprocess_image(batch()).tensor)
    found = Teacher(model=model, weights=None, fold_norms=False)
    found.choose_levels(levels)
    calls = set()
    for name, module in model.backbone.named_children():
        module.register_forward_hook(lambda *_, name=name: calls.add(name))
    model.head.register_forward_hook(lambda *_: pytest.fail("the teacher's head ran"))
    features = found(batch(), "BGR")
    assert features.keys() == set(levels)
    assert all(torch.equal(features[level], expected[level]) for level in levels)
    assert calls == {name for name, _ in model.backbone.named_children()} - idle


def test_runs_without_weights_where_only_cost_matters():
    model = detector("retinanet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = Teacher(model=model, weights=None)
    assert found.load_report is None
    assert all(torch.equal(value, before[name]) for name, value in found.model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_stream_of_its_own_changes_nothing(tmp_path):
    found = teacher(tmp_path, precision="float32").cuda()
    expected = found(batch(), "BGR")
    pending = found.start(batch(), "BGR")
    torch.randn(2000, 2000, device="cuda") @ torch.randn(2000, 2000, device="cuda")  # the student's work
    for level, feature in pending.wait().items():
        torch.testing.assert_close(feature, expected[level])


def test_compiles_what_is_below_the_pyramid(tmp_path, monkeypatch):
    """Whatever compiles: here a stand-in, for a compiler takes minutes."""
    compiled = []

    def compile(function, **options):
        compiled.append((function.__self__, options))
        return function

    monkeypatch.setattr(torch, "compile", compile)
    found = teacher(tmp_path, compile=True)
    bottom_up = found.model.backbone.bottom_up
    for _ in range(2):
        assert found(batch(), "BGR").keys() == set(LEVELS)
    assert compiled == [(bottom_up, {"dynamic": True})]
    with pytest.raises(ValueError, match="one lies within ResNet, and what is compiled does not show what is within"):
        teacher(tmp_path, compile=True).choose_levels(["backbone.bottom_up.res4"])
    with pytest.raises(ValueError, match="the teacher, a Linear, has no backbone to compile"):
        Teacher(model=torch.nn.Linear(1, 1), weights=None, compile=True)


def test_the_surroundings_autocast_where_no_precision_is_said(tmp_path):
    for precision, dtype in [("auto", torch.bfloat16), ("float32", torch.float32)]:
        with torch.autocast("cpu", torch.bfloat16):
            features = teacher(tmp_path, precision=precision)(batch(), "BGR")
        assert features["p3"].dtype == dtype


def test_refuses_an_unknown_precision(tmp_path):
    with pytest.raises(ValueError, match="the teacher's precision is 'half'; it has to be one of .*'float16'"):
        teacher(tmp_path, precision="half")


def test_input_format_can_be_said_where_the_model_does_not(tmp_path):
    model = detector("retinanet")
    del model.input_format
    weights = save_weights(model, tmp_path / "teacher.pth")
    silent, told = (Teacher(model=model, weights=weights, input_format=order) for order in (None, "RGB"))
    for found in (silent, told):
        found.choose_levels(LEVELS)
    flipped = [{**record, "image": record["image"].flip(0)} for record in batch()]
    assert torch.equal(told(batch(), "BGR")["p3"], silent(flipped, "BGR")["p3"])


def test_needs_weights():
    with pytest.raises(ValueError, match="the teacher has no weights"):
        Teacher(model=detector("retinanet"), weights="")


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint .*absent.pth"):
        Teacher(model=detector("retinanet"), weights=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("size", [0, 100, -100])
@pytest.mark.parametrize("name", ["teacher.pth", "teacher.pkl"])
def test_refuses_a_truncated_file(tmp_path, name, size):
    path = tmp_path / name
    if name.endswith("pkl"):
        path.write_bytes(pickle.dumps({"model": {"weight": np.zeros(1000)}, "__author__": "zoo"}))
    else:
        save_weights(detector("retinanet"), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"{name} .* cannot be read as a checkpoint; it may be truncated"):
        Teacher(model=detector("retinanet"), weights=str(path))


@pytest.mark.parametrize("name", ["teacher.pth", "teacher.pkl"])
def test_runs_no_code_from_a_file(tmp_path, name):
    class Exploit:
        def __reduce__(self):
            return (tmp_path.joinpath("written").write_text, ("code ran",))

    contents = {"model": {"weight": Exploit()}}
    path = tmp_path / name
    if name.endswith("pkl"):
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        Teacher(model=detector("retinanet"), weights=str(path))
    assert not (tmp_path / "written").exists()


def test_refuses_another_architecture(tmp_path):
    weights = save_weights(detector("faster_rcnn"), tmp_path / "faster_rcnn.pth")
    with pytest.raises(ValueError, match=r"not a checkpoint of this .*\(head.cls_subnet.0.weight, .*\) missing"):
        Teacher(model=detector("retinanet"), weights=weights)
    weights = save_weights(detector("retinanet", width=24), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"conv1.weight: \(24, 3, 7, 7\) in the file, \(16, 3, 7, 7\) in the model"):
        Teacher(model=detector("retinanet"), weights=weights)


@pytest.mark.parametrize("protocol", [2, 5])
def test_reads_zoo_files_of_numpy_arrays(tmp_path, protocol):
    model = detector("retinanet")
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    contents = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(contents, protocol))
    found = Teacher(model=detector("retinanet"), weights=str(tmp_path / "zoo.pkl"))
    assert torch.equal(found.model.head.cls_score.weight, model.head.cls_score.weight)


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"weights": {"weight": torch.zeros(1)}, "epoch": 3}, "instead of weights, .* it has weights, epoch"),
        ({"model": {}}, "holds no weights under 'model'"),
        ([1, 2], "holds no weights under 'model'"),
    ],
)
def test_refuses_files_of_other_kinds(tmp_path, contents, message):
    torch.save(contents, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"other.pth .*{message}"):
        Teacher(model=detector("retinanet"), weights=str(tmp_path / "other.pth"))


def test_at_a_scale_it_sees_the_image_enlarged_and_says_strides_of_the_image(tmp_path):
    found = teacher(tmp_path, scale=2.0, fold_norms=False)
    plain = teacher(tmp_path, fold_norms=False)
    plain.model.load_state_dict(found.model.state_dict())
    records = batch(images=2, size=64)
    enlarged = [
        {**r, "image": F.interpolate(r["image"][None].float(), scale_factor=2, mode="bilinear")[0]} for r in records
    ]
    expected, features = plain(enlarged, "BGR"), found(records, "BGR")
    assert features["p4"].shape[2:] == (8, 8)
    for level in features:
        assert torch.equal(features[level], expected[level])
    strides = {level: shape.stride for level, shape in found.output_shape().items()}
    assert strides == {"p3": 4, "p4": 8, "p5": 16}
    assert records[0]["image"].shape == (3, 64, 64)


@pytest.mark.parametrize("scale, stride", [(0.5, 32), (1.5, 32 / 3)])
def test_other_scales_divide_strides_too(tmp_path, scale, stride):
    found = teacher(tmp_path, levels=("p4",), scale=scale)
    assert found.output_shape()["p4"].stride == stride
    assert found(batch(size=64), "BGR")["p4"].shape[2:] == ((2, 2) if scale < 1 else (6, 6))


def test_refuses_a_scale_that_is_not_positive():
    with pytest.raises(ValueError, match="model.teacher.scale is 0; it has to be positive"):
        Teacher(model=detector("retinanet"), weights=None, scale=0)

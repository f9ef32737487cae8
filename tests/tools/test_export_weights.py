import argparse

import pytest
import safetensors.torch
import torch
from cankd.checkpoint import export_weights, load_all_weights, read_weights
from cankd.utils import UserError

from tests.tiny import detector, save_weights


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("float16", [False, True])
def test_writes_a_loadable_file_of_weights_alone(load_tool, tmp_path, capsys, float16, suffix):
    model = detector("retinanet")
    source, target = tmp_path / "model_final.pth", tmp_path / f"student.{suffix}"
    torch.save({"model": model.state_dict(), "trainer": {"optimizer": {}}, "iteration": 3}, source)
    load_tool("tools/export_weights.py").main(
        argparse.Namespace(source=str(source), target=str(target), float16=float16)
    )
    if suffix == "pth":
        assert torch.load(target, weights_only=True).keys() == {"model"}
    else:
        assert safetensors.torch.load_file(target).keys() == model.state_dict().keys()
    assert (target.stat().st_size < 0.6 * source.stat().st_size) == float16
    assert f"{target}: {target.stat().st_size / 1e6:.1f} MB" in capsys.readouterr().out
    again = detector("retinanet")
    load_all_weights(again, str(target), "student")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_refuses_weights_beyond_float16(load_tool, tmp_path):
    torch.save({"model": {"a": torch.tensor([1e6])}}, tmp_path / "huge.pth")
    arguments = argparse.Namespace(source=str(tmp_path / "huge.pth"), target=str(tmp_path / "half.pth"), float16=True)
    with pytest.raises(SystemExit, match="float16 cannot hold, in a: leave --float16 out"):
        load_tool("tools/export_weights.py").main(arguments)
    assert not (tmp_path / "half.pth").exists()


def test_safetensors_takes_views_and_shared_weights(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    torch.save({"model": {"a": shared, "b": shared, "c": shared.t()}}, tmp_path / "shared.pth")
    export_weights(str(tmp_path / "shared.pth"), str(tmp_path / "shared.safetensors"))
    written = read_weights(str(tmp_path / "shared.safetensors"))
    assert all(torch.equal(written[name], value) for name, value in {"a": shared, "b": shared, "c": shared.t()}.items())


@pytest.mark.parametrize("name", ["student.onnx", "student", "student.pkl"])
def test_refuses_other_suffixes(load_tool, tmp_path, name):
    source = save_weights(detector("retinanet"), tmp_path / "model_final.pth")
    arguments = argparse.Namespace(source=source, target=str(tmp_path / name), float16=False)
    with pytest.raises(SystemExit, match=f"written as .pth or .safetensors: name the file so, and not .*/{name}"):
        load_tool("tools/export_weights.py").main(arguments)
    assert not (tmp_path / name).exists()


def test_a_truncated_file_is_no_checkpoint(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(safetensors.torch.save({"a": torch.zeros(9)})[:-3])
    with pytest.raises(UserError, match="cut.safetensors .* cannot be read as a checkpoint; it may be truncated"):
        read_weights(str(tmp_path / "cut.safetensors"))


def test_refuses_the_checkpoint_itself(tmp_path):
    source = tmp_path / "model_final.pth"
    torch.save({"model": {"a": torch.ones(2)}, "trainer": {"optimizer": {}}}, source)
    (tmp_path / "link.pth").symlink_to(source)
    with pytest.raises(UserError, match="link.pth is the checkpoint itself, .*: give it another name"):
        export_weights(str(source), str(tmp_path / "link.pth"))
    assert "trainer" in torch.load(source, weights_only=True)


def test_refuses_weights_that_are_not_finite(tmp_path):
    torch.save({"model": {"a": torch.tensor([torch.nan])}}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match="nan.pth has NaN or infinite weights, in a: "):
        export_weights(str(tmp_path / "nan.pth"), str(tmp_path / "again.pth"))


def test_weights_whose_names_have_to_be_matched_stay_so(tmp_path):
    """As those of torchvision's ResNets."""
    weights = {"layer1.0.conv1.weight": torch.ones(2), "bn1.bias": torch.ones(2)}
    torch.save(weights, tmp_path / "resnet.pth")
    export_weights(str(tmp_path / "resnet.pth"), str(tmp_path / "half.pth"), float16=True)
    written = torch.load(tmp_path / "half.pth", weights_only=True)
    assert written["matching_heuristics"] is True and "res2.0.conv1.weight" in written["model"]
    with pytest.raises(UserError, match="resnet.pth does not have the names of Detectron2, and only a .pth can say so"):
        export_weights(str(tmp_path / "resnet.pth"), str(tmp_path / "half.safetensors"))

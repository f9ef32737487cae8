import argparse

import pytest
import torch
from cankd.checkpoint import load_all_weights

from tests.tiny import detector


@pytest.mark.parametrize("float16", [False, True])
def test_writes_a_loadable_file_of_weights_alone(load_tool, tmp_path, capsys, float16):
    model = detector("retinanet")
    source, target = tmp_path / "model_final.pth", tmp_path / "student.pth"
    torch.save({"model": model.state_dict(), "trainer": {"optimizer": {}}, "iteration": 3}, source)
    load_tool("tools/export_weights.py").main(
        argparse.Namespace(source=str(source), target=str(target), float16=float16)
    )
    assert torch.load(target, weights_only=True).keys() == {"model"}
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

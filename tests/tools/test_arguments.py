import argparse

import pytest
from cankd import model_zoo
from cankd.utils import image_size, named_path

CONFIG = ("--config-file", "a.py")
REQUIRED = {
    "analyze_model": CONFIG,
    "check_distillation": CONFIG,
    "compare_methods": (*CONFIG, "--methods", "cankd"),
    "confusion_matrix": CONFIG,
    "demo": (),
    "export_model": (*CONFIG, "--format", "onnx"),
    "lazyconfig_train_net": CONFIG,
    "search_distiller": (*CONFIG, "--scope", "global"),
    "visualize_attention": (*CONFIG, "--point", "8,8"),
    "visualize_data": CONFIG,
    "visualize_features": CONFIG,
    "visualize_gradcam": CONFIG,
    "visualize_predictions": CONFIG,
}


@pytest.mark.parametrize("name", REQUIRED)
def test_options_may_stand_behind_overrides(load_tool, name, capsys):
    parse = load_tool(f"tools/{name}.py").parse_arguments
    option, value = {"analyze_model": ("size", (64, 96)), "lazyconfig_train_net": ("num_gpus", 2)}.get(
        name, ("json" if name == "check_distillation" else "output", "here")
    )
    words = f"--{option.replace('_', '-')}", "64x96" if option == "size" else str(value)
    arguments = ["train.max_iter=5", *words, "train.seed=-1", *REQUIRED[name], "train.log_period=1"]
    args = parse(arguments)
    assert sorted(args.opts) == ["train.log_period=1", "train.max_iter=5", "train.seed=-1"]
    assert getattr(args, option) == value
    with pytest.raises(SystemExit):
        parse([*arguments, "--no-such-option"])
    assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err


def test_a_path_that_exists_is_not_cut_at_its_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    assert named_path("lr=0.1") == ("lr=0.1", "lr=0.1")
    assert named_path("run=there/b") == ("run", "there/b") and named_path("there/b/") == ("b", "there/b/")


@pytest.mark.parametrize("text", ["0x100", "100x0", "100", "-1x5", "5x5x5"])
def test_sizes_are_positive(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not HEIGHTxWIDTH"):
        image_size(text)


@pytest.mark.parametrize("split, message", [("test", "has no dataloader.test"), ("train", "has no dataloader.train")])
def test_a_split_that_the_config_lacks_is_named(load_tool, split, message):
    tool = load_tool("tools/visualize_data.py")
    config = model_zoo.get_config_file("DigitScenes/retinanet_R10.py")
    arguments = ["--config-file", config, "--split", split, f"dataloader.{split}=null"]
    with pytest.raises(SystemExit, match=message):
        tool.main(tool.parse_arguments(arguments))

import cv2
import numpy as np
import pytest

from tests.tiny import detector, save_weights, write_config

CANKD = "DigitScenes/retinanet_R10_from_R18.py"


@pytest.fixture
def draw(load_tool, tmp_path):
    """Returns a function that runs the script and gives the picture's height and width."""

    def draw(config, *arguments):
        write_config(config, tmp_path / "config.py")
        tool = load_tool("tools/visualize_predictions.py")
        output = str(tmp_path / "predictions.png")
        tool.main(tool.parse_arguments(["--config-file", str(tmp_path / "config.py"), "--output", output, *arguments]))
        return cv2.imread(output).shape[:2]

    return draw


def test_draws_all_models_beside_the_ground_truth(draw, quick_config, tmp_path):
    weights = save_weights(detector("retinanet"), tmp_path / "student.pth")
    height, width = draw(
        quick_config(CANKD), "--images", "2", "--baseline", weights, f"train.init_checkpoint={weights}"
    )
    assert width == 4 * 450 and height > 2 * 450  # two models, the teacher, the ground truth


def test_draws_images_without_ground_truth(draw, quick_config, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((50, 60, 3), 128, np.uint8))
    (folder / "notes.txt").touch()
    weights = save_weights(detector("retinanet"), tmp_path / "student.pth")
    inputs = "--input", str(folder), str(folder / "a.png"), f"train.init_checkpoint={weights}"
    height, width = draw(quick_config(CANKD), *inputs)
    assert width == 2 * 450 and height > 3 * 370


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--input", "absent.jpg"], "there is no image or folder absent.jpg"),
        (["train.init_checkpoint=absent.pth"], "there is no checkpoint absent.pth"),
        (["train.init_checkpoint=/"], "/ is a folder: name the checkpoint in it, such as /model_final.pth"),
        (["--images", "0"], "there is nothing to look at: images is 0"),
    ],
)
def test_refuses_what_is_not_there(draw, quick_config, arguments, message):
    with pytest.raises(SystemExit, match=message):
        draw(quick_config(CANKD), *arguments)


def test_says_that_no_student_is_drawn(draw, quick_config, tmp_path, caplog):
    weights = save_weights(detector("retinanet"), tmp_path / "student.pth")
    draw(quick_config(CANKD), "--images", "1", "--baseline", weights)
    warning = "Only the teacher is shown: give the student's checkpoint by train.init_checkpoint=FILE"
    assert warning not in caplog.messages
    draw(quick_config(CANKD), "--images", "1")
    assert caplog.messages.count(warning) == 1


@pytest.mark.parametrize("name, picture", [("predictions", "predictions.png"), ("data", "samples.png")])
def test_pictures_go_to_output(quick_config, load_tool, tmp_path, monkeypatch, name, picture):
    write_config(quick_config(CANKD), tmp_path / "config.py")
    monkeypatch.chdir(tmp_path)
    tool = load_tool(f"tools/visualize_{name}.py")
    tool.main(tool.parse_arguments(["--config-file", "config.py", "--images", "1"]))
    assert [path.name for path in tmp_path.glob("**/*.png")] == [picture]
    assert (tmp_path / "output" / picture).is_file()


def test_needs_a_model(draw, quick_config):
    with pytest.raises(SystemExit, match="there is no model to look at: give a checkpoint by train.init_checkpoint"):
        draw(quick_config("DigitScenes/retinanet_R10.py"))

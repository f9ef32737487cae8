import json
import pathlib
import subprocess
import sys

import cankd
import pytest
import torch
from cankd.engine import train
from detectron2 import model_zoo

from tests.tiny import detector, save_weights, write_config

SCRIPT = "tools/lazyconfig_train_net.py"
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def run(quick_config, load_tool, tmp_path):
    """Returns a function that runs the script on a small config with overrides, as a user would."""

    def run(*arguments, config="DigitScenes/retinanet_R10_from_R18_inherit.py"):
        path = write_config(quick_config(config), tmp_path / "config.py")
        tool = load_tool(SCRIPT)
        tool.main(tool.parse_arguments(["--config-file", path, *arguments]))

    return run


def test_trains_resumes_and_evaluates(run, tmp_path, capsys):
    run("train.max_iter=2")
    run("--resume", "train.max_iter=3")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "total_loss" in line] == [0, 1, 2]
    capsys.readouterr()
    config = (tmp_path / "run" / "config.yaml").read_text()
    run("--eval-only", f"train.init_checkpoint={tmp_path}/run/model_final.pth", "optimizer.lr=9")
    run("--eval-only", "--model", "teacher")
    assert (tmp_path / "run" / "config.yaml").read_text() == config  # the run's, not the evaluation's
    assert "eval_period" in (tmp_path / "run" / "evaluation_config.yaml").read_text()
    assert capsys.readouterr().out.count("copypaste: AP,AP50,AP75,APs,APm,APl") == 2


def test_distils_any_two_configs(tiny_scenes, load_tool, tmp_path):
    train, test = tiny_scenes
    (tmp_path / "student.yaml").write_text(
        f"_BASE_: {model_zoo.get_config_file('Base-RetinaNet.yaml')}\n"
        f"DATASETS: {{TRAIN: [{train}], TEST: [{test}]}}\n"
        "DATALOADER: {NUM_WORKERS: 0}\n"
        "MODEL: {DEVICE: cpu, RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64}, FPN: {OUT_CHANNELS: 64}}\n"
        "INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}\n"
        f"OUTPUT_DIR: {tmp_path}/run\n"
    )
    teacher = ["--teacher", cankd.model_zoo.get_config_file("DigitScenes/retinanet_R18.py")]
    teacher += ["--teacher-weights", "cankd://DigitScenes/retinanet_R18.pth", "--method", "pkd", "--inherit"]
    tool = load_tool(SCRIPT)
    options = [
        "MODEL.RETINANET.NUM_CLASSES=10",
        "SOLVER.IMS_PER_BATCH=2",
        "SOLVER.MAX_ITER=2",
        "model.head.weight=3",
        "dataloader.evaluator=null",
    ]
    tool.main(tool.parse_arguments(["--config-file", str(tmp_path / "student.yaml"), *teacher, *options]))
    run = tmp_path / "run_pkd_inherit"
    assert (run / "model_final.pth").exists() and (run / "detectron2.yaml").exists()
    assert "weight: 3" in (run / "config.yaml").read_text()
    assert list(json.loads((run / "distillation_losses.json").read_text())) == ["p3", "p4", "p5"]
    with pytest.raises(SystemExit, match="a teacher needs both, its config and its checkpoint"):
        tool.main(tool.parse_arguments(["--config-file", str(tmp_path / "student.yaml"), *teacher[:2]]))


def test_evaluates_models_on_corrupted_images(run, load_tool, tmp_path, capsys):
    pytest.importorskip("imagecorruptions", reason="corruptions come from imagecorruptions-imaug")
    weights = save_weights(detector("retinanet"), tmp_path / "student.pth")
    grid = ["--eval-only", "--coco-c", "--corruptions", "fog", "--severities", "0,2"]
    run(*grid, "--models", f"student={weights}", "teacher", "dataloader.test.batch_size=3")
    run(*grid, "--severities", "2", f"train.init_checkpoint={weights}", "dataloader.test.batch_size=3")
    folder = tmp_path / "run" / "robustness"
    assert {path.name for path in folder.glob("*/*.json")} == {"clean.json", "fog_2.json"}
    printed = capsys.readouterr().out
    fingerprint = json.loads((folder / "student" / "fog_2.json").read_text())["fingerprints"]["data"]
    run(*grid, "--channel-order", "BGR", "--models", "teacher", "dataloader.test.batch_size=3")
    assert json.loads((folder / "teacher" / "fog_2.json").read_text())["fingerprints"]["data"] != fingerprint
    run(*grid, "--models", "teacher", "dataloader.test.batch_size=3")
    assert json.loads((folder / "teacher" / "fog_2.json").read_text())["fingerprints"]["data"] == fingerprint
    assert "| student |" in printed and "| teacher |" in printed and "rPC needs the clean images" in printed
    (folder / "student" / "clean.json").unlink()
    tool = load_tool("tools/compare_robustness.py")
    runs = [f"{name}={folder / name}" for name in ("student", "teacher")]
    with pytest.raises(SystemExit, match="student and teacher were not evaluated on the same"):
        tool.main(tool.parse_arguments([*runs, "--output", str(tmp_path)]))
    tool.main(tool.parse_arguments([f"best={folder}/teacher", "--output", str(tmp_path)]))
    assert "| best |" in (tmp_path / "robustness.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--coco-c"], "--coco-c evaluates: add --eval-only"),
        (["--eval-only", "--models", "teacher"], "--models belongs to --coco-c"),
        (["--eval-only", "--corruptions", "fog"], "--corruptions belongs to --coco-c"),
        (["--eval-only", "--channel-order", "BGR"], "--channel-order belongs to --coco-c"),
        (["--eval-only", "--coco-c", "--models", "a=b.pth", "a=c.pth"], "two models have the same name"),
        (["--eval-only", "--coco-c", "--severities", "1-5"], "severities"),
        (["--eval-only", "--coco-c", "--models", "student"], "'student' is neither NAME=CHECKPOINT"),
        (["--eval-only", "--coco-c", "--models", "a/b=c.pth"], "'a/b' is neither NAME=CHECKPOINT"),
        (["--eval-only", "--coco-c", "--models", "teacher=c.pth"], "'teacher' is neither"),
    ],
)
def test_wrong_use_of_coco_c_is_refused(load_tool, arguments, message, capsys):
    with pytest.raises(SystemExit):
        load_tool(SCRIPT).parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_an_unknown_corruption_lists_the_known_ones(run):
    with pytest.raises(SystemExit, match="'fgo' is no corruption. Known are the sets benchmark"):
        run("--eval-only", "--coco-c", "--corruptions", "fgo", "--model", "teacher")


def wrong_files(tmp_path):
    whole = pathlib.Path(save_weights(detector("retinanet"), tmp_path / "whole.pth"))
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:1000])
    save_weights(detector("faster_rcnn"), tmp_path / "faster_rcnn.pth")


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["train.init_checkpoint={}/absent.pth"], "there is no checkpoint .*absent.pth"),
        (["train.init_checkpoint={}/cut.pth"], r"cut.pth \(1,000 bytes\) cannot be read as a checkpoint; .*truncated"),
        (["train.init_checkpoint={}/faster_rcnn.pth"], "faster_rcnn.pth is of another architecture than the model"),
        (["model.teacher.weights={}/faster_rcnn.pth"], "is not a checkpoint of this teacher"),
        (["model.teacher.weights=''"], "the teacher has no weights: give the path or URL"),
        (["model.head.levels=[p2,p3]"], "the student has no level 'p2'"),
        (["model.levels={p3: p7}"], "maps 'p3' to 'p7', which the teacher lacks"),
        (["model.student.num_classes=12"], r"head.cls_score.bias: \(108,\) in the student, \(90,\) in the teacher"),
        (["train.inherit=['neck.*']"], "'neck.*', which matches nothing in the student"),
        (["model.head.affinity=cosine"], "affinity is 'cosine'; it has to be one of"),
        (["model.head.weight=-1"], "distillation weight is -1; it has to be 0 or more"),
        (["dataloader.train.dataset.names=nowhere"], "no data set is registered as 'nowhere'"),
        (["train.output_dir=/dev/null/run"], "train.output_dir=/dev/null/run cannot be written"),
        (["train.amp.enabled=True", "train.amp.precision=int8"], "train.amp.precision is 'int8'"),
        (["model.student.num_classes=5"], "the data has 10 classes, but the model predicts 5"),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, overrides, message):
    wrong_files(tmp_path)
    with pytest.raises(SystemExit, match=message) as stop:
        run(*(override.replace("{}", str(tmp_path)) for override in overrides))
    assert isinstance(stop.value.code, str)  # goes to stderr, with exit status 1
    assert not list((tmp_path / "run").rglob("*.pth*")) and not list(tmp_path.rglob("*unfinished"))


def test_divergence_ends_in_one_line_and_keeps_the_last_checkpoint(run, tmp_path, capfd):
    with pytest.raises(SystemExit, match="became infinite or NaN at iteration 1 .*--resume"):
        run("optimizer.lr=1e30", "train.checkpointer.period=1", "train.clip_gradients.max_norm=null")
    assert "Traceback" not in "".join(capfd.readouterr())
    last = (tmp_path / "run" / "last_checkpoint").read_text()
    weights = torch.load(tmp_path / "run" / last, weights_only=True)["model"]
    assert all(value.isfinite().all() for value in weights.values())


def test_bugs_keep_their_stack_trace(run, monkeypatch):
    def bug(*args, **kwargs):
        raise ValueError("not raised by cankd")

    monkeypatch.setitem(train.__globals__, "build_model", bug)
    with pytest.raises(ValueError, match="not raised by cankd"):
        run()


def test_a_mistake_is_said_once_and_sets_the_exit_status(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    command = [sys.executable, SCRIPT, "--config-file", "absent.py", "--num-gpus", "2", "--dist-url", "auto"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.count("Error: there is no config file absent.py") == 1
    assert "Traceback" not in result.stderr


def test_help_explains_options_as_they_are_written_here(load_tool, capsys):
    with pytest.raises(SystemExit):
        load_tool(SCRIPT).parse_arguments(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "options of the config, key=value, for example train.max_iter=1000" in text
    assert "PATH.KEY VALUE" not in text and "DefaultTrainer" not in text

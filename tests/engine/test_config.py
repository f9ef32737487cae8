import sysconfig
from collections import defaultdict

import cankd
import pytest
from cankd import model_zoo
from cankd.engine import apply_overrides, load_config, train
from cankd.engine.option_checks import check_options
from cankd.modeling import Distiller
from cankd.utils import UserError
from omegaconf import OmegaConf

from tests.tiny import write_config

CANKD = model_zoo.get_config_file("DigitScenes/retinanet_R10_from_R18.py")


def test_applies_overrides():
    overrides = ["train.max_iter=7", "model.head.weight=2.5", "model.head.seed=3", "model.student.test_nms_thresh=0.4"]
    config = load_config(CANKD, overrides)
    assert (config.train.max_iter, config.model.head.weight) == (7, 2.5)
    assert config.model.head.seed == 3  # an argument of the base class
    assert config.model.student.test_nms_thresh == 0.4  # a new argument of a lazy call


def test_plain_detectron2_configs_get_the_options_they_lack(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(
        "from detectron2 import model_zoo\n"
        "_config = model_zoo.get_config('COCO-Detection/retinanet_R_50_FPN_1x.py')\n"
        "model, train, dataloader = _config.model, _config.train, _config.dataloader\n"
    )
    config = load_config(str(path))
    assert config.train.inherit is None and config.train.max_iter == 90000 and config.train.device == "cuda"


def test_a_config_anywhere_reaches_ours(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from cankd import model_zoo\n"
        "_config = model_zoo.get_config('DigitScenes/retinanet_R10_from_R18.py')\n"
        "model, train, dataloader = _config.model, _config.train, _config.dataloader\n"
        "model.head.weight = 1.0\n"
    )
    assert load_config(str(path)).model._target_ in (Distiller, "cankd.modeling.distiller.Distiller")


@pytest.mark.parametrize(
    "contents, message",
    [
        (None, "there is no config file .*broken.py, and Detectron2's model zoo has none"),
        ("\nmodel = dict(\n", "broken.py fails with SyntaxError: .*broken.py has .* '.' was never closed, line 2$"),
        ("\nmodel = undefined\n", r"fails with NameError: name 'undefined' is not defined \(.*broken.py, line 2\)$"),
        ("from .absent import model\n", r"with ImportError: .*absent.py does not exist.* \(.*broken.py, line 1\)$"),
        ("model = {}\n", "defines no dataloader and no train"),
    ],
)
def test_refuses_files(tmp_path, contents, message):
    path = tmp_path / "broken.py"
    if contents is not None:
        path.write_text(contents)
    with pytest.raises(ValueError, match=message):
        load_config(str(path))


def test_a_failure_of_yaml_is_placed_by_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_text("\na: [")
    with pytest.raises(
        ValueError, match=r'mine.yaml fails with ParserError: (.*\n)*.* in ".*mine.yaml", line 2, column 5$'
    ):
        load_config(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    "contents, message",
    [
        ("\n\nmodel = dict(a=1)['b']\n", r"mine.py fails with KeyError: 'b' \(.*base.py, line 3\)$"),
        ("\n\nmodel = dict(\n", r"mine.py fails with SyntaxError: .*base.py has .* line 3$"),
        ("from torch import nn\nnn.Conv2d(3, 4, 0, groups=2)\n", r"ValueError: in_channels .* \(.*base.py, line 2\)$"),
    ],
)
def test_a_failure_in_a_file_that_a_config_imports_is_placed_there(tmp_path, contents, message):
    (tmp_path / "base.py").write_text(contents)
    (tmp_path / "mine.py").write_text("from .base import model\n")
    with pytest.raises(ValueError, match=message):
        load_config(str(tmp_path / "mine.py"))


def test_the_place_is_the_users_wherever_detectron2_lies(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("\nfrom .absent import model\n")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: defaultdict(lambda: str(tmp_path / "nothing is installed")))
    with pytest.raises(ValueError, match=r"absent.py does not exist.* \(.*mine.py, line 2\)$"):
        load_config(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.max_itr=5", "no 'train.max_itr'; train has .*did you mean 'max_iter'"),
        ("trian.max_iter=5", "no 'trian', which the override 'trian.max_iter=5' would change"),
        ("train.max_iter", "'train.max_iter' is no override: write key=value"),
        ("train.max_iter=[", "cannot be read: a value with other characters"),
        ("model.head.wieght=1", "no 'model.head.wieght'; model.head has .*did you mean 'weight'"),
        ("model.head.levels.0=p4", r"'model.head.levels' is a list, .* model.head.levels=\[…\]"),
    ],
)
def test_refuses_overrides(override, message):
    with pytest.raises(ValueError, match=message):
        load_config(CANKD, [override])


@pytest.mark.parametrize(
    "override, message",
    [
        ("model=null", "None; it has to be a part with options of its own"),
        ("dataloader=null", "None; it has to be a part with options of its own"),
        ("train=null", "None; it has to be a part with options of its own"),
        ("train.checkpointer=100", "100; it has to be a part with options of its own"),
        ("train.inherit=7", '7; it has to be "auto", a list of wildcards'),
        ("train.inherit=[1]", r"\[1\]; it has to be \"auto\", a list of wildcards"),
        ("model.head.weight=abc", "'abc'; it has to be a number"),
        ("model.head.weight=nan", "nan; it has to be a number"),
        ("model.teacher.input_format=XYZ", "'XYZ'; it has to be BGR, RGB or another format"),
        ("model.teacher.scale=big", "'big'; it has to be a number"),
        ("train.max_iter=0", "0; it has to be a whole number, at least 1"),
        ("train.max_iter=-5", "-5; it has to be a whole number, at least 1"),
        ("train.max_iter=1e4", "10000.0; it has to be a whole number"),
        ("train.max_iter=true", "True; it has to be a whole number"),
        ("train.seed=null", "None; it has to be a whole number; -1 is for a random seed"),
        ("train.amp.enabled=maybe", "'maybe'; it has to be true or false"),
        ("train.eval_period=abc", "'abc'; it has to be a whole number, at least 0"),
        ("train.log_period=0", "0; it has to be a whole number, at least 1"),
        ("train.checkpointer.period=0", "0; it has to be a whole number, at least 1"),
        ("train.checkpointer.max_to_keep=0", "0; it has to be a whole number, at least 1, or null"),
        ("train.clip_gradients.max_norm=big", "'big'; it has to be a number, at least 0, or null"),
        ("train.output_dir=null", "None; it has to be a path, with .HOME instead of ~"),
        ("train.output_dir='~/out'", "'~/out'; it has to be a path, with .HOME instead of ~"),
        ("optimizer.lr=fast", "'fast'; it has to be a number, at least 0"),
        ("dataloader.train.total_batch_size=0", "0; it has to be a whole number, at least 1"),
        ("dataloader.train.total_batch_size=abc", "'abc'; it has to be a whole number, at least 1"),
        ("dataloader.test.num_workers=-1", "-1; it has to be a whole number, at least 0"),
    ],
)
def test_refuses_values_of_the_wrong_kind(override, message):
    with pytest.raises(UserError, match=f"^{override.split('=')[0]} is {message}"):
        load_config(CANKD, [override])


@pytest.mark.parametrize("group", ["ema", "early_stopping", "distillation", "clip_gradients"])
def test_options_that_do_not_exist_are_refused_in_files_too(quick_config, group):
    config = quick_config(CANKD)
    known = list(config.train[group])[0]
    config.train[group] = {f"{known}s": 1}
    with pytest.raises(UserError, match=f"no option train.{group}.{known}s; .*{known}.*; did you mean '{known}'"):
        train(config)


def test_groups_may_be_absent():
    check_options(OmegaConf.create({"model": {}, "train": {"max_iter": 3}}))


def test_without_a_batch_size_nothing_is_rescaled(quick_config):
    config = quick_config(CANKD, reference_batch_size=8)
    apply_overrides(config, ["dataloader.train.total_batch_size=null"])
    assert config.train.max_iter == 4


def test_training_refuses_values_of_the_wrong_kind(quick_config):
    with pytest.raises(UserError, match="train.max_iter is -5; it has to be a whole number"):
        train(quick_config(CANKD, max_iter=-5))


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=-1",
        "train.eval_period=0",
        "optimizer.lr=1",
        "model.input_format=L",
        "train.inherit=auto",
        "train.inherit=[head.*]",
        "train.inherit={a.*: b.*}",
    ],
)
def test_takes_values_at_the_limits(override):
    load_config(CANKD, [override])


def test_another_batch_size_scales_rate_and_schedule(caplog, tmp_path):
    path = model_zoo.get_config_file("COCO-Detection/retinanet_R50_from_R101.py")
    recipe = load_config(path)
    assert (recipe.optimizer.lr, recipe.train.max_iter, recipe.train.eval_period) == (0.005, 703608, 29317)
    override = "dataloader.train.total_batch_size=16"
    scaled = load_config(path, ["train.distillation.stop_iter=1000", override])
    assert "Total batch size 16 instead of 4: optimizer.lr is now 0.02, and the schedule has 0.25 times" in caplog.text
    assert scaled.optimizer.lr == pytest.approx(0.02)
    assert (scaled.train.max_iter, scaled.train.eval_period, scaled.train.checkpointer.period) == (175902, 7329, 7329)
    assert scaled.train.distillation.stop_iter == 1000  # what is asked for stays
    own = tmp_path / "own.py"
    own.write_text(
        "from cankd import model_zoo\n"
        "_config = model_zoo.get_config('COCO-Detection/retinanet_R50_from_R101.py')\n"
        "model, train, dataloader, optimizer = _config.model, _config.train, _config.dataloader, _config.optimizer\n"
        "train.distillation.update(warmup_iters=100, stop_iter=1000)\n"
    )
    schedule = load_config(str(own), [override]).train.distillation
    assert (schedule.warmup_iters, schedule.stop_iter) == (25, 250)
    unscaled = load_config(path, [override, "train.reference_batch_size=0"])
    assert (unscaled.optimizer.lr, unscaled.train.max_iter) == (0.005, 703608)


@pytest.fixture
def file_of_16(tmp_path):
    """A user's config of 16 images, on top of a recipe for 4."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from cankd import model_zoo\n"
        "_config = model_zoo.get_config('COCO-Detection/retinanet_R50_from_R101.py')\n"
        "model, train, dataloader, optimizer = _config.model, _config.train, _config.dataloader, _config.optimizer\n"
        "dataloader.train.total_batch_size, optimizer.lr, train.max_iter = 16, 0.01, 20000\n"
    )
    return str(path)


BATCH_OF_32 = "dataloader.train.total_batch_size=32"


@pytest.mark.parametrize(
    "overrides, lr, max_iter",
    [
        ([], 0.01, 20000),
        (["model.head.weight=1"], 0.01, 20000),
        (["train.reference_batch_size=4"], 0.01, 20000),
        (["dataloader.train.total_batch_size=16"], 0.01, 20000),
        ([BATCH_OF_32], 0.02, 10000),
        ([f"+{BATCH_OF_32}"], 0.02, 10000),
        (["train.max_iter=7", BATCH_OF_32], 0.02, 7),
        ([BATCH_OF_32, "train.reference_batch_size=0"], 0.01, 20000),
        ([BATCH_OF_32, "train.reference_batch_size=8"], 0.04, 5000),
    ],
)
def test_only_a_batch_size_on_the_command_line_rescales_what_a_file_says(file_of_16, overrides, lr, max_iter):
    config = load_config(file_of_16, overrides)
    assert (config.optimizer.lr, config.train.max_iter) == (pytest.approx(lr), max_iter)


def test_a_loaded_config_that_was_saved_loads_as_it_is(file_of_16, tmp_path):
    scaled = load_config(file_of_16, [BATCH_OF_32])
    saved = write_config(scaled, tmp_path / "saved.py")
    assert load_config(saved).optimizer.lr == scaled.optimizer.lr == pytest.approx(0.02)


@pytest.mark.parametrize(
    "contents",
    [
        "model: {_target_: torch.nn.Identity}\ntrain: {}\ndataloader: {}\n",
        "MODEL: {}\nmodel: !!python/object/apply:os.mkdir [MARKER]\n",
        "train: {max_iter: 1}\n",
        "",
    ],
)
@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_a_lazy_config_in_yaml_is_not_run(tmp_path, contents, suffix):
    path = tmp_path / f"config.{suffix}"
    path.write_text(contents.replace("MARKER", str(tmp_path / "made")))
    message = f"the config {path} is no yacs config.*Give the .py that it came from"
    with pytest.raises(UserError, match=message):
        load_config(str(path))
    with pytest.raises(UserError, match=message):
        cankd.distill(CANKD, teacher=str(path), weights="teacher.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", ["/tmp/Läufe", "a=b", "file.pth?matching_heuristics=True"])
def test_a_value_that_needs_quotes_says_so(value):
    with pytest.raises(ValueError, match=r"train.output_dir=.* cannot be read: .*\"train.output_dir='…'\"$"):
        load_config(CANKD, [f"train.output_dir={value}"])
    assert load_config(CANKD, [f"train.output_dir='{value}'"]).train.output_dir == value

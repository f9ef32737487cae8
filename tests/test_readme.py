"""The pages' examples run as they stand."""

import pathlib
import re
import shlex

import cv2
import numpy as np
import pytest
import torch
from cankd.analysis import check_distillation
from cankd.engine import build_model, load_config, read_config
from cankd.engine.yacs_file import save_yacs
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage
from torch import nn

from tests.tiny import batch, save_weights

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PROJECT_README = ROOT / "projects" / "CanKD" / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, PROJECT_README, *sorted(DOCS.glob("*.md"))]
SCRIPTS = ("tools/", "benchmarks/")
COMMANDS = sorted(
    {
        re.sub(r"^(torchrun|srun) .*?(?=tools/)", "", line.partition(" #")[0].strip())
        for page in PAGES
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if not line.startswith("#")
    }
    - {""}
)


def code_of(page, section=""):
    """Returns the Python blocks of a page, or of a section of it."""
    text = page.read_text()
    if section:
        text = text.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_data_sets_of_your_own_are_registered_once(tmp_path):
    data_file, config_file = code_of(DOCS / "own_model.md")
    (tmp_path / "pets_data.py").write_text(data_file)
    (tmp_path / "pets.py").write_text(config_file)
    try:
        for _ in range(2):
            config = load_config(str(tmp_path / "pets.py"), datasets=str(tmp_path / "pets_data.py"))
        assert config.dataloader.train.dataset.names in DatasetCatalog
        (tmp_path / "twice.py").write_text(data_file)
        with pytest.raises(ValueError, match="'pets_train' is already registered! .*`if NAME not in DatasetCatalog`"):
            load_config(str(tmp_path / "twice.py"))
    finally:
        for name in ("pets_train", "pets_val"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_a_recipe_takes_a_published_method_by_a_short_file(tmp_path):
    text = PROJECT_README.read_text().split("## Other methods\n")[1]
    (config_file,) = re.findall(r"```python\n(.*?)```", text.split("\n## ")[0], re.DOTALL)
    (tmp_path / "common").symlink_to(ROOT / "configs" / "common")
    folder = tmp_path / "COCO-Detection"
    folder.mkdir()
    for path in (ROOT / "configs" / "COCO-Detection").glob("retinanet_*.py"):
        (folder / path.name).symlink_to(path)
    (folder / "fgd.py").write_text(config_file)
    config = load_config(str(folder / "fgd.py"), ["train.device=cpu", "model.teacher.weights=null"])
    assert config.train.inherit == "auto" and config.train.output_dir.endswith("_fgd")
    head = build_model(config).head
    assert head.levels == ("p3", "p4", "p5", "p6", "p7") and "loss_fgd_attention_p7" in head.loss_names


def test_a_trained_student_runs_in_plain_detectron2(tmp_path, monkeypatch):
    lazy, yacs = code_of(README, "A trained student, and then?")
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output" / "student_cankd"
    output.mkdir(parents=True)
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(256, size=(64, 96, 3)))
    pathlib.Path("student.py").write_text(
        "from cankd import model_zoo\n"
        "_config = model_zoo.get_config('DigitScenes/retinanet_R10.py')\n"
        "model, dataloader = _config.model, _config.dataloader\n"
    )
    save_weights(instantiate(LazyConfig.load("student.py").model), output / "model_final.pth")
    names = {}
    exec(lazy, names)
    assert names["predictions"]["instances"].image_size == (64, 96)

    overrides = ["MODEL.RESNETS.DEPTH=18", "MODEL.RESNETS.RES2_OUT_CHANNELS=64", "MODEL.RETINANET.NUM_CLASSES=2"]
    config = load_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml", [*overrides, "INPUT.MIN_SIZE_TEST=64"])
    weights = save_weights(instantiate(config.model), output / "model_final.pth")
    save_yacs(config.train.yacs, str(output / "detectron2.yaml"), weights=weights, device="cpu")
    exec(yacs, names)
    assert names["predictions"]["instances"].image_size == (64, 96)


def test_a_head_of_your_own_in_a_config_and_in_a_loop(tmp_path):
    head_file, config_file, yacs_file, loop = code_of(DOCS / "own_method.md")
    assert sum(len(block.splitlines()) for block in (head_file, config_file, loop)) <= 25
    (tmp_path / "cosine_head.py").write_text(head_file)
    (tmp_path / "pets_cosine.py").write_text(config_file)
    (tmp_path / "pets.py").write_text(
        "from cankd import model_zoo\n"
        "_recipe = model_zoo.get_config('DigitScenes/retinanet_R10_from_R18.py')\n"
        "model, dataloader, train = _recipe.model, _recipe.dataloader, _recipe.train\n"
        "optimizer, lr_multiplier = _recipe.optimizer, _recipe.lr_multiplier\n"
    )
    config = load_config(str(tmp_path / "pets_cosine.py"), ["train.device=cpu"])
    with EventStorage():
        losses = build_model(config).train()(batch())
    assert {"loss_cosine_p3", "loss_cosine_p4", "loss_cosine_p5"} < losses.keys()

    yacs_file = re.sub(r"(student|teacher).yaml", "COCO-Detection/retinanet_R_50_FPN_1x.yaml", yacs_file)
    (tmp_path / "pets_yacs_cosine.py").write_text(yacs_file)
    config = load_config(str(tmp_path / "pets_yacs_cosine.py"), ["train.device=cpu"])
    assert config.model.head._target_.__name__ == "CosineHead" and "yacs" in config.model.student

    student, teacher = nn.Conv2d(3, 32, 3), nn.Conv2d(3, 64, 3)
    before = student.weight.clone()
    names = {"torch": torch, "student": student, "teacher": teacher, "images": torch.randn(2, 3, 8, 8)}
    exec(head_file, names)
    exec(loop, names)
    assert not torch.equal(student.weight, before) and 0 < names["losses"]["loss_cosine_res4"] < 2


def test_a_vision_transformer_teaches_a_detector(tmp_path):
    pytest.importorskip("timm", reason="the vision transformer is timm's")
    text = PROJECT_README.read_text().split("### A vision transformer as teacher\n")[1].split("\n### ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "retinanet_R50_from_dinov3.py").write_text(code)
    overrides = ["train.device=cpu", "model.teacher.model.backbone.pretrained=False", "model.student.num_classes=10"]
    model = build_model(load_config(str(tmp_path / "retinanet_R50_from_dinov3.py"), overrides)).train()
    (pair,) = model.pairs
    assert (pair.student, pair.teacher, pair.student_stride, pair.teacher_channels) == ("p4", "block11", 16, 384)
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    with EventStorage():
        losses = model(batch(images=1, size=64))
    losses["loss_cankd_p4"].backward()
    assert model.student.backbone.bottom_up.res4[0].conv1.weight.grad.any()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_linked_files_and_sections_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, section = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if section:
            titles = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            assert section in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, link


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith(SCRIPTS)])
def test_commands_are_understood(command, load_tool):
    script, *arguments = shlex.split(command)
    tool = load_tool(script)
    config_files = [word for word in arguments if word.startswith("configs/")]
    assert all((ROOT / path).is_file() for path in config_files)
    if hasattr(tool, "parse_arguments"):
        tool.parse_arguments(arguments)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith(SCRIPTS)])
def test_other_commands_exist(command):
    if command.startswith("make "):
        assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    else:
        assert re.match(r"pip install |\. \.venv/bin/activate|tensorboard |[A-Z0-9]+=", command), command


def test_a_module_beside_a_config_needs_pythonpath(tmp_path, monkeypatch):
    (tmp_path / "pet_classes.py").write_text("number = 3\n")
    config_file = tmp_path / "pets.py"
    config_file.write_text("import pet_classes\nmodel = train = dataloader = dict(classes=pet_classes.number)\n")
    with pytest.raises(ValueError, match="ModuleNotFoundError: No module named 'pet_classes'"):
        read_config(str(config_file))
    monkeypatch.syspath_prepend(tmp_path)
    assert read_config(str(config_file)).model.classes == 3


def test_output_of_the_check_is_that_of_the_pages(quick_config):
    """All titles and lines of the examples are still printed, figures aside."""
    lines = []
    check_distillation(quick_config("DigitScenes/retinanet_R10_from_R18.py", **{}), num_images=2, report=lines.append)
    printed = without_figures("\n".join(lines))
    for page in ("own_model.md", "no_gain.md"):
        example = re.search(r"\n```\n([^`]*\nReady\.)\n```", (DOCS / page).read_text())[1]
        for line in example.splitlines():
            if not line.startswith(("|", "Note", "Learning", "…")):
                assert without_figures(line) in printed, line


def without_figures(text):
    return re.sub(r"[\d.]+(e[+-]?\d+)?", "N", text)

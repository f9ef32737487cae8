"""The pages' examples run as they stand."""

import pathlib
import re

import torch
from cankd.engine import build_model, load_config
from detectron2.utils.events import EventStorage
from torch import nn

from tests.tiny import batch

README = pathlib.Path(__file__).parents[1] / "README.md"


def code_of(section):
    """Returns the Python blocks of a section."""
    text = README.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_a_head_of_your_own_in_a_config_and_in_a_loop(tmp_path):
    head_file, config_file, loop = code_of("A head of your own")
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

    student, teacher = nn.Conv2d(3, 32, 3), nn.Conv2d(3, 64, 3)
    before = student.weight.clone()
    names = {"torch": torch, "student": student, "teacher": teacher, "images": torch.randn(2, 3, 8, 8)}
    exec(head_file, names)
    exec(loop, names)
    assert not torch.equal(student.weight, before) and 0 < names["losses"]["loss_cosine_res4"] < 2

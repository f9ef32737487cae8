"""The examples of docs/python_api.md run as they stand."""

import pathlib
import re
import shutil
from unittest.mock import create_autospec

import cankd.reporting
from cankd import model_zoo

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "python_api.md"
TEACHER = pathlib.Path(model_zoo.__file__).parent / "DigitScenes" / "retinanet_R18.pth"
CONFIG = """
from cankd import model_zoo
_recipe = model_zoo.get_config("DigitScenes/{name}.py")
model, dataloader, train = _recipe.model, _recipe.dataloader, _recipe.train
optimizer, lr_multiplier = _recipe.optimizer, _recipe.lr_multiplier
dataloader.train.dataset.names, dataloader.test.dataset.names = {datasets}
dataloader.train.num_workers = dataloader.test.num_workers = 0
dataloader.train.total_batch_size = 2
train.update(device="cpu", log_period=1, reference_batch_size=0)
"""


def test_examples_run(tiny_scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for role, name in (("student", "retinanet_R10"), ("teacher", "retinanet_R18")):
        (tmp_path / f"{role}.py").write_text(CONFIG.format(name=name, datasets=tiny_scenes))
    shutil.copy(TEACHER, "teacher.pth")
    of_configs, check, of_models, head, comparison = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(of_configs.replace("max_iter = 1000", "max_iter = 2"), names)
    for results in ("results", "student_results", "teacher_results"):
        assert "AP" in names[results]["bbox"]
    exec(check, names)
    assert names["found"]["problems"] == []

    exec(of_models, names)
    assert {"loss_cls", "loss_cankd_p3", "loss_cankd_p4", "loss_cankd_p5"} <= names["losses"].keys()
    exec(head, names)
    assert names["losses"].keys() == {"loss_pkd_res4", "loss_pkd_res5"}

    compare = create_autospec(cankd.reporting.compare_methods)  # its trainings are tested elsewhere
    monkeypatch.setattr(cankd.reporting, "compare_methods", compare)
    exec(comparison, names)
    assert [method.title for method in compare.call_args.args[1]] == ["cankd", "pkd", "strong"]

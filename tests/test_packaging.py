import configparser
import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Returns the folder that a wheel is installed in, which is built from an sdist, which is built from a copy."""
    folder = tmp_path_factory.mktemp("packaging")
    for name in ("configs", "projects", "tools"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / "checkout" / name, symlinks=True, ignore=unwanted)
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "checkout")
    run_python("setup.py", "--quiet", "sdist", "--formats", "tar", "--dist-dir", folder, cwd=folder / "checkout")
    (sdist,) = folder.glob("*.tar")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    run_python("setup.py", "--quiet", "bdist_wheel", "--dist-dir", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    options = "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", folder / "site"
    run_python("-m", "pip", "install", *options, wheel, cwd=folder)
    return folder / "site"


def run_python(*arguments, cwd, **environment):
    """Runs Python where nothing of this checkout is found, and returns what it printed."""
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_an_installed_package_has_configs_and_weights(installed):
    """Not only an editable one: setup.cfg names all that is no Python module."""
    built = installed / "cankd"
    assert (built / "reporting" / "report.html").is_file()
    for ours, theirs, pattern in (
        (ROOT / "configs", built / "model_zoo" / "configs", "**/*.py"),
        (ROOT / "tools", built / "tools", "*.py"),
        (ROOT / "projects/CanKD/cankd", built, "*/**/__init__.py"),
        (ROOT / "projects/CanKD/cankd/model_zoo", built / "model_zoo", "*/*.pth"),
    ):
        expected = {path.relative_to(ours) for path in ours.glob(pattern)}
        assert expected and {path.relative_to(theirs) for path in theirs.glob(pattern)} == expected


def test_an_installed_command_reads_a_config_and_weights(installed, tmp_path):
    """Outside the checkout, as a user's own machine has it."""
    (tmp_path / "my.py").write_text(
        "import cankd\n"
        "from cankd import model_zoo\n"
        f"assert cankd.__file__.startswith({str(installed)!r})\n"
        "config = model_zoo.get_config('DigitScenes/retinanet_R18.py')\n"
        "model, dataloader, train = config.model, config.dataloader, config.train\n"
    )
    options = ["--config-file", "my.py", "--format", "torchscript", "--output", "model.ts", "--size", "64x64"]
    options += ["--check", "0", "train.init_checkpoint=cankd://DigitScenes/retinanet_R18.pth", "train.device=cpu"]
    printed = run_python(installed / "bin" / "cankd-export", *options, cwd=tmp_path, PYTHONPATH=str(installed))
    assert (tmp_path / "model.ts").is_file() and "model.ts" in printed


def test_each_script_is_a_command():
    scripts = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"__init__"}
    commands = setuptools_config()["options.entry_points"]["console_scripts"].split("\n")
    assert sorted(command.split(" = ")[1] for command in filter(None, commands)) == sorted(
        f"cankd.tools.{script}:cli" for script in scripts
    )
    for script in scripts:
        assert callable(importlib.import_module(f"cankd.tools.{script}").cli)


def test_pins_are_within_the_bounds():
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE))
    bounds = map(Requirement, filter(None, setuptools_config()["options"]["install_requires"].split("\n")))
    for bound in bounds:
        assert bound.specifier.contains(pinned[bound.name]), bound


def setuptools_config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_import_says_what_is_absent():
    code = "import sys; sys.modules['detectron2'] = None; import cankd"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert (
        "needs PyTorch, torchvision, OpenCV and Detectron2, and 'detectron2' cannot be imported. Run `make setup`"
        in result.stderr
    )


def test_no_page_has_a_placeholder():
    for page in (ROOT / "README.md", ROOT / "projects" / "CanKD" / "README.md"):
        assert not re.search(r"^[A-Z_]{4,}$", page.read_text(), re.MULTILINE), page

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def test_an_installed_package_has_configs_and_weights(tmp_path):
    """Not only an editable one: setup.cfg names all that is no Python module."""
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path / "build")]
    command += ["--build-lib", str(tmp_path / "lib"), "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    built = tmp_path / "lib" / "cankd"
    for folder in ("modeling", "engine", "data", "evaluation", "visualization", "model_zoo", "reporting"):
        assert (built / folder / "__init__.py").is_file()
    assert (built / "reporting" / "report.html").is_file()
    configs = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.py")}
    assert {
        path.relative_to(built / "model_zoo/configs") for path in built.glob("model_zoo/configs/**/*.py")
    } == configs
    weights = {path.name for path in (ROOT / "projects/CanKD/cankd/model_zoo/DigitScenes").iterdir()}
    assert {path.name for path in built.glob("model_zoo/DigitScenes/*")} == weights


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

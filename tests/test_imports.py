"""Imports run one way, and nothing in the library reaches configs, tools or benchmarks."""

import ast
import pathlib

import cankd
import pytest

PACKAGE = pathlib.Path(cankd.__file__).parent
ALLOWED = {
    "data": set(),
    "evaluation": {"data"},
    "model_zoo": set(),
    "modeling": set(),
    "visualization": set(),
    "engine": {"data", "evaluation", "model_zoo", "modeling", "visualization"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)


def imported_modules(path):
    """Yields the absolute names of what a file imports."""
    package = ["cankd", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0]
    for name in imported_modules(path):
        top, *rest = name.split(".")
        assert top not in ("configs", "tools", "benchmarks", "tests")
        if top == "cankd" and rest[0] != part:
            assert rest[0] in ALLOWED.get(part, set()), f"{path} imports {name}"


def test_every_part_has_a_rule():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)

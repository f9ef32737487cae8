"""Imports run one way, and nothing in the library reaches configs, tools or benchmarks."""

import ast
import pathlib

import cankd
import pytest

PACKAGE = pathlib.Path(cankd.__file__).parent
BELOW_ENGINE = {
    "utils",
    "solver",
    "checkpoint",
    "layers",
    "data",
    "modeling",
    "evaluation",
    "visualization",
    "model_zoo",
}
ALLOWED = {
    "utils": set(),
    "solver": set(),
    "layers": set(),
    "model_zoo": set(),
    "data": {"utils"},
    "checkpoint": {"utils"},
    "visualization": {"utils"},
    "evaluation": {"data", "utils"},
    "modeling": {"layers", "checkpoint", "utils"},
    "engine": BELOW_ENGINE,
    "analysis": {*BELOW_ENGINE, "engine"},
    "robustness": {*BELOW_ENGINE, "engine"},
    "export": {*BELOW_ENGINE, "engine"},
    "reporting": {*BELOW_ENGINE, "engine"},
}
ALLOWED["tools"] = set(ALLOWED)
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


def imported_rooms(path):
    own = path.relative_to(PACKAGE).parts[0]
    names = (name.split(".") for name in imported_modules(path))
    return {rest[0] for top, *rest in names if top == "cankd" and rest and rest[0] != own}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert not {name.split(".")[0] for name in imported_modules(path)} & {"configs", "tools", "benchmarks", "tests"}
    room = path.relative_to(PACKAGE).parts[0]
    if room in ALLOWED:  # and not the package's own __init__.py
        assert imported_rooms(path) <= ALLOWED[room]


def test_every_room_has_a_rule():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)


def test_no_two_rooms_import_each_other():
    imports = {room: set() for room in ALLOWED}
    for path in FILES:
        room = path.relative_to(PACKAGE).parts[0]
        if room in imports:
            imports[room] |= imported_rooms(path)
    assert not [(a, b) for a in imports for b in imports[a] if a in imports[b]]

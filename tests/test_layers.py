from __future__ import annotations

import ast
from pathlib import Path

import pytest

import amorsize

PACKAGE = Path(amorsize.__file__).parent

# Lower may not import higher, nor the same rank in another layer. One line a floor, the lowest first.
FLOORS = (
    {"lean", "version"},
    {"context", "guard", "hashing", "runners", "state"},
    {"errors", "log"},
    {"backends.rows", "journal"},  # the names of the backends, which the options must know
    {"options"},
    {"rng", "code"},
    {"seeding"},
    {"transport"},
    {"plan"},
    {"measure"},
    {"cache"},
    {"child"},
    {"backends"},
    {"feed", "report"},
    {"call"},
    {"advise", "replaced"},
    {"api"},
    {"decorator", "pool"},
    {"__init__"},
    {"cli", "testing"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(FLOORS) for name in names}
# What a pure module may use of the standard library: nothing that reads a clock, a disk, a process or chance.
PURE = {"__future__", "bisect", "collections", "functools", "heapq", "itertools", "math", "operator", "typing"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path):
    """Return the layer that a file of the package belongs to: its own, if it has one, or its folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return next((name for name in (".".join(parts[:2]), parts[0]) if name in RANK), parts[0])


def imports_of(path):
    """Yield the absolute name of every module or attribute that a file imports, for typing too, and the line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ("amorsize", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno


def own_layers(path):
    """Yield the layers of ours that a file imports, with the line."""
    for name, line in imports_of(path):
        first, *rest = name.split(".")
        if first == "amorsize":
            names = (".".join(rest[:2]), *rest[:1], "__init__")
            yield next(name for name in names if name in RANK), line


def test_every_module_has_a_floor():
    """A new module or layer must say where it stands."""
    assert {layer_of(path) for path in MODULES} <= set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    """No module imports a layer above its own, or beside it, wherever the import stands."""
    own = layer_of(path)
    wrong = [f"line {line}: {layer}" for layer, line in own_layers(path) if layer != own and RANK[layer] >= RANK[own]]

    assert wrong == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "plan").glob("*.py")), ids=lambda path: path.name)
def test_plan_is_pure(path):
    """`plan/` uses nothing that reads a clock, a disk, a process or chance."""
    outside = {name.split(".")[0] for name, _ in imports_of(path)} - {"amorsize"}

    assert outside <= PURE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_stay_private(path):
    """Nothing imports an underscored name from another layer."""
    own = layer_of(path)
    private = [
        f"line {line}: {name}"
        for name, line in imports_of(path)
        if name.startswith("amorsize.")
        and name.split(".")[1] != own
        and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    ]

    assert private == []

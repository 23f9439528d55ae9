"""Which loaded modules does a function need? A process that is to run it gains by having them loaded already."""

from __future__ import annotations

import sys
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType

from .bytecode import outer_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["wanted_modules"]

# So many values are looked at. More would take longer than the imports that are missed without them.
_MOST_VALUES = 1_000


def wanted_modules(function: Any) -> frozenset[str]:
    """Return the names of loaded modules that a process needs before it can run a function.

    These are the modules that the function, its parts and its object are from, and those that its code imports. Code of
    the main module travels by value, so what its global and enclosing variables are from, and the classes of these
    values, count as well. Modules of the standard library do not count, as each is imported in little time, and neither
    do modules that are still being imported.
    """
    found: set[str] = set()
    seen: set[int] = set()
    pending: list[tuple[Any, frozenset[str]]] = [(function, frozenset())]
    while pending and len(seen) < _MOST_VALUES:
        value, mentioned = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is ModuleType:
            found.add(value.__name__)
            inner = (f"{value.__name__}.{name}" for name in mentioned)
            pending += [(sys.modules[name], mentioned) for name in inner if type(sys.modules.get(name)) is ModuleType]
            continue
        home = getattr(value, "__module__", None)
        if isinstance(home, str):
            found.add(home)
        found.add(type(value).__module__)
        pending += [(part, mentioned) for part in _parts(value)]
        code = getattr(value, "__code__", None)
        if type(value) is FunctionType and type(code) is CodeType:
            pending += _reached(value, code)
    return frozenset(filter(_can_be_imported, found))


def _parts(value: Any) -> Iterable[Any]:
    """Return the values that a value consists of, as far as they come to a worker with it."""
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if type(value) is MethodType:
        return value.__func__, value.__self__
    wrapped = [vars(value)[name] for name in ("__wrapped__", "_amorsize_function") if name in _own_names(value)]
    if isinstance(value, type):
        return (*wrapped, *value.__bases__, *(vars(value).values() if value.__module__ == "__main__" else ()))
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if type(value).__module__ == "__main__":
        return (*wrapped, type(value), *_own_names(value).values())
    return wrapped


def _own_names(value: Any) -> dict[str, Any]:
    names = getattr(value, "__dict__", None)
    return names if type(names) is dict else {}


def _reached(function: FunctionType, code: CodeType) -> Iterable[tuple[Any, frozenset[str]]]:
    outer = outer_names(code)
    reached: list[Any] = [sys.modules[name] for name in outer.imported if name in sys.modules]
    if function.__module__ == "__main__":
        space = function.__globals__
        reached += [space[name] for name in outer.read if name in space]
        for cell in function.__closure__ or ():
            try:
                reached.append(cell.cell_contents)
            except ValueError:  # the variable is not assigned yet
                continue
    return [(value, outer.mentioned) for value in reached]


def _can_be_imported(name: str) -> bool:
    """Say whether an import of a name would give the module that is loaded by it."""
    package = name.partition(".")[0]
    if package in sys.stdlib_module_names or package in {"__main__", "__mp_main__", "amorsize"}:
        return False
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return getattr(spec, "name", None) == name and not getattr(spec, "_initializing", False)

"""Which loaded modules does a function need? A process that is to run it gains by having them loaded already."""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from types import FunctionType, MethodType, ModuleType

from ..lean import map
from .bytecode import outer_names
from .functions import FunctionTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any

__all__ = ["modules_to_load", "wanted_modules"]

# So many values are looked at. More would take longer than the imports that are missed without them.
_MOST_VALUES = 1_000
# So many members of a list are looked at, as they are mostly of one kind.
_MOST_MEMBERS = 10
# So many names of modules are looked at, which takes some 10 ms (scikit-learn has fewer). A program with more is taken
# to need all that it has loaded.
_MOST_NAMES = 30_000
# How many modules were loaded when a function's were counted, and how many it needs.
_counted: FunctionTable[tuple[int, int]] = FunctionTable()


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
        home = value.__module__ if issubclass(type(value), type) else _plain(value, "__module__")
        if isinstance(home, str):
            found.add(home)
        found.add(type(value).__module__)
        pending += [(part, mentioned) for part in _parts(value)]
        if type(value) is FunctionType:
            pending += _reached(value, value.__code__)
    return frozenset(filter(_can_be_imported, found))


def modules_to_load(function: Any) -> int:
    """Return how many modules of installed packages a fresh interpreter probably loads before it can run a function.

    These are the modules that it needs, their packages, and those whose modules, functions or classes these refer to.
    Imports inside functions are missed. Of a program with very many names, all modules that it has loaded count.
    """
    loaded = len(sys.modules)
    known = _counted.get(function)
    if known is None or known[0] != loaded:
        known = loaded, _count(wanted_modules(function))
        _counted.put(function, known)
    return known[1]


def _count(wanted: Iterable[str]) -> int:
    found: set[str] = set()
    pending, names_left = list(wanted), _MOST_NAMES
    while pending:
        name = pending.pop()
        module = sys.modules.get(name)
        if name in found or not isinstance(module, ModuleType) or not _is_installed(name):
            continue
        found.add(name)
        pending.append(name.rpartition(".")[0])
        values = tuple(vars(module).values())
        names_left -= len(values)
        if names_left < 0:
            return sum(map(_is_installed, list(sys.modules)))
        homes = [vars(value).get("__name__") for value in values if type(value) is ModuleType]
        homes += [getattr(value, "__module__", None) for value in values if type(value) in (type, FunctionType)]
        pending += {home for home in homes if type(home) is str}
    return len(found)


def _parts(value: Any) -> Iterable[Any]:
    """Return the values that a value consists of, as far as they come to a worker with it."""
    kind = type(value)
    if issubclass(kind, partial):
        return (value.func, *value.args, *value.keywords.values())
    if kind is MethodType:
        return value.__func__, value.__self__
    if issubclass(kind, tuple):
        return tuple.__getitem__(value, slice(_MOST_MEMBERS))
    if kind is list:
        return tuple(value[:_MOST_MEMBERS])
    if kind is dict:
        return tuple(islice(value.values(), _MOST_MEMBERS))  # it may have millions
    own_names = _own_names(value)
    wrapped = [own_names[name] for name in ("__wrapped__", "_amorsize_function") if name in own_names]
    if issubclass(kind, type):
        own = vars(value) if value.__module__ == "__main__" else {}
        return (*wrapped, *value.__bases__, *own.values())
    if kind in (staticmethod, classmethod):
        return (value.__func__,)
    if kind.__module__ == "__main__":
        return (*wrapped, kind, *own_names.values())
    return wrapped


def _own_names(value: Any) -> dict[str, Any]:
    names = _plain(value, "__dict__")
    return names if type(names) is dict else {}


def _plain(value: Any, name: str) -> Any:
    """Return an attribute, without the class having a say; None if there is no such one."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


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


def _is_installed(name: str) -> bool:
    package = name.partition(".")[0]
    return not (package in sys.stdlib_module_names or package in {"__main__", "__mp_main__", "amorsize"})


def _can_be_imported(name: str) -> bool:
    """Say whether an import of a name would give the module that is loaded by it."""
    if not _is_installed(name):
        return False
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return getattr(spec, "name", None) == name and not getattr(spec, "_initializing", False)

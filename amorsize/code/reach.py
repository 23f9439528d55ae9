"""Find what a function reaches by name in the program, and whether that is still the same.

Workers import the user's modules themselves, or have a copy that is as old as they are. What a call's function reaches
in these modules by name (helpers, classes and their methods, settings) is written down as *entries*, each of which is a
place and a digest of what stands there. A worker looks at the same places before it runs the function, and says which
ones differ. So reloaded modules, replaced functions and settings bound at run time are noticed however old the worker
is, and so are files that were edited after the caller imported them.

The walk follows the user's own code. In the standard library and in installed packages it sees only what the user's
code names directly, and only numbers, texts, functions and classes. It does not see what such packages use among
themselves, what is reached by computed names, or objects that are neither plain data nor code; the user documentation
says so.

A second look at a function checks by identity that every name is still bound to the same thing, which costs some 70 ns
a name. Data changed in place are noticed only if their content is looked at again (`Surroundings.is_current`).
"""

from __future__ import annotations

import builtins
import sys
from functools import partial
from types import FunctionType, MethodType, ModuleType
from weakref import WeakKeyDictionary

from ..hashing import sha256
from ..lean import NamedTuple
from ..state import register
from .bytecode import OuterNames, outer_names
from .strict import ABSENT, class_state, digest, is_code, is_foreign, own_place, parts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["Entry", "Surroundings", "different", "find_place", "surroundings"]

# Further entries are not written down, because looking at all that such a function reaches would take too long.
_MAX_ENTRIES = 2_000
_MAX_MEMBERS = 1_000
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (list, dict, set, bytearray)
# Modules of ours, which are the same in a worker.
_OURS = __name__.partition(".")[0] + "."
_NO_ENTRY = b"absent"
_SHARED_MEMORY = "multiprocessing.shared_memory"


class Entry(NamedTuple):
    """A place in a module, and what stands there.

    Attributes:
        module: the module's name.
        path: the qualified name within the module.
        digest: a digest of what stands there.
        code: whether code stands there, and not data.
    """

    module: str
    path: str
    digest: bytes
    code: bool


class Surroundings:
    """What a function or a class reached at the time when it was looked at.

    Attributes:
        entries: the entries that a worker compares.
        digest: a digest over all entries.
        shares: whether the code itself imports `multiprocessing.shared_memory`.
    """

    def __init__(
        self,
        entries: tuple[Entry, ...],
        names: list[Any],
        codes: list[Any],
        data: list[Any],
        *,
        shares: bool = False,
    ) -> None:
        self.entries = entries
        self.shares = shares
        told = [b"%b\0%b\0%b\0" % (e.module.encode(), e.path.encode(), e.digest) for e in entries]
        self.digest = sha256(b"".join(told)).digest()[:16] if entries else b""
        self._names = names
        self._codes = codes
        self._data = data
        self._data_parts = sum([parts_of(value) for value, _ in data])

    def is_current(self, most_parts: float) -> bool:
        """Say whether everything is still as it was.

        Args:
            most_parts: the content of data is compared as well if the data have at most so many parts.
        """
        for space, name, value in self._names:
            if space.get(name, ABSENT) is not value:
                return False
        for function, code, defaults, keywords in self._codes:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keywords
            ):
                return False
        return self._data_parts > most_parts or all(digest(value) == told for value, told in self._data)


_NOTHING = Surroundings((), [], [], [])
# The key is a function or a class.
_known: WeakKeyDictionary[Any, Surroundings] = WeakKeyDictionary()
register(_known.clear)
_MAX_MERGED = 256
_merged: dict[tuple[int, ...], tuple[Surroundings, list[Surroundings]]] = {}
register(_merged.clear)


def surroundings(
    function: Any, most_parts: float = float("inf"), kinds: Iterable[type] = ()
) -> Surroundings:
    """Return what a function reaches by name in modules that a worker imports itself.

    Args:
        function: any callable.
        most_parts: data that may have changed in place are looked at again if they have at most so many parts.
        kinds: classes of its items.
    """
    found = []
    for root in (*_roots(function), *(kind for kind in kinds if not is_foreign(kind.__module__))):
        known = _known.get(root)
        if known is None or not known.is_current(most_parts):
            known = _known[root] = _look_at(root)
        found.append(known)
    if len(found) < 2:
        return found[0] if found else _NOTHING
    return _merge(found)


def different(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Return the places where this process has something else than the entries say."""
    return [
        (module, path)
        for module, path, told, _ in entries
        if _told(find_place(module, path)[2], (module, path)) != told
    ]


def find_place(module: str, path: str) -> tuple[Any, str, Any]:
    """Return what holds the last name of a place, that name, and what is stored there, without binding methods.

    Raises:
        ImportError: the module, or what holds the name, cannot be found.
    """
    import importlib

    holder: Any = importlib.import_module(module)
    *way, name = path.split(".")
    for step in way:
        holder = vars(holder).get(step, ABSENT)
        if holder is ABSENT:
            raise ImportError(f"{module} has no {path}")
    return holder, name, vars(holder).get(name, ABSENT)


def _roots(function: Any) -> list[Any]:
    """Return the functions and classes that a callable is made of."""
    kind = type(function)
    if kind is FunctionType or issubclass(kind, type):
        return [] if str(function.__module__).startswith(_OURS) else [function]
    if kind in _SCALARS:
        return []
    parts: Iterable[Any]
    if kind is partial:
        parts = (function.func, *function.args, *function.keywords.values())
    elif kind is MethodType:
        parts = (function.__func__, function.__self__)
    elif hasattr(kind, "_amorsize_function"):
        parts = (function._amorsize_function,)
    elif kind.__module__ == "functools":
        parts = (getattr(function, "__wrapped__", None),)
    elif is_foreign(kind.__module__):
        return []
    else:
        state = getattr(function, "__dict__", None)
        held = [part for part in state.values() if callable(part)] if type(state) is dict else []
        return [kind, *(part for part in held if type(part) is FunctionType)]
    return [root for part in parts for root in _roots(part)]


def _look_at(root: Any) -> Surroundings:
    home = getattr(root, "__module__", None)
    package = home.partition(".")[0] if isinstance(home, str) and home != "__main__" else ""
    walk = _Walk("" if package in sys.stdlib_module_names else package)
    walk.reach(root, frozenset())
    return Surroundings(
        tuple(walk.entries.values()),
        walk.names,
        walk.codes,
        walk.data,
        shares=walk.shares,
    )


def _merge(found: list[Surroundings]) -> Surroundings:
    key = tuple([id(one) for one in found])
    known = _merged.get(key)
    if known is None:
        entries = {(entry.module, entry.path): entry for one in found for entry in one.entries}
        if len(_merged) >= _MAX_MERGED:
            _merged.clear()
        # The parts are kept, so that their `id`s are not reused.
        merged = Surroundings(
            tuple(entries.values()),
            [],
            [],
            [],
            shares=any(one.shares for one in found),
        )
        known = _merged[key] = merged, found
    return known[0]


def _told(value: Any, place: tuple[str, str]) -> bytes:
    return _NO_ENTRY if value is ABSENT else digest(value, place)


class _Walk:
    """One walk, which visits each of the user's objects once."""

    def __init__(self, home: str) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        self.names: list[tuple[Any, str, Any]] = []
        self.codes: list[tuple[Any, Any, Any, Any]] = []
        self.data: list[tuple[Any, bytes]] = []
        self.shares = False
        self._home = home
        self._met: dict[int, Any] = {}
        self._seen: set[tuple[int, str]] = set()

    def reach(self, value: Any, mentioned: frozenset[str]) -> None:
        """Visit those parts of a value that may be used by code that mentions these names."""
        kind = type(value)
        if kind in _SCALARS:
            return
        if kind is ModuleType:
            self._module(value, mentioned)
            return
        if id(value) in self._met:
            return
        self._met[id(value)] = value  # it is kept, so that its `id` is not reused meanwhile
        if kind is FunctionType:
            self._function(value)
        elif kind in _HOLDERS:
            self._members(_HOLDERS[kind](value), mentioned)
        elif issubclass(kind, type):
            self._class(value, mentioned)
        else:
            self._object(value, mentioned)

    def _members(self, values: Iterable[Any], mentioned: frozenset[str]) -> None:
        for number, value in enumerate(tuple(values)):  # they are copied first, as another thread may change them
            if number >= _MAX_MEMBERS:
                return
            self.reach(value, mentioned)

    def _object(self, value: Any, mentioned: frozenset[str]) -> None:
        kind = type(value)
        if hasattr(kind, "_amorsize_function"):
            self.reach(value._amorsize_function, mentioned)
            return
        if kind.__module__ == "functools":
            self.reach(getattr(value, "__wrapped__", None), mentioned)
        if is_foreign(kind.__module__, self._home):
            return
        self.reach(kind, mentioned)
        state = getattr(value, "__dict__", None)
        if type(state) is dict:
            self._members(state.values(), mentioned)

    def _function(self, function: FunctionType) -> None:
        place = own_place(function)
        if is_foreign(function.__globals__.get("__name__"), self._home):
            if getattr(function, "__wrapped__", None) is not None:  # a decorator, which calls the user's function
                for cell in function.__closure__ or ():
                    self.reach(_content(cell), frozenset())
            return
        if place is not None:
            self._enter_stored(place)
        else:
            self._decorated(function)
        code, space = function.__code__, function.__globals__
        self.codes.append((function, code, function.__defaults__, function.__kwdefaults__))
        outer = outer_names(code)
        module = space.get("__name__")
        importable = isinstance(module, str) and module != "__main__" and _is_space_of(space, module)
        for name in outer.read:
            value = space.get(name, ABSENT)
            self.names.append((space, name, value))
            if value is ABSENT and name in _BUILTINS:
                self.names.append((_BUILTINS, name, _BUILTINS[name]))
                self._enter(("builtins", name), _BUILTINS[name])
            elif importable:
                self._enter((module, name), value)  # type: ignore[arg-type]  # a str, as it is importable
            self.reach(value, outer.mentioned)
        for cell in function.__closure__ or ():
            self.reach(_content(cell), outer.mentioned)
        self._members(function.__defaults__ or (), outer.mentioned)
        self._imported_inside(outer)

    def _decorated(self, function: FunctionType) -> None:
        """Enter what stands at the place of a function that a decorator replaced."""
        module = sys.modules.get(function.__module__ or "")
        name = function.__qualname__
        if type(module) is not ModuleType or module.__name__ == "__main__":
            return
        found = vars(module).get(name)
        if getattr(found, "__wrapped__", None) is function and _is_space_of(vars(module), module.__name__):
            self.names.append((vars(module), name, found))
            self._enter((module.__name__, name), found)

    def _imported_inside(self, outer: OuterNames) -> None:
        """Visit modules that the code itself imports, if they are loaded."""
        by_parts = "multiprocessing" in outer.imported and "shared_memory" in outer.mentioned
        if by_parts or _SHARED_MEMORY in outer.imported:
            self.shares = True
        for name in outer.imported:
            module = sys.modules.get(name)
            if type(module) is ModuleType:
                self._module(module, outer.mentioned)

    def _module(self, module: ModuleType, mentioned: frozenset[str]) -> None:
        foreign = is_foreign(module.__name__, self._home)
        ours = module.__name__.partition(".")[0] == "amorsize"  # our own modules differ in a worker
        if ours or not _is_space_of(vars(module), module.__name__):
            return  # a module that was made by hand travels by value
        for name in mentioned:
            key = (id(module), name)
            value = vars(module).get(name, ABSENT)
            if key in self._seen or value is ABSENT:
                continue
            self._seen.add(key)
            self.names.append((vars(module), name, value))
            if foreign and type(value) not in _SCALARS and not callable(value) and type(value) is not ModuleType:
                continue
            if type(value) is not ModuleType:
                self._enter((module.__name__, name), value)
            if not foreign or type(value) is ModuleType:
                self.reach(value, mentioned)

    def _class(self, cls: type, mentioned: frozenset[str]) -> None:
        if is_foreign(cls.__module__, self._home):
            return
        place = own_place(cls)
        if place is not None:
            self._enter(place, cls)
        space = vars(cls)
        for name, attribute in class_state(cls):
            self.names.append((space, name, attribute))
            if place is not None:
                self._enter((place[0], f"{place[1]}.{name}"), attribute)
            self.reach(attribute, mentioned)
        for base in cls.__bases__:
            self.reach(base, mentioned)

    def _enter_stored(self, place: tuple[str, str]) -> None:
        """Enter a function's own place with what is stored there, which may be a static method around it."""
        try:
            stored = find_place(*place)[2]
        except ImportError:  # it is found there only by a metaclass or `__getattr__`, and so it is in a worker
            return
        self._enter(place, stored)

    def _enter(self, place: tuple[str, str], value: Any) -> None:
        if place in self.entries or len(self.entries) >= _MAX_ENTRIES:
            return
        told = _told(value, place)
        self.entries[place] = Entry(*place, told, is_code(value))
        if type(value) in _CONTAINERS:
            self.data.append((value, told))


def _is_space_of(space: Any, module: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and getattr(found, "__dict__", None) is space and getattr(found, "__spec__", 0) is not None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return None


# These functions return what values of each kind hold.
_HOLDERS: dict[type, Callable[[Any], Iterable[Any]]] = {
    staticmethod: lambda value: (value.__func__,),
    classmethod: lambda value: (value.__func__,),
    MethodType: lambda value: (value.__func__, value.__self__),
    property: lambda value: (value.fget, value.fset, value.fdel),
    partial: lambda value: (value.func, *value.args, *value.keywords.values()),
    list: iter,
    tuple: iter,
    set: iter,
    frozenset: iter,
    dict: lambda value: value.values(),
}
_BUILTINS: dict[str, Any] = vars(builtins)

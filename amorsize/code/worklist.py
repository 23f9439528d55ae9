"""Does an iterator's code show that it takes its items off a worklist, which results may add to?

Reading such an input ahead would find the list empty that the builtin would have found filled: it asks for an item only
after the result before was handed out. What shows is a call of `pop`, `popleft`, `popitem`, `get` or `get_nowait` on
something from outside a generator: an argument, what it closes over, a global, or what hangs on one of them. The code
is read, not run: that of generators and of iterators' `__next__`, and that of the functions they name.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from functools import lru_cache, partial
from opcode import opmap
from types import BuiltinMethodType, CodeType, FunctionType, GeneratorType, MethodType, ModuleType

from ..lean import NamedTuple, map
from .bytecode import slots
from .iterators import is_wrapper, parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["worklist_call"]

_TAKING = frozenset({"pop", "popleft", "popitem", "get", "get_nowait"})
# What tells a queue's `get(True, 5)` from that of a mapping, or of a web client.
_OF_QUEUES = ("qsize", "empty", "get_nowait")
_DEPTH = 8  # iterators in iterators
_MOST_CODES = 32  # more are not read for one input
_CO_GENERATOR = 0x20
_UNKNOWN = object()
_NO_WORKLISTS = (ModuleType, str, bytes, int, float, complex, tuple, range, type(None))


def worklist_call(iterator: object) -> str | None:
    """Return the call that shows a worklist below `iterator`, as "todo.pop"; None if its code shows none."""
    return _Reading().of_iterator(iterator, _DEPTH)


class _Name(NamedTuple):
    """Something from outside, and what hangs on it.

    Attributes:
        name: its name in the code.
        is_global: whether it is a global; else an argument or variable of the code or what it closes over.
        attributes: the names of attributes on the way.
    """

    name: str
    is_global: bool
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.attributes))


class _Shown(NamedTuple):
    """What a code object shows, before its names are looked up.

    Attributes:
        calls: what is taken off, and whether nothing is passed in the call.
        loads: all names that are read.
    """

    calls: tuple[tuple[_Name, bool], ...]
    loads: tuple[_Name, ...]


class _Reading:
    """One look at an input."""

    def __init__(self) -> None:
        self._codes_left = _MOST_CODES
        self._met: set[CodeType] = set()

    def of_iterator(self, iterator: Any, depth: int) -> str | None:
        kind = type(iterator)
        if kind is GeneratorType:
            frame = iterator.gi_frame
            if frame is None:
                return None
            own = _own(iterator.gi_code, frame.f_locals)
            below = (each for each in (iterator.gi_yieldfrom, *own.values()) if depth and _is_iterator(type(each)))
            inner = next(filter(None, (self.of_iterator(each, depth - 1) for each in below)), None)
            return inner or self._of_code(iterator.gi_code, frame.f_globals, own)
        if kind is _CALLABLE_ITERATOR:
            return next(filter(None, map(self._of_callable, gc.get_referents(iterator))), None)
        if is_wrapper(kind):
            return next(filter(None, (self.of_iterator(part, depth - 1) for part in parts(iterator) if depth)), None)
        step = _find_static(kind, "__next__")
        return self._of_callable(MethodType(step, iterator)) if type(step) is FunctionType else None

    def _of_callable(self, function: Any, *, passes: bool = False) -> str | None:
        """Return what a call of `function` would show; of a generator function, one that may get what is outside."""
        while type(function) is partial:
            function = function.func
        if _takes(function):
            return _method_name(function)
        owner: object = _UNKNOWN
        if type(function) is MethodType:
            owner, function = function.__self__, function.__func__
        if type(function) is not FunctionType:
            return None
        code, local = function.__code__, _closed_over(function)
        if owner is not _UNKNOWN and code.co_argcount:
            local[code.co_varnames[0]] = owner
        if passes and code.co_flags & _CO_GENERATOR:
            local = {**dict.fromkeys(code.co_varnames[: code.co_argcount], _UNKNOWN), **local}
        return self._of_code(code, function.__globals__, local)

    def _of_code(self, code: CodeType, space: dict[str, Any], local: dict[str, Any]) -> str | None:
        """Return what code shows, whose outer names are in `space` and `local`."""
        if code in self._met or not self._codes_left:
            return None
        self._met.add(code)
        self._codes_left -= 1
        if _is_library(space):  # what it takes items off is its own, unless it was given how to take them
            return next((_method_name(value) for value in local.values() if _takes(value)), None)
        shown = _shown(code)
        for name, is_bare in shown.calls:
            outer = space if name.is_global else local
            if name.name in outer and _is_worklist(name, is_bare, outer):
                return str(name)
        loaded = [
            _resolve(name, space if name.is_global else local)
            for name in shown.loads
            if name.name in (space if name.is_global else local)
        ]
        passes = any(map(_is_passed_on, loaded))
        for value in loaded:
            found = self._of_callable(value, passes=passes)
            if found is not None:
                return found
        nested = (constant for constant in code.co_consts if type(constant) is CodeType)
        reached = (self._of_code(inner, space, _only(local, inner.co_freevars)) for inner in nested)
        return next(filter(None, reached), None)


def _is_library(space: dict[str, Any]) -> bool:
    """Say whether globals are those of an installed module, and not of the user's program."""
    top = str(space.get("__name__")).partition(".")[0]
    installed = ("site-packages", "dist-packages")
    return (
        top in sys.stdlib_module_names
        or top == "amorsize"
        or any(part in str(space.get("__file__")) for part in installed)
    )


def _method_name(method: Any) -> str:
    return f"{type(method.__self__).__name__}.{method.__name__}"


def _own(code: CodeType, local: dict[str, Any]) -> dict[str, Any]:
    """Return of a frame's variables what came from outside: arguments but `*args` and `**kwargs`, and its closure."""
    return _only(local, (*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *code.co_freevars))


def _is_iterator(kind: type) -> bool:
    return kind is GeneratorType or kind is _CALLABLE_ITERATOR or is_wrapper(kind)


def _is_passed_on(value: object) -> bool:
    """Say whether a value may be a worklist that a generator hands to another."""
    return value is _UNKNOWN or not (isinstance(value, _NO_WORKLISTS) or callable(value))


def _only(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _closed_over(function: FunctionType) -> dict[str, Any]:
    closed = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # the variable is not assigned yet
            closed[name] = _UNKNOWN
    return closed


def _takes(function: Any) -> bool:
    """Say whether a function is a bound method that takes off what it is bound to."""
    if type(function) not in (BuiltinMethodType, MethodType) or isinstance(function.__self__, (ModuleType, type)):
        return False
    name = function.__name__
    return name in _TAKING and not (name == "get" and isinstance(function.__self__, Mapping))


def _is_worklist(name: _Name, is_bare: bool, outer: dict[str, Any]) -> bool:
    """Say whether a call takes something off a worklist."""
    owner = _resolve(name._replace(attributes=name.attributes[:-1]), outer)
    if isinstance(owner, (ModuleType, type, str, bytes)):
        return False
    if name.attributes[-1] != "get":
        return True
    if owner is _UNKNOWN or isinstance(owner, Mapping):
        return owner is _UNKNOWN and is_bare
    return is_bare or any(hasattr(type(owner), method) for method in _OF_QUEUES)


def _resolve(name: _Name, outer: dict[str, Any]) -> Any:
    """Return what a name stands for, as far as that can be told without running anything."""
    value = outer[name.name]
    for attribute in name.attributes:
        owner, value = value, _find_static(value, attribute)
        if type(value) is FunctionType and not isinstance(owner, (ModuleType, type)):
            value = MethodType(value, owner)
    return value


def _find_static(value: Any, attribute: str) -> Any:
    """Return an attribute without running anything; `_UNKNOWN` where it cannot be told."""
    kinds = type(value).__mro__
    if isinstance(value, type):
        kinds = (*value.__mro__, *kinds)
    if type(value).__dictoffset__ and not isinstance(value, type):
        held = object.__getattribute__(value, "__dict__")
        if type(held) is dict and attribute in held:
            return held[attribute]
    return next((vars(kind)[attribute] for kind in kinds if attribute in vars(kind)), _UNKNOWN)


@lru_cache(maxsize=256)
def _shown(code: CodeType) -> _Shown:
    """Read code once: which outer names are loaded, which attributes of them, and which of those take something off."""
    reader = _Reader(code)
    for operation, argument in _instructions(code.co_code):
        reader.read(operation, argument)
    reader.leave()
    return _Shown(tuple(reader.calls), tuple(reader.loads))


class _Reader:
    """What stands on top of the stack, as far as it is a name from outside."""

    def __init__(self, code: CodeType) -> None:
        self.calls: list[tuple[_Name, bool]] = []
        self.loads: list[_Name] = []
        self._code = code
        self._slots = slots(code)
        self._top: _Name | None = None
        self._taking: _Name | None = None
        outer = (*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *code.co_freevars)
        self._variables = {name: _Name(name, is_global=False) for name in outer}

    def read(self, operation: int, argument: int) -> None:
        if operation in _PASSING:
            return
        if self._taking is not None:
            self.calls.append((self._taking, operation in _CALLS and not argument))
            self._taking = None
        if operation in _ATTRIBUTES:
            shift = _LOAD_ATTR_SHIFT if operation == _LOAD_ATTR else 0
            self._attribute(self._code.co_names[argument >> shift])
        elif operation in _STORES:
            self._store(self._code.co_varnames[argument])
        elif operation in _STORE_LOADS:
            self._store(self._code.co_varnames[argument >> 4])
            self._top = self._variables.get(self._code.co_varnames[argument & 15])
        elif operation in _STORE_STORES:
            self._store(self._code.co_varnames[argument >> 4])
            self._store(self._code.co_varnames[argument & 15])
        else:
            self.leave()
            self._load(operation, argument)

    def leave(self) -> None:
        """Something else is on top of the stack now."""
        top, self._top = self._top, None
        if top is not None and (not top.attributes or top.attributes[-1] not in _TAKING):
            self.loads.append(top)

    def _load(self, operation: int, argument: int) -> None:
        if operation == _LOAD_GLOBAL:
            self._top = _Name(self._code.co_names[argument >> _LOAD_GLOBAL_SHIFT], is_global=True)
        elif operation in _LOADS:
            self._top = self._variables.get(self._code.co_varnames[argument])
        elif operation in _DOUBLE_LOADS:
            self._top = self._variables.get(self._code.co_varnames[argument >> 4])
            self.leave()
            self._top = self._variables.get(self._code.co_varnames[argument & 15])
        elif operation in _CELL_LOADS:
            self._top = self._variables.get(self._slots[argument])

    def _attribute(self, name: str) -> None:
        if self._top is not None:
            self._top = self._top._replace(attributes=(*self._top.attributes, name))
            if name in _TAKING:
                self._taking = self._top

    def _store(self, variable: str) -> None:
        if self._top is not None:
            self._variables[variable] = self._top
        else:
            self._variables.pop(variable, None)
        self.leave()


def _instructions(raw: bytes) -> Iterator[tuple[int, int]]:
    high = 0
    for place in range(0, len(raw), 2):
        operation = raw[place]
        if operation == _EXTENDED_ARG:
            high = (high | raw[place + 1]) << 8
            continue
        yield operation, high | raw[place + 1]
        high = 0


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(opmap[name] for name in names if name in opmap)


_CALLABLE_ITERATOR: type = type(iter(int, 1))
_EXTENDED_ARG = opmap["EXTENDED_ARG"]
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_LOAD_GLOBAL_SHIFT = int(sys.version_info >= (3, 11))  # since 3.11 the lowest bit asks for a NULL to be pushed
_LOAD_ATTR = opmap["LOAD_ATTR"]
_LOAD_ATTR_SHIFT = int(sys.version_info >= (3, 12))  # since 3.12 the lowest bit tells a method from another attribute
_ATTRIBUTES = _numbers("LOAD_ATTR", "LOAD_METHOD")
_LOADS = _numbers("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")
_DOUBLE_LOADS = _numbers("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW")
_CELL_LOADS = _numbers("LOAD_DEREF")
_STORES = _numbers("STORE_FAST")
_STORE_LOADS = _numbers("STORE_FAST_LOAD_FAST")
_STORE_STORES = _numbers("STORE_FAST_STORE_FAST")
_CALLS = _numbers("CALL", "PRECALL", "CALL_FUNCTION", "CALL_METHOD")
# These leave the top of the stack as it is, for what is of interest here. In `co_code` caches are zeros.
_PASSING = _numbers("CACHE", "NOP", "PUSH_NULL", "RESUME", "COPY", "DUP_TOP", "NOT_TAKEN") - {_EXTENDED_ARG}

"""Find out whether an iterator's code takes its items off a worklist, to which the user may add when results arrive.

Such an input must not be read ahead: the worklist would be found empty where the builtin `map`, which asks for an item
only after it handed out the result before, would have found it filled. The evidence is a call of `pop`, `popleft`,
`popitem`, `get` or `get_nowait` on something from outside a generator: an argument, a variable that it closes over, a
global, or an attribute of one of these. The code of generators, of iterators' `__next__`, and of the functions that
these name is read, and not run.
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
# These methods tell a queue, with its `get(True, 5)`, from a mapping or a web client.
_OF_QUEUES = ("qsize", "empty", "get_nowait")
_DEPTH = 8  # iterators within iterators are followed so far
_MOST_CODES = 32  # at most so many code objects are read for one input
_CO_GENERATOR = 0x20
_UNKNOWN = object()
_NO_WORKLISTS = (ModuleType, str, bytes, int, float, complex, tuple, range, type(None))


def worklist_call(iterator: object) -> str | None:
    """Return the call that shows a worklist below `iterator`, such as "todo.pop"; None if the code shows none."""
    return _Reading().of_iterator(iterator, _DEPTH)


class _Name(NamedTuple):
    """A name for something from outside, followed by attributes.

    Attributes:
        name: the first name in the code.
        is_global: whether this is a global; if not, it is an argument of the code or a variable that it closes over.
        attributes: the names of the attributes that follow.
    """

    name: str
    is_global: bool
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.attributes))


class _Shown(NamedTuple):
    """What a code object shows, before its names are looked up.

    Attributes:
        calls: for each call that takes something off, its name, and whether it has no arguments.
        loads: all names that the code reads.
    """

    calls: tuple[tuple[_Name, bool], ...]
    loads: tuple[_Name, ...]


class _Reading:
    """One search through an input."""

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
        """Return the call that `function`'s code shows.

        Args:
            function: any callable.
            passes: whether a worklist may be among its arguments, if it is a generator function.
        """
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
        """Return the call that code shows; its outer names are looked up in `space` and `local`."""
        if code in self._met or not self._codes_left:
            return None
        self._met.add(code)
        self._codes_left -= 1
        if _is_library(space):  # a library's worklists are its own, unless it was given a method to take with
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
    """Say whether globals belong to an installed module, and not to the user's program."""
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
    """Return a frame's variables from outside: its closure, and its arguments other than `*args` and `**kwargs`."""
    return _only(local, (*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *code.co_freevars))


def _is_iterator(kind: type) -> bool:
    return kind is GeneratorType or kind is _CALLABLE_ITERATOR or is_wrapper(kind)


def _is_passed_on(value: object) -> bool:
    """Say whether a value may be a worklist that one generator hands to another."""
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
    """Say whether a function is a bound method that takes something off its object."""
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
    """Return what a name stands for, as far as that can be told without running any code."""
    value = outer[name.name]
    for attribute in name.attributes:
        owner, value = value, _find_static(value, attribute)
        if type(value) is FunctionType and not isinstance(owner, (ModuleType, type)):
            value = MethodType(value, owner)
    return value


def _find_static(value: Any, attribute: str) -> Any:
    """Return an attribute without running any code; `_UNKNOWN` where that is impossible."""
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
    """Read code once, and return the outer names that it loads, with attributes, and those that take something off."""
    reader = _Reader(code)
    for operation, argument in _instructions(code.co_code):
        reader.read(operation, argument)
    reader.leave()
    return _Shown(tuple(reader.calls), tuple(reader.loads))


class _Reader:
    """Follows what stands on top of the stack while code is read, as long as it is a name from outside."""

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
        """Take note that something else is on top of the stack from now on."""
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
# These instructions do not change the top of the stack in a way that matters here. In `co_code` caches are zeros.
_PASSING = _numbers("CACHE", "NOP", "PUSH_NULL", "RESUME", "COPY", "DUP_TOP", "NOT_TAKEN") - {_EXTENDED_ARG}

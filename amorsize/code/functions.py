"""What is known about a function in this process only, because the next process may find something better.

Bound methods, partials, closures and wrapper objects are made anew for each call. So a function is found by its
*marks*, which stay the same: its code, the class of what it is bound to, and the code of functions one level inside, in
its cells, arguments or attributes. Two wrapper objects of one class that hold different functions have different marks.
"""

from __future__ import annotations

from _weakref import ref
from itertools import islice

from ..errors import let_signals_through
from ..lean import BuiltinFunctionType, FunctionType, Generic, MethodType, TypeVar, partial
from ..state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["FunctionSet", "FunctionTable", "call_of", "held_functions", "unfit"]

V = TypeVar("V")

# Of an object with more attributes, or a partial with more arguments, only so many are looked at.
_MOST_HELD = 32
# The values of so many objects are found by identity; looking for their marks anew takes two microseconds.
_MOST_FOUND = 256
# These are usually made anew for each call, or may become another function in place: by what their cells hold, or by
# other code.
_LOOKED_AT_ANEW = (FunctionType, partial)
_NO_FUNCTIONS = frozenset({int, float, str, bytes, bool, type(None), list, tuple, dict, set})


class FunctionTable(Generic[V]):
    """Values by function, each kept as long as the function's marks live.

    This is not a mapping of weak references, because code objects are compared by their whole content, and a look-up
    would take longer than a short call.

    Attributes:
        found: for objects that were asked for before and had a value, by their identities (of methods, those of the
            code and of what it is bound to): a weak reference to the object, the value, and one to a method's code. It
            is there for whoever cannot spend a call of `get`. Whenever any value changes, it is replaced by an empty
            one, so that a thread which has looked before that does not put an old value into it.
    """

    def __init__(self) -> None:
        self._entries: dict[Any, tuple[V, tuple[ref[Any], ...]]] = {}
        self.found: dict[Any, tuple[ref[Any], V, Any]] = {}
        register(self.clear)

    def put(self, function: Any, value: V) -> None:
        """Keep a value for a function, unless weak references to its marks are impossible."""
        marks = _marks(function)
        place = _place(marks)

        def gone(_: ref[Any]) -> None:
            self._entries.pop(place, None)
            self.found = {}

        try:
            self._entries[place] = value, tuple([ref(mark, gone) for mark in marks])
        except TypeError:
            return
        self.found = {}

    def get(self, function: Any) -> V | None:
        """Return the value of a function; None if there is none."""
        if not self._entries:
            return None
        if type(function) in _LOOKED_AT_ANEW:
            return self._at_marks(function)
        found, one, code = self.found, function, None
        key: Any = id(function)
        if type(function) is MethodType:
            one, code = function.__self__, getattr(function.__func__, "__code__", function.__func__)
            key = id(code), id(one)
        before = found.get(key)
        if before is not None and before[0]() is one and (code is None or before[2]() is code):
            return before[1]
        value = self._at_marks(function)
        if value is not None:
            if len(found) >= _MOST_FOUND:
                found.clear()
            try:
                found[key] = ref(one), value, None if code is None else ref(code)
            except TypeError:  # weak references to it are impossible
                return value
        return value

    def _at_marks(self, function: Any) -> V | None:
        if type(function) is FunctionType and not function.__closure__:  # the usual case, in a third of the time
            entry = self._entries.get(id(function.__code__))
            return entry[0] if entry is not None and entry[1][0]() is function.__code__ else None
        marks = _marks(function)
        entry = self._entries.get(_place(marks))
        if entry is None:
            return None
        for mark, reference in zip(marks, entry[1], strict=True):
            if reference() is not mark:
                return None
        return entry[0]

    def discard(self, function: Any) -> None:
        """Forget the value of a function, if there is one."""
        self._entries.pop(_place(_marks(function)), None)
        self.found = {}

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.found = {}


class FunctionSet(FunctionTable[bool]):
    """A set of functions about which something is known."""

    def add(self, function: Any) -> None:
        """Add a function."""
        self.put(function, value=True)

    def __contains__(self, function: Any) -> bool:
        return self.get(function) is not None


def _place(marks: tuple[Any, ...]) -> Any:
    return id(marks[0]) if len(marks) == 1 else tuple([id(mark) for mark in marks])


def _marks(function: Any) -> tuple[Any, ...]:
    """Return the objects that stay the same when a function is made anew."""
    kind = type(function)
    if kind is FunctionType:
        marks = [function.__code__]
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # the variable is not assigned yet
                continue
            if type(value) not in _NO_FUNCTIONS and (mark := _mark(value)) is not None:
                marks.append(mark)
        return tuple(marks)
    if kind is MethodType:
        owner = function.__self__
        if isinstance(owner, type):
            return (*_marks(function.__func__), owner)
        return (*_marks(function.__func__), type(owner), *_inner(_attributes(owner)))
    if issubclass(kind, partial):
        values = (*function.args, *function.keywords.values()) if function.keywords else function.args
        return (*_marks(function.func), *_inner(values[:_MOST_HELD]))
    if type(call_of(kind)) is not FunctionType:
        return (function,)
    return (kind, *_inner(_attributes(function)))


def call_of(kind: type) -> Any:
    """Return what a class's objects run when they are called, as it is stored; None if they cannot be called."""
    return next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)


def held_functions(owner: Any) -> list[tuple[str, Any]]:
    """Return the names and values of an object's attributes that are functions or methods, or made of them."""
    return [(name, value) for name, value in _attributes(owner, names=True) if _mark(value) is not None]


def _attributes(owner: Any, *, names: bool = False) -> Iterable[Any]:
    try:
        space = owner.__dict__
    except Exception as error:  # noqa: BLE001 - it has none, or it is the user's code that fails
        let_signals_through(error)
        return ()
    if type(space) is not dict:
        return ()
    return islice(space.items() if names else space.values(), _MOST_HELD)


def _inner(values: Iterable[Any]) -> list[Any]:
    return [mark for value in values if type(value) not in _NO_FUNCTIONS and (mark := _mark(value)) is not None]


def _mark(value: Any) -> Any:
    """Return what marks a function inside another one; None for other values."""
    kind = type(value)
    while kind is partial:
        value = value.func
        kind = type(value)
    if kind is FunctionType:
        return value.__code__
    if kind is MethodType:
        return getattr(value.__func__, "__code__", None)
    return value if kind is BuiltinFunctionType else None


# These functions cannot be rebuilt in workers, or their results cannot be sent back, as earlier calls found.
unfit = FunctionSet()

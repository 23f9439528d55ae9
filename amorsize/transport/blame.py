"""Find which part of a value cannot be pickled, so that the text of an error can name it.

The search goes from the value down to its parts. A part is at fault if it cannot be pickled although all of its own
parts can. `serialize.dump` decides whether something can be pickled, because the value would have travelled by that
rule. The parts of a value are what pickling would take: elements, attributes and slots; what `__getstate__` or
`__reduce__` gives where a class defines its own; and the closure, defaults and globals of a function that goes by
value.
"""

from __future__ import annotations

import copyreg
from functools import partial
from time import monotonic
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType

from ..code.bytecode import outer_names
from ..errors import let_signals_through
from ..log import debug
from .serialize import PROTOCOL, dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["blame", "said_of", "where_unpicklable"]

# These limit how far a search goes. With smaller values the part at fault stays unnamed more often, or is only named
# roughly; with larger ones the error comes later, although it says much the same without that name.
_SEARCH_SECONDS = 0.5
_MAX_DEPTH = 24
_MAX_KEY_TEXT = 40
_NO_PARTS = frozenset({int, float, complex, str, bytes, bool, type(None)})


def where_unpicklable(value: object, *, clock: Callable[[], float] = monotonic) -> str | None:
    """Return the path to the part of `value` that cannot be pickled, and its type; never raises.

    Args:
        value: an item, a result or a function that `dump` refused.
        clock: returns seconds.

    Returns:
        A text such as "self.conn: _thread.lock", "[3]['socket']: socket.socket" or "closure variable 'conn':
        sqlite3.Connection". It begins with "somewhere in ..." where the search became too long or too deep. None if
        no part can be told from the whole.

    Example:
        >>> import threading
        >>> where_unpicklable([1, {"busy": threading.Lock()}])
        "[1]['busy']: _thread.lock"
    """
    try:
        return _Search(clock).part_at_fault(value)
    except Exception as error:  # parts, their reductions and their names are user code, which may raise anything
        let_signals_through(error)
        debug("the search for what cannot be pickled failed: %r", error)
        return None


class _Search:
    """One search, which keeps the values it met, so that none is searched twice and no `id` is reused meanwhile."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = clock() + _SEARCH_SECONDS
        self._met: dict[int, object] = {}

    def part_at_fault(self, value: object) -> str | None:
        self._met[id(value)] = value
        if not _fails(value):
            return None
        found = self._below(value, _root(value), 0)
        return None if found is None or found[1] is value else f"{found[0]}: {_type_name(found[1])}"

    def _below(self, value: object, path: str, depth: int) -> tuple[str, object] | None:
        """Return the path and the part at fault in a value that cannot be pickled; None if it is not found here."""
        closed = True
        for step, part in self._parts(value):
            if type(part) in _NO_PARTS:
                continue
            if depth >= _MAX_DEPTH or self._clock() >= self._until:
                return f"somewhere in {path}", value
            if id(part) in self._met:
                # This part was met before, perhaps through a cycle. If it fails, then `value` itself is not at fault.
                closed = closed and not _fails(part)
                continue
            self._met[id(part)] = part
            if _fails(part):
                found = self._below(part, path + step if path else step.removeprefix(", "), depth + 1)
                if found is not None:
                    return found
                closed = False
        return (path, value) if closed else None

    def _parts(self, value: Any) -> Iterator[tuple[str, object]]:
        kind = type(value)
        if kind in {list, tuple}:
            yield from _elements(value)
        elif kind is dict:
            yield from _entries(value.items())
        elif kind in {set, frozenset}:
            yield from ((", an element", element) for element in value)
        elif kind is FunctionType:
            yield from _function_parts(value)
        elif kind is MethodType:
            yield from ((", self", value.__self__), (f", method {value.__name__!r}", value.__func__))
        elif kind is partial:
            yield "", value.func
            yield from ((f", argument {position}", argument) for position, argument in enumerate(value.args))
            yield from ((f", argument {name!r}", argument) for name, argument in value.keywords.items())
        elif isinstance(value, type):
            yield from _class_parts(value)
        else:
            yield from _object_parts(value)


def _object_parts(value: Any) -> Iterator[tuple[str, object]]:
    """Yield the parts of an object that pickling would take."""
    kind = type(value)
    if hasattr(kind, "_amorsize_reduce_by_value"):
        yield "", value._amorsize_reduce_by_value()[1][0]
        return
    reduce = copyreg.dispatch_table.get(kind)
    special = ("__reduce_ex__", "__reduce__")
    own = reduce is not None or any(getattr(kind, name) is not getattr(object, name) for name in special)
    try:
        reduced = reduce(value) if reduce is not None else value.__reduce_ex__(PROTOCOL)
    except Exception as error:  # the object itself refuses, so it is the part at fault
        let_signals_through(error)
        return
    if not isinstance(reduced, tuple):
        return
    _, arguments, state, elements, entries = (*reduced, None, None, None)[:5]
    if own:
        yield from _elements(arguments, ".__reduce__()[1]")
    else:
        yield from _elements(value) if isinstance(value, tuple) else _elements(arguments[1:], ".__getnewargs__()")
    if getattr(kind, "__getstate__", None) is not getattr(object, "__getstate__", None):
        yield ".__getstate__()", state
    elif isinstance(state, dict):
        yield from _attributes(state)
    elif not own and isinstance(state, tuple):
        for attributes in state:  # first those of __dict__, then those of slots
            yield from _attributes(attributes or {})
    elif own:
        yield ".__reduce__()[2]", state
    yield from _elements(elements or ())
    yield from _entries(entries or ())
    yield ".__class__", kind


def _function_parts(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the parts that are pickled with a function that goes by value."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # the variable is not assigned yet
            continue
        yield f", closure variable {name!r}", content
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    for name, default in (*zip(names, defaults, strict=True), *(function.__kwdefaults__ or {}).items()):
        yield f", default of {name!r}", default
    outer = outer_names(code)
    # A name that is only mentioned may belong to an attribute, so names that are surely globals come first.
    for name in (*sorted(outer.read), *sorted(outer.mentioned - outer.read)):
        if name in function.__globals__:
            yield f", global {name!r}", function.__globals__[name]
    for name, content in (*function.__dict__.items(), ("__annotations__", function.__annotations__)):
        yield f", attribute {name!r}", content


def _class_parts(kind: type) -> Iterator[tuple[str, object]]:
    """Yield the parts that are pickled with a class that goes by value."""
    made_anew = (GetSetDescriptorType, MemberDescriptorType)  # Python makes these anew for every class and its slots
    for name, attribute in vars(kind).items():
        if not isinstance(attribute, made_anew):
            yield f".{name}", attribute
    yield from _elements(kind.__bases__, ".__bases__")


def _elements(values: Iterable[object], path: str = "") -> Iterator[tuple[str, object]]:
    return ((f"{path}[{position}]", element) for position, element in enumerate(values))


def _entries(entries: Iterable[tuple[object, object]]) -> Iterator[tuple[str, object]]:
    for position, (key, content) in enumerate(entries):
        yield f", key {position}", key
        yield f"[{_key_text(key, position)}]", content


def _attributes(attributes: dict[str, object]) -> Iterator[tuple[str, object]]:
    return ((f".{name}", content) for name, content in attributes.items())


def _fails(value: object) -> bool:
    try:
        dump(value)
    except Exception as error:  # user code may raise anything
        let_signals_through(error)
        return True
    return False


def _root(value: object) -> str:
    """Return the name that the value itself has in a path."""
    if isinstance(value, type):
        return value.__qualname__
    unnamed = (list, tuple, dict, set, frozenset, FunctionType, MethodType, partial)
    return "" if type(value) in unnamed else "self"


def _key_text(key: object, position: int) -> str:
    text = repr(key) if type(key) in _NO_PARTS else ""
    return text if 0 < len(text) <= _MAX_KEY_TEXT else f"<key {position}>"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def blame(value: object) -> str:
    """Return the answer of `where_unpicklable` in brackets, to end an error's text with; empty if it has none."""
    where = where_unpicklable(value)
    return f" ({where})" if where else ""


def said_of(error: BaseException, value: object) -> str:
    """Return the text of the error that pickling `value` raised, with the part at fault if that can be found."""
    if not isinstance(error, Exception):
        return repr(error)  # a search for the part at fault would raise an error such as SystemExit again
    try:
        return f"{error}{blame(value)}"
    except Exception as broken:  # the error's own __str__ raised this
        let_signals_through(broken)
        return type(error).__name__

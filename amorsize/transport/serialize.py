"""How functions, items and results become bytes, and whose fault it is when they cannot.

Plain `pickle` is tried first, because it is several times faster. What it cannot take, and whatever refers to the
main module, goes by value through cloudpickle: a worker's main module is not the user's. A function that hides behind
its decorated self (`module.name.__wrapped__`) goes by name.

Values travel in one of two forms. Scalars, and tuples of scalars, cannot fail to be rebuilt, so a whole batch is one
pickle. Anything else is one pickle a value: a value that cannot be rebuilt then fails alone.
"""

from __future__ import annotations

import pickle
from itertools import chain, repeat
from struct import Struct

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from . import by_value
from .by_value import PROTOCOL, Outgoing
from .envelope import PARTS, WHOLE, Envelope
from .values import SCALARS, Fixed, HeldIteratorError, holds_iterator, plainly_hold_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["PROTOCOL", "Outgoing", "Undumpable", "Unpicklable", "dump", "dump_function", "dump_item", "dump_items"]
__all__ += ["dump_values", "is_scalars", "load", "load_values", "rebuilt"]

_LENGTH = Struct("<Q")
_WHOLE_CODE = WHOLE[0]


class Undumpable(Exception):
    """A value of a batch cannot be pickled.

    Args:
        position: which one it is, the first of its kind.
        error: what it raised. It is not asked again: whether pickling fails may depend on how deep the stack is.
    """

    def __init__(self, position: int, error: BaseException) -> None:
        super().__init__(position, error)
        self.position = position
        self.error = error


class Unpicklable(NamedTuple):
    """Stands in a loaded list where a value could not be rebuilt."""

    error: BaseException


def dump(value: object, outgoing: Outgoing | None = None) -> bytes:
    """Pickle an item, or in a worker a result: by value where it refers to the main module or where plain pickle fails.

    Args:
        value: anything.
        outgoing: what else the call sends; None if this is all of it.

    Raises:
        Exception: whatever the last attempt raised; pickling runs code of the value's own classes.
    """
    if outgoing is None or not outgoing.knows(type(value)):
        try:
            data = pickle.dumps(value, PROTOCOL)
        except Exception as error:  # any class may raise anything here; cloudpickle has the last word
            let_signals_through(error)
            data = b"__main__"
        # A class of the main module is found by name only in a process with the same main module.
        if b"__main__" not in data:
            return data
    if by_value.here() is not None:
        return by_value.return_by_value(value)
    return (outgoing or Outgoing()).item(value)


def dump_function(function: object) -> bytes:
    """Pickle a function for workers; raises as `dump` does."""
    try:
        data = pickle.dumps(function, PROTOCOL)
    except Exception as error:  # as above
        let_signals_through(error)
        data = b"__main__"
    return by_value.Outgoing().function(function) if b"__main__" in data else data


def load(data: bytes | memoryview) -> Any:
    """Rebuild what `dump` made; raises whatever the value's own classes raise."""
    return pickle.loads(data)


def rebuilt(item: Any) -> Any:
    """Return an item as the function takes it: itself, or what was fixed."""
    return load(item.data) if type(item) is Fixed else item


def dump_values(values: Sequence[object], outgoing: Outgoing | None = None) -> Envelope:
    """Pickle a batch.

    Args:
        values: the batch.
        outgoing: as for `dump`.

    Raises:
        Undumpable: a value could not be pickled.
    """
    if type(values) is range or _all_scalars(values):
        return Envelope(WHOLE, (pickle.dumps(values, PROTOCOL),))
    return _joined(values, dump, outgoing)


def dump_items(items: Sequence[object], outgoing: Outgoing | None = None) -> Envelope:
    """Pickle a batch of items as `dump_values` does. What was fixed is sent as it was then.

    Raises:
        Undumpable: some item could not be pickled; with a `HeldIteratorError` where it is or holds an iterator, whose
            pickling might copy, or use up, the input's rest.
    """
    if type(items) is range or _all_scalars(items):
        return Envelope(WHOLE, (pickle.dumps(items, PROTOCOL),))
    return _joined(items, dump if plainly_hold_none(items) else dump_item, outgoing)


def dump_item(item: object, outgoing: Outgoing | None = None) -> bytes:
    """Pickle one item; raises as `dump` does, and `HeldIteratorError`."""
    if type(item) is Fixed:
        return item.data
    if holds_iterator(item):
        raise HeldIteratorError(
            f"it is or holds an iterator ({type(item).__name__}), whose rest is in this process only"
        )
    return dump(item, outgoing)


def _joined(
    values: Sequence[object], each: Callable[[object, Outgoing | None], bytes], outgoing: Outgoing | None
) -> Envelope:
    parts: list[bytes] = []
    try:
        parts.extend(map(each, values, repeat(outgoing)))  # keeps what came before an error, and so tells whose it is
    except BaseException as error:  # user code: anything, SystemExit too
        let_signals_through(error)
        raise Undumpable(len(parts), error) from error
    lengths = b"".join(_LENGTH.pack(len(part)) for part in parts)
    return Envelope(b"".join((PARTS, _LENGTH.pack(len(parts)), lengths)), parts)


def is_scalars(data: bytes | memoryview) -> bool:
    """Say whether a batch has scalars, or tuples of scalars, and nothing else."""
    return data[0] == _WHOLE_CODE


def load_values(data: memoryview) -> Sequence[Any]:
    """Rebuild a batch. A value that cannot be rebuilt is an `Unpicklable` in its place."""
    if data[0] == _WHOLE_CODE:
        values: Sequence[Any] = pickle.loads(data[1:])
        return values
    (count,) = _LENGTH.unpack_from(data, 1)
    start = 1 + _LENGTH.size
    at = start + count * _LENGTH.size
    rebuilt: list[Any] = []
    for position in range(count):
        (length,) = _LENGTH.unpack_from(data, start + position * _LENGTH.size)
        try:
            rebuilt.append(pickle.loads(data[at : at + length]))
        except BaseException as error:  # user code: anything, SystemExit too
            let_signals_through(error)
            rebuilt.append(Unpicklable(error))
        at += length
    return rebuilt


def _all_scalars(values: Sequence[object]) -> bool:
    types: Iterable[type] = set(map(type, values))
    if types == {tuple}:
        types = set(map(type, chain.from_iterable(values)))  # type: ignore[arg-type]
    return SCALARS.issuperset(types)

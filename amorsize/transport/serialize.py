"""How functions, items and results become bytes, and which value is at fault when that fails.

Plain `pickle` is tried first, because it is several times faster. What it cannot pickle, and whatever refers to the
main module, goes by value through cloudpickle, because a worker's main module is not the user's. A function whose name
stands for its decorated form, and that is found as `module.name.__wrapped__`, goes by name.

A batch of values travels in one of two forms. Scalars, and tuples of scalars, can always be rebuilt, so a batch of them
is one pickle. In any other batch each value is a pickle of its own, so that a value which cannot be rebuilt fails
alone.
"""

from __future__ import annotations

import pickle
from itertools import chain, repeat
from struct import Struct
from types import FunctionType, SimpleNamespace

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from . import by_value
from .by_value import PROTOCOL, Outgoing
from .envelope import PARTS, WHOLE, Envelope
from .values import SCALARS, Fixed, HeldIteratorError, held_iterator_error, holds_iterator, plainly_hold_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["PROTOCOL", "Outgoing", "Undumpable", "Unpicklable", "dump", "dump_function", "dump_item", "dump_items"]
__all__ += ["dump_values", "fixed", "function_pieces", "is_scalars", "load", "load_values", "rebuilt"]

_LENGTH = Struct("<Q")
_WHOLE_CODE = WHOLE[0]
# A pickler writes names of modules and classes in frames, and hands on data of at least so many bytes as they are.
_RAW_BYTES = 1 << 16
# Each frame begins with one of these operations, PROTO or FRAME; data that do, too, are searched in vain.
_FRAME_CODES = b"\x80\x95"


class Undumpable(Exception):
    """A value of a batch cannot be pickled.

    Args:
        position: the position in the batch of the first such value.
        error: what pickling it raised. It is not pickled again to find out, because whether that fails may depend on
            how deep the stack is.
    """

    def __init__(self, position: int, error: BaseException) -> None:
        super().__init__(position, error)
        self.position = position
        self.error = error


class Unpicklable(NamedTuple):
    """Stands in a loaded list where a value could not be rebuilt."""

    error: BaseException


def dump(value: object, outgoing: Outgoing | None = None) -> bytes:
    """Pickle an item, or in a worker a result; by value if it refers to the main module or plain pickle fails.

    Args:
        value: anything.
        outgoing: what else the call sends; None if the call sends nothing else.

    Raises:
        Exception: whatever the last attempt raised; pickling runs code of the value's own classes.
    """
    if outgoing is None or not outgoing.knows(type(value)):
        try:
            data = pickle.dumps(value, PROTOCOL)
        except Exception as error:  # any class may raise anything here, and cloudpickle may still succeed
            let_signals_through(error)
            data = b"__main__"
        # A class of the main module can be found by name only in a process with the same main module.
        if b"__main__" not in data:
            return data
    if by_value.here() is not None:
        return by_value.return_by_value(value)
    return (outgoing or Outgoing()).item(value)


def dump_function(function: object) -> bytes:
    """Pickle a function for workers; raises as `dump` does."""
    return b"".join(function_pieces(function))


def function_pieces(function: object) -> list[bytes]:
    """Return the pieces of what `dump_function` returns, because copying large bound data into one takes time."""
    pieces: list[bytes] = []

    def write(piece: bytes | bytearray) -> None:
        if pieces and _names_main(pieces[-1]):
            raise pickle.PicklingError("it goes by value, so the rest need not be pickled by name")
        pieces.append(bytes(piece))  # this copies a bytearray, which may change, and leaves bytes as they are

    if type(function) is not FunctionType or function.__module__ != "__main__":
        try:
            pickle.Pickler(SimpleNamespace(write=write), PROTOCOL).dump(function)
        except Exception as error:  # any class may raise anything here, as in `dump`
            let_signals_through(error)
        else:
            if not _names_main(pieces[-1]):
                return pieces
    return by_value.Outgoing().function_pieces(function)


def _names_main(piece: bytes) -> bool:
    """Say whether a piece of a pickle may refer to the main module; raw data cannot, and are not searched."""
    return (len(piece) < _RAW_BYTES or piece[0] in _FRAME_CODES) and b"__main__" in piece


def load(data: bytes | memoryview) -> Any:
    """Rebuild what `dump` made; raises whatever the value's own classes raise."""
    return pickle.loads(data)


def rebuilt(item: Any) -> Any:
    """Return an item as the function takes it: the item itself or, for a `Fixed`, the value that was pickled."""
    return load(item.data) if type(item) is Fixed else item


def dump_values(values: Sequence[object], outgoing: Outgoing | None = None) -> Envelope:
    """Pickle a batch, and return the envelope that it crosses in.

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
    """Pickle a batch of items as `dump_values` does; the pickle in a `Fixed` is sent as it is.

    Raises:
        Undumpable: an item could not be pickled. Its error is a `HeldIteratorError` if the item is or holds an
            iterator, because pickling an iterator might copy, or use up, the rest of the input.
    """
    if type(items) is range or _all_scalars(items):
        return Envelope(WHOLE, (pickle.dumps(items, PROTOCOL),))
    return _joined(items, dump if plainly_hold_none(items) else dump_item, outgoing)


def dump_item(item: object, outgoing: Outgoing | None = None) -> bytes:
    """Pickle one item; raises what `dump` raises, or `HeldIteratorError`."""
    if type(item) is Fixed:
        return item.data
    if holds_iterator(item):
        raise held_iterator_error(item)
    return dump(item, outgoing)


def fixed(item: Any) -> Any:
    """Return what stands for an item that stays in this process until it runs: its pickle, or itself if it has none.

    Raises:
        HeldIteratorError: the item must run before more is read.
    """
    try:
        return Fixed(dump_item(item))
    except HeldIteratorError:
        raise
    except Exception as error:  # the user's classes
        let_signals_through(error)
        parts = item if type(item) in {tuple, list} else (item,)
        if memoryview in set(map(type, parts)):
            raise HeldIteratorError("it is or holds a view of memory, which may be filled anew") from error
        return item


def _joined(
    values: Sequence[object], each: Callable[[object, Outgoing | None], bytes], outgoing: Outgoing | None
) -> Envelope:
    parts: list[bytes] = []
    try:
        parts.extend(map(each, values, repeat(outgoing)))  # if one fails, the number of parts so far is its position
    except BaseException as error:  # user code may raise anything, even SystemExit
        let_signals_through(error)
        raise Undumpable(len(parts), error) from error
    lengths = b"".join(_LENGTH.pack(len(part)) for part in parts)
    return Envelope(b"".join((PARTS, _LENGTH.pack(len(parts)), lengths)), parts)


def is_scalars(data: bytes | memoryview) -> bool:
    """Say whether a pickled batch has only scalars, or only tuples of scalars."""
    return data[0] == _WHOLE_CODE


def load_values(data: memoryview) -> Sequence[Any]:
    """Rebuild a batch; an `Unpicklable` takes the place of a value that cannot be rebuilt."""
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
        except BaseException as error:  # user code may raise anything, even SystemExit
            let_signals_through(error)
            rebuilt.append(Unpicklable(error))
        at += length
    return rebuilt


def _all_scalars(values: Sequence[object]) -> bool:
    types: Iterable[type] = set(map(type, values))
    if types == {tuple}:
        types = set(map(type, chain.from_iterable(values)))  # type: ignore[arg-type]
    return SCALARS.issuperset(types)

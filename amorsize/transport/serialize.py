"""How functions, items and results become bytes, and which value is at fault when that fails.

Plain `pickle` is tried first, because it is several times faster. What it cannot pickle, and whatever refers to the
main module, goes by value through cloudpickle, because a worker's main module is not the user's. A function whose name
stands for its decorated form, and that is found as `module.name.__wrapped__`, goes by name.

A batch of values travels in one of two forms. Scalars, and tuples of scalars, can always be rebuilt, so a batch of them
is one pickle. In any other batch each value is a pickle of its own, so that a value which cannot be rebuilt fails
alone. Large memory that a value offers beside its pickle (PEP 574) is not copied into it (`envelope`).
"""

from __future__ import annotations

import pickle
from functools import partial
from itertools import chain, repeat
from types import FunctionType, SimpleNamespace

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from . import by_value
from .by_value import PROTOCOL, Outgoing
from .envelope import Envelope, is_scalars, opened, region_of, whole_of
from .memory import LEAST_SHARED_BYTES, lends
from .values import (
    SCALARS,
    Fixed,
    HeldIteratorError,
    Rows,
    held_iterator_error,
    holds_iterator,
    holds_plain_arrays,
    plainly_hold_none,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from .envelope import Contents
    from .memory import Buffer, Store

__all__ = ["PROTOCOL", "Outgoing", "Undumpable", "Unpicklable", "dump", "dump_function", "dump_item", "dump_items"]
__all__ += ["dump_values", "fixed", "fixer", "function_pieces", "is_scalars", "load", "load_lazily", "load_values"]
__all__ += ["rebuilt"]

# A pickler writes names of modules and classes in frames, and hands on data of at least so many bytes as they are.
_RAW_BYTES = 1 << 16
# Each frame begins with one of these operations, PROTO or FRAME; data that do, too, are searched in vain.
_FRAME_CODES = b"\x80\x95"
# Items of these kinds are one pickle.
_WHOLE = frozenset({range, Rows})


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


class _LongBytes:
    """Stands for `bytes` that are not to be copied into a pickle."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self._data),)


class _Beside:
    """Collects the memory of a batch's arrays, which stays out of their pickles.

    It is copied only after the whole batch was pickled, so the pickling of a later value must not change it. Therefore
    it is taken only of values whose pickling runs no code of the user's: arrays, and plain containers of them. Whatever
    else offers memory gets it back as it would from any pickle: as `bytes`, or as a `bytearray`.

    Args:
        values: the batch.
        parts: the list of pickles, to which each one is added when it is done.
    """

    def __init__(self, values: Sequence[object], parts: list[bytes]) -> None:
        self._values = values
        self._parts = parts
        self.found: list[tuple[int, memoryview]] = []  # with the place of its value in the batch

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer, or return True for it to be pickled."""
        at = len(self._parts)
        try:
            memory = buffer.raw()
        except BufferError:  # it is not in one piece
            return True
        if memory.nbytes < LEAST_SHARED_BYTES:
            return True
        if not (self.found and self.found[-1][0] == at) and not holds_plain_arrays(self._values[at]):
            return True
        self.found.append((at, memory))
        return False

    def forget_part(self) -> None:
        """Drop the buffers of the value that is being pickled, because that is begun anew."""
        while self.found and self.found[-1][0] == len(self._parts):
            self.found.pop()


def dump(value: object, outgoing: Outgoing | None = None, beside: _Beside | None = None) -> bytes:
    """Pickle an item, or in a worker a result; by value if it refers to the main module or plain pickle fails.

    Args:
        value: anything.
        outgoing: what else the call sends; None if the call sends nothing else.
        beside: takes the memory of large arrays; None if the pickle is to hold it.

    Raises:
        Exception: whatever the last attempt raised; pickling runs code of the value's own classes.
    """
    if type(value) is bytes and beside is not None and len(value) >= LEAST_SHARED_BYTES:
        value = _LongBytes(value)
    if outgoing is None or not outgoing.knows(type(value)):
        try:
            data = pickle.dumps(value, PROTOCOL, buffer_callback=beside)
        except Exception as error:  # any class may raise anything here, and cloudpickle may still succeed
            let_signals_through(error)
            data = b"__main__"
        # A class of the main module can be found by name only in a process with the same main module.
        if b"__main__" not in data:
            return data
        if beside is not None:
            beside.forget_part()
    if by_value.here() is not None:
        return by_value.return_by_value(value)
    return (outgoing or Outgoing()).item(value)


def dump_function(function: object) -> bytes:
    """Pickle a function for workers; raises as `dump` does."""
    return b"".join(function_pieces(function))


def function_pieces(function: object, beside: list[memoryview] | None = None) -> list[bytes]:
    """Return the pieces of what `dump_function` returns, because copying large bound data into one takes time.

    Args:
        function: any callable.
        beside: takes the memory of large arrays, uncopied, which is then not in the pieces; None if it is to be there.
    """
    pieces: list[bytes] = []

    def write(piece: bytes | bytearray) -> None:
        if pieces and _names_main(pieces[-1]):
            raise pickle.PicklingError("it goes by value, so the rest need not be pickled by name")
        pieces.append(bytes(piece))  # this copies a bytearray, which may change, and leaves bytes as they are

    if type(function) is not FunctionType or function.__module__ != "__main__":
        try:
            keep = None if beside is None else partial(by_value.keep_beside, beside)
            pickle.Pickler(SimpleNamespace(write=write), PROTOCOL, buffer_callback=keep).dump(function)
        except Exception as error:  # any class may raise anything here, as in `dump`
            let_signals_through(error)
        else:
            if not _names_main(pieces[-1]):
                return pieces
    if beside is not None:
        beside.clear()
    return by_value.Outgoing().function_pieces(function, beside)


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
        return Envelope((pickle.dumps(values, PROTOCOL),), plain=True)
    return _joined(values, dump, outgoing)


def dump_items(items: Sequence[object], outgoing: Outgoing | None = None) -> Envelope:
    """Pickle a batch of items as `dump_values` does; the pickle in a `Fixed` is sent as it is.

    Raises:
        Undumpable: an item could not be pickled. Its error is a `HeldIteratorError` if the item is or holds an
            iterator, because pickling an iterator might copy, or use up, the rest of the input.
    """
    if type(items) in _WHOLE or _all_scalars(items):
        return Envelope((pickle.dumps(items, PROTOCOL),), plain=True)
    return _joined(items, dump if plainly_hold_none(items) else dump_item, outgoing)


def dump_item(item: object, outgoing: Outgoing | None = None, beside: _Beside | None = None) -> bytes:
    """Pickle one item as `dump` does; raises what that raises, or `HeldIteratorError`."""
    if type(item) is Fixed:
        return item.data
    if holds_iterator(item):
        raise held_iterator_error(item)
    return dump(item, outgoing, beside)


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


def fixer(outgoing: Outgoing | None, *, try_first: bool) -> Callable[[Any], Fixed]:
    """Return the function that pickles an item that is to wait.

    Args:
        outgoing: what the call's items are pickled with.
        try_first: whether to check that the first item of each type can be rebuilt; if not, it can run in the caller.
    """
    tried: set[type] = set()

    def fix(item: Any) -> Fixed:
        data = dump_item(item, outgoing)
        if try_first and type(item) not in tried:
            load(data)
            tried.add(type(item))
        return Fixed(data)

    return fix


def _joined(
    values: Sequence[object], each: Callable[[object, Outgoing | None, _Beside], bytes], outgoing: Outgoing | None
) -> Envelope:
    parts: list[bytes] = []
    beside = _Beside(values, parts)
    try:
        # If one fails, the number of parts so far is its position.
        parts.extend(map(each, values, repeat(outgoing), repeat(beside)))
    except BaseException as error:  # user code may raise anything, even SystemExit
        let_signals_through(error)
        raise Undumpable(len(parts), error) from error
    if not beside.found and max(map(len, parts), default=0) < LEAST_SHARED_BYTES:
        return Envelope(parts)
    return _with_buffers(parts, beside.found)


def _with_buffers(parts: list[bytes], found: list[tuple[int, memoryview]]) -> Envelope:
    buffers: list[Buffer] = []
    places: dict[int, int] = {}  # by the object whose memory it is, if it is all of that object's
    used: dict[int, list[int]] = {}
    for at, memory in found:
        place = len(buffers)
        if memoryview(memory.obj).nbytes == memory.nbytes:
            place = places.setdefault(id(memory.obj), place)
        if place == len(buffers):
            buffers.append(memory)
        used.setdefault(at, []).append(place)
    long = {at: len(buffers) + number for number, at in enumerate(_long(parts))}
    for at in long:
        buffers.append(parts[at])
        parts[at] = b""
    return Envelope(parts, buffers=buffers, used=[*used.items()], long=[*long.items()])


def _long(parts: list[bytes]) -> list[int]:
    return [at for at, part in enumerate(parts) if len(part) >= LEAST_SHARED_BYTES]


def load_values(data: memoryview, store: Store | None = None) -> Sequence[Any]:
    """Rebuild a batch; an `Unpicklable` takes the place of a value that cannot be rebuilt. All values own their memory.

    Args:
        data: the pieces of its envelope, joined.
        store: where its buffers are, if they are in shared memory; their region is given up.
    """
    place = region_of(data)
    if place is None or store is None:
        return _values(data, None)
    try:
        with store.open(place) as region:
            return _values(data, region, store.copied)
    finally:
        store.free(place.number)


def _values(
    data: memoryview, region: memoryview | None, copied: Callable[[memoryview], Buffer] = bytearray
) -> Sequence[Any]:
    if is_scalars(data):
        values: Sequence[Any] = pickle.loads(whole_of(data, region))
        return values
    return list(_each(opened(data, region), lent=False, copied=copied))


def load_lazily(data: memoryview, store: Store | None = None) -> Iterable[Any]:
    """Rebuild a batch as `load_values` does, each value when it is asked for; they may be built in the region itself.

    Args:
        data: as for `load_values`; it must stay as it is meanwhile.
        store: as for `load_values`; the region is lent until nothing refers to it any more.
    """
    place = region_of(data)
    if place is None or store is None:
        return _values(data, None)
    region = store.lend(place)
    return _values(data, region) if is_scalars(data) else _each(opened(data, region), lent=lends())


def _each(
    contents: Contents, *, lent: bool, copied: Callable[[memoryview], Buffer] = bytearray
) -> Iterator[Any]:
    """Yield the values; those that are arrays, or hold some, are rebuilt in their turn, the others before the first."""
    rebuilt = [None if at in contents.buffers else _rebuilt(part) for at, part in enumerate(contents.parts)]
    rebuilt.reverse()
    for at, part in enumerate(contents.parts):
        value = rebuilt.pop()
        if at in contents.buffers:
            views, last = contents.buffers.pop(at)
            value = _rebuilt(
                part,
                [view if lent and is_last else copied(view) for view, is_last in zip(views, last, strict=True)],
            )
            views.clear()
        yield value
        del value


def _rebuilt(part: memoryview, buffers: Sequence[Buffer] = ()) -> Any:
    try:
        return pickle.loads(part, buffers=buffers)
    except BaseException as error:  # user code may raise anything, even SystemExit
        let_signals_through(error)
        return Unpicklable(error)


def _all_scalars(values: Sequence[object]) -> bool:
    """Say whether all are scalars, or all tuples of scalars, and none is so long that it goes beside its pickle."""
    types: Iterable[type] = set(map(type, values))
    if types == {tuple}:
        types = set(map(type, chain.from_iterable(values)))  # type: ignore[arg-type]
    elif bytes in types and max(map(_length_of_bytes, values)) >= LEAST_SHARED_BYTES:
        return False
    return SCALARS.issuperset(types)


def _length_of_bytes(value: object) -> int:
    return len(value) if type(value) is bytes else 0

"""What items and results are in while they cross: one form for every way, a socket, a pipe or shared memory.

A batch of scalars is one pickle. In any other batch each value has a pickle of its own, its *part*. Large data go
beside the parts, as *buffers*: the memory of arrays, which pickle protocol 5 offers, and whole parts that are long.
Where sender and reader share memory (`memory`), the buffers are in one region of it, else they follow the parts. In
both places they have the same offsets. A buffer that several values of the batch have crosses once.
"""

from __future__ import annotations

import pickle
from _struct import Struct

from ..lean import NamedTuple, map
from .memory import LEAST_SHARED_BYTES, PLACE, Place, aligned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .memory import Buffer, Store

__all__ = ["Contents", "Envelope", "bytes_beside", "discard", "is_scalars", "opened", "region_of", "whole_of"]

# The first byte says which form it is.
_WHOLE, _SHARED_WHOLE, _PARTS, _BUFFERS, _SHARED = b"W", b"w", b"P", b"B", b"S"
_SCALARS_CODES, _PARTS_CODE, _SHARED_CODES = b"Ww", b"P"[0], b"wS"
_LENGTH = Struct("<Q")


class Envelope(NamedTuple):
    """Some values, pickled.

    Attributes:
        parts: one pickle of all values if they are `plain`, else one a value; empty where a buffer holds it.
        plain: whether these are scalars, or tuples of scalars, and nothing else.
        buffers: memory that the pickles refer to and do not hold.
        used: for each value that has some, its place in the batch, and the places in `buffers` of those that its pickle
            refers to, in order.
        long: for each part that is a buffer itself, its place and the buffer's.
    """

    parts: Sequence[bytes]
    plain: bool = False
    buffers: Sequence[Buffer] = ()
    used: Sequence[tuple[int, list[int]]] = ()
    long: Sequence[tuple[int, int]] = ()

    def pieces(self, store: Store | None = None) -> list[Buffer]:
        """Return what is to be written, in order, with the buffers in the store where there is one that takes them."""
        parts, buffers = self.parts, self.buffers
        if self.plain:
            return _whole_pieces(parts[0], store)
        lengths = b"".join([_LENGTH.pack(len(part)) for part in parts])
        count = _LENGTH.pack(len(parts))
        if not buffers:
            return [b"".join((_PARTS, count, lengths)), *parts]
        offsets, end = [], 0
        for buffer in buffers:
            offsets.append(end)
            end = aligned(end + len(buffer))
        table = pickle.dumps(([*zip(offsets, map(len, buffers), strict=True)], self.used, self.long))
        body = [_LENGTH.pack(len(table)), table, count, lengths, *parts]
        place = store.put(buffers, offsets, end) if store is not None else None
        if place is not None:
            return [b"".join((_SHARED, PLACE.pack(*place), *body))]
        padded = (piece for buffer in buffers for piece in (buffer, bytes(aligned(len(buffer)) - len(buffer))))
        return [b"".join((_BUFFERS, *body)), *padded]

    def nbytes(self) -> int:
        """Return how many bytes the values are, whatever way they cross."""
        return sum(map(len, self.parts)) + sum(map(len, self.buffers))

    def settled(self) -> Envelope:
        """Return an envelope that does not change when the values do, because it has copies of their memory."""
        return self._replace(buffers=[bytes(buffer) for buffer in self.buffers]) if self.buffers else self


def _whole_pieces(data: bytes, store: Store | None) -> list[Buffer]:
    if store is not None and len(data) >= LEAST_SHARED_BYTES:
        place = store.put([data], [0], len(data))
        if place is not None:
            return [b"".join((_SHARED_WHOLE, PLACE.pack(*place)))]
    return [_WHOLE, data]


class Contents(NamedTuple):
    """What an envelope holds, for its reader.

    Attributes:
        parts: the pickles, in order.
        buffers: for each value that has some, by its place, the buffers that it refers to, and whether this is the
            last value that refers to each of them.
    """

    parts: Sequence[memoryview]
    buffers: dict[int, tuple[list[memoryview], list[bool]]]


def is_scalars(data: bytes | memoryview) -> bool:
    """Say whether a pickled batch has only scalars, or only tuples of scalars."""
    return data[0] in _SCALARS_CODES


def region_of(data: memoryview) -> Place | None:
    """Return where the envelope's buffers are in shared memory; None if they are in the message, or there are none."""
    return Place._make(PLACE.unpack_from(data, 1)) if data[0] in _SHARED_CODES else None


def bytes_beside(data: memoryview) -> int:
    """Return how many bytes of an envelope are in shared memory."""
    place = region_of(data)
    return 0 if place is None else place.nbytes


def discard(data: memoryview, store: Store | None) -> None:
    """Give up the region that an envelope refers to, if it does, because nobody will read it."""
    place = region_of(data)
    if place is not None and store is not None:
        store.free(place.number)


def whole_of(data: memoryview, region: memoryview | None) -> memoryview:
    """Return the one pickle in an envelope of scalars; the arguments are those of `opened`."""
    return data[1:] if region is None else region


def opened(data: memoryview, region: memoryview | None = None) -> Contents:
    """Return what an envelope of parts holds.

    Args:
        data: its pieces, joined.
        region: the memory that `region_of` tells of.
    """
    code, at = data[0], 1
    table: Any = None
    if code != _PARTS_CODE:
        if code in _SHARED_CODES:
            at += PLACE.size
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        table = pickle.loads(data[at - length : at])
    (count,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    ends = at + count * _LENGTH.size
    parts = []
    for (length,) in _LENGTH.iter_unpack(data[at:ends]):
        parts.append(data[ends : ends + length])
        ends += length
    if table is None:
        return Contents(parts, {})
    held = region if region is not None else data[ends:]
    extents, used, long = table
    views = [held[start : start + length] for start, length in extents]
    for at, buffer in long:
        parts[at] = views[buffer]
    last = {buffer: at for at, buffers in used for buffer in buffers}
    return Contents(
        parts,
        {
            at: (
                [views[buffer] for buffer in buffers],
                [last[buffer] == at and buffers.count(buffer) == 1 for buffer in buffers],
            )
            for at, buffers in used
        },
    )

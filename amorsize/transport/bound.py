"""Large data that are bound to a function: have they changed since workers were sent them?

Data may be changed in place between two calls, so every call that sends work looks at all of them. A look compares them
with a copy of what was sent, at the speed of memory, and hashes nothing: 80 MB take 15 ms, where SHA-256 takes 50 to
100 and a copy into new memory 45 (`bound` in benchmarks/transport.py). The copy is what is sent, too, so a call needs
no other. It stays after the call, for the next one to be compared with, in bounded memory. What is equal has the same
*mark*, a random number that stands for its content in the function's digest.

The memory of plain arrays that a partial binds is not even pickled: it stands beside the pickle (PEP 574).
"""

from __future__ import annotations

import os
from functools import partial
from itertools import accumulate, pairwise
from struct import Struct
from types import BuiltinFunctionType, FunctionType

from ..hashing import hash_of
from ..lean import NamedTuple, map
from ..seeding import Seeded
from ..state import register
from .by_value import LARGE_BYTES
from .serialize import function_pieces
from .values import holds_plain_arrays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .memory import Buffer

__all__ = ["MOST_KEPT_BYTES", "forget", "pieces_of", "settled", "unpacked"]

# So many bytes are kept for the next calls at most, whatever the number of functions. With a smaller value, calls with
# more data hash them, and programs that map several such functions in turn send them anew; with a larger one, more
# memory stays taken between calls (`bound` in benchmarks/transport.py has 80 MB).
MOST_KEPT_BYTES = 256 << 20
# A function's pieces begin with this where memory stands beside its pickle, which never begins so.
_BESIDE = b"\0"
_NUMBER = Struct("<Q")


class _Kept(NamedTuple):
    """What was sent.

    Attributes:
        rest: a hash of the small pieces, and of how long the large ones are.
        copies: the large pieces, which nobody changes.
    """

    rest: bytes
    copies: tuple[Buffer, ...]

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.copies))


# By mark, the one that was used longest ago first. Threads may share it: where two add the same data at once, they get
# two marks, and workers are sent the data twice.
_kept: dict[bytes, _Kept] = {}


def forget() -> None:
    """Give up what is kept, as no worker is left that has it."""
    _kept.clear()


register(forget)


def settled(pieces: Sequence[Buffer]) -> tuple[list[Buffer], Any]:
    """Return the pieces as they are now, none of which will change, and a hash object that stands for their content.

    Args:
        pieces: of a function; those that are no `bytes` may change later.
    """
    large = [piece for piece in pieces if len(piece) >= LARGE_BYTES]
    if not large or sum(map(len, large)) > MOST_KEPT_BYTES:
        fixed: list[Buffer] = [piece if type(piece) is bytes else bytes(piece) for piece in pieces]
        return fixed, hash_of(fixed)
    told: list[bytes] = []
    for piece in pieces:
        told += [_NUMBER.pack(len(piece)), b"" if len(piece) >= LARGE_BYTES else bytes(piece)]
    read = hash_of(told)
    rest = read.digest()
    mark, kept = _found(rest, large) or (os.urandom(16), _Kept(rest, tuple(map(_copy, large))))
    # Of what is alike but for the large pieces, two are kept: one is mostly an older state of the other.
    alike = [known for known, each in tuple(_kept.items()) if each.rest == rest and known != mark]
    for old in (mark, *alike[:-1]):
        _kept.pop(old, None)
    _make_room(kept.nbytes)
    _kept[mark] = kept
    read.update(mark)
    copies = iter(kept.copies)
    return [next(copies) if len(piece) >= LARGE_BYTES else bytes(piece) for piece in pieces], read


def _found(rest: bytes, large: Sequence[Buffer]) -> tuple[bytes, _Kept] | None:
    for mark, kept in reversed(tuple(_kept.items())):
        if kept.rest == rest and all(map(_is_equal, kept.copies, large)):
            return mark, kept
    return None


def _is_equal(copy: Buffer, piece: Buffer) -> bool:
    # Only bytes with bytes, and a bytearray with anything, are compared by `memcmp`.
    return (type(copy) is bytearray or type(piece) is bytes) and copy == piece


def _copy(piece: Buffer) -> Buffer:
    return piece if type(piece) is bytes else bytearray(piece)


def _make_room(nbytes: int) -> None:
    kept = dict(_kept)
    left = sum([each.nbytes for each in kept.values()]) + nbytes
    for mark, each in kept.items():
        if left <= MOST_KEPT_BYTES:
            return
        left -= each.nbytes
        _kept.pop(mark, None)


def pieces_of(function: object) -> list[Buffer]:
    """Return the pieces of a pickled function, of which `unpacked` tells what to load; raises as `dump_function` does.

    The memory of large arrays is not copied: the pieces may change with them.
    """
    beside: list[memoryview] = []
    pieces = function_pieces(function, beside if _binds_plain_arrays(function) else None)
    if not beside:
        return [*pieces]
    lengths = [_NUMBER.pack(len(memory)) for memory in beside]
    return [b"".join((_BESIDE, _NUMBER.pack(len(beside)), *lengths)), *beside, *pieces]


def _binds_plain_arrays(function: Any) -> bool:
    """Say whether a function is a partial whose arguments run no code of the user's when they are pickled.

    They come last in its pickle, so nothing changes them before they are copied.
    """
    plain = function.function if type(function) is Seeded else function
    if type(plain) is not partial or type(plain.func) not in {FunctionType, BuiltinFunctionType}:
        return False
    attributes = plain.__reduce__()[2][3]  # asking for `__dict__` would give it one
    return not attributes and all(map(holds_plain_arrays, (*plain.args, *plain.keywords.values())))


def unpacked(data: memoryview) -> tuple[memoryview, list[bytearray]]:
    """Return the pickle of a function, and copies of the memory that stands beside it, by its joined pieces."""
    if data[:1] != _BESIDE:
        return data, []
    (count,) = _NUMBER.unpack_from(data, 1)
    start = 1 + _NUMBER.size * (1 + count)
    lengths = [_NUMBER.unpack_from(data, 1 + _NUMBER.size * (1 + at))[0] for at in range(count)]
    places = [*accumulate(lengths, initial=start)]
    return data[places[-1] :], [bytearray(data[begin:end]) for begin, end in pairwise(places)]

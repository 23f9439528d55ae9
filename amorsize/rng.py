"""How does an item get random numbers that depend on nothing but the call's seed and the item's position?

They do not depend on the backend, the number of workers or the chunk size. `item_rng` gives the running item its own
generators. It finds out which item runs only when it is called, so an item that does not call it pays nothing: the
loops that run items are marked with `runs_items`, and the nearest such loop on the calling thread's stack is the one
that runs the item. A context variable could not tell this, because serial work is a generator, and what a generator
sets stays set in its caller's context between two items, where other calls may run.

To give each item one stream, whatever runs it, is the way of R's `furrr_options(seed=)`, which uses L'Ecuyer streams.
NumPy's streams are kept apart as its guide to parallel random number generation says, by a `SeedSequence` of the seed
with the position as its `spawn_key`.
"""

from __future__ import annotations

import sys
from _operator import length_hint
from itertools import compress, repeat

from .errors import UnseededError
from .hashing import sha256
from .lean import overload, public
from .runners import holders, runs_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, Literal

    import numpy.random

__all__ = ["Streams", "digest", "item_rng", "numbered", "runs_items"]

_LIST_ITERATOR: type = type(iter([]))
_FIXED_ITERATORS: tuple[type, ...] = (type(iter(())), type(iter(range(0))))


@overload
def item_rng(kind: Literal["random"] = "random") -> random.Random: ...
@overload
def item_rng(kind: Literal["numpy"]) -> numpy.random.Generator: ...
@public
def item_rng(kind: str = "random") -> Any:
    """Return the running item's own random generator, in a call with `seed=`.

    What the generator draws depends on the seed and the item's position in the input, and on nothing else. An item has
    one generator of each kind; another call in the same item returns the same generator, which goes on where it was. An
    item that is tried again starts with new generators.

    Args:
        kind: "random" for a `random.Random`, "numpy" for a `numpy.random.Generator`. The latter is
            `numpy.random.default_rng(numpy.random.SeedSequence(seed, spawn_key=(index,)))`.

    Raises:
        UnseededError: no item of a call with `seed=` is running in this thread.
        ValueError: `kind` is neither "random" nor "numpy".

    Example:
        >>> import amorsize
        >>> def toss(_):
        ...     return amorsize.item_rng().choice(["heads", "tails"])
        >>> list(amorsize.map(toss, range(3), seed=7)) == list(amorsize.map(toss, range(3), seed=7, n_jobs=2))
        True
    """
    make = _KINDS.get(kind)
    if make is None:
        raise ValueError(f"kind must be 'random' or 'numpy', not {kind!r}")
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        holder = holders.get(frame.f_code)
        if holder is not None:
            held = frame.f_locals[holder]
            streams = held if isinstance(held, Streams) else getattr(held, "streams", None)
            if streams is None:
                break  # only the innermost call counts: whether an outer one has a seed may depend on where it runs
            return streams.generator(kind, make)
        frame = frame.f_back
    raise UnseededError(
        "item_rng() gives a running item its random generator: call it in the function, in the thread that the item "
        "runs in, and pass a seed to the call that maps the function: amorsize.map(function, items, seed=7)"
    )


class Streams:
    """The generators of items that run one after another.

    Args:
        seed: the call's seed.
        running: returns the position of the running item.
    """

    __slots__ = ("_index", "_made", "running", "seed")

    def __init__(self, seed: int, running: Callable[[], int]) -> None:
        self.seed = seed
        self.running = running
        self._index = -1
        self._made: dict[str, Any] = {}

    def generator(self, kind: str, make: Callable[[int, int], Any]) -> Any:
        index = self.running()
        if index != self._index:
            self._index, self._made = index, {}
        made = self._made.get(kind)
        if made is None:
            made = self._made[kind] = make(self.seed, index)
        return made

    def restart(self) -> None:
        """Forget the running item's generators, because the item is tried again."""
        self._made = {}


def numbered(iterator: Iterator[Any], first: int = 0) -> tuple[Iterator[Any], Callable[[], int]]:
    """Return an iterator over the same items, and a function that tells the position of the newest one taken.

    No Python code counts items: an iterator that knows its own position is asked for it, and the items of any other are
    counted by C code.

    Args:
        iterator: the iterator, which may have been advanced.
        first: position of the iterator's next item.
    """
    if type(iterator) is _LIST_ITERATOR:
        # The list may grow meanwhile, so the number of items left does not tell the position.
        reduce: Any = iterator.__reduce__
        offset = first - reduce()[2]
        return iterator, lambda: reduce()[2] + offset - 1
    if type(iterator) in _FIXED_ITERATORS:
        end = first + length_hint(iterator)
        return iterator, lambda: end - length_hint(iterator) - 1
    ticks = repeat(True, sys.maxsize)
    return compress(iterator, ticks), lambda: first + sys.maxsize - length_hint(ticks) - 1


# The functions below make a stream from seed and position. A change to them changes users' results.


def digest(purpose: bytes, seed: int, index: int) -> bytes:
    """Return 32 bytes that stand for a seed and a position, and that differ from one purpose to another."""
    return sha256(b"amorsize %b %d %d" % (purpose, seed, index)).digest()


def _random_generator(seed: int, index: int) -> random.Random:
    from random import Random

    return Random(int.from_bytes(digest(b"item", seed, index), "big"))  # noqa: S311 - for science, not for secrets


def _numpy_generator(seed: int, index: int) -> numpy.random.Generator:
    from numpy.random import SeedSequence, default_rng

    return default_rng(SeedSequence(seed, spawn_key=(index,)))


_KINDS: dict[str, Callable[[int, int], Any]] = {"random": _random_generator, "numpy": _numpy_generator}

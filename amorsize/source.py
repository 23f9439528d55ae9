"""The input of one call: read one item at a time by serial work, some at a time for workers, and never twice."""

from __future__ import annotations

import sys
from itertools import compress, islice, repeat
from operator import length_hint

from .errors import let_signals_through
from .lean import map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from .rng import Streams

__all__ = ["Source"]


class Source:
    """What is left of the input.

    Args:
        iterables: the call's iterables; `iter` is called on each, and nothing else.
        strict: whether unequal lengths are an error, as for `zip`.

    Attributes:
        iterator: yields items; several iterables give tuples.
        index: position of the next item. Who reads from `iterator` directly counts here, or has `keep_count` do it.
        error: what the input raised when it was last read by `take`; the items before it were returned.
        single: whether an item is one argument.
    """

    def __init__(self, iterables: tuple[Iterable[Any], ...], *, strict: bool = False) -> None:
        self._iterables = iterables
        self._iterators = tuple(map(iter, iterables))
        self.single = len(iterables) == 1
        self.iterator: Iterator[Any]
        self._sequence: Sequence[Any] | None = None
        if self.single:
            self.iterator = self._iterators[0]
            if type(iterables[0]) in _SEQUENCES and type(self.iterator) in _THEIR_ITERATORS:
                self._sequence = iterables[0]  # type: ignore[assignment]  # as its type says
        elif strict:
            self.iterator = zip(*self._iterators, strict=True)
        else:
            self.iterator = zip(*self._iterators, strict=False)
        self.index = 0
        self._ticks: repeat[bool] | None = None
        self._first_ticked = 0
        self._interrupted: tuple[Iterator[Any], int] | None = None
        self.streams: Streams | None = None
        self.error: Exception | None = None
        self._total: int | None = None
        self._total_known = False

    def keep_count(self) -> None:
        """See to it that `recount` finds `index` from now on, without those counting who read from `iterator`."""
        if self._sequence is None and self._ticks is None:
            # One tick is drawn for each item, in C, and only after the item.
            self._ticks = repeat(True, sys.maxsize)
            self._first_ticked = self.index
            self.iterator = compress(self.iterator, self._ticks)

    def recount(self) -> None:
        """Set `index` to where the iterator is, as far as that is known; after `keep_count` it is."""
        if self._sequence is not None:
            # The length is that of now: the function may have made a list longer, or shorter.
            self.index = max(self.index, len(self._sequence) - length_hint(self.iterator))
        elif self._ticks is not None:
            self.index = self._first_ticked + sys.maxsize - length_hint(self._ticks)

    @property
    def numbers(self) -> range | None:
        """The input, if it is a range that is read as it is: its items then tell their own positions."""
        plain = type(self._sequence) is range and type(self.iterator) is _RANGE_ITERATOR and self.streams is None
        return self._sequence if plain else None  # type: ignore[return-value]  # as its type says

    def interrupt(self, iterator: Iterator[Any], length: int) -> None:
        """End the iterator of a range of this length, from any thread; `seek` then gives the next one."""
        self._interrupted = iterator, length_hint(iterator)  # about right: it goes on until the next line
        # Whatever is beyond the end is clipped. Not sys.maxsize: it takes a C long, which Windows has shorter.
        iterator.__setstate__(length)  # type: ignore[attr-defined]

    def seek(self, index: int) -> None:
        """Have the item at `index` come next, where the input is a sequence."""
        assert self._sequence is not None
        self.index = index
        self.iterator = iter(self._sequence[index:])

    def take(self, count: int) -> Sequence[Any]:
        """Read up to `count` items. Fewer come back at the end, or before an error, which `error` then holds.

        Neither is met twice: an iterator past its end is not asked again, and an error is also what is read next.
        """
        items: list[Any] = []
        if self.error is None:
            try:
                items.extend(islice(self.iterator, count))  # keeps what came before an error
            except Exception as error:  # noqa: BLE001 - the user's iterator
                let_signals_through(error)
                self.error = error
        self.index += len(items)
        if len(items) < count:
            self.end()
            if self.error is not None:
                self.iterator = _raising(self.error)
        return items

    def end(self) -> None:
        """Have no more items, whatever the input has."""
        self.iterator = iter(())
        self._sequence = self._ticks = None
        self._total, self._total_known = self.index, True

    def remaining(self) -> int | None:
        """Return how many items are left as far as the input tells; None if it does not."""
        try:
            if self._interrupted is not None and self._interrupted[0] is self.iterator:
                return self._interrupted[1]
            if self._sequence is not None:
                return length_hint(self.iterator)
            self.recount()
            total = self._length()
            if total is not None:
                return max(0, total - self.index)
            hints = [length_hint(iterator, -1) for iterator in self._iterators]
        except Exception as error:  # noqa: BLE001 - the user's __length_hint__ failed, or gave too large a number: only a hint
            let_signals_through(error)
            return None
        return None if min(hints) < 0 else min(hints)

    def _length(self) -> int | None:
        if not self._total_known:
            self._total_known = True
            try:
                self._total = min(map(len, self._iterables))  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - no length, or the user's __len__ failed: it is only a hint
                let_signals_through(error)
                self._total = None
            if self._total is not None and any(map(_is_iterator, self._iterables)):
                self._total = None
        return self._total


_RANGE_ITERATOR: type = type(iter(range(0)))
_SEQUENCES: tuple[type, ...] = (list, tuple, range)
_THEIR_ITERATORS: tuple[type, ...] = (type(iter([])), type(iter(())), _RANGE_ITERATOR)


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield


def _is_iterator(iterable: object) -> bool:
    # An iterator's length, where it has one, is usually what is left and shrinks.
    return hasattr(iterable, "__next__")

"""The input of one call: serial work reads it item by item, workers get several items at a time, no item comes twice.

A list, tuple, range, string, bytes or NumPy array is read ahead as it is. Any other input may use one record again for
all its items, end a group when the next one begins, or be tied to its thread. So such an input is advanced only in the
thread that calls `take`, and each item is fixed before the next is pulled: an item that cannot change waits as it is,
any other waits as its pickle. `unfixed` holds an item that cannot be fixed; it must run before anything more is read.

Small items of a NumPy array are read for workers as one array (`transport.values.Rows`).
"""

from __future__ import annotations

import sys
from _operator import length_hint
from itertools import compress, islice, repeat, takewhile
from time import perf_counter

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from ..transport.values import SCALARS, Rows, holds_iterator, is_array, is_plain, row_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from ..rng import Streams
    from .ends import Ends

__all__ = ["Source", "Unfixed"]

# Where an input is not read as it is, a chunk's items are read for no longer than this, because a slow input would hold
# back results that are ready. A smaller value means shorter chunks, so that their cost weighs more; a larger one means
# that results wait longer.
_READING_SECONDS = 0.002


class Unfixed(NamedTuple):
    """An item that cannot wait, and why."""

    item: Any
    error: Exception


class Source:
    """What is left of the input.

    Args:
        iterables: the call's iterables; `iter` is called on each, and nothing else.
        strict: whether unequal lengths are an error, as for `zip`.
        iterators: what `iter` has given for them, if it was called before.

    Attributes:
        iterator: yields items; several iterables give tuples.
        index: position of the next item. Code that reads from `iterator` directly must add to it, or call `keep_count`.
        error: what the input raised when it was last read by `take`; the items before it were returned.
        single: whether an item is one argument.
        exact: whether the input is read ahead as it is; reading an item then runs no code of the user's.
        held: whether `take` did not ask the input for more, because it may grow once the results so far are handed out.
        unfixed: the item that `take` read after those it returned, if that item cannot wait; else None.
        slow: whether reading took long the last time.
        over: whether the input has ended, or is asked no more.
        crosses: whether what `take` returns is sent to other processes, so that it may be `Rows`.
        failed_at: when an item raised in serial work, which ended it, in `time.perf_counter()` seconds; 0 if none did.
    """

    crosses = False  # until a pump says so

    def __init__(
        self, iterables: tuple[Iterable[Any], ...], *, strict: bool = False, iterators: tuple[Iterator[Any], ...] = ()
    ) -> None:
        self._iterables = iterables
        self.held = self.slow = self.over = False
        self.unfixed: Unfixed | None = None
        self._iterators = iterators or tuple(map(iter, iterables))
        self.single = len(iterables) == 1
        self.iterator: Iterator[Any]
        self._sequence: Sequence[Any] | None = None
        if self.single:
            self.iterator = self._iterators[0]
            if type(self.iterator) in _THEIR_ITERATORS and (type(iterables[0]) in _SEQUENCES or is_array(iterables[0])):
                self._sequence = iterables[0]  # type: ignore[assignment]  # as its type says
        elif strict:
            self.iterator = zip(*self._iterators, strict=True)
        else:
            self.iterator = zip(*self._iterators, strict=False)
        self.exact = self.single and (type(iterables[0]) in _EXACT or is_array(iterables[0]))
        self._growing = self.iterator if self.exact and type(iterables[0]) is list else None
        self._ends: Ends | None = None
        self.index = 0
        self._ticks: repeat[bool] | None = None
        self._first_ticked = 0
        self._interrupted: tuple[Iterator[Any], int] | None = None
        self.streams: Streams | None = None
        self.error: Exception | None = None
        self._total: tuple[int | None, ...] = ()  # the length, or None, once it was asked for
        self.failed_at = 0.0

    def through(self, iterator: Iterator[Any]) -> None:
        """Have the items come through an iterator that reads the present one, item by item."""
        self.iterator, self._sequence = iterator, None

    def keep_count(self) -> None:
        """Have the items counted in C: `recount` then finds `index`, and readers of `iterator` need not count."""
        if self._sequence is None and self._ticks is None:
            # One tick is drawn for each item, in C, and only after the item.
            self._ticks = repeat(True, sys.maxsize)
            self._first_ticked = self.index
            self.iterator = compress(self.iterator, self._ticks)

    def recount(self) -> None:
        """Set `index` to where the iterator is, as far as that is known. After `keep_count` it always is."""
        self.index = self.newest + 1

    @property
    def newest(self) -> int:
        """Position of the newest item that was read, as far as that is known; -1 if none was."""
        if self._sequence is not None:
            # This is the present length, because the function may have made a list longer or shorter.
            return max(self.index, len(self._sequence) - length_hint(self.iterator)) - 1
        if self._ticks is not None:
            return self._first_ticked + sys.maxsize - length_hint(self._ticks) - 1
        return self.index - 1

    @property
    def numbers(self) -> range | None:
        """The input, if it is a range that is read as it is, so that each item tells its own position; else None."""
        plain = type(self._sequence) is range and type(self.iterator) is _RANGE_ITERATOR and self.streams is None
        return self._sequence if plain else None  # type: ignore[return-value]  # as its type says

    def interrupt(self, iterator: Any, length: int) -> None:
        """End the iterator of a range of this length, from any thread; `seek` then makes the next iterator."""
        # This is only about right, because the iterator goes on until it is set to its end.
        self._interrupted = iterator, length_hint(iterator)
        # A position beyond the end is clipped. It cannot be sys.maxsize, because it must fit a C long, shorter on
        # Windows.
        iterator.__setstate__(length)

    def worklist_call(self) -> str | None:
        """Return the call by which an iterator takes items off a worklist that results may add to; None if none.

        Such an input must not be read ahead, because it may then find the worklist empty before a result adds to it.
        """
        if self.exact:
            return None
        from ..code.worklist import worklist_call

        return next(filter(None, map(worklist_call, self._iterators)), None)

    def begins_with_iterators(self) -> bool:
        """Say whether the first items of an exact input hold iterators; then all items may."""
        sequence = self._sequence
        return sequence is not None and type(sequence) is not range and any(map(holds_iterator, sequence[:2]))

    def seek(self, index: int) -> None:
        """Have the item at `index` come next. The input must be a sequence."""
        assert self._sequence is not None
        self.index = index
        self.iterator = iter(self._sequence[index:])

    def take(
        self,
        count: int,
        *,
        to_end: bool = True,
        fix: Callable[[Any], Any] | None = None,
        plain_only: bool = False,
        in_time: bool = False,
    ) -> Sequence[Any]:
        """Read up to `count` items. Fewer come back at the end, or before an error, which `error` then holds.

        The input is not asked again after its end or an error; who reads on after an error gets the same error.
        Fewer items come back, too, when `held`, `unfixed` or `slow` says so.

        Args:
            count: at least 1.
            to_end: whether to ask an input that may be at its end; right only when all results were handed out.
            fix: returns what stands for an item of an input that is not exact, such as its pickle; None if the items
                will run before more is read.
            plain_only: whether to stop before the first item of an exact input that is not a plain value.
            in_time: whether to return fewer items if an input that is not exact is slow.
        """
        items: list[Any] = []
        self.held, self.slow, self.unfixed = False, False, None
        if self.crosses and fix is not None and not plain_only and not self.over and self.row_bytes is not None:
            return self._take_rows(count)
        if not self.over:
            if self.exact:
                asked = self._askable(count, to_end, plain_only) if self._growing is not None or plain_only else count
                ended = self._take_exact(items, asked)
            else:
                ended = self._take_fixed(items, count, to_end, fix, in_time)
            if ended:
                if not to_end and self._ends is not None:
                    self._ends.note()
                self.end()
            if self.error is not None:
                self.end()
                self.iterator = _raising(self.error)
        return items

    @property
    def live(self) -> bool:
        """Whether the input says when reading it would have to wait, so that results need not wait with it."""
        return self.single and hasattr(self._iterables[0], "amorsize_would_wait")

    def would_wait(self) -> bool:
        """Say whether the input is live, and nothing more of it has come yet."""
        if not self.live or self.over:
            return False
        live: Any = self._iterables[0]
        return bool(live.amorsize_would_wait())

    def is_drained(self) -> bool:
        """Say whether it is known at once that `take(..., to_end=False)` would find nothing now."""
        if self.over:
            return self.error is None and self.unfixed is None
        if not self.exact or type(self.iterator) not in _THEIR_ITERATORS or length_hint(self.iterator):
            return False  # it may be the user's iterator, or the one that numbers items for their seeds
        self.held = self._growing is not None
        return True

    def _askable(self, count: int, to_end: bool, plain_only: bool) -> int:
        """Return how many items of an exact input may be read now; set `held` if a list's present end limits it."""
        if self._growing is not None and not to_end:
            left = length_hint(self._growing)
            self.held = left < count
            count = min(left, count)
        sequence = self._sequence
        if plain_only and sequence is not None and type(sequence) is not range:
            start = len(sequence) - length_hint(self.iterator)
            count = sum(1 for _ in takewhile(is_plain, sequence[start : start + count]))
        return count

    def _take_exact(self, items: list[Any], count: int) -> bool:
        """Read `count` items; say whether the input has ended."""
        try:
            items.extend(islice(self.iterator, count))  # `extend` keeps the items that came before an error
        except Exception as error:
            self.error = error
        self.index += len(items)
        return len(items) < count

    @property
    def row_bytes(self) -> int | None:
        """How many bytes an item of a NumPy array has, if its items can be sent as `Rows`; else None."""
        if self._sequence is None or not is_array(self._sequence):
            return None
        from ..transport.memory import LEAST_SHARED_BYTES

        return row_bytes(self._sequence, LEAST_SHARED_BYTES)

    def _take_rows(self, count: int) -> Sequence[Any]:
        array: Any = self._sequence
        start = len(array) - length_hint(self.iterator)
        copied: Any = Rows.of(array, start, start + count)
        rows: Sequence[Any] = copied
        self.seek(start + len(rows))
        if len(rows) < count:
            self.end()
        return rows

    def _take_fixed(
        self, items: list[Any], count: int, to_end: bool, fix: Callable[[Any], Any] | None, in_time: bool
    ) -> bool:
        """Read up to `count` items, each one fixed before the next is pulled; say whether the input has ended."""
        if self._ends is None:
            from .ends import Ends

            self._ends = Ends(self._iterables, self._iterators)
        self._ends.look()
        began = perf_counter()
        doubtful = False
        live: Any = getattr(self._iterables[0], "amorsize_would_wait", None) if self.live else None
        may_be_near = self._ends.may_be_near if self._ends.watches() else None
        while len(items) < count:
            if in_time and items and perf_counter() - began >= _READING_SECONDS:
                break
            if live is not None and items and live():
                break
            if may_be_near is not None and may_be_near(self.index):
                if not to_end or items:
                    self.held = True
                    break
                doubtful = True
            try:
                item = next(self.iterator)
            except StopIteration:
                return True
            except Exception as error:
                self.error = error
                return False
            self.index += 1
            if doubtful:
                self._ends.disbelieve()
            if type(item) in SCALARS or fix is None or is_plain(item):
                items.append(item)
                continue
            try:
                items.append(fix(item))
            except Exception as error:
                let_signals_through(error)
                self.unfixed = Unfixed(item, error)
                break
        self.slow = perf_counter() - began >= _READING_SECONDS
        return False

    def has_grown_behind(self) -> bool:
        """Say whether a list below the input became longer after the input had ended."""
        return self._ends is not None and self._ends.has_grown()

    def end(self) -> None:
        """Have no more items, even if the input has some."""
        self.over = True
        self.iterator = iter(())
        self._sequence = self._ticks = None
        self._total = (self.index,)

    def remaining(self) -> int | None:
        """Return how many items are left, if the input tells; None if it does not."""
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
        except Exception as error:
            let_signals_through(error)
            return None
        return None if min(hints) < 0 else min(hints)

    def _length(self) -> int | None:
        if not self._total:
            self._total = (None,)
            try:
                total = min(map(len, self._iterables))  # type: ignore[arg-type]
            except Exception as error:
                let_signals_through(error)
            else:
                self._total = (None if any(map(_is_iterator, self._iterables)) else total,)
        return self._total[0]


_EXACT: tuple[type, ...] = (list, tuple, range, str, bytes)
_LIST_ITERATOR: type = type(iter([]))
_RANGE_ITERATOR: type = type(iter(range(0)))
_SEQUENCES: tuple[type, ...] = (list, tuple, range)
_ARRAY_ITERATOR: type = type(iter(type("", (), {"__getitem__": None})()))  # that of any class without `__iter__`
_THEIR_ITERATORS: tuple[type, ...] = (_LIST_ITERATOR, type(iter(())), _RANGE_ITERATOR, _ARRAY_ITERATOR)


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield


def _is_iterator(iterable: object) -> bool:
    # If an iterator has a length, that is usually the number of items left, which shrinks.
    return hasattr(iterable, "__next__")

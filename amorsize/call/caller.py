"""Runs items in the caller: as the builtin would, or watched by a clock until it is known what they cost.

Plain serial work is a generator around a `for` loop: CPython calls a Python function from a generator's frame as fast
as the builtin's C loop does (`benchmarks/overhead.py`), each `next()` pulls and runs one item, and an error ends it.

Watched work times each item while items are long. Once they are short, timing each would cost more than it tells, so
they run in stretches: the first stretches are a few items long, later ones last until a watching thread raises a flag,
which it does every `STRETCH_SECONDS`. So however cheap the items were, at most one slow item runs before the clock is
looked at again. If the input is a range, the thread ends its iterator instead of raising the flag; the loop then need
not look at the flag between items, and the last number tells where to go on. The thread lives only while short items
run one after another; it ends by itself when they do not.
"""

from __future__ import annotations

import sys
from itertools import islice
from time import perf_counter, sleep, thread_time

from ..context import in_import
from ..errors import add_index, raised_by
from ..lean import NamedTuple, deque, partial
from ..measure.machine import busy_seconds
from ..measure.times import ItemTimes
from ..plan.retry import NOT_OF_ITEMS, backoff_seconds
from ..runners import runs_items
from .in_sight import GONE, PLAIN, in_sight, seen
from .preload import loaded
from .watch import STRETCH_SECONDS, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import CodeType
    from typing import Any

    from ..feed.outcome import Outcome
    from ..feed.source import Source
    from ..rng import Streams

__all__ = ["Attempt", "Serial", "apply_star", "attempts", "plain"]

# Items longer than this are timed one by one. Timing an item costs about 0.8 us, so that is at most 4% of the item.
_LONG_ITEM_SECONDS = 20e-6
# Short items run this long before the watching thread is started, because starting and ending it costs 100 us. This is
# the total time, and does not begin anew each time that items turn short: otherwise slow items strewn among short
# ones would always be met in this time, in which they are not counted.
_UNWATCHED_SECONDS = 300e-6
_UNWATCHED_ITEMS = 8
# Items that are short, but not shorter than this, are followed by a look at the clock instead in the first so many
# seconds: it takes 0.1 us, and the thread 0.3 ms, or some milliseconds on a busy machine. With a smaller first number,
# looking costs short items more; with a larger one, or a smaller second one, calls of a few milliseconds pay for the
# thread (400 files in benchmarks/waiting.py).
_MEDIUM_ITEM_SECONDS = 5e-6
_TIMED_SECONDS = 0.020
# After this many short items one after another, the next ones are not timed alone any more. The first number is the
# least; after something long, the second number asks for more for each second of it. Smaller numbers mean that slow
# items strewn among short ones are met only where they are not counted; larger ones mean that timing short items costs
# a larger part of the time of the long ones, which is 5% now.
_SHORT_IN_A_ROW = 4
_SHORT_PER_LONG_SECOND = 60_000
# At most this much of a stretch counts as long, because the time may have been a pause of the user's between two
# `next()` calls.
_PAUSE_SECONDS = 0.016
# A stretch that ends this late was held up by its last item, or by the user. With a smaller value, it may also have
# been the system's scheduling.
_LATE_SECONDS = 4 * STRETCH_SECONDS
# Less time than this is not worth a look at the CPU clock, which needs a system call.
_CPU_LOOK_SECONDS = 0.001
# A first item this many times as long as the second one paid for something once, such as an import or a cache.
ONE_TIME_FACTOR = 10.0
# How many of the newest items and results are kept to learn what pickling them costs.
_KEPT = 2


@runs_items()
def apply_star(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call `function` with one item that is a tuple of arguments."""
    return function(*arguments)


@runs_items("source")
def plain(function: Callable[..., Any], source: Source, *, star: bool) -> Iterator[Any]:
    """Yield results as the builtin would. A `try` around each item costs nothing as long as there is no error."""
    source.keep_count()
    if star:
        for arguments in source.iterator:
            try:
                yield function(*arguments)
            except StopIteration:
                return  # the function raised it; the builtin's iteration ends there too
            except Exception as error:
                _locate(error, source)
                raise
    else:
        for item in source.iterator:
            try:
                yield function(item)
            except StopIteration:
                return
            except Exception as error:
                _locate(error, source)
                raise


def _locate(error: Exception, source: Source) -> None:
    """Add the position of the newest item, which raised it and ends the work, to an error."""
    source.failed_at = perf_counter()
    source.recount()
    add_index(error, source.index - 1)


class Attempt(NamedTuple):
    """Runs one item in a call where errors do not simply end the call.

    Attributes:
        function: takes one item.
        outcome: the verdict on items that failed.
        streams: the items' random streams, which a retry draws from afresh; None without a seed.
        limits: code of the signal handlers that were installed before the items began. An exception from one of them
            is about the whole call; one from a handler that an item installed is an error of that item.
    """

    function: Callable[[Any], Any]
    outcome: Outcome
    streams: Streams | None = None
    limits: Collection[CodeType] = ()

    @runs_items()
    def __call__(self, item: Any, index: int) -> Any:
        """Run one item."""
        try:
            return self.function(item)
        except NOT_OF_ITEMS:
            raise
        except BaseException as error:  # the user's function
            return self.rescue(error, item, index)

    @runs_items()
    def rescue(self, error: BaseException, item: Any, index: int) -> Any:
        """Return the result of an item whose first try raised `error`, or its last error; or raise that error."""
        if raised_by(self.limits, error):
            raise error
        tries = 1
        while self.outcome.is_tried_again(error, tries):
            sleep(backoff_seconds(tries))
            tries += 1
            if self.streams is not None:
                self.streams.restart()
            try:
                return self.function(item)
            except NOT_OF_ITEMS:
                raise
            except BaseException as again:
                if raised_by(self.limits, again):
                    raise
                error = again
        if self.outcome.stands(index, error, tries):
            return error
        raise error


@runs_items("source")
def attempts(
    attempt: Attempt, source: Source, flag: Sequence[bool] = (), at_end: Callable[[bool], None] | None = None
) -> Iterator[Any]:
    """Yield results where errors do not simply end the call.

    Args:
        attempt: runs an item that has failed again, or decides what becomes of it.
        source: the input; it keeps its own count from now on.
        flag: ends the iteration after the present item when it is no longer empty.
        at_end: is called at the end; its argument says whether nothing is left to do.
    """
    source.keep_count()
    function = attempt.function
    ended = True
    try:
        for item in source.iterator:
            try:
                value = function(item)
            except StopIteration:
                return  # the function raised it; the builtin's iteration ends there too
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # the user's function
                source.recount()
                value = attempt.rescue(error, item, source.index - 1)
            yield value
            if flag:
                ended = False
                return
    except StopIteration:
        return  # a later try of an item raised it
    except Exception:
        source.failed_at = perf_counter()
        raise
    finally:
        source.recount()
        if at_end is not None:
            at_end(ended)


class First(NamedTuple):
    """The first item of some serial work.

    Attributes:
        seconds: how long it ran.
        imported: whether modules were imported meanwhile.
        once: whether the second item was so short that the first must have paid for something once.
    """

    seconds: float
    imported: bool
    once: bool = False


class Serial:
    """Watched serial work. `phases()` yields iterables of results; it ends with the input, or when `leave` says so.

    Args:
        function: the user's function.
        source: the input.
        leave: is called now and then with this object; if it returns True, the serial work ends before the next item.
        before_thread: is called before a thread starts here, because the number of threads must be read before.
        attempt: runs an item if errors do not end the call; None if they do.

    Attributes:
        times: the times of the items so far.
        seconds: the sum of `times`.
        cpu_seconds: CPU seconds of this thread meanwhile, at most `seconds`. They include the user's own work between
            two `next()` calls, so that no computing is taken for waiting. They are read once a stretch, not once an
            item.
        ended: whether nothing is left to do, because the input is over or the function raised.
        failed: whether the function raised.
        counted: whether the call has taken in what this object measured.
        first: the first item timed here.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        source: Source,
        *,
        leave: Callable[[Serial], bool],
        before_thread: Callable[[], object] | None = None,
        attempt: Attempt | None = None,
    ) -> None:
        self.times = ItemTimes()
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        # This thread's clock, and `seconds`, when it was read last; and the whole process's, when all began.
        self._cpu_noted = thread_time(), 0.0, busy_seconds()
        self.ended = self.failed = self.counted = False
        self._recent: deque[tuple[Any, Any]] = deque(maxlen=_KEPT)  # items and results, as `in_sight` returns them
        self._at_hand: tuple[Any, Any] | None = None  # the newest pair, while `leave` is asked
        self.first: First | None = None
        self._items_per_second = 0.0
        self._looks_long = False
        self._short_in_a_row = _SHORT_IN_A_ROW
        self._left = False
        self._unwatched_seconds = _UNWATCHED_SECONDS
        self._function = function
        self._source = source
        self._leave = leave
        self._before_thread = before_thread
        self._attempt = attempt

    @property
    def seconds_per_item(self) -> float:
        """The newest items' mean seconds: those in about the last half of the time count, older ones fade."""
        return 1.0 / self._items_per_second if self._items_per_second else 0.0

    @property
    def recent(self) -> list[tuple[Any, Any]]:
        """The newest few items that were timed alone, with their results, if both still exist."""
        pairs = [(seen(item), seen(value)) for item, value in self._recent]
        if self._at_hand is not None:
            pairs[-1] = self._at_hand
        return [pair for pair in pairs if pair[0] is not GONE and pair[1] is not GONE]

    def _failed(self, error: Exception) -> None:
        """Note that the newest item failed, and add its position to the error."""
        self.failed = True
        _locate(error, self._source)

    def is_over(self) -> bool:
        """Say whether nothing is left to do, in the caller or on workers."""
        return self.ended

    @runs_items("source")
    def first_item(self, beside: AbstractContextManager[object]) -> Iterator[Any]:
        """Run one item under the clock, in a `with` block of `beside`."""
        source, attempt = self._source, self._attempt
        self.ended = True
        for item in islice(source.iterator, 1):
            source.index += 1
            try:
                modules = len(sys.modules) - loaded()
                with beside:
                    began = perf_counter()
                    value = self._function(item) if attempt is None else attempt(item, source.index - 1)
                    seconds = perf_counter() - began
            except StopIteration:
                return
            except Exception as error:
                self._failed(error)
                raise
            self._add_one(seconds)
            self.first = First(seconds, len(sys.modules) - loaded() > modules)
            self._recent.append((in_sight(item), in_sight(value)))
            self.ended = False
            yield value

    def phases(self) -> Iterator[Iterator[Any]]:
        """Yield generators of results; each must be iterated to its end before the next one is asked for."""
        for phase in self._phases():
            yield phase
            if self._stop():
                return

    def _phases(self) -> Iterator[Iterator[Any]]:
        while True:
            yield self._long_items()
            if self._unwatched_seconds > 0:
                yield self._unwatched()
            while not self._looks_long and self.seconds < _TIMED_SECONDS and self._is_medium():
                yield self._timed_stretch()
            if self._looks_long:
                continue
            if self._before_thread is not None:
                self._before_thread()
            with Watch() as watch:
                watch.preloads = not in_import()
                while not self._looks_long:
                    source, attempt = self._source, self._attempt
                    numbers = source.numbers if attempt is None else None
                    watch.begin(partial(source.interrupt, source.iterator, len(numbers)) if numbers else None)
                    if attempt is not None:
                        yield self._watched_attempts(attempt, watch.flag)
                    elif numbers:
                        yield self._range_stretch(numbers)
                    else:
                        yield self._watched_stretch(watch.flag)

    def _is_medium(self) -> bool:
        return self.seconds_per_item >= _MEDIUM_ITEM_SECONDS

    def busy_seconds(self) -> float:
        """Return the CPU seconds of the whole process meanwhile, and of programs that it has run; at most `seconds`."""
        return max(0.0, min(busy_seconds() - self._cpu_noted[2], self.seconds))

    def leave_out(self, seconds: float) -> None:
        """Take in that so many CPU seconds since the last look were not the items'."""
        clock, noted, before = self._cpu_noted
        self._cpu_noted = clock + seconds, noted, before + seconds

    def note_cpu(self) -> None:
        """Take in the CPU time since the last look."""
        clock, seconds, before = self._cpu_noted
        self._cpu_noted = thread_time(), self.seconds, before
        self.cpu_seconds += max(0.0, min(self._cpu_noted[0] - clock, self.seconds - seconds))

    def _stop(self) -> bool:
        if self.seconds - self._cpu_noted[1] > _CPU_LOOK_SECONDS:
            self.note_cpu()
        return self.ended or self._left or self._leave(self)

    def _look_long(self, seconds: float) -> None:
        self._looks_long = True
        self._short_in_a_row = max(_SHORT_IN_A_ROW, int(seconds * _SHORT_PER_LONG_SECOND))

    def _add_one(self, seconds: float) -> None:
        """Take in one item; this is done for each item that is timed alone, so it is kept short."""
        self.seconds = spent = self.seconds + seconds
        times = self.times
        times.add(seconds)
        if times.n == 2 and self.first is not None and self.first.seconds > ONE_TIME_FACTOR * seconds:
            self._items_per_second = 0.0
            self.first = self.first._replace(once=True)
        rate = self._items_per_second
        if rate and 2.0 * seconds < spent:
            self._items_per_second = rate + 2.0 * (1.0 - seconds * rate) / spent  # as for several items, below
        elif seconds > 0.0:
            self._items_per_second = 1.0 / seconds

    def _add(self, items: int, seconds: float) -> None:
        if items == 1:
            self._add_one(seconds)
            return
        self.seconds += seconds
        self.times.add_block(items, seconds)
        if seconds > 0:
            weight = min(1.0, 2 * seconds / self.seconds) if self._items_per_second else 1.0
            self._items_per_second += weight * (items / seconds - self._items_per_second)

    def _add_stretch(self, items: int, seconds: float) -> None:
        # The seconds include the user's own time between two `next()` calls. So a stretch that looks long is not
        # counted; the next items are timed alone instead.
        if seconds >= items * _LONG_ITEM_SECONDS:
            self._look_long(min(seconds, _PAUSE_SECONDS))
        elif seconds > _LATE_SECONDS and items > 1:
            # The flag was raised long before the end, so all items were short but the last, which was not.
            self._look_long(min(seconds, _PAUSE_SECONDS))
            self._add(items - 1, STRETCH_SECONDS)
        else:
            self._add(items, seconds)

    @runs_items("source")
    def _long_items(self) -> Iterator[Any]:
        """Run items one by one under the clock, until they turn out short or `leave` says so."""
        function, source, attempt = self._function, self._source, self._attempt
        add, keep = self._add_one, self._recent.append
        look_at, short, modules = 0.0, 0, len(sys.modules)
        ended = True
        try:
            for item in source.iterator:
                began = perf_counter()
                source.index += 1
                try:
                    value = function(item) if attempt is None else attempt(item, source.index - 1)
                except StopIteration:
                    return  # the builtin's iteration ends there too
                except Exception as error:
                    self._failed(error)
                    raise
                seconds = perf_counter() - began
                add(seconds)
                if self.first is None:
                    self.first = First(seconds, len(sys.modules) > modules)
                # Objects of the user's are not kept alive.
                if type(item) in PLAIN and type(value) in PLAIN:  # this is the usual case, and saves two calls
                    keep((item, value))
                else:
                    keep((in_sight(item), in_sight(value)))
                if self.seconds >= look_at:
                    # This comes while item and result are at hand, because later they may be changed, or gone.
                    self._at_hand = item, value
                    self._left = self._leave(self)
                    self._at_hand = None
                    look_at = self.seconds * 1.25
                del item
                yield value
                del value
                if self._left:
                    ended = False
                    return
                if seconds < _LONG_ITEM_SECONDS:
                    short += 1
                else:
                    short = 0
                    self._look_long(seconds)
                if short >= self._short_in_a_row:
                    self._looks_long = False
                    ended = False
                    return
        finally:
            self.ended = ended

    @runs_items("source")
    def _unwatched(self) -> Iterator[Any]:
        """Run items, looking at the clock after every few, until they turn out long or this has lasted long enough."""
        function, source, attempt = self._function, self._source, self._attempt
        before = good = source.index
        began = last = now = perf_counter()
        ended = True
        try:
            while now - began < self._unwatched_seconds:
                for item in islice(source.iterator, _UNWATCHED_ITEMS):
                    source.index += 1
                    try:
                        value = function(item) if attempt is None else attempt(item, source.index - 1)
                    except StopIteration:
                        return
                    except Exception as error:
                        self._failed(error)
                        raise
                    yield value
                now = perf_counter()
                done = source.index - good
                if now - last >= done * _LONG_ITEM_SECONDS:
                    # These few items are not counted, because the time between two `next()` calls is in theirs.
                    self._look_long(min(now - last, _PAUSE_SECONDS))
                else:
                    good, last = source.index, now
                if done < _UNWATCHED_ITEMS:
                    return  # the input is over, and must not be asked again
                if self._looks_long:
                    break
            ended = False
        finally:
            self.ended = ended
            self._unwatched_seconds -= now - began
            if good > before:
                self._add(good - before, last - began)

    @runs_items("source")
    def _timed_stretch(self) -> Iterator[Any]:
        """Run items, looking at the clock after each, until one turns out long or this has lasted as a stretch does."""
        function, source, attempt = self._function, self._source, self._attempt
        before = good = source.index
        began = last = perf_counter()
        until = began + STRETCH_SECONDS
        ended = True
        try:
            for item in source.iterator:
                source.index += 1
                try:
                    value = function(item) if attempt is None else attempt(item, source.index - 1)
                except StopIteration:
                    return
                except Exception as error:
                    self._failed(error)
                    raise
                yield value
                now = perf_counter()
                if now - last > _UNWATCHED_ITEMS * _LONG_ITEM_SECONDS:
                    # It is not counted, because the time between two `next()` calls is in its time.
                    self._look_long(min(now - last, _PAUSE_SECONDS))
                    ended = False
                    return
                good, last = source.index, now
                if now > until:
                    ended = False
                    return
        finally:
            self.ended = ended
            if good > before:
                self._add_stretch(good - before, last - began)

    @runs_items("source")
    def _watched_stretch(self, flag: list[bool]) -> Iterator[Any]:
        """Run items until the flag is raised."""
        function, source = self._function, self._source
        source.keep_count()
        before, began = source.index, perf_counter()
        ended = True
        try:
            for item in source.iterator:
                try:
                    yield function(item)
                except StopIteration:
                    return
                except Exception as error:
                    self._failed(error)
                    raise
                if flag:
                    ended = False
                    return
        finally:
            self.ended = ended
            source.recount()
            self._add_stretch(source.index - before, perf_counter() - began)

    @runs_items("source")
    def _range_stretch(self, numbers: range) -> Iterator[Any]:
        """Run items of a range until the watch ends its iterator, so that nothing need be looked at between items."""
        function, source = self._function, self._source
        first = index = source.index
        began = perf_counter()
        number: Any = None
        self.ended = ended = True
        try:
            for number in source.iterator:
                yield function(number)
            ended = number == numbers[-1]
        except StopIteration:
            return
        except Exception as error:
            source.failed_at = perf_counter()
            add_index(error, numbers.index(number))
            raise
        finally:
            if number is not None:
                index = numbers.index(number) + 1
            source.seek(index)
            self._add_stretch(index - first, perf_counter() - began)
            self.ended = ended  # comes last: after an interrupt before it, the work has ended and does not begin anew

    def _watched_attempts(self, attempt: Attempt, flag: list[bool]) -> Iterator[Any]:
        """Run items until the flag is raised, in a call where errors do not simply end the call."""
        source = self._source
        before, began = source.index, perf_counter()

        def at_end(ended: bool) -> None:
            self.ended = ended
            self._add_stretch(source.index - before, perf_counter() - began)

        return attempts(attempt, source, flag, at_end)

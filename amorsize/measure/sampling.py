"""What does the work itself cost? This measures the time of an item, its spread, and the cost of crossing to a worker.

Clocks are arguments throughout, so tests never wait. The cost of crossing is measured by comparing dumps of different
lengths, because most of what a single small dump costs is fixed.
"""

from __future__ import annotations

import sys
from itertools import pairwise

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from ..log import debug
from ..transport.values import holds_iterator
from .times import ItemTimes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["ItemTimes", "Sample", "Transfer", "measure_transfer", "sample", "spread"]

LEAST_ITEMS = 5  # fewer items say nothing of the spread
MOST_ITEMS = 1_000  # sampling more cheap items costs time and changes nothing
LEAST_SECONDS = 1e-3  # cheap items are sampled at least so long, to give rare dear ones among them a chance to show
ENOUGH_RELATIVE_ERROR = 0.05  # of the mean; once the error is below this, a plan no longer depends on it
ONE_TIME_FACTOR = 10.0  # a first call this much dearer than all others paid something once, as an import or a cache
KEPT_RESULTS = 32  # results are kept to measure their way back; more would take memory and not improve the figure
DEAR_DUMP_SECONDS = 2e-3  # a dump or load that takes this long is measured once, on one item
# With fewer repeats the measured cost of a small integer is 0.4 to 0.7 us, where the true one is 0.03 us; more repeats
# take longer than the figure is worth.
_MOST_REPEATS = 20
_REPEATS_SECONDS = 100e-6
_NUMBER_SECONDS = 0.03e-6
_NUMBERS = frozenset({int, float, bool, type(None)})
# Of a large buffer so much is copied to learn what copying it takes, 0.2 ms. With a smaller value, memory that the
# process has at hand already tells too good a figure; with a larger one, first calls that stay in the caller are held
# up by it (`results` in benchmarks/transport.py).
_COPIED_BYTES = 1_000_000
_PROTOCOL = 5


class Transfer(NamedTuple):
    """What it costs one item to cross to a worker and its result to come back.

    Attributes:
        bytes_in: pickled bytes of one item among others; None if some item cannot be pickled, or there is none.
        bytes_out: pickled bytes of one result among others; None if some result cannot be pickled, or there is none.
        seconds_per_item: the caller's own time for pickling one item and unpickling one result, without copying large
            memory that they offer beside their pickles.
        copied_bytes: how much of a result's large memory was copied, to learn what that takes; 0 if it has none.
        copied_seconds: how long that took.
    """

    bytes_in: float | None
    bytes_out: float | None
    seconds_per_item: float
    copied_bytes: int = 0
    copied_seconds: float = 0.0


class Sample(NamedTuple):
    """What was learnt from running some items in the caller.

    Attributes:
        items: the items taken, in the order taken, whether they succeeded or not.
        results: the results of the first items that succeeded, at most `KEPT_RESULTS`.
        times: the running times of the items.
        cpu_share: CPU seconds over wall seconds: 0 if the items only wait, 1 if they compute, more than 1 if they
            compute on several cores.
        failures: the position among `items` and the exception of each item that raised one.
        exhausted: whether the input ended before the sample did.
    """

    items: list[Any]
    results: list[Any]
    times: ItemTimes
    cpu_share: float
    failures: list[tuple[int, Exception]]
    exhausted: bool


def sample(
    func: Callable[[Any], object],
    items: Iterator[Any],
    budget_seconds: float,
    clock: Callable[[], float],
    cpu_clock: Callable[[], float],
) -> Sample:
    """Run items in the caller until their mean time is known well enough, or the budget is spent.

    An item is taken only to be run, and at least one is taken if there is one. The time of an item that raises counts
    too.

    Args:
        func: takes one item.
        items: only the items that are run are taken from it; its own exceptions pass through.
        budget_seconds: no item is taken once so long has passed, save a second one if the first imported modules.
        clock: returns wall seconds.
        cpu_clock: returns CPU seconds of the whole process, because an item may compute in threads of its own.
    """
    taken: list[Any] = []
    results: list[Any] = []
    failures: list[tuple[int, Exception]] = []
    seconds: list[float] = []
    so_far = ItemTimes()
    exhausted = False
    reading_seconds = _reading_seconds(clock)
    modules = len(sys.modules)
    first_imported = False
    wall_start, cpu_start = clock(), cpu_clock()
    while True:
        try:
            item = next(items)
        except StopIteration:
            exhausted = True
            break
        taken.append(item)
        began = clock()
        try:
            result = func(item)
        except Exception as error:  # noqa: BLE001 - the user's own; meets them again where they run the item
            let_signals_through(error)
            ended = clock()
            failures.append((len(taken) - 1, error))
        else:
            ended = clock()
            if len(results) < KEPT_RESULTS:
                results.append(result)
        seconds.append(max(0.0, ended - began - reading_seconds))
        so_far.add(seconds[-1])
        n = len(seconds)
        spent = ended - wall_start
        if n == 1:
            first_imported = len(sys.modules) > modules
            if first_imported:
                continue  # most of the first item's time went into the import
        if spent >= budget_seconds or n >= MOST_ITEMS:
            break
        if n >= LEAST_ITEMS and spent >= LEAST_SECONDS and so_far.relative_error <= ENOUGH_RELATIVE_ERROR:
            break
    wall_seconds, cpu_seconds = clock() - wall_start, cpu_clock() - cpu_start
    # A time that is too short for the resolution of the CPU clock is taken for computing.
    share = 1.0 if wall_seconds < LEAST_SECONDS else max(0.0, cpu_seconds / wall_seconds)
    return Sample(taken, results, _without_one_time_cost(seconds, first_imported), share, failures, exhausted)


def measure_transfer(items: list[Any], results: list[Any], clock: Callable[[], float]) -> Transfer:
    """Measure what it costs the caller, per item, to send `items` and to take in `results`.

    Items are dumped in lists, as chunks are, so that what several items share crosses once. Measuring takes a few
    milliseconds at most, or one dump and load of one item where that alone takes longer.

    Args:
        items: some items; an empty list gives no figure.
        results: some results; an empty list gives no figure.
        clock: returns wall seconds.
    """
    bytes_in, seconds_in = _crossing(items, clock, [])
    came: list[memoryview] = []
    bytes_out, seconds_out = _crossing(results, clock, came, load=True)
    found = Transfer(bytes_in, bytes_out, seconds_in + seconds_out)
    if not came:
        return found
    some = came[0][:_COPIED_BYTES]
    start = clock()
    bytearray(some)
    return found._replace(copied_bytes=len(some), copied_seconds=clock() - start)


def _crossing(
    values: list[Any], clock: Callable[[], float], beside: list[memoryview], *, load: bool = False
) -> tuple[float | None, float]:
    """Return the pickled bytes of one of `values`, and the seconds that loading it takes if `load`, else dumping it.

    What large memory the values last dumped offer is put into `beside`.
    """
    if not values or any(map(holds_iterator, values)):  # pickling an iterator may use it up
        return None, 0.0
    from pickle import PickleBuffer, dumps, loads

    from ..transport.memory import LEAST_SHARED_BYTES

    def cross(n: int) -> tuple[int, float, float]:
        beside.clear()

        def keep(buffer: PickleBuffer) -> bool:
            memory = buffer.raw()
            if memory.nbytes < LEAST_SHARED_BYTES:
                return True
            beside.append(memory)
            return False

        start = clock()
        data = dumps(values[:n], _PROTOCOL, buffer_callback=keep)
        middle = clock()
        if load:
            loads(data, buffers=beside)
        end = clock()
        nbytes = len(data) + sum([memory.nbytes for memory in beside])
        return nbytes, (end - middle if load else middle - start), end - start

    try:
        empty_length, empty_seconds, _ = cross(0)
        one_length, one_seconds, all_seconds = cross(1)
        n = min(len(values), int(DEAR_DUMP_SECONDS / all_seconds) if all_seconds > 0 else len(values))
        if n < 2:
            nbytes = float(one_length - empty_length)
            return nbytes, max(0.0, one_seconds - empty_seconds)
        # One value is dumped again because the first dump of a type also looked up how the type is pickled. For cheap
        # values a single dump more would show little but noise, which is several times what they cost.
        # Of large ones nearly all is told by their length, and numbers are all alike.
        numbers = _NUMBERS.issuperset(map(type, values))
        repeats = max(1, min(_MOST_REPEATS, int(_REPEATS_SECONDS / all_seconds) if all_seconds > 0 else 1))
        repeats = 1 if beside or numbers else repeats
        one_seconds = min(cross(1)[1] for _ in range(repeats))
        length, seconds = min(cross(n)[:2] for _ in range(repeats))
    except BaseException as error:  # noqa: BLE001 - an item's own pickling code may raise anything: it cannot cross
        let_signals_through(error)
        debug("not picklable, so taken for impossible to send: %s: %s", type(error).__name__, error)
        return None, 0.0
    nbytes = (length - one_length) / (n - 1)
    if numbers:
        return nbytes, _NUMBER_SECONDS
    return nbytes, max(0.0, (seconds - one_seconds) / (n - 1))


def _reading_seconds(clock: Callable[[], float]) -> float:
    """Return the seconds that reading the clock adds to each time measured: as much again for an item of 0.1 us."""
    readings = [clock() for _ in range(6)]
    return min(after - before for before, after in pairwise(readings))


def _without_one_time_cost(seconds: list[float], first_imported: bool) -> ItemTimes:
    """Return the times, without the first one if the first item paid for something that later items found done."""
    times = ItemTimes()
    rest = seconds[1:]
    one_time = len(rest) >= (1 if first_imported else LEAST_ITEMS) and seconds[0] > ONE_TIME_FACTOR * max(rest)
    for value in rest if one_time else seconds:
        times.add(value)
    return times


def spread(length: int) -> Iterator[int]:
    """Yield each of `range(length)` once, so that the places yielded so far always lie evenly over the whole.

    A sorted input or a slow tail shows early this way. Steps of the golden section leave the most even gaps (Weyl
    1916). The smaller of two neighbouring Fibonacci numbers is such a step for the larger one, and visits every place
    below it. Places past the length are left out.

    Args:
        length: at least 1.

    >>> list(spread(8))
    [0, 5, 2, 7, 4, 1, 6, 3]
    """
    step, whole = 1, 1
    while whole < length:
        step, whole = whole, step + whole
    places = (turn * step % whole for turn in range(whole))
    return (place for place in places if place < length)

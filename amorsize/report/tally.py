"""Counts what happens to a call's items, chunk by chunk, so that a report can be made of it at any time.

It is always on, so it costs little: a few additions for each chunk, none for an item (`benchmarks/seeing.py`).
"""

from __future__ import annotations

from time import perf_counter

from ..lean import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..backends.events import Chunk, Event, Results

__all__ = ["MOST_WORKERS", "Tally", "WorkerTally", "tally_for"]

# A pool whose processes serve for a while only has any number of them in a long call.
MOST_WORKERS = 256


class Places(Protocol):
    """Where results are put."""

    @property
    def placed(self) -> int:
        """Number of results that have come, errors that stand in their places included."""


class WorkerTally:
    """What one worker has done.

    Attributes:
        items: number of items that it ran.
        parts: number of chunks, or parts of chunks, that it sent back.
        seconds: how long they took.
        ended_at: when its last item ended, in `time.perf_counter()` seconds of the caller.
    """

    __slots__ = ("ended_at", "items", "parts", "seconds")

    def __init__(self) -> None:
        self.items = self.parts = 0
        self.seconds = self.ended_at = 0.0


class Seconds:
    """What a call's caller spent its time on, in seconds.

    Attributes:
        stepping: the library's own time between stretches of items and chunks; all but `deciding` is part of it.
        deciding: deciding where to run, within stretches of items in the caller.
        opening: taking workers and pickling the function.
        feeding: reading the input, pickling items and giving them to workers.
        starting: waiting before any worker had answered.
        waiting: waiting for workers after that.
        here: running items between those of workers.
    """

    __slots__ = ("deciding", "feeding", "here", "opening", "starting", "stepping", "waiting")

    def __init__(self) -> None:
        self.stepping = self.deciding = self.opening = self.feeding = self.starting = self.waiting = self.here = 0.0


def tally_for(*, record: bool) -> Tally:
    """Return what counts a call's items.

    Args:
        record: whether it is to keep when each ran, too.
    """
    if not record:
        return Tally()
    from .record import Record

    return Record()


class Tally:
    """An `Observer` that counts.

    Attributes:
        began_at: when the first result was asked for, in `time.perf_counter()` seconds; 0 before.
        ended_at: when the call was over; None while it is not.
        chunks, bytes_in, bytes_out: what went to workers and came back.
        ran: number of items that have run on workers, each as often as it was tried.
        failed: number of times that an item raised on a worker.
        returned: number of chunks that came back unbegun.
        lost: number of workers that died.
        workers: what each worker has done, by the number that the backend gives it; of very many, the newest.
        longest: the part of a chunk that took longest: its seconds, the position of its first item, its length.
        seconds: what the caller spent its time on.
        here_items: number of items that the caller ran itself between those of workers.
        serial_items: items that the caller ran before workers came, and after they had gone.
        last: where to put what is known of the call when it ends; None if nobody else wants to know.
        records: whether it also keeps when each of these things was.
    """

    records = False

    def __init__(self) -> None:
        self.last: list[Any] | None = None
        self.began_at = 0.0
        self.ended_at: float | None = None
        self.chunks = self.ran = self.bytes_in = self.bytes_out = 0
        self.failed = self.returned = self.lost = 0
        self.workers: dict[int | None, WorkerTally] = {}
        self.longest = (0.0, 0, 0)
        self.seconds = Seconds()
        self.here_items = self.serial_items = 0
        self._serial_from: int | None = None
        self._last_sent_at = 0.0
        self._placed = 0
        self._order: Places | None = None

    def begin(self) -> None:
        """Take in that the first result is asked for."""
        self.began_at = self.began_at or perf_counter()

    def goes_on(self, began_at: float, items: int) -> None:
        """Take in that the call began earlier, when its first items ran in the caller."""
        self.began_at = began_at
        self.serial_items = items

    def serial_begins(self, index: int) -> None:
        """Take in that the caller runs items one after another from this one on."""
        self.serial_items = self.serial_until(index)
        self._serial_from = index

    def pumps_into(self, order: Places | None) -> None:
        """Take in where the results of workers are put from now on; None if there are none any more."""
        self._placed, self._order = self.placed, order

    @property
    def placed(self) -> int:
        """Number of items whose last word has come from workers, or from the caller between them."""
        return self._placed + (0 if self._order is None else self._order.placed)

    def serial_ends(self, index: int) -> None:
        """Take in that the caller has run all items before this one."""
        self.serial_items = self.serial_until(index)
        self._serial_from = None

    def serial_until(self, index: int) -> int:
        """Return how many items the caller has run so, if this one is the next."""
        return self.serial_items + (0 if self._serial_from is None else index - self._serial_from)

    def sent(self, chunk: Chunk, nbytes: int) -> None:
        self.chunks += 1
        self.bytes_in += nbytes
        self._last_sent_at = perf_counter()

    def heard(self, event: Event) -> None:
        from ..backends.events import Lost, Results, Returned  # only calls on workers need them

        if isinstance(event, Results):
            self._count(event)
        elif isinstance(event, Returned):
            self.returned += 1
        elif isinstance(event, Lost):
            self.lost += 1

    def _count(self, results: Results) -> None:
        worker = self.workers.get(results.worker)
        if worker is None:
            if len(self.workers) >= MOST_WORKERS:
                del self.workers[next(iter(self.workers))]
            worker = self.workers[results.worker] = WorkerTally()
        items, seconds = len(results.values), results.seconds
        worker.items += items
        worker.parts += 1
        worker.seconds += seconds
        worker.ended_at = perf_counter() if results.began is None else results.sent + results.began + seconds
        self.ran += items
        self.bytes_out += results.bytes_out
        self.failed += len(results.failures)
        if seconds > self.longest[0]:
            self.longest = seconds, results.first, items

    def fed(self, seconds: float) -> None:
        self.seconds.feeding += seconds

    def waited(self, seconds: float, *, starting: bool) -> None:
        if starting and not self.lost:  # a worker that has died had started
            self.seconds.starting += seconds
        else:
            self.seconds.waiting += seconds

    def add_here(
        self, first: int, items: int, began: float, seconds: float, error: BaseException | None = None
    ) -> None:
        """Take in that serial work of the caller has run some items; `error` is what the last of them raised."""

    def ran_here(self, first: int, items: int, began: float, seconds: float) -> None:
        self.here_items += items
        self.seconds.here += seconds

    def ended(self, error: BaseException | None) -> None:
        """Hear that the work on workers is over. The rest may still run in the caller."""

    def close(self, error: BaseException | None = None) -> None:
        """Take in that the call is over, and the error that ended it; only the first time counts."""
        if self.ended_at is None:
            self.ended_at = perf_counter()
            self.pumps_into(None)

    @property
    def wall_seconds(self) -> float:
        """How long the call took, or has taken so far."""
        if not self.began_at:
            return 0.0
        return (perf_counter() if self.ended_at is None else self.ended_at) - self.began_at

    def tail_seconds(self, width: int) -> float:
        """Return for how long at the end, when nothing was left to send, some worker had nothing to do.

        Args:
            width: number of workers; of more, those that were heard of last count.
        """
        ends = sorted(worker.ended_at for worker in [*self.workers.values()])[-max(1, width) :]
        return max(0.0, ends[-1] - max(ends[0], self._last_sent_at)) if len(ends) > 1 else 0.0

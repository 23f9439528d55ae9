"""Looks after the workers of a lease while the caller waits: who is late, slow or dead, and whose chunks wait in vain.

A worker is sent several short chunks ahead. If a chunk turns out long, the chunks that wait behind it are taken back
when another worker has nothing to do. To take a chunk back, the caller forbids it through a shared slot, waits long
enough for the worker to see that, and then looks whether the worker had begun the chunk before.
"""

from __future__ import annotations

from collections import deque

from ...lean import NamedTuple
from ...log import debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..events import Chunk
    from .handle import Worker

__all__ = ["TAKE_BACK_SECONDS", "Due", "Patrol", "median_of"]

# How often the processes are asked whether they live. The socket tells of a worker's death, unless a grandchild holds
# it open.
_LIVENESS_SECONDS = 1.0
# How long a worker has nothing to do, while chunks wait at another one, before these are forbidden; after as long again
# they are taken back. With a smaller value, chunks that were about to begin are sent to and fro, and with a very small
# one a write to shared memory might not be seen in time. A larger one means that cores stand idle beside a long item.
TAKE_BACK_SECONDS = 0.005
# An item is told of once it has run for so many times the median, and for so long. With smaller values, many a call
# would have such items, and nothing would be wrong with them.
_SLOW_FACTOR = 10.0
_SLOW_SECONDS = 1.0
# The median is that of the newest messages' items.
_MESSAGES = 100


class Due(NamedTuple):
    """What one look found.

    Attributes:
        seconds: until the next look.
        taken_back: chunks that a worker had not begun, and will not begin.
        late: workers whose item has run for longer than it may. They are suspended.
    """

    seconds: float
    taken_back: list[Chunk]
    late: list[Worker]


class Patrol:
    """Looks after some workers.

    Args:
        workers: the list in which the lease keeps its workers.
        timeout: how many seconds an item may run; None for ever.
        now: the time, in `time.perf_counter()` seconds.

    Attributes:
        ran: what the newest messages told: the seconds that items took, and how many these were.
    """

    def __init__(self, workers: list[Worker], timeout: float | None, now: float) -> None:
        self._workers = workers
        self._timeout = timeout
        self._asked_at = now
        # For each worker whose last chunk waits while another worker is idle: the number of that chunk, when to act,
        # and whether the chunk is forbidden yet.
        self._waiting: dict[Worker, tuple[int, float, bool]] = {}
        self.ran: deque[tuple[float, int]] = deque(maxlen=_MESSAGES)
        self._told: dict[Worker, int] = {}  # of which item it was told that it is slow
        self._sending: dict[Worker, tuple[int, float]] = {}  # the bytes left of a message on its way, and since when

    def dead(self, now: float) -> list[Worker]:
        """Return the workers whose processes have ended, if it is time to ask; then tell of slow items, too."""
        if now - self._asked_at < _LIVENESS_SECONDS:
            return []
        self._asked_at = now
        self._tell_of_slow()
        return [worker for worker in self._workers if not worker.process.is_alive()]

    def forget(self, worker: Worker) -> None:
        """Look after a worker no more."""
        self._waiting.pop(worker, None)
        self._sending.pop(worker, None)
        self._told.pop(worker, None)

    def _tell_of_slow(self) -> None:
        """Log each item that runs for much longer than most have, once.

        The clock is not read for this between items, and the caller does not wake up for it more often than it does
        anyway: the workers' slots say since when an item runs.
        """
        for worker in self._workers:
            index, seconds = worker.position() or (None, 0.0)
            if index is None or seconds < _SLOW_SECONDS or self._told.get(worker) == index:
                continue
            usual = median_of(self.ran)
            if usual is None or seconds < _SLOW_FACTOR * usual:
                continue
            self._told[worker] = index
            text = "item %d has run for %.1f seconds in process %s, and half of the items take less than %.3g"
            debug(text, index, seconds, worker.number, usual)

    def look(self, now: float) -> Due:
        """Look for what is due now."""
        taken_back: list[Chunk] = []
        late: list[Worker] = []
        seconds = min(self._take_back(now, taken_back), self._find_late(late))
        return Due(max(0.0, min(seconds, self._asked_at + _LIVENESS_SECONDS - now)), taken_back, late)

    def _take_back(self, now: float, taken_back: list[Chunk]) -> float:
        """Take back chunks behind long ones if a worker has nothing to do; return the seconds until the next look."""
        if all(worker.flights or not worker.takes_chunks for worker in self._workers):
            self._waiting.clear()
            return _LIVENESS_SECONDS
        soonest = _LIVENESS_SECONDS
        for worker in self._workers:
            if not worker.flights or worker.flights[-1].taken_back or worker.has_begun(worker.flights[-1]):
                continue
            if self._is_on_its_way(worker, now):
                soonest = min(soonest, TAKE_BACK_SECONDS)
                continue
            last = worker.flights[-1].number
            seen, due, forbidden = self._waiting.get(worker, (0, 0.0, False))
            if seen != last:
                due, forbidden = now + TAKE_BACK_SECONDS, False
            elif now >= due and not forbidden:
                worker.ask_back()
                due, forbidden = now + TAKE_BACK_SECONDS, True
            elif now >= due:
                taken_back += worker.take_back()
                due = now + _LIVENESS_SECONDS
            self._waiting[worker] = last, due, forbidden
            soonest = min(soonest, due - now)
        return soonest

    def _is_on_its_way(self, worker: Worker, now: float) -> bool:
        """Say whether a worker's only chunk is being sent, and goes on: its way would begin anew at another worker."""
        if not worker.outbox or worker.n_under_way() != 1:
            self._sending.pop(worker, None)
            return False
        left = worker.outbox.nbytes()
        before, since = self._sending.get(worker, (left, now))
        self._sending[worker] = left, since if left == before else now
        return left != before or now - since < _LIVENESS_SECONDS

    def _find_late(self, late: list[Worker]) -> float:
        """Suspend workers whose item has run for longer than it may; return the seconds until the next look."""
        if self._timeout is None:
            return _LIVENESS_SECONDS
        soonest = self._timeout
        for worker in self._workers:
            left = worker.seconds_left(self._timeout)
            if left > 0:
                soonest = min(soonest, left)
            elif worker.suspend_if_late(self._timeout):
                late.append(worker)
        return soonest


def median_of(ran: Iterable[tuple[float, int]]) -> float | None:
    """Return what an item usually takes, by the seconds that some took together, and how many they were.

    Each message counts as its items, all alike. A mean would follow the few items that are slow.
    """
    parts = sorted((seconds / items, items) for seconds, items in ran)
    left = sum(items for _, items in parts) / 2
    for seconds, items in parts:
        left -= items
        if left <= 0:
            return seconds
    return None

"""Keeps track of a call's items: which are on workers, came back, were lost or wait, and what may be read next.

The feed has no clock, and does not read the input itself. Pieces of input that come back wait in a backlog, because a
time slice was over, a worker died, or an item is tried again; the backlog goes before new input. Results wait by
position until all results before them are there. Reading ahead stops when `WINDOW_ITEMS` items or `WINDOW_BYTES` bytes
of results are on their way. That never blocks for good, because the oldest missing piece is always under way or in the
backlog.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from ..backends.events import Chunk, Failure
from ..errors import ItemTimeoutError, WorkerCrashError
from ..plan.retry import backoff_seconds
from .order import AsDone, InOrder, Piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backends.events import Counts, Lost, Results
    from .outcome import Outcome

__all__ = ["WINDOW_BYTES", "WINDOW_ITEMS", "Feed"]

# How far the input is read ahead. With a smaller window, a long item at its head leaves workers idle; a larger one
# takes more memory, and more work is lost when the user abandons the iterator.
WINDOW_ITEMS = 4096
WINDOW_BYTES = 64 << 20
# After more than this many workers in a row died before they began anything, others are taken to die as well.
_FRUITLESS_DEATHS = 3


class Feed:
    """The items of one call between the input and the user.

    Args:
        first: position of the first item.
        ordered: whether results are handed out in the items' order.
        outcome: the verdict on items that failed.
        timeout: how many seconds an item may run; None means without limit.
        free_memory: returns the bytes that are free now, for the error message about a worker that was killed.
        progress: counts the items that have ended; None if nobody wants to know.
        taken: keeps results that have come, and returns them as the user gets them; None if nobody keeps any.

    Attributes:
        order: the results that wait to be handed out.
        progress: what counts the items that have ended.
        timeout: as above.
        failed_at: position from which no result is wanted; None while all are.
    """

    def __init__(
        self,
        first: int,
        *,
        ordered: bool,
        outcome: Outcome,
        timeout: float | None = None,
        free_memory: Callable[[], int | None] = lambda: None,
        progress: Counts | None = None,
        taken: Callable[[Piece], Piece] | None = None,
    ) -> None:
        self.order = InOrder(first, taken) if ordered else AsDone(first, taken)
        self.failed_at: int | None = None
        self.progress = progress
        self._outcome = outcome
        self.timeout = timeout
        self._free_memory = free_memory
        self._backlog: deque[Chunk] = deque()
        self._later: list[tuple[float, Chunk]] = []  # a heap: when an item is to be tried again, and the item
        self._tries: dict[int, int] = {}
        self._window_items = WINDOW_ITEMS
        self._fruitless_deaths = 0

    # What is to run next.

    def is_pending(self) -> bool:
        """Say whether something waits to be submitted, now or later."""
        return bool(self._backlog or self._later)

    def next_try_at(self) -> float | None:
        """Return when the next item is to be tried again; None if none is."""
        return self._later[0][0] if self._later else None

    def has_backlog(self, now: float) -> bool:
        """Say whether something waits that may be submitted now."""
        while self._later and self._later[0][0] <= now:
            self.hand_back(heappop(self._later)[1])
        return bool(self._backlog)

    def from_backlog(self, length: int) -> Chunk:
        """Return the first chunk of the backlog, cut to `length` items."""
        chunk = self._backlog.popleft()
        if len(chunk.items) > length:
            self._backlog.appendleft(Chunk(chunk.first + length, chunk.items[length:]))
            chunk = Chunk(chunk.first, chunk.items[:length])
        return chunk

    def may_read(self, position: int, length: int, width: int, *, lasting: bool) -> bool:
        """Say whether a further chunk of `length` items may be read.

        Args:
            position: of the next item in the input.
            length: how many items the chunk would have.
            width: number of workers.
            lasting: whether the chunks to come have this length as well, or a shorter one towards the end.
        """
        if lasting:  # the chunks under way may be as long as this one, or longer
            self._window_items = max(self._window_items, 3 * width * length)
        full = self.order.bytes_waiting >= WINDOW_BYTES or position - self.order.next + length > self._window_items
        return self.failed_at is None and not full

    def hand_back(self, chunk: Chunk | None) -> None:
        """Take items that were not started, to submit them again."""
        if chunk is not None and chunk.items and (self.failed_at is None or chunk.first < self.failed_at):
            self._backlog.append(chunk)

    def put_first(self, chunk: Chunk) -> None:
        """Take items that are to be submitted before everything else that waits."""
        if chunk.items:
            self._backlog.appendleft(chunk)

    # What has happened.

    def count(self) -> None:
        """Count the items that have ended since this was called last, if somebody wants to know."""
        if self.progress is not None:
            self.progress.done(self.order.newly_placed())

    def take_results(self, results: Results, failed: Callable[[int, Failure], None]) -> None:
        """Put results in their places; call `failed` for each item that failed."""
        first, values, failures, bytes_out = results.first, results.values, results.failures, results.bytes_out
        self._fruitless_deaths = 0
        if not failures:
            self.order.put(first, Piece(values, None, bytes_out))
            return
        start = 0
        for index in sorted(failures):
            at = index - first
            if at > start:
                self.order.put(first + start, Piece(values[start:at], None, bytes_out))
                bytes_out = 0
            failed(index, failures[index])
            start = at + 1
        if start < len(values):
            self.order.put(first + start, Piece(values[start:], None, bytes_out))

    def fail(self, index: int, failure: Failure, now: float) -> None:
        """Take in that an item failed: have it tried again, or give it up after its last try."""
        tries = self._tries.get(index, 0) + 1
        if self._outcome.is_tried_again(failure.error, tries):
            self._tries[index] = tries
            heappush(self._later, (now + backoff_seconds(tries), Chunk(index, [failure.item])))
        else:
            self.give_up(index, failure.error, tries)

    def give_up(self, index: int, error: BaseException, tries: int) -> None:
        """Take in that an item has failed for good: its error stands in its place, or ends the call there."""
        if self._outcome.stands(index, error, tries):
            self.order.put(index, Piece([error], None, 0))
        else:
            self.end_at(index, error)

    def end_at(self, index: int, error: BaseException) -> None:
        """End the call with `error` at this position: later results are not wanted any more, earlier ones still are."""
        self.failed_at = index if self.failed_at is None else min(index, self.failed_at)
        self.order.put(index, Piece([], error, 0))
        self._backlog = deque(chunk for chunk in self._backlog if chunk.first < index)
        self._later = sorted(entry for entry in self._later if entry[1].first < index)

    def lose(self, lost: Lost, now: float) -> bool:
        """Take in that a worker died; return False if others would die, too, as several in a row began nothing."""
        if lost.running is not None or lost.finished is not None:
            self._fruitless_deaths = 0
        else:
            self._fruitless_deaths += 1
            if self._fruitless_deaths > _FRUITLESS_DEATHS and lost.rest is not None:
                return False
        again = self._outcome.retries > 0 or self._outcome.returns
        finished = lost.finished
        if finished is not None:
            if not again:
                culprit = lost.running.first if lost.running else finished.first
                self.give_up(finished.first, self._crash(culprit, lost), 1)
            elif lost.running is not None:
                self.hand_back(finished)
            elif lost.unknown and len(finished.items) > 1:
                # One of the items may be at fault. If it is, it is alone after a few deaths more.
                half = len(finished.items) // 2
                self.hand_back(Chunk(finished.first, finished.items[:half]))
                self.hand_back(Chunk(finished.first + half, finished.items[half:]))
            elif len(finished.items) > 1:
                # The worker died with the results, perhaps because of one of them. The items are run one by one, so
                # that the one at fault is then alone.
                for index, item in enumerate(finished.items, finished.first):
                    self.hand_back(Chunk(index, [item]))
            else:
                self.fail(finished.first, Failure(self._crash(finished.first, lost), finished.items[0]), now)
        if lost.running is not None and (finished is None or again):
            index, (item,) = lost.running
            self.fail(index, Failure(self._crash(index, lost), item), now)
        self.hand_back(lost.rest)
        return True

    def _crash(self, index: int, lost: Lost) -> WorkerCrashError | ItemTimeoutError:
        tries = self._tries.get(index, 0) + 1
        if lost.timed_out and self.timeout is not None:
            return ItemTimeoutError(index, self.timeout, tries=tries)
        return WorkerCrashError(
            index,
            lost.exitcode,
            lost=len(lost.finished.items) if lost.finished and not lost.unknown else 0,
            among=len(lost.finished.items) if lost.finished and lost.unknown else 1,
            tries=tries,
            free_memory=self._free_memory() if lost.exitcode == -9 else None,
        )

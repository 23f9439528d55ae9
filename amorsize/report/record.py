"""Keeps when each chunk ran where, for timelines and traces, in memory that does not grow with the input.

It is a tally that remembers. Once there are `MOST_SPANS` spans, neighbours on a lane are put together, those with the
shortest pauses between them first, so that what is kept stays as exact as that many spans can be. The caller's short
items are put together as they come, up to a millisecond, because each of them would be a span of its own.
"""

from __future__ import annotations

from time import perf_counter

from ..backends.events import Broken, Lost, Refused, Results, Returned
from ..lean import map
from ..transport.remote import said
from .recording import CALLER_LANE, Mark, Recording, Span
from .tally import MOST_WORKERS, Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..backends.events import Chunk, Event

__all__ = ["MOST_MARKS", "MOST_SPANS", "Record"]

# About 200 bytes each. With more, a timeline shows a long run more exactly, and takes longer to open.
MOST_SPANS = 20_000
MOST_MARKS = 5_000
# The caller's items are put together while they take no longer than this, and the pauses between them are this short.
_TOGETHER_SECONDS = 0.001
_PAUSE_SECONDS = 50e-6
# Pauses of this part of the run are the first to be left out; then twice as long ones, and so on.
_SHORTEST_PAUSE = 1e-6


class Record(Tally):
    """A tally that also keeps what ran when.

    Attributes:
        spans: what ran, in the order in which it was heard of, in `time.perf_counter()` seconds.
        marks: what happened besides, likewise.
        lost_marks: how many further marks there were.
    """

    records = True

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self.marks: list[Mark] = []
        self.lost_marks = 0
        self._lanes: dict[int | None, int] = {}
        self._n_lanes = 0
        self._last_here = -1  # where in `spans` the caller's last items are; -1 if they are to be extended no more

    def sent(self, chunk: Chunk, nbytes: int) -> None:
        super().sent(chunk, nbytes)
        last = chunk.first + len(chunk.items) - 1
        self._mark(CALLER_LANE, "sent", f"items {chunk.first} to {last}, {nbytes:,} bytes")

    def heard(self, event: Event) -> None:
        super().heard(event)
        if isinstance(event, Results):
            self._add_results(event)
        elif isinstance(event, Returned):
            first, items = event.chunk
            self._mark(CALLER_LANE, "returned", f"items {first} to {first + len(items) - 1}")
        elif isinstance(event, Lost):
            item = "between items" if event.running is None else f"in item {event.running.first}"
            why = "its item ran for too long" if event.timed_out else f"exit code {event.exitcode}"
            self._mark(CALLER_LANE, "died", f"a worker, {item}: {why}")
        elif isinstance(event, (Refused, Broken)):
            self._mark(CALLER_LANE, "withdrew", _told(event.error))

    def ran_here(self, first: int, items: int, began: float, seconds: float) -> None:
        super().ran_here(first, items, began, seconds)
        self.add_here(first, items, began, seconds)

    def add_here(
        self, first: int, items: int, began: float, seconds: float, error: BaseException | None = None
    ) -> None:
        """Keep that the caller has run some items; `error` is what the last of them raised.

        Args:
            first: position of the first.
            items: how many they were.
            began: when the first began, in `time.perf_counter()` seconds.
            seconds: how long they took.
            error: what the last one raised, if it did.
        """
        failed = int(error is not None)
        if error is not None:
            self._mark(CALLER_LANE, "failed", f"item {first + items - 1}: {_told(error)}", began + seconds)
        before = self.spans[self._last_here] if self._last_here >= 0 else None
        if before is not None and before.first + before.items == first:
            lasted = began + seconds - before.began
            if lasted <= _TOGETHER_SECONDS and began - (before.began + before.seconds) <= _PAUSE_SECONDS:
                items, failed = before.items + items, before.failed + failed
                self.spans[self._last_here] = before._replace(items=items, seconds=lasted, failed=failed)
                return
        self._last_here = len(self.spans)
        self._add(Span(CALLER_LANE, first, items, began, seconds, failed=failed))

    def close(self, error: BaseException | None = None) -> None:
        if self.ended_at is None and error is not None and not isinstance(error, GeneratorExit):
            self._mark(CALLER_LANE, "ended", _told(error))
        super().close(error)

    def recording(self, title: str) -> Recording:
        """Return what was kept so far; times count from the call's beginning.

        Args:
            title: the function's name, and what was chosen.
        """
        began = self.began_at
        spans = sorted([*self.spans], key=lambda span: span.began)
        return Recording(
            title,
            self.wall_seconds,
            ("caller", *(f"worker {lane}" for lane in range(1, self._n_lanes + 1))),
            tuple(span._replace(began=span.began - began) for span in spans),
            tuple(mark._replace(at=mark.at - began) for mark in [*self.marks]),
            self.lost_marks,
        )

    def _add_results(self, results: Results) -> None:
        heard, lane = perf_counter(), self._lanes.get(results.worker)
        seconds, items = results.seconds, len(results.values)
        began = heard - seconds if results.began is None else results.sent + results.began
        if lane is None:
            if len(self._lanes) >= MOST_WORKERS:
                self._lanes.clear()  # the newest take over the lanes of the oldest
            lane = self._lanes[results.worker] = len(self._lanes) + 1
            self._n_lanes = max(self._n_lanes, lane)
            self._mark(lane, "started", "first heard of", began)
        for index, failure in sorted(results.failures.items()):
            self._mark(lane, "failed", f"item {index}: {_told(failure.error)}", began + seconds)
        failed = len(results.failures)
        self._add(Span(lane, results.first, items, began, seconds, results.bytes_out, failed))

    def _add(self, span: Span) -> None:
        self.spans.append(span)
        if len(self.spans) > MOST_SPANS:
            self.spans = together(self.spans, MOST_SPANS // 2, perf_counter() - self.began_at)
            self._last_here = -1

    def _mark(self, lane: int, kind: str, text: str, at: float | None = None) -> None:
        if len(self.marks) >= MOST_MARKS:
            self.lost_marks += 1
        else:
            self.marks.append(Mark(lane, perf_counter() if at is None else at, kind, text[:200]))


def together(spans: list[Span], most: int, lasted: float) -> list[Span]:
    """Return at most so many spans, or one for each lane, by putting neighbours on a lane together.

    Args:
        spans: at least one.
        most: how many there may be.
        lasted: how long all took, in seconds.

    >>> spans = [Span(1, 0, 2, 0.0, 1.0), Span(1, 2, 2, 1.1, 1.0), Span(1, 4, 2, 5.0, 1.0)]
    >>> [(span.items, span.seconds) for span in together(spans, 2, 6.0)]
    [(4, 2.1), (2, 1.0)]
    """
    spans = sorted(spans, key=lambda span: (span.lane, span.began))
    lanes = len(set(map(_lane, spans)))
    pause = _SHORTEST_PAUSE * max(lasted, 1e-6)
    while len(spans) > max(most, lanes):
        kept = [spans[0]]
        for span in spans[1:]:
            last = kept[-1]
            # One that is long already stays as it is, so that the lengths stay about equal.
            joins = span.lane == last.lane and span.began - (last.began + last.seconds) <= pause
            if joins and last.seconds <= lasted / most:
                kept[-1] = _joined(last, span)
            else:
                kept.append(span)
        spans, pause = kept, 2 * pause
        if pause > 4 * lasted:
            lasted *= 2
    return sorted(spans, key=lambda span: span.began)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {said(str, error)}"


def _lane(span: Span) -> int:
    return span.lane


def _joined(one: Span, other: Span) -> Span:
    return Span(
        one.lane,
        min(one.first, other.first),
        one.items + other.items,
        one.began,
        max(one.seconds, other.began + other.seconds - one.began),
        one.nbytes + other.nbytes,
        one.failed + other.failed,
        one.chunks + other.chunks,
    )

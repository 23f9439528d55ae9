"""What did a call do, why, and was it right? A report tells it in numbers, in words, and as a picture.

It is made when somebody asks, from what was counted (`tally`); so a call that nobody asks about pays a few additions a
chunk. Estimates of other roads are those of `plan.roads`, made from what this very call has measured.
"""

from __future__ import annotations

from ..lean import NamedTuple, map
from ..plan.planner import seconds_in_words, workers_in_words
from ..plan.roads import Road

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

    from ..plan.planner import Plan
    from .recording import Recording

__all__ = ["SPENT_ON", "Report", "Spent", "WorkerShare", "of_plan"]


class WorkerShare(NamedTuple):
    """What one worker did.

    Attributes:
        worker: its name: "worker 1" and so on, in the order in which they were first heard of.
        items: number of items that it ran.
        seconds: how long they took.
        busy_share: that time over the time from the call's beginning to its end.
    """

    worker: str
    items: int
    seconds: float
    busy_share: float


class Spent(NamedTuple):
    """Where the wall time of a call went, in seconds of the caller. The parts add up to the whole, but for rounding.

    Attributes:
        here: items that ran in the caller.
        opening: taking workers, and pickling the function.
        starting: waiting before the first worker had answered.
        sending: reading the input, pickling items and giving them to workers.
        working: waiting for workers that all had work.
        tail: waiting at the end, when some worker had nothing left to do.
        consumer: the user's own work between results.
        other: the rest of the library's own work: deciding, taking in results, learning.
    """

    here: float = 0.0
    opening: float = 0.0
    starting: float = 0.0
    sending: float = 0.0
    working: float = 0.0
    tail: float = 0.0
    consumer: float = 0.0
    other: float = 0.0


SPENT_ON = {
    "here": "items in the caller",
    "opening": "taking workers, pickling the function",
    "starting": "waiting for the first worker's answer",
    "sending": "reading items and sending them",
    "working": "waiting for workers at work",
    "tail": "waiting at the end, some worker idle",
    "consumer": "the loop over the results",
    "other": "deciding, taking in results",
}


class Report(NamedTuple):
    """What a call did, or has done so far.

    Attributes:
        function: the function's name.
        backend: where the items ran, or where most of them did: "serial", "threads", "processes" and so on.
        n_jobs: number of workers; 1 for "serial".
        reason: why, in words.
        over: whether the call is over.
        predicted_seconds: what was predicted for the items that were left when the plan was made; None if nothing was.
        seconds: wall seconds from the first `next()` to the end, or until now.
        items: number of items that have ended.
        items_here: how many of them ran in the caller.
        failed: number of items that failed for good.
        chunks: number of chunks that were sent to workers; 0 if none were.
        bytes_in, bytes_out: pickled bytes that went to workers, and came back.
        returned: number of chunks that came back unbegun.
        lost: number of workers that died.
        workers: what each worker did.
        spent: where the wall time went.
        roads: the road that was taken, and the others with estimates for the same items; empty if too little is known.
        advice: what could be changed, in a line; empty if nothing is clear.
        audit: what `audit=` has found.
        recording: what ran when, with `record=True`; else None.
        widths: predicted seconds for numbers of workers on processes, for the plot.
    """

    function: str
    backend: str
    n_jobs: int
    reason: str
    over: bool
    predicted_seconds: float | None
    seconds: float
    items: int
    items_here: int = 0
    failed: int = 0
    chunks: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    returned: int = 0
    lost: int = 0
    workers: tuple[WorkerShare, ...] = ()
    spent: Spent = Spent()
    roads: tuple[Road, ...] = ()
    advice: str = ""
    audit: tuple[Any, ...] = ()
    recording: Recording | None = None
    widths: tuple[tuple[int, float], ...] = ()

    @property
    def worked_seconds(self) -> float:
        """The wall seconds without the user's own work between results."""
        return max(0.0, self.seconds - self.spent.consumer)

    @property
    def regret(self) -> float | None:
        """What the call took over what the best road would have taken: 1 if it took the best; None if unknown."""
        best = min((road.seconds for road in self.roads), default=0.0)
        return max(1.0, self.worked_seconds / best) if best > 0.0 and self._begun() else None

    def explain(self) -> str:
        """Return several lines that tell all this."""
        name = f"{self.function}: " if self.function else ""
        lines = [f"{name}{self.where_in_words()}", f"reason: {self.reason}"]
        if self._begun():
            lines.append(f"took: {self.took_in_words()}")
        if self.predicted_seconds:
            lines.append(f"predicted: {seconds_in_words(self.predicted_seconds)}")
        if self.chunks:
            crossed = f"{self.bytes_in / 1e6:,.2f} MB in, {self.bytes_out / 1e6:,.2f} MB out"
            lines.append(f"sent: {self.chunks:,} chunks, {crossed}{self._mishaps()}")
        lines += self._where_it_went()
        lines += [
            f"{share.worker}: {share.items:,} items, busy for {share.busy_share:.0%}" for share in self.workers[:_MOST]
        ]
        if len(self.workers) > _MOST:
            lines.append(f"and {len(self.workers) - _MOST:,} more workers")
        if self.roads:
            lines.append("the roads for these items:")
            lines += [f"  {line}" for line in _road_lines(self.roads)]
        if self.regret is not None:
            lines.append(f"regret: {self.regret:.2f} times the best road")
        if self.advice:
            lines.append(f"advice: {self.advice}")
        lines += [f"audit: {one}" for one in self.audit]
        return "\n".join(lines)

    def _begun(self) -> bool:
        return self.over or bool(self.items or self.seconds)

    def where_in_words(self) -> str:
        """Return how many items ran where."""
        where = self.backend if self.backend == "serial" else f"{self.backend}, n_jobs={self.n_jobs}"
        return f"{self.items:,} items, {where}" if self._begun() else f"not begun, {where}"

    def took_in_words(self) -> str:
        """Return how long they took, and how many failed."""
        failed = f", {self.failed:,} items failed" if self.failed else ""
        return f"{seconds_in_words(self.seconds)}{'' if self.over else ' so far'}{failed}"

    def _mishaps(self) -> str:
        returned = f", {self.returned:,} came back unbegun" if self.returned else ""
        lost = f", {self.lost:,} workers died" if self.lost else ""
        return returned + lost

    def _where_it_went(self) -> list[str]:
        if self.seconds <= 0.0:
            return []
        shares = [(name, seconds / self.seconds) for name, seconds in self.spent._asdict().items()]
        told = [f"{SPENT_ON[name]} {share:.0%}" for name, share in shares if share >= 0.005]
        return [f"of which: {', '.join(told)}"] if told else []

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, such as JSON knows; what was recorded is not in it."""
        told = self._asdict()
        del told["recording"]
        told["workers"] = [share._asdict() for share in self.workers]
        told["spent"] = self.spent._asdict()
        told["roads"] = [road._asdict() for road in self.roads]
        told["audit"] = list(map(str, self.audit))
        told["widths"] = [list(pair) for pair in self.widths]
        told["regret"] = self.regret
        return told

    def timeline(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page that shows which worker ran what when; it needs no network.

        Args:
            path: where to write it.

        Raises:
            UnsupportedError: the call was not recorded.
            OSError: it cannot be written.
        """
        recording = self._recorded()
        from .timeline import write_timeline

        write_timeline(recording, path)

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace in the trace-event form, which Perfetto and browsers open.

        Args:
            path: where to write it; compressed if it ends with ".gz".

        Raises:
            UnsupportedError: the call was not recorded.
            OSError: it cannot be written.
        """
        recording = self._recorded()
        from .trace import write_trace

        write_trace(recording, path)

    def plot(self, axes: Any = None) -> Any:
        """Draw predicted seconds against numbers of workers, and what the call took; needs the extra "plot".

        Args:
            axes: a matplotlib `Axes` to draw into; None for a new figure.

        Returns:
            The `Axes`.

        Raises:
            UnsupportedError: matplotlib is not installed, or too little is known of the call.
        """
        from ..errors import UnsupportedError
        from .plot import plot

        if not self.widths:
            raise UnsupportedError("there is nothing to plot: the call was too short to be measured")
        return plot(self.widths, (self.n_jobs, self.worked_seconds) if self.items else None, axes)

    def _recorded(self) -> Recording:
        from ..errors import UnsupportedError

        if self.recording is None:
            raise UnsupportedError("nothing was recorded of this call: give it record=True")
        return self.recording

    def __repr__(self) -> str:
        return f"<amorsize report: {self.where_in_words()}{f', {self.took_in_words()}' if self._begun() else ''}>"

    def _repr_html_(self) -> str:
        """Return the same as `explain`, for notebooks."""
        from .page import as_html

        return as_html(self)


def of_plan(plan: Plan) -> Report:
    """Return a report of a plan whose call has not begun.

    >>> from amorsize.plan.planner import choose
    >>> from amorsize.plan.profile import MachineProfile, WorkProfile
    >>> report = of_plan(choose(WorkProfile(10, 0.01), MachineProfile(2, 2, None, "fork", 0.01, 0.001), 1000))
    >>> print(report.explain())
    not begun, processes, n_jobs=2
    reason: 2 workers: 1,000 items of 10 ms take 10 s in the caller, about 5.04 s there, 11 ms of it to start them
    predicted: 5.04 s
    the roads for these items:
      serial                about 10 s
      processes, 1 worker   about 10 s
      processes, 2 workers      5.04 s  <- taken
    """
    roads = tuple(
        Road(
            one.backend,
            one.n_jobs,
            one.predicted_seconds,
            taken=one.n_jobs == plan.n_jobs and (one.backend == "serial") == (plan.backend == "serial"),
            note=one.note,
        )
        for one in plan.alternatives
    )
    widths = tuple((road.n_jobs, road.seconds) for road in roads if road.n_jobs > 1 or road.backend == "serial")
    return Report(
        "", plan.backend, plan.n_jobs, plan.reason, False, plan.predicted_seconds or None, 0.0, 0, roads=roads,
        advice="; ".join(plan.warnings), widths=widths,
    )  # fmt: skip


_MOST = 16  # so many workers are told one by one


def _road_lines(roads: tuple[Road, ...]) -> list[str]:
    rows = []
    for road in roads:
        where = road.backend if road.backend == "serial" else f"{road.backend}, {workers_in_words(road.n_jobs)}"
        note = "<- taken" if road.taken else road.note
        rows.append((where, ("" if road.taken else "about ") + seconds_in_words(road.seconds), note))
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    return [f"{where:<{widths[0]}}  {took:>{widths[1]}}  {note}".rstrip() for where, took, note in rows]

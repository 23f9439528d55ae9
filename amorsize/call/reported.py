"""Makes a report of what is known of a call: what it did, and what other roads would have cost.

The roads are priced with what this call has measured, and with what is known of the machine when the report is made.
How long an item takes alone in the caller is measured, where some ran there; where all ran on workers, it is what they
took there, divided by the slowdown that earlier calls of the function have met.
"""

from __future__ import annotations

import sys

from ..backends.rows import PROCESSES, SERIAL, THREADS
from ..measure import machine
from ..measure.startup import IMPORT_SECONDS
from ..plan.advice import Facts, advice
from ..plan.model import predict_seconds
from ..plan.planner import choose, widest
from ..plan.roads import Road, roads
from ..report.record import Record
from ..report.report import Report, Spent, WorkerShare
from ..report.tally import Tally
from .starting import is_served
from .waiting import COROUTINES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan.profile import MachineProfile, WorkProfile
    from .noted import Noted

__all__ = ["report_of"]

# Before its first workers, a process imports what they need. The planner's figure is one for files that were not read
# for long, as it must not be too low; an estimate takes what is usual (benchmarks/roads.py).
_LOADING_SHARE = 0.5
_LEAST_ITEMS_HERE = 4  # fewer may have paid for something once
_SHORT_REASON = "serial: calls of this function have been over before workers could help"
_NAMED_REASON = "serial: it was asked for by name"
_FEW_SECONDS = 200e-6
# Workers are no faster than the caller, and rarely much slower. What earlier calls have met beyond that comes of other
# items having run in the caller than on workers, such as the longest.
_SLOWDOWNS = 1.0, 1.3


def report_of(noted: Noted) -> Report:
    """Return the report of a call.

    Args:
        noted: what is known of it.
    """
    tally, plan = noted.tally or Tally(), noted.plan
    work = _work(noted, tally)
    spent = _spent(noted, tally)
    taken = _taken(noted, tally)
    others: tuple[Road, ...] = ()
    widths: tuple[tuple[int, float], ...] = ()
    reason = _SHORT_REASON if plan is None else plan.reason
    if work is not None and noted.items:
        here = _machine(noted)
        # Workers go on while the user is busy with a result, so they have taken at least what their items took.
        busy = sum(worker.seconds for worker in [*tally.workers.values()]) / max(1, taken.n_jobs)
        took = max(0.0, noted.wall_seconds - spent.consumer, min(busy, noted.wall_seconds))
        others = _roads(noted, work, here, taken._replace(seconds=took))
        widths = _widths(noted, work, here)
        if plan is None:
            reason = _why_here(noted, work, here)
    report = Report(
        noted.function,
        taken.backend,
        taken.n_jobs,
        _NAMED_REASON if noted.backend == SERIAL.name else reason,
        noted.over,
        None if plan is None or plan.predicted_seconds <= 0.0 else plan.predicted_seconds,
        noted.wall_seconds,
        noted.items,
        noted.items_here,
        noted.failed,
        tally.chunks,
        tally.bytes_in,
        tally.bytes_out,
        tally.returned,
        tally.lost,
        _shares(tally),
        spent,
        others,
        audit=noted.audit,
        recording=tally.recording(f"{noted.function}: {reason}") if isinstance(tally, Record) else None,
        widths=widths,
    )
    return report._replace(advice=advice(_facts(noted, report, tally, work)))


def _taken(noted: Noted, tally: Tally) -> Road:
    """Return the road that was taken, with no seconds yet."""
    there, plan = noted.there, noted.plan
    if plan is not None and plan.backend == COROUTINES:
        return Road(COROUTINES, plan.n_jobs, 0.0, taken=True)
    if not tally.ran:
        if plan is None or plan.backend == SERIAL.name or not tally.chunks:
            return Road(SERIAL.name, 1, 0.0, taken=True)
        return Road(plan.backend, plan.n_jobs, 0.0, taken=True)
    backend = there.route.partition("/")[0] if there is not None and plan is None else ""
    width = max(1, len(tally.workers))
    if plan is not None and plan.backend != SERIAL.name:
        backend, width = plan.backend, plan.n_jobs
    if tally.ran < noted.items_here:
        return Road(SERIAL.name, 1, 0.0, taken=True)
    return Road(backend or PROCESSES.name, width, 0.0, taken=True)


def _work(noted: Noted, tally: Tally) -> WorkProfile | None:
    """Return what is known of the items, as if all had run alone in the caller; None if nothing is."""
    here, there, known = noted.here, noted.there, noted.known
    if here is None and there is None:
        if known is None or noted.wall_seconds < _FEW_SECONDS or noted.items < 1:
            return None
        # Nothing was timed item by item. The whole says what these items took, and earlier ones how they are.
        each = noted.wall_seconds / noted.items
        return known._replace(seconds_per_item=each, worker_seconds_per_item=_slowdown(noted) * each)
    if there is None:
        assert here is not None
        work = here
        if known is not None and known.slowdown is not None:
            work = work._replace(worker_seconds_per_item=_slowdown(noted) * here.seconds_per_item)
    else:
        work = _alone(noted, here, there)
    if known is not None:
        work = work._replace(call_seconds=known.call_seconds, load_seconds=known.load_seconds)
        work = work._replace(
            bytes_in=known.bytes_in,
            bytes_out=known.bytes_out,
            transfer_seconds_per_item=known.transfer_seconds_per_item,
        )
    if noted.transfer is not None:
        told = noted.transfer
        work = work._replace(
            bytes_in=told.bytes_in, bytes_out=told.bytes_out, transfer_seconds_per_item=told.seconds_per_item
        )
    if there is not None and tally.ran and tally.bytes_in:
        work = work._replace(bytes_in=tally.bytes_in / tally.ran, bytes_out=tally.bytes_out / tally.ran)
    return work


def _alone(noted: Noted, here: WorkProfile | None, there: WorkProfile) -> WorkProfile:
    """Return the times of items as if they had run alone, where some or all have run on workers."""
    on_threads = there.route == THREADS.name
    each = there.seconds_per_item
    slowdown = 1.0 if on_threads else _slowdown(noted)
    share = there.cpu_share
    if here is not None and (here.items >= _LEAST_ITEMS_HERE or on_threads):
        # On threads items wait for one another, so those that ran alone tell how long they take.
        total = here.items * here.seconds_per_item
        alone = min(each, here.seconds_per_item) if on_threads else each / slowdown
        mean = (total + there.items * alone) / (here.items + there.items)
        if on_threads and here.seconds_per_item > 0.0:
            share = min(1.0, share * each / here.seconds_per_item)
        return here._replace(
            items=here.items + there.items,
            seconds_per_item=mean,
            cpu_share=share,
            worker_seconds_per_item=None if on_threads else mean * slowdown,
        )
    return there._replace(
        seconds_per_item=each / slowdown, worker_seconds_per_item=None if on_threads else each, cpu_share=share
    )


def _slowdown(noted: Noted) -> float:
    return min(max(noted.slowdown, _SLOWDOWNS[0]), _SLOWDOWNS[1])


def _machine(noted: Noted) -> MachineProfile:
    method = noted.start_method or machine.start_method()
    pool: Any = sys.modules.get(PROCESSES.module or "")
    warm = pool.warm_count(method, None, ()) if hasattr(pool, "warm_count") else 0
    profile = machine.machine_profile(method, warm_workers=warm, served=is_served(method))
    loading = 0.0 if PROCESSES.module in sys.modules else _LOADING_SHARE * IMPORT_SECONDS
    return profile._replace(
        seconds_first_start=profile.seconds_first_start + loading,
        seconds_per_call=profile.seconds_per_call + noted.carrying_seconds,
    )


def _roads(noted: Noted, work: WorkProfile, here: MachineProfile, taken: Road) -> tuple[Road, ...]:
    """Return the road that was taken, as measured, among estimates of the others."""
    there = noted.there
    width = there.width if there is not None else None
    found = roads(
        work,
        here,
        noted.items,
        noted.limits,
        thread_chunk_seconds=machine.seconds_per_chunk(THREADS.name),
        known_width=width,
    )
    # A first item that paid for something once, or that was long, is no measure of the others, but takes its time.
    counted = 0.0 if noted.here is None else noted.here.items * work.seconds_per_item
    once = max(0.0, noted.here_seconds - counted)
    found = tuple(road._replace(seconds=road.seconds + once) for road in found)
    if taken.backend == COROUTINES or noted.stays:
        serial = () if taken.backend == SERIAL.name else found[:1]
        return (*serial, taken)  # what a coroutine function awaits, or what cannot be sent, runs nowhere else
    if work.bytes_in is None or work.bytes_out is None:
        untold = "without sending items and results, which was not measured"
        found = tuple(road._replace(note=untold) if road.backend == "processes" else road for road in found)
    if any(road.backend == taken.backend for road in found):
        return tuple(taken if road.backend == taken.backend else road for road in found)
    return (taken, *found)


def _widths(noted: Noted, work: WorkProfile, here: MachineProfile) -> tuple[tuple[int, float], ...]:
    most = max(widest(here, work)[0], noted.limits.n_jobs or 1)
    numbers = sorted({*range(1, min(most, 64) + 1), most})
    alone = predict_seconds(work, here, noted.items, SERIAL.name, 1)
    there = [
        (number, predict_seconds(work, here, noted.items, "processes", number, noted.limits.chunksize))
        for number in numbers
        if number > 1
    ]
    return ((1, alone), *there)


def _why_here(noted: Noted, work: WorkProfile, here: MachineProfile) -> str:
    plan = choose(work, here, noted.items, noted.limits)
    if plan.backend == SERIAL.name:
        return plan.reason
    if noted.stays:
        return "serial: the function or its items must stay in the caller"
    return "serial: nothing was known of the function that spoke for workers"


def _spent(noted: Noted, tally: Tally) -> Spent:
    """Return where the wall time went. What is not told by another part, and was not the library's, is the user's."""
    wall = noted.wall_seconds
    here = noted.here_seconds + tally.seconds.here
    if noted.here is None and not (tally.chunks or tally.here_items or tally.seconds.waiting):
        return Spent(here=wall)  # nothing was timed, so the user's own work between results is in it
    width = noted.plan.n_jobs if noted.plan is not None else len(tally.workers)
    tail = min(tally.tail_seconds(width), tally.seconds.waiting) if noted.over else 0.0
    told = tally.seconds.opening + tally.seconds.feeding + tally.seconds.starting + tally.seconds.waiting
    ours = max(tally.seconds.stepping, told + tally.seconds.here)
    other = ours - told - tally.seconds.here + tally.seconds.deciding
    consumer = max(0.0, wall - noted.here_seconds - ours - tally.seconds.deciding)
    spent = Spent(
        here=min(here, wall),
        opening=tally.seconds.opening,
        starting=tally.seconds.starting,
        sending=tally.seconds.feeding,
        working=tally.seconds.waiting - tail,
        tail=tail,
        consumer=consumer,
        other=other,
    )
    total = sum(spent)
    # What is seen while the call goes on was not all read at the same moment.
    return spent if total <= wall or total <= 0.0 else Spent(*(part * wall / total for part in spent))


def _shares(tally: Tally) -> tuple[WorkerShare, ...]:
    wall = max(tally.wall_seconds, 1e-9)
    return tuple(
        WorkerShare(f"worker {number}", worker.items, worker.seconds, min(1.0, worker.seconds / wall))
        for number, worker in enumerate([*tally.workers.values()], 1)
    )


def _facts(noted: Noted, report: Report, tally: Tally, work: WorkProfile | None) -> Facts:
    longest = tally.longest
    return Facts(
        seconds=report.worked_seconds,
        consumer_seconds=report.spent.consumer,
        items=report.items,
        workers=len(tally.workers),
        tail_seconds=report.spent.tail,
        longest_seconds=longest[0],
        longest_first=longest[1],
        longest_items=longest[2],
        opening_seconds=report.spent.opening,
        starting_seconds=report.spent.starting,
        feeding_seconds=report.spent.sending,
        bytes_in=report.bytes_in,
        bytes_out=report.bytes_out,
        seconds_per_item=0.0 if work is None else work.seconds_per_item,
        chunksize=noted.limits.chunksize,
        roads=report.roads,
    )

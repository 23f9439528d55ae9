"""How long would the same work have taken on each road: in the caller, on processes, on threads?

The roads in the caller and on processes are the predictions of `plan.model`, made from what the call itself has
measured. Threads of one interpreter are told by two bounds: what items compute goes through the interpreter one after
another (Amdahl, AFIPS 1967), unless they release it, which their times alone do not tell; what they wait, they wait
at once, on as many threads as `plan.width` would have come to use by then.
"""

from __future__ import annotations

from ..lean import NamedTuple
from .model import LEAST_TRANSFER_SECONDS, predict_seconds
from .planner import best_width
from .profile import Limits
from .schedule import OVERHEAD_SHARE
from .waiting import waits
from .width import MOST_WIDTH, START_WIDTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import MachineProfile, WorkProfile

__all__ = ["Road", "roads", "threads_seconds"]

# Threads that compute take turns, and each turn costs a switch. This is how much longer computing items take on some
# threads than in one (benchmarks/seeing.py).
_TURNS = 1.05
# Items that use so much of a core are taken to use all of it: the rest is what other programs took.
_ALL_SHARE = 0.8
# A width is doubled after about so many times as many items as it has (`plan.width`).
_ROUNDS_TO_DOUBLE = 1.5
# What a call on threads costs beyond its items: so much whatever their number, and so much for each of the first few,
# which go to threads one by one (benchmarks/roads.py).
_THREADS_SECONDS = 2e-3
_ONE_BY_ONE_SECONDS, _ONE_BY_ONE = 45e-6, 64
_NO_LIMITS = Limits()


class Road(NamedTuple):
    """A way in which the work could have run.

    Attributes:
        backend: "serial", "processes", "threads", or the backend that was named.
        n_jobs: number of workers; 1 for "serial".
        seconds: how long all items take there; measured if it was taken, else estimated.
        taken: whether the call has taken it.
        note: what the estimate supposes; empty if there is nothing to say.
    """

    backend: str
    n_jobs: int
    seconds: float
    taken: bool = False
    note: str = ""


def roads(
    work: WorkProfile,
    machine: MachineProfile,
    n_items: int,
    limits: Limits = _NO_LIMITS,
    *,
    thread_chunk_seconds: float = 0.0,
    known_width: int | None = None,
    most_threads: int = MOST_WIDTH,
) -> tuple[Road, ...]:
    """Return the roads that `n_items` could have taken, with the seconds that each would have cost.

    Args:
        work: what was measured of the function; its `seconds_per_item` is that of an item alone in the caller.
        machine: what is known of the machine, with the workers that were there before the call.
        n_items: number of items.
        limits: what the user has fixed.
        thread_chunk_seconds: what a chunk's way to a thread and back costs.
        known_width: how many threads were found to be best; None if that is not known.
        most_threads: how many threads there may be.

    >>> from amorsize.plan.profile import MachineProfile, WorkProfile
    >>> work, machine = WorkProfile(10, 0.01), MachineProfile(2, 2, None, "fork", 0.01, 0.001)
    >>> [(road.backend, road.n_jobs, round(road.seconds, 1)) for road in roads(work, machine, 1000)]
    [('serial', 1, 10.0), ('processes', 2, 5.0), ('threads', 2, 10.5)]
    """
    # A width of one worker would say that workers are no use; two is then the least that shows what they would cost.
    width = max(2, best_width(work, machine, n_items, limits)) if limits.n_jobs is None else limits.n_jobs
    there = predict_seconds(work, machine, n_items, "processes", width, limits.chunksize)
    many = min(most_threads if limits.n_jobs is None else limits.n_jobs, max(1, n_items))
    if limits.n_jobs is None and not waits(work):
        many = min(many, max(2, machine.cores))
    threads = threads_seconds(work, n_items, many, chunk_seconds=thread_chunk_seconds, known_width=known_width)
    note = "" if waits(work) else "if the items hold the interpreter"
    return (
        Road("serial", 1, predict_seconds(work, machine, n_items, "serial", 1)),
        Road("processes", max(1, width), there),
        Road("threads", known_width or many, threads, note=note),
    )


def threads_seconds(
    work: WorkProfile, n_items: int, most: int, *, chunk_seconds: float = 0.0, known_width: int | None = None
) -> float:
    """Return the seconds that items take on threads that they share one interpreter with.

    Args:
        work: as for `roads`.
        n_items: number of items.
        most: how many threads there may be.
        chunk_seconds: what a chunk's way to a thread and back costs.
        known_width: how many threads were found to be best; None to begin with few and double.

    >>> from amorsize.plan.profile import WorkProfile
    >>> round(threads_seconds(WorkProfile(10, 0.1, cpu_share=0.0), 64, 32, known_width=32), 3)
    0.205
    """
    item = max(0.0, work.seconds_per_item)
    share = 1.0 if work.cpu_share >= _ALL_SHARE else max(0.0, work.cpu_share)
    overhead = LEAST_TRANSFER_SECONDS + min(chunk_seconds, OVERHEAD_SHARE * max(item, chunk_seconds))
    computing = n_items * (item * share * (1.0 if waits(work) else _TURNS) + overhead)
    starting = _THREADS_SECONDS + _ONE_BY_ONE_SECONDS * min(n_items, _ONE_BY_ONE)
    if not waits(work):
        return starting + max(computing, n_items * item / max(1, most))
    width, left, seconds = min(most, known_width or START_WIDTH), n_items, 0.0
    while left > 0 and width < most and known_width is None:
        done = min(left, int(_ROUNDS_TO_DOUBLE * width))
        seconds += item * done / width if done > width else item
        left -= done
        width = min(most, 2 * width)
    if left > 0:
        seconds += item * -(-left // max(1, width))
    return starting + max(computing, seconds)

"""How long will this work take if it runs in a given way on this machine?

The prediction for every way of running is a straight line in the number of items: some seconds are due whatever the
number, and some for each item. Measured means cannot support more than that, and straight lines allow a proof: as a
plan with more workers has a flatter slope, the best number of workers can only grow with the number of items (Topkis,
Operations Research 1978).

For processes the slope is the largest of three figures, since each of them bounds the whole from below:

- the caller's own seconds for an item: pickling, bytes through the pipe or shared memory, a share of a chunk's cost;
- a worker's seconds for an item, divided by the number of workers;
- the CPU seconds of both, divided by the number of cores.

The fixed part is the start of workers that are not warm, what a call costs the caller whatever its items, the first
chunk of each worker, and the imbalance at the end.
When one worker runs out of work, every other worker is somewhere within a piece of work. How much of that piece is left
on average is the mean residual life of renewal theory, (mean + variance / mean) / 2, so that the spread of item times
counts for as much as it does in reality.
"""

from __future__ import annotations

from ..lean import NamedTuple
from .profile import is_one_of
from .schedule import OVERHEAD_SHARE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import Bandwidth, MachineProfile, WorkProfile

__all__ = ["Line", "bandwidth", "beside_seconds", "caller_seconds_per_item", "crosses_shared", "predict_seconds"]
__all__ += ["processes_line", "seconds_of_the_rest", "start_seconds"]

# The least that an item's way through workers costs the caller, however cheap the item is to pickle. A smaller value
# means that items which cost nothing to run look worth sending; a larger one means that items of a few microseconds
# stay in the caller. (This is a design figure: a million no-ops through a stock Pool cost 0.11 us each;
# benchmarks/regret.py has the row.)
LEAST_TRANSFER_SECONDS = 0.15e-6


class Line(NamedTuple):
    """A prediction for any number of items.

    Attributes:
        fixed_seconds: seconds that are due whatever the number of items.
        seconds_per_item: seconds that are due for each item.
    """

    fixed_seconds: float
    seconds_per_item: float

    def at(self, n_items: int) -> float:
        """Return the seconds that `n_items` take."""
        return self.fixed_seconds + n_items * self.seconds_per_item


def predict_seconds(
    work: WorkProfile, machine: MachineProfile, n_items: int, backend: str, n_jobs: int, chunksize: int | None = None
) -> float:
    """Return the seconds that `n_items` will take, from the call to the last result.

    Args:
        work: what was measured of the function.
        machine: what is known of the machine.
        n_items: number of items.
        backend: "serial" or "processes".
        n_jobs: number of workers; ignored for "serial".
        chunksize: number of items in each chunk if all chunks are equal; None if `plan.schedule` chooses the lengths.

    Raises:
        ValueError: the model does not know the backend.

    >>> from amorsize.plan.profile import MachineProfile, WorkProfile
    >>> work, machine = WorkProfile(10, 0.001), MachineProfile(2, 2, None, "fork", 0.01, 0.001)
    >>> predict_seconds(work, machine, 1000, "serial", 1)
    1.0
    >>> round(predict_seconds(work, machine, 1000, "processes", 2), 2)
    0.53
    """
    if n_items <= 0:
        return 0.0
    if backend == "serial":
        return n_items * _positive(work.seconds_per_item)
    if backend != "processes":
        raise ValueError(f"backend must be 'serial' or 'processes' to be predicted, not {backend!r}")
    seconds = processes_line(work, machine, n_jobs, chunksize).at(n_items)
    # No plan is quicker than its longest item, which may still be to come.
    there = work.worker_seconds_per_item
    item = _positive(work.seconds_per_item if there is None else there)
    return max(seconds, min(work.seconds_max, n_items * item))


def processes_line(work: WorkProfile, machine: MachineProfile, n_jobs: int, chunksize: int | None = None) -> Line:
    """Return the prediction for `n_jobs` worker processes; the arguments are those of `predict_seconds`."""
    # Workers are priced by what was measured on workers. Where nothing was, the caller's time is all that is known.
    there = work.worker_seconds_per_item
    item = _positive(work.seconds_per_item if there is None else there)
    chunk = _positive(machine.seconds_per_chunk)
    if chunksize is None:
        # plan.schedule aims at chunks whose fixed cost is a small share of their time, or that hold one item.
        chunk_share = min(chunk, OVERHEAD_SHARE * item)
        piece = max(item, chunk / OVERHEAD_SHARE)
    else:
        chunk_share = chunk / chunksize
        piece = chunksize * item
    caller = caller_seconds_per_item(work, machine) + chunk_share
    worker = item + caller  # a worker unpickles and pickles what the caller pickles and unpickles
    cpu = (item * _positive(work.cpu_share) + 2 * caller) / max(1, machine.cores)
    deviation = _positive(work.seconds_std)
    residual = (piece + deviation * (deviation / item if item else 0.0)) / 2
    imbalance = residual * (1 - 1 / n_jobs) if n_jobs > 1 else 0.0
    call = _positive(machine.seconds_per_call if work.call_seconds is None else work.call_seconds)
    return Line(
        start_seconds(machine, n_jobs) + call + n_jobs * chunk + imbalance,
        max(caller, worker / n_jobs, cpu),
    )


def start_seconds(machine: MachineProfile, n_jobs: int) -> float:
    """Return the seconds until `n_jobs` workers can run items, where warm workers can already.

    >>> from amorsize.plan.profile import MachineProfile
    >>> start_seconds(MachineProfile(8, 4, None, "fork", 0.010, 0.005), 3)
    0.02
    >>> start_seconds(MachineProfile(8, 4, None, "fork", 0.010, 0.001, warm_workers=4), 4)
    0.0
    """
    missing = n_jobs - max(0, machine.warm_workers)
    if missing <= 0:
        return 0.0
    following, load = _positive(machine.seconds_next_start), _positive(machine.seconds_load)
    if machine.warm_workers > 0:
        return missing * following + load
    return _positive(machine.seconds_first_start) + (missing - 1) * following + load


def beside_seconds(running: float, in_caller: float, start: float) -> float:
    """Return what a call takes whose caller runs items until its workers are ready, and none after that.

    Args:
        running: what the call would take if workers were running, in seconds.
        in_caller: what it would take in the caller, in seconds.
        start: seconds until workers are ready.

    >>> beside_seconds(1.0, 2.0, 0.5), beside_seconds(1.0, 2.0, 3.0)
    (1.25, 2.0)
    """
    if start >= in_caller:
        return in_caller
    return start + (1.0 - start / in_caller) * running


def seconds_of_the_rest(measured: WorkProfile, known: WorkProfile, remaining: int) -> float:
    """Return how long an item of the rest of a call probably takes: by its first items, or by what is known of all.

    Items that differ much may come in any order, sorted ones for example, and then the first ones say little. So if
    they are such as were known before, the whole is taken to last as long as it did then.

    Args:
        measured: the first items of this call.
        known: the items of calls like it.
        remaining: number of items of this call that are still to run.

    >>> from amorsize.plan.profile import WorkProfile
    >>> long_first, known = WorkProfile(1, 0.1, seconds_max=0.1), WorkProfile(100, 0.002, seconds_max=0.1)
    >>> round(seconds_of_the_rest(long_first, known, 99), 4)
    0.001
    """
    if is_one_of(measured.seconds_max, known):
        spent = measured.items * measured.seconds_per_item
        rest = (measured.items + remaining) * known.seconds_per_item - spent
        if rest > 0.0:
            return rest / remaining
    return measured.seconds_per_item


def caller_seconds_per_item(work: WorkProfile, machine: MachineProfile) -> float:
    """Return the caller's own seconds for sending one item and taking its result, without a chunk's fixed cost."""
    crossing = _seconds(work.bytes_in, bandwidth(work.bytes_in, machine).bytes_per_second_in)
    crossing += _seconds(work.bytes_out, bandwidth(work.bytes_out, machine).bytes_per_second_out)
    return max(LEAST_TRANSFER_SECONDS, work.transfer_seconds_per_item) + crossing


def crosses_shared(nbytes: float | None, machine: MachineProfile) -> bool:
    """Say whether a value of this size crosses in shared memory, and not in a message."""
    return machine.shared is not None and nbytes is not None and nbytes >= machine.shared_least_bytes


def bandwidth(nbytes: float | None, machine: MachineProfile) -> Bandwidth:
    """Return how fast values of this size cross.

    >>> from amorsize.plan.profile import Bandwidth, MachineProfile
    >>> here = MachineProfile(2, 2, None, "fork", 0.01, 0.001, pipe=Bandwidth(1e9, 1e9), shared=Bandwidth(4e9, 2e9))
    >>> bandwidth(100, here).bytes_per_second_out, bandwidth(1e6, here).bytes_per_second_out
    (1000000000.0, 2000000000.0)
    """
    shared = machine.shared if crosses_shared(nbytes, machine) else None
    return machine.pipe if shared is None else shared


def _seconds(nbytes: float | None, bytes_per_second: float) -> float:
    """Return how long one side takes to write a value of this size, or to read it, once it is pickled."""
    return nbytes / max(bytes_per_second, 1.0) if nbytes is not None and nbytes > 0.0 else 0.0


def _positive(number: float) -> float:
    # Noise can make a small measurement come out below zero. This is asked often, and `max` takes twice as long.
    if number > 0.0:
        return number
    return 0.0

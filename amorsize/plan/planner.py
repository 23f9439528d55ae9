"""Should this work run in the caller or on workers, on how many, and why?

The planner compares what the model predicts for every number of workers within the limits, and takes the least
prediction. Because every prediction is a straight line in the number of items (`plan.model`), more items never mean
fewer workers, and a dearer start never makes workers likelier; `tests/test_planner.py` checks both. Ties go to the
caller, and then to fewer workers. A number of workers is called a width here.
"""

from __future__ import annotations

from ..lean import NamedTuple, public
from .model import (
    Line,
    bandwidth,
    caller_seconds_per_item,
    crosses_shared,
    predict_seconds,
    processes_line,
    start_seconds,
)
from .profile import Limits, MachineProfile, WorkProfile
from .schedule import OVERHEAD_SHARE, SHARES_PER_WORKER

__all__ = ["Alternative", "Plan", "best_width", "choose", "gains", "seconds_in_words", "widest", "workers_in_words"]

# The part of free memory that workers may fill; the rest is for the caller and the results. A larger value comes nearer
# to swapping, or to the container's limit, where workers are killed; a smaller one means fewer workers than would fit.
# No benchmark sets this value.
MEMORY_SHARE = 0.8
_NO_LIMITS = Limits()


class Alternative(NamedTuple):
    """A way of running that was considered.

    Attributes:
        backend: "serial" or "processes".
        n_jobs: number of workers; 1 for "serial".
        chunksize: number of items in a chunk that would suit a pool whose chunks are all equal.
        predicted_seconds: predicted seconds for all items.
        note: a remark on this way of running, or empty.
    """

    backend: str
    n_jobs: int
    chunksize: int
    predicted_seconds: float
    note: str = ""


@public
class Plan(NamedTuple):
    """The decision.

    Attributes:
        backend: "serial" or "processes".
        n_jobs: number of workers, the caller not counted; 1 for "serial".
        chunksize: number of items in a chunk: the user's if it is fixed, else one that would suit a pool whose chunks
            are all equal.
        predicted_seconds: predicted seconds for all items.
        serial_seconds: predicted seconds for all items in the caller.
        reason: why the plan was chosen, in plain words.
        warnings: what the user might want to change, in plain words.
        alternatives: the ways of running that were considered, the chosen one included; of many widths, only powers of
            two, the best width and the largest are listed.
    """

    backend: str
    n_jobs: int
    chunksize: int
    predicted_seconds: float
    serial_seconds: float
    reason: str
    warnings: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def estimated_speedup(self) -> float:
        """How many times faster the plan is predicted to be than running everything in the caller."""
        if self.backend == "serial" or not 0.0 < self.predicted_seconds < float("inf"):
            return 1.0
        return self.serial_seconds / self.predicted_seconds


def choose(work: WorkProfile, machine: MachineProfile, n_items: int, limits: Limits = _NO_LIMITS) -> Plan:
    """Return the plan with the least predicted seconds within the user's limits.

    Args:
        work: what was measured of the function.
        machine: what is known of the machine.
        n_items: number of items to run.
        limits: what the user fixed; its `n_jobs` and `chunksize` are exact, and one of its `backends` is chosen.

    Raises:
        ValueError: `limits.backends` has neither "serial" nor "processes".

    >>> work, machine = WorkProfile(10, 3e-6), MachineProfile(2, 2, None, "fork", 0.010, 0.001)
    >>> choose(work, machine, 1000).reason
    'serial: 1,000 items of 3 us take 3 ms, starting 2 workers takes 11 ms'
    """
    serial_allowed, processes_allowed = "serial" in limits.backends, "processes" in limits.backends
    if not (serial_allowed or processes_allowed):
        raise ValueError(f"limits.backends must have 'serial' or 'processes', not only {limits.backends!r}")
    allowed, decider = widest(machine, work)
    serial_seconds = predict_seconds(work, machine, n_items, "serial", 1)
    alternatives = [Alternative("serial", 1, _chunksize(work, machine, n_items, 1, limits), serial_seconds)]
    if not serial_allowed:
        alternatives.clear()
    chosen = alternatives[0] if alternatives else None
    workers = None
    if processes_allowed:
        width = best_width(work, machine, n_items, limits)
        for n_jobs in _shown_widths(width, allowed, n_items, limits):
            seconds = predict_seconds(work, machine, n_items, "processes", n_jobs, limits.chunksize)
            chunksize = _chunksize(work, machine, n_items, n_jobs, limits)
            alternatives.append(Alternative("processes", n_jobs, chunksize, seconds))
            if n_jobs == width:
                workers = alternatives[-1]
        if chosen is None or (workers is not None and gains(workers.predicted_seconds, serial_seconds, machine)):
            chosen = workers
    assert chosen is not None  # one of the two backends was allowed
    if chosen.backend == "serial":
        reason = _why_serial(work, machine, n_items, limits, workers, decider)
    else:
        reason = _why_workers(work, machine, n_items, chosen, serial_allowed)
    return Plan(
        chosen.backend,
        chosen.n_jobs,
        chosen.chunksize,
        chosen.predicted_seconds,
        serial_seconds,
        reason,
        _warnings(work, machine, n_items, limits, chosen, allowed, decider),
        tuple(alternatives),
    )


def gains(on_workers: float, in_caller: float, machine: MachineProfile) -> bool:
    """Say whether predicted seconds on workers are less than those in the caller, by more than predictions are wrong.

    >>> machine = MachineProfile(2, 2, None, "fork", 0.01, 0.001, prediction_error=0.2)
    >>> gains(0.9, 1.0, machine), gains(0.8, 1.0, machine)
    (False, True)
    """
    return on_workers * (1.0 + max(0.0, machine.prediction_error)) < in_caller


def widest(machine: MachineProfile, work: WorkProfile | None = None) -> tuple[int, str]:
    """Return how many workers the cores and the memory allow, at least 1, and which of the two decided.

    Args:
        machine: what is known of the machine.
        work: what was measured of the function; None while nothing is known of its memory.

    Returns:
        The number, and "cores" or "memory".

    >>> widest(MachineProfile(8, 8, 10**9, "fork", 0.01, 0.001, worker_bytes=300_000_000))
    (2, 'memory')
    """
    cores = max(1, machine.cores)
    if machine.available_memory is None:
        return cores, "cores"
    each = _worker_bytes(machine, work)
    # What warm workers already hold is no longer free memory, but it is there for workers.
    room = machine.available_memory * MEMORY_SHARE + max(0, machine.warm_workers) * max(0, machine.worker_bytes)
    if each * cores <= room:
        return cores, "cores"
    return max(1, int(room / each)), "memory"


def best_width(work: WorkProfile, machine: MachineProfile, n_items: int, limits: Limits = _NO_LIMITS) -> int:
    """Return how many worker processes have the least predicted seconds for `n_items`, 1 included.

    Args:
        work: as for `choose`.
        machine: as for `choose`.
        n_items: as for `choose`.
        limits: as for `choose`; `n_jobs` is returned if given.
    """
    if limits.n_jobs is not None:
        return max(1, limits.n_jobs)
    least, most = 1, min(widest(machine, work)[0], _chunks(n_items, limits))
    # Predictions first fall and then rise as the width grows, so the last worker that pays is found by bisection.
    while least < most:
        middle = (least + most + 1) // 2
        line = processes_line(work, machine, middle - 1, limits.chunksize)
        wider = processes_line(work, machine, middle, limits.chunksize)
        if _gain(line, wider, n_items) > 0.0:
            least = middle
        else:
            most = middle - 1
    return least


def seconds_in_words(seconds: float) -> str:
    """Return a duration as people say it.

    >>> [seconds_in_words(s) for s in (0.0, 50e-9, 3e-6, 0.01149, 1.5, 125, 7200)]
    ['0 s', '50 ns', '3 us', '11.5 ms', '1.5 s', '2.08 min', '2 h']
    """
    for unit, name in _UNITS:
        if seconds >= unit:
            number = seconds / unit
            return f"{number:.3g} {name}" if number < 999.5 else f"{number:,.0f} {name}"
    return "0 s" if seconds <= 0 else "under 1 ns"


_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def _gain(line: Line, wider: Line, n_items: int) -> float:
    # The gain is written as a difference of slopes so that rounding cannot make it shrink as the number of items grows.
    return n_items * (line.seconds_per_item - wider.seconds_per_item) - (wider.fixed_seconds - line.fixed_seconds)


def _worker_bytes(machine: MachineProfile, work: WorkProfile | None) -> float:
    growth = max(0.0, work.memory_bytes) if work is not None else 0.0
    return max(1.0, max(0, machine.worker_bytes) + growth)


def _chunks(n_items: int, limits: Limits) -> int:
    """Return how many chunks the items make at most; more workers than chunks would have nothing to do."""
    return max(1, -(-n_items // max(1, limits.chunksize or 1)))


def _shown_widths(best: int, allowed: int, n_items: int, limits: Limits) -> list[int]:
    if limits.n_jobs is not None:
        return [best]
    most = min(allowed, _chunks(n_items, limits))
    widths = {best, most}
    width = 1
    while width < most:
        widths.add(width)
        width *= 2
    return sorted(widths)


# Fewer bytes are not spoken of.
_WORTH_TELLING_MEGABYTES = 10.0


def _chunksize(work: WorkProfile, machine: MachineProfile, n_items: int, n_jobs: int, limits: Limits) -> int:
    """Return the user's chunk size, or the least one at which a chunk's fixed cost is a small share of its time."""
    if limits.chunksize is not None:
        return max(1, limits.chunksize)
    share = max(1, -(-n_items // (SHARES_PER_WORKER * n_jobs)))
    least_seconds = max(0.0, machine.seconds_per_chunk) / OVERHEAD_SHARE
    if share * work.seconds_per_item <= least_seconds:
        return share
    return max(1, int(least_seconds / work.seconds_per_item))


def _why_serial(
    work: WorkProfile, machine: MachineProfile, n_items: int, limits: Limits, workers: Alternative | None, decider: str
) -> str:
    if n_items <= 0:
        return "serial: there are no items"
    if workers is None:
        return "serial: no other backend is allowed"
    if n_items == 1:
        return "serial: one item cannot be shared out"
    took = _items_take(work, n_items)
    n_jobs = workers.n_jobs
    if n_jobs == 1 and limits.n_jobs == 1:
        return f"serial: {took}, n_jobs=1 leaves nobody to share them with"
    if n_jobs == 1 and widest(machine, work)[0] == 1:
        lack = "memory has room for one worker only" if decider == "memory" else "only one core may be used"
        return f"serial: {took}, and {lack}"
    if n_jobs == 1 and _chunks(n_items, limits) == 1:
        return f"serial: {took}, and chunksize={limits.chunksize} puts them all into one chunk"
    if n_jobs == 1:  # no width is quicker, so the reason speaks of the smallest width that could have been
        n_jobs = 2
    line = processes_line(work, machine, n_jobs, limits.chunksize)
    serial_seconds = predict_seconds(work, machine, n_items, "serial", 1)
    start = start_seconds(machine, n_jobs)
    sending = n_items * caller_seconds_per_item(work, machine)
    if sending >= serial_seconds / 2 and sending >= start:
        how = _way_in_words(work, machine, n_items)
        return f"serial: {took}, sending them to workers and fetching results takes {seconds_in_words(sending)}{how}"
    if start > 0.0 and start >= line.fixed_seconds / 2:
        missing = n_jobs - max(0, machine.warm_workers)
        loading = _loading_in_words(machine)
        return f"serial: {took}, starting {workers_in_words(missing)} takes {seconds_in_words(start)}{loading}"
    if work.cpu_share >= machine.cores:
        return f"serial: {took}, each keeping {work.cpu_share:.1f} cores busy by itself"
    return f"serial: {took}, on {workers_in_words(n_jobs)} {seconds_in_words(line.at(n_items))}"


def _why_workers(
    work: WorkProfile, machine: MachineProfile, n_items: int, chosen: Alternative, serial_allowed: bool
) -> str:
    where = workers_in_words(chosen.n_jobs)
    took = seconds_in_words(chosen.predicted_seconds)
    start = start_seconds(machine, chosen.n_jobs)
    started = f", {seconds_in_words(start)} of it to start them{_loading_in_words(machine)}" if start > 0.0 else ""
    asked = "" if serial_allowed else "as the backend asks; "
    how = _way_in_words(work, machine, n_items)
    return f"{where}: {asked}{_items_take(work, n_items)} in the caller, about {took} there{started}{how}"


def _way_in_words(work: WorkProfile, machine: MachineProfile, n_items: int) -> str:
    """Return how many bytes cross in each direction, by which way and how fast; nothing where they are few."""
    told = []
    for direction, nbytes, bytes_per_second in (
        ("to workers", work.bytes_in, bandwidth(work.bytes_in, machine).bytes_per_second_in),
        ("back", work.bytes_out, bandwidth(work.bytes_out, machine).bytes_per_second_out),
    ):
        megabytes = n_items * (nbytes or 0.0) / 1e6
        if megabytes >= _WORTH_TELLING_MEGABYTES:
            way = "in shared memory" if crosses_shared(nbytes, machine) else "through pipes"
            told.append(f"{megabytes:,.0f} MB {direction} {way} at {bytes_per_second / 1e9:.1f} GB/s")
    return f" ({', '.join(told)})" if told else ""


def _loading_in_words(machine: MachineProfile) -> str:
    load = machine.seconds_load
    return f" and load what the function needs ({seconds_in_words(load)})" if load > 0.0 else ""


def _items_take(work: WorkProfile, n_items: int) -> str:
    items = "1 item" if n_items == 1 else f"{n_items:,} items"
    verb = "takes" if n_items == 1 else "take"
    each = max(0.0, work.seconds_per_item)
    return f"{items} of {seconds_in_words(each)} {verb} {seconds_in_words(n_items * each)}"


def workers_in_words(n_jobs: int) -> str:
    """Return "1 worker", or so many workers."""
    return "1 worker" if n_jobs == 1 else f"{n_jobs:,} workers"


def _warnings(
    work: WorkProfile,
    machine: MachineProfile,
    n_items: int,
    limits: Limits,
    chosen: Alternative,
    allowed: int,
    decider: str,
) -> tuple[str, ...]:
    found = []
    if decider == "memory":
        sizes = (
            f"a worker takes {_worker_bytes(machine, work) / 1e6:,.0f} MB "
            f"and {(machine.available_memory or 0) / 1e6:,.0f} MB are free"
        )
        if limits.n_jobs is None and min(machine.cores, _chunks(n_items, limits)) > allowed:
            found.append(f"memory, not cores, limits the workers to {allowed} of {machine.cores}: {sizes}")
        elif limits.n_jobs is not None and chosen.backend == "processes" and limits.n_jobs > allowed:
            found.append(f"n_jobs={limits.n_jobs} may not fit in memory, which has room for {allowed}: {sizes}")
    return tuple(found)

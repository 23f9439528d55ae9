"""What does the planner decide from? Plain numbers tell it what was measured and what the user's options leave open."""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["Bandwidth", "Limits", "MachineProfile", "WorkProfile", "is_one_of"]

# Items differ much if the longest took this many times the mean, and one is such as was known if it is not longer than
# this times the longest. A smaller first figure and a larger second one mean that a call's first items are believed
# less where calls like it are known.
_UNLIKE, _AS_LONG = 2.0, 1.25


# The route of items that run in the caller.
CALLER = "caller"


class WorkProfile(NamedTuple):
    """What was measured of one function on its items.

    Attributes:
        items: number of items measured (in the caller or in workers).
        seconds_per_item: mean running time of the function on one item, in seconds.
        seconds_std: standard deviation of one item's running time, in seconds.
        seconds_max: longest running time seen of one item, in seconds.
        cpu_share: CPU seconds over wall seconds while the function ran: 1 if it computes, 0 if it waits.
        bytes_in: pickled bytes of one item on its way to a worker, without a dump's fixed cost; None if not measured.
        bytes_out: pickled bytes of one result on its way back; None if not measured.
        transfer_seconds_per_item: the caller's own seconds for pickling one item and unpickling one result.
        memory_bytes: growth of a worker's resident memory while it ran items, in bytes.
        route: where the function was measured: "caller", or a route of workers, such as "processes/fork".
        worker_seconds_per_item: mean running time of one item on the workers that a plan is for, in seconds; None if
            it was not measured there, and is then taken to equal `seconds_per_item`.
        slowdown: how many times as long an item takes on these workers as in the caller, measured one after the other;
            None if that was not measured.
        call_seconds: the caller's seconds for a call on these workers beyond their start and the items' own time:
            pickling the function, waking the workers, hearing from them; None if no call was measured.
        load_seconds: seconds that a fresh worker takes to load the function and the modules it needs; None if unknown.
        width: how many items were found to be best under way at once, where that was found out; 1 if more did not help.
    """

    items: int
    seconds_per_item: float
    seconds_std: float = 0.0
    seconds_max: float = 0.0
    cpu_share: float = 1.0
    bytes_in: float | None = None
    bytes_out: float | None = None
    transfer_seconds_per_item: float = 0.0
    memory_bytes: float = 0.0
    route: str = CALLER
    worker_seconds_per_item: float | None = None
    slowdown: float | None = None
    call_seconds: float | None = None
    load_seconds: float | None = None
    width: int | None = None


def is_one_of(seconds: float, known: WorkProfile) -> bool:
    """Say whether an item that took so long says nothing new of a function whose items are known to differ much.

    Args:
        seconds: how long the item took, or the mean of some.
        known: what earlier calls have measured.

    >>> is_one_of(0.07, WorkProfile(500, 0.002, seconds_max=0.08)), is_one_of(0.07, WorkProfile(500, 0.07))
    (True, False)
    """
    return known.seconds_max > _UNLIKE * known.seconds_per_item and seconds <= _AS_LONG * known.seconds_max


class Bandwidth(NamedTuple):
    """How fast data cross by one way, without pickling.

    Attributes:
        bytes_per_second_in: to the workers.
        bytes_per_second_out: back from them.
    """

    bytes_per_second_in: float = 1e9
    bytes_per_second_out: float = 1e9


class MachineProfile(NamedTuple):
    """What is known of this machine now.

    Attributes:
        cores: number of cores this process may use: the least of logical cores, affinity and container quota; at
            least 1.
        physical_cores: number of physical cores of the machine.
        available_memory: bytes free for new processes within the container's limit; None if unknown.
        start_method: "fork", "spawn" or "forkserver", by which a worker would be started now.
        seconds_first_start: seconds until the first worker answers when none is running.
        seconds_next_start: further seconds for each worker after the first.
        seconds_per_chunk: fixed cost, in seconds, of one chunk's way to a warm worker and back.
        pipe: how fast messages cross.
        shared: how fast shared memory is; None where there is none.
        shared_least_bytes: the size from which on values cross in shared memory.
        seconds_per_call: fixed cost of a call on warm workers, in seconds, where the work profile knows none.
        seconds_load: seconds that a fresh worker takes to load what the function needs, once it answers.
        prediction_error: by what share predictions for workers were wrong lately; a gain must be clear of it.
        worker_bytes: resident memory of one idle worker, in bytes.
        warm_workers: number of workers that are already running and idle.
    """

    cores: int
    physical_cores: int
    available_memory: int | None
    start_method: str
    seconds_first_start: float
    seconds_next_start: float
    seconds_per_chunk: float = 30e-6
    pipe: Bandwidth = Bandwidth()
    worker_bytes: int = 20_000_000
    warm_workers: int = 0
    seconds_per_call: float = 0.0
    seconds_load: float = 0.0
    prediction_error: float = 0.0
    shared: Bandwidth | None = None
    shared_least_bytes: int = 1 << 16


class Limits(NamedTuple):
    """What the user's options leave open to the planner.

    Attributes:
        n_jobs: exact number of workers, or None if the planner chooses.
        chunksize: exact number of items in a chunk, or None if the planner chooses.
        backends: the backends that may be chosen, for example ("serial", "processes").
    """

    n_jobs: int | None = None
    chunksize: int | None = None
    backends: tuple[str, ...] = ("serial", "processes")

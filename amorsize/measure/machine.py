"""What is this machine like now? The answers are for the planner, and cheap enough to be asked for often.

`platforms` asks the system, `container` asks the control groups, and `startup` keeps what real starts and chunks cost;
this module puts their answers together. Affinity and threads are read at each call, quota and free memory at most once
a second, and the number of physical cores only once.
"""

from __future__ import annotations

import time
from _thread import get_ident

from ..guard import Guard
from ..lean import Generic, TypeVar
from ..plan.profile import MachineProfile
from ..state import register
from . import platforms
from .startup import LEAST_BYTES_OBSERVED, PIPE, SHARED, Costs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LEAST_BYTES_OBSERVED",
    "available_memory",
    "configured_start_method",
    "cores",
    "forget_costs",
    "known_costs",
    "lasting_costs",
    "learn_bandwidth",
    "learn_call",
    "learn_chunk",
    "learn_copying",
    "learn_load",
    "learn_prediction",
    "learn_start",
    "machine_profile",
    "native_threads",
    "physical_cores",
    "seconds_first_start",
    "seconds_per_chunk",
    "start_method",
    "take_over_costs",
    "threaded_start_method",
    "workers_asked",
]

READ_EVERY_SECONDS = 1.0  # a smaller value costs more calls 40 us; a larger one misses memory that others took

_T = TypeVar("_T")
_ROUTES = {method: f"processes/{method}" for method in ("fork", "spawn", "forkserver")}


class Remembered(Generic[_T]):
    """A reader whose answer is kept for some seconds.

    Args:
        read: takes no arguments and returns the value.
        seconds: how long an answer is kept.
        clock: returns monotonic seconds.
    """

    def __init__(self, read: Callable[[], _T], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._seconds = seconds
        self._clock = clock
        self._kept: tuple[float, _T] | None = None
        register(self.forget)

    def forget(self) -> None:
        """Drop the answer, so that the next call reads anew."""
        self._kept = None

    def __call__(self) -> _T:
        now = self._clock()
        kept = self._kept
        if kept is not None and now - kept[0] < self._seconds:
            return kept[1]
        value = self._read()
        self._kept = now, value
        return value


def cores() -> int:
    """Return how many cores workers may use: the least of logical cores, affinity and container quota; at least 1."""
    usable = platforms.usable_cores()
    granted = _cpu_limit()
    return usable if granted is None else min(usable, granted)


def workers_asked(n_jobs: int | None) -> int | None:
    """Return the number of workers that `n_jobs` asks for: -1 is every core, -2 all but one; None stays None."""
    return n_jobs if n_jobs is None or n_jobs > 0 else max(1, cores() + 1 + n_jobs)


def physical_cores() -> int:
    """Return how many physical cores the machine has, at least 1, whichever of them this process may use."""
    return _physical_cores()


def available_memory() -> int | None:
    """Return the bytes free for new processes, never more than the container still grants; None if unknown."""
    return _available_memory()


def native_threads() -> int | None:
    """Return how many threads this process has, those of C libraries included; None if unknown."""
    return platforms.native_threads()


def busy_seconds() -> float:
    """Return the CPU seconds that this process has used so far, and programs that it has run and waited for.

    Those of threads that amorsize has beside items do not count.
    """
    with _own_lock:  # no thread of ours ends meanwhile
        own = _own_cpu_seconds + sum([platforms.thread_cpu_seconds(ident) for ident in tuple(_own_threads)])
    return time.process_time() + platforms.child_cpu_seconds() - own


class OwnThread:
    """In a `with` block of this, the calling thread counts as one of amorsize's own; it ends after the block."""

    def __enter__(self) -> None:
        if platforms.has_thread_clocks():  # elsewhere it would count while it runs, and not afterwards
            with _own_lock:
                _own_threads.add(get_ident())

    def __exit__(self, *_: object) -> None:
        global _own_cpu_seconds
        if platforms.has_thread_clocks():
            with _own_lock:
                _own_threads.discard(get_ident())
                _own_cpu_seconds += time.thread_time()


def _after_fork_in_child() -> None:
    _own_lock.renew()
    _own_threads.clear()


def configured_start_method(requested: str | None = None) -> str:
    """Return how workers are to be started in a process with one thread. A cached plan may depend on this method.

    Args:
        requested: "fork", "spawn", "forkserver", or None for the rule of `start_method`.
    """
    return requested or platforms.global_start_method() or ("fork" if platforms.has_fork() else "spawn")


def start_method(requested: str | None = None) -> str:
    """Return how workers are to be started now.

    The first of these that applies is returned:

    - `requested`;
    - multiprocessing's global start method, if it was set and is not the platform's default;
    - fork where it is safe, which it never is on macOS, and elsewhere only while the process has one native thread,
      because a lock held by another thread would stay locked in the child for ever;
    - forkserver where fork exists but other threads run;
    - spawn.

    Args:
        requested: "fork", "spawn", "forkserver", or None for the rest of the list.
    """
    chosen = requested or platforms.global_start_method()
    if chosen is not None:
        return chosen
    if not platforms.has_fork():
        return "spawn"
    if native_threads() == 1:
        return "fork"
    return threaded_start_method()


def threaded_start_method() -> str:
    """Return how workers are started while another thread runs in this process, whose locks a fork would copy."""
    return "forkserver" if _has_forkserver() else "spawn"


def seconds_per_chunk(route: str) -> float:
    """Return the fixed cost in seconds of one chunk's way to a warm worker and back, as learnt so far on a route."""
    return _costs.chunk_seconds(route)


def route_of(start_method: str) -> str:
    """Return the route of amorsize's own workers that are started by this method."""
    return _ROUTES[start_method]


def seconds_first_start(start_method: str, *, served: bool = False) -> float:
    """Return how many seconds amorsize's own first worker takes until it answers, when none is running.

    Args:
        start_method: "fork", "spawn" or "forkserver".
        served: whether a fork server for it runs already.
    """
    return _costs.start(_ROUTES[start_method], served=served).first


def known_costs() -> dict[str, float]:
    """Return what things cost on the routes to our own workers, as learnt in this process, or as it is taken to be."""
    found: dict[str, float] = {}
    for route in _ROUTES.values():
        start = _costs.start(route)
        found |= {
            f"{route} seconds_first_start": start.first,
            f"{route} seconds_next_start": start.following,
            f"{route} seconds_per_chunk": _costs.chunk_seconds(route),
            f"{route} seconds_per_call": _costs.call_seconds(route),
        }
        for names, shared in ((PIPE, False), (SHARED, True)):
            bandwidth = _costs.bandwidth(route, shared=shared)
            found |= {f"{route} {name}": value for name, value in zip(names, bandwidth, strict=True)}
    return found


def machine_profile(
    start_method: str, *, warm_workers: int = 0, route: str | None = None, served: bool = False, modules: int = 0
) -> MachineProfile:
    """Return what is known of this machine now, for workers on a route.

    Args:
        start_method: "fork", "spawn" or "forkserver".
        warm_workers: number of workers that are already running and idle.
        route: the route whose costs count; None for amorsize's own workers.
        served: whether a fork server for them runs already, and has loaded what they need.
        modules: how many modules a fresh worker loads for the function.
    """
    from ..transport.memory import LEAST_SHARED_BYTES, shares_memory  # it is wanted only where something is planned

    route = route or _ROUTES[start_method]
    start = _costs.start(route, served=served)
    return MachineProfile(
        cores=cores(),
        physical_cores=physical_cores(),
        available_memory=available_memory(),
        start_method=start_method,
        seconds_first_start=start.first,
        seconds_next_start=start.following,
        seconds_per_chunk=_costs.chunk_seconds(route),
        pipe=_costs.bandwidth(route),
        shared=_costs.bandwidth(route, shared=True) if shares_memory() else None,
        shared_least_bytes=LEAST_SHARED_BYTES,
        warm_workers=warm_workers,
        seconds_per_call=_costs.call_seconds(route),
        seconds_load=0.0 if served else _costs.load_seconds(route, modules),
        prediction_error=_costs.prediction_error(route),
    )


def _read_cpu_limit() -> int | None:
    from . import container  # only what is planned needs it

    return container.cpu_limit()


def _read_physical_cores() -> int:
    return platforms.physical_cores() or platforms.usable_cores()


def _read_available_memory() -> int | None:
    from . import container

    known = [free for free in (platforms.free_memory(), container.free_memory()) if free is not None]
    return min(known, default=None)


_own_cpu_seconds = 0.0  # of amorsize's own threads that have ended
_own_threads: set[int] = set()  # the identifiers of those that run
_own_lock = Guard(0.1)
register(after_fork=_after_fork_in_child)
_costs = Costs()
register(_costs.forget)
learn_start = _costs.learn_start
learn_chunk = _costs.learn_chunk
learn_bandwidth = _costs.learn_bandwidth
learn_call = _costs.learn_call
learn_copying = _costs.learn_copying
learn_load = _costs.learn_load
learn_prediction = _costs.learn_prediction
forget_costs = _costs.forget
lasting_costs = _costs.lasting
take_over_costs = _costs.take_over
miss = _costs.miss
missed = _costs.missed
forget_missed = _costs.forget_missed
_cpu_limit = Remembered(_read_cpu_limit, READ_EVERY_SECONDS)
_available_memory = Remembered(_read_available_memory, READ_EVERY_SECONDS)
_physical_cores = Remembered(_read_physical_cores, float("inf"))
_has_forkserver = Remembered(platforms.has_forkserver, float("inf"))

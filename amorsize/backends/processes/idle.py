"""Keeps the idle workers for the next call, and decides when a worker must not be used again.

What a worker inherited or was told at its start (start method, environment, folder, `sys.path`, initializer, the
versions of the modules) is its `Kind`; a call takes only idle workers of its own kind. Idle workers leave by
themselves after `IDLE_SECONDS`. No thread of the caller waits for that, so what the caller still holds of them (a
socket, and the system's record of an ended child) is released by the next call, by `shutdown`, or at exit.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from time import monotonic, perf_counter
from types import MethodType

from ...child.initialize import ByValue
from ...child.main import Setup
from ...code.modules import wanted_modules
from ...errors import let_signals_through
from ...lean import NamedTuple, map
from ...measure import machine
from ...state import register
from ...transport import bound, wire
from ...transport.ambient import raw_environ
from .handle import LEAVE_SECONDS, Worker, all_workers
from .start import serves_here, start_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .server import Wanted

__all__ = ["IDLE_SECONDS", "Initializer", "Kind", "dismiss", "give_back", "kind_for", "leaving", "shutdown", "take"]
__all__ += ["idle_workers", "ordered_at", "server_stands", "warm_count", "warm_since"]

# How long an idle worker waits for a call. A smaller value means that workers are started anew after a pause at the
# prompt; a larger one means that memory is held for nobody.
IDLE_SECONDS = 60.0
# After this share of `IDLE_SECONDS` a worker is not taken any more, because it could leave at that moment.
_TAKEN_SHARE = 0.9
# As many idle workers are kept as there are cores, and more only for a call that was that wide itself, up to this many
# per core. More would hold memory for calls that are rare.
_IDLE_PER_CORE = 4


class Kind(NamedTuple):
    """The properties that a worker was started with, which cannot be changed in it, after one that can be.

    Attributes:
        threads: how many threads numerical libraries may use; a worker is told with each chunk.
    """

    threads: int
    start_method: str
    environ: dict[Any, Any]
    folder: str
    path: tuple[str, ...]
    initializer: Initializer | None
    generation: int
    tracked: bool


class Initializer:
    """An initializer with its arguments, which is equal to another one that would do the same."""

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments

    def __call__(self) -> object:
        return self.function(*self.arguments)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Initializer)
            and _same(self.function, other.function)
            and len(self.arguments) == len(other.arguments)
            and all(map(_same, self.arguments, other.arguments))
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


def _same(one: object, other: object) -> bool:
    # Objects of other types may be equal to anything, and comparing arrays does not even give one truth value.
    return one is other or (type(one) is type(other) and type(one) in _COMPARABLE and one == other)


_COMPARABLE = (int, float, bool, str, bytes, MethodType)

_lock = threading.RLock()
_idle: list[tuple[Kind, Worker, float]] = []  # the last entry is the time until which the worker may be taken
_generation = 0
_specs_seen: dict[str, object] = {}
_modules_looked_at = 0
_exit_hook_set = False
_leaving = False


def kind_for(
    function: Any,
    *,
    n_jobs: int,
    start_method: str,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    shares_memory: bool = False,
) -> Kind:
    """Return the kind of worker that a call needs now; `shares_memory`: its function imports shared memory itself."""
    if start_method == "fork" and (shares_memory or "multiprocessing.shared_memory" in sys.modules):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    return _present_kind(function, n_jobs, start_method, initializer, initargs)


def _present_kind(
    function: Any,
    n_jobs: int,
    start_method: str,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Kind:
    try:
        folder = os.getcwd()
    except OSError as error:  # the folder was removed
        let_signals_through(error)
        folder = ""
    return Kind(
        max(1, machine.cores() // n_jobs),
        start_method,
        dict(raw_environ()),
        folder,
        tuple(sys.path),
        None if initializer is None else Initializer(initializer, initargs),
        _current_generation(function),
        start_method != "fork" or tracker_runs(),
    )


def tracker_runs() -> bool:
    """Say whether this process has the standard library's tracker of shared memory.

    A worker that was forked before the tracker ran would start its own when it attaches to a segment, and that tracker
    unlinks the segment when the worker leaves, whoever the segment belongs to. There is no public way to ask.
    """
    module: Any = sys.modules.get("multiprocessing.resource_tracker")
    if module is None:
        return False
    try:
        return module._resource_tracker._fd is not None
    except AttributeError:  # another thread is importing the module
        return False


def warm_count(
    start_method: str | None = None, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
) -> int:
    """Return how many idle workers may be taken now, by any call or by one with this start method and initializer."""
    return len(_warm(start_method, initializer, initargs))


def warm_since(
    start_method: str, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> tuple[int, Worker | None]:
    """Return how many idle workers such a call would get, and the first of them if all are still starting."""
    workers = _warm(start_method, initializer, initargs)
    if not workers or not all(worker.fresh and not worker.has_started() for worker in workers):
        return len(workers), None
    return len(workers), min(workers, key=lambda worker: worker.ordered_at)


def _warm(
    start_method: str | None, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> list[Worker]:
    now = monotonic()
    idle = [(kind, worker) for kind, worker, until in tuple(_idle) if now <= until]
    if start_method is None or not idle:
        return [worker for _, worker in idle]
    wanted = _present_kind(None, 1, start_method, initializer, initargs)
    return [worker for kind, worker in idle if _fits(kind, wanted)]


def ordered_at(workers: Iterable[Worker]) -> float:
    """Return when the first of some workers was ordered, in `time.perf_counter()` seconds.

    If one of them has started since then, the start of an earlier call says nothing of what is left to do, and it is
    now.
    """
    if any(worker.has_started() for worker in workers):
        return perf_counter()
    return min(worker.ordered_at for worker in workers)


def _fits(idle: Kind, wanted: Kind) -> bool:
    """Say whether an idle worker is of the kind that a call wants; how many threads it may use can be changed."""
    return idle[1:] == wanted[1:]


def idle_workers() -> list[Worker]:
    """Return the workers that wait for a call."""
    return [worker for _, worker, _ in tuple(_idle)]


def leaving() -> bool:
    """Say whether the interpreter is leaving, and all workers have been ended."""
    return _leaving


def shutdown() -> None:
    """Release the warm workers now, and wait until they are gone. Workers of a call under way are not touched."""
    with _lock:
        workers = [worker for _, worker, _ in _idle]
        _idle.clear()
    dismiss(workers)
    server = _server()
    if all_workers():
        return
    bound.forget()
    if server is not None:
        server.stop()


def dismiss(workers: list[Worker]) -> None:
    """Tell idle workers to leave, and make sure that they do."""
    for worker in workers:
        worker.leave()
    until = monotonic() + LEAVE_SECONDS
    for worker in workers:
        worker.end(kill=False, until=until)


def take(
    kind: Kind,
    n_jobs: int,
    taken: list[Worker],
    function: Any,
    modules: frozenset[str] = frozenset(),
    relay: bytes = b"",
) -> None:
    """Put `n_jobs` workers into `taken`, warm ones first, and start the missing ones. After an error it is empty.

    `taken` is a list that the calling code made, so that this code has the workers whatever interrupts it. What
    `function` needs is loaded in a fork server, if there is one, and so are these modules. Workers that are started
    are told what to `relay`.
    """
    gone: list[Worker] = []
    stale: list[Worker] = []
    now = monotonic()
    try:
        with _lock:
            kept = []
            for idle in reversed(_idle):
                other, worker, until = idle
                if not _alive(worker):
                    gone.append(worker)
                elif now > until:
                    stale.append(worker)
                elif len(taken) < n_jobs and _fits(other, kind):
                    taken.append(worker)
                elif _is_stale(other, kind):
                    stale.append(worker)
                else:
                    kept.append(idle)
            _idle[:] = reversed(kept)  # one step, so that an interrupt before it leaves each worker idle, or ended
        for worker in gone:
            worker.end(kill=True)
        dismiss(stale)
        if len(taken) < n_jobs:
            taken += _start(kind, n_jobs - len(taken), function, modules, relay)
    except BaseException:
        ended = {*taken, *gone, *stale}
        with _lock:
            _idle[:] = [idle for idle in _idle if idle[1] not in ended]
        for worker in ended:
            worker.end(kill=True)
        taken.clear()
        raise


def _is_stale(idle: Kind, wanted: Kind) -> bool:
    """Say whether no later call will want idle workers of this kind any more."""
    untracked = wanted.start_method == "fork" and wanted.tracked and not idle.tracked
    return idle[2:5] != wanted[2:5] or idle.generation != wanted.generation or untracked


def give_back(kind: Kind, workers: list[Worker]) -> None:
    """Keep workers that have nothing under way for the next call."""
    until = monotonic() + _TAKEN_SHARE * IDLE_SECONDS
    route = machine.route_of(kind.start_method)
    for worker in workers:
        worker.used = True
        machine.learn_bandwidth(route, *worker.outbox.crossed_lately(), out=False)
        if worker.store is not None:
            written, copied_out = worker.store.crossed_lately()
            machine.learn_bandwidth(route, *written, shared=True, out=False)
            machine.learn_bandwidth(route, *copied_out, shared=True, out=True)
            worker.store.trim()
        if worker.takes_chunks:
            worker.fresh = False
    with _lock:
        _idle.extend((kind, worker, until) for worker in workers)
        most = max(machine.cores(), min(len(workers), _IDLE_PER_CORE * machine.cores()))
        surplus = [worker for _, worker, _ in _idle[:-most]]
        del _idle[: len(surplus)]
    dismiss(surplus)


def _start(kind: Kind, n: int, function: Any, modules: frozenset[str], relay: bytes) -> list[Worker]:
    global _exit_hook_set, _modules_looked_at
    if not _exit_hook_set:
        # `atexit` is not used: a child that multiprocessing started runs only these finalizers, and then waits for its
        # own children.
        from multiprocessing.util import Finalize

        _exit_hook_set = True
        Finalize(None, _kill_all, exitpriority=10)
    if len(sys.modules) != _modules_looked_at:
        _modules_looked_at = len(sys.modules)
        for name in sys.modules.keys() - _specs_seen.keys():
            _specs_seen[name] = getattr(sys.modules.get(name), "__spec__", None)
    setup = Setup(
        environ=None if kind.start_method == "fork" else dict(os.environ),
        threads=kind.threads,
        idle_seconds=IDLE_SECONDS,
        initializer=None if kind.initializer is None else ByValue(kind.initializer),
        started_at=monotonic(),
        relay=relay,
    )
    wanted = _wanted(kind, function, modules)
    served = wanted is not None and server_stands()
    workers = start_workers(kind.start_method, setup, n, wanted)
    for worker in workers:
        worker.served = served
        worker.outbox.told = relay
    return workers


def _wanted(kind: Kind, function: Any, modules: frozenset[str]) -> Wanted | None:
    """Return what the fork server must have for these workers; None if they do without."""
    if sys.platform == "win32" or kind.start_method != "forkserver" or not serves_here():
        return None
    from . import server

    modules |= wanted_modules(function) | server.users_preload()
    if kind.initializer is not None:
        modules |= wanted_modules(partial(kind.initializer.function, *kind.initializer.arguments))
    # The generation is today's: workers that start now must not have modules of yesterday.
    return server.Wanted(modules, kind.path, kind.folder, (kind.environ, _generation, server.reloads()))


def server_stands() -> bool:
    """Say whether there is a fork server, so that workers start in milliseconds."""
    server = _server()
    return server is not None and bool(server.stands())


def _server() -> Any:
    """Return the module that keeps the fork server, if there ever was one."""
    return sys.modules.get(f"{__package__}.server")


def _alive(worker: Worker) -> bool:
    """Say whether an idle worker is still there; read what it may have sent since the last call."""
    try:
        while worker.inbox.read():
            for kind, _ in worker.inbox.messages():
                if kind == wire.READY:
                    worker.ready = True
                elif kind == wire.SAID:
                    pass  # a thread of an item's has said it after the call, and nobody listens
                else:  # this is its answer on a chunk that was taken back, or on the order to load a function
                    worker.flights.popleft()
                    worker.takes_chunks = True
    except EOFError:
        return False
    return True


def _current_generation(function: Any) -> int:
    """Return a number that grows when a function's module is loaded again after workers may have got the old one."""
    global _generation
    for name in _modules_of(function):
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is not None and _specs_seen.setdefault(name, spec) is not spec:
            _specs_seen[name] = spec
            _generation += 1
    return _generation


def outdate() -> None:
    """Have none of the present idle workers taken any more, because their program differs from the caller's."""
    global _generation
    _generation += 1


def _modules_of(function: Any) -> Iterator[str]:
    """Yield the name of a function's module and, for a partial, of its parts' modules."""
    name = getattr(function, "__module__", None)
    if isinstance(name, str):
        yield name
    if issubclass(type(function), partial):
        for part in (function.func, *function.args):
            yield from _modules_of(part)


def _kill_all() -> None:
    """End every worker of this process, because the interpreter is leaving and nobody waits for what still runs."""
    global _leaving
    _leaving = True
    workers = all_workers()
    with _lock:
        _idle.clear()
    for worker in workers:
        if worker.process.exitcode is None:
            worker.process.kill()
    for worker in workers:
        worker.end(kill=True)
    server = _server()
    if server is not None:
        server.end()


def _after_fork_in_child() -> None:
    """Forget the workers, which are the parent's, and the lock, which another thread of the parent may have held."""
    global _lock, _exit_hook_set, _leaving
    _lock = threading.RLock()
    _exit_hook_set = _leaving = False
    _idle.clear()


register(after_fork=_after_fork_in_child)

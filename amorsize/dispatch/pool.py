"""Our worker processes, kept warm between calls, and the lease a call holds on some of them.

A call leases workers for itself alone, so their sockets are read by one thread at a time and one call's trouble is not
another's. What a worker inherited or was told at its start (start method, environment, folder, `sys.path`, initializer,
thread limit, the version of the function's module) is its `Kind`; a call takes only idle workers of its own kind.
Idle workers leave by themselves after `IDLE_SECONDS`.
"""

from __future__ import annotations

import atexit
import operator
import os
import pickle
import selectors
import sys
import threading
from hashlib import sha256
from itertools import count
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from ..errors import InitializerError, SerializationError
from ..log import debug
from ..measure import machine
from . import wire
from .backend import Chunk, Done, Failure, Lost, Refused, Unsendable
from .process import Flight, Worker, all_workers, start_worker
from .remote import add_index, unpack_error
from .serialize import ByValue, Unpicklable, culprit, dump, dump_values, load_values
from .worker import Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IDLE_SECONDS", "Kind", "Lease", "lease", "shutdown", "warm_count"]

# Shorter: a pause at the prompt costs a new start. Longer: memory is held for nobody.
IDLE_SECONDS = 60.0
# Two chunks a worker hide the caller's turn-round; behind a long chunk, the second would only wait there.
_QUEUE_SECONDS = 0.025
# What a cancelled worker gets to finish its item before it is killed: about what a new one would cost.
_CANCEL_SECONDS = 0.05
# A death is seen on the socket; only where a grandchild holds it open must the process itself be asked.
_LIVENESS_SECONDS = 1.0
# A worker that has grown by more than this since its first chunk is replaced between chunks.
MEMORY_GROWTH_BYTES = 1 << 30


class Kind(NamedTuple):
    """What a worker was started with, and so cannot be changed in it."""

    start_method: str
    threads: int
    environ: dict[str, str]
    folder: str
    path: tuple[str, ...]
    initializer: _Initializer | None
    generation: int


class _Initializer:
    """An initializer with its arguments; equal to another with the same ones, by identity."""

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments

    def __call__(self) -> object:
        return self.function(*self.arguments)

    def __eq__(self, other: object) -> bool:
        # Arguments may be arrays, which do not compare to one truth.
        return (
            isinstance(other, _Initializer)
            and self.function is other.function
            and len(self.arguments) == len(other.arguments)
            and all(map(operator.is_, self.arguments, other.arguments))
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


_lock = threading.RLock()
_idle: list[tuple[Kind, Worker]] = []
_calls = count(1)
_generation = 0
_modules_seen: dict[str, object] = {}
_exit_hook_set = False


def lease(
    function: Callable[[Any], Any],
    *,
    n_jobs: int,
    start_method: str,
    stop_at_error: bool,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Lease:
    """Take `n_jobs` workers for one call, warm ones first; start the others without waiting for them.

    Raises:
        SerializationError: the function cannot be pickled. No worker was taken.
    """
    try:
        payload = dump(function)
    except Exception as error:  # user code: anything
        raise SerializationError(f"{function!r} cannot be sent to a worker: {error}") from error
    kind = Kind(
        start_method,
        max(1, machine.cores() // n_jobs),
        dict(os.environ),
        os.getcwd(),
        tuple(sys.path),
        None if initializer is None else _Initializer(initializer, initargs),
        _current_generation(function),
    )
    _release_at_exit()
    return Lease(kind, _take(kind, n_jobs), n_jobs, payload, stop_at_error)


def warm_count() -> int:
    """Return how many idle workers there are, of whatever kind."""
    return len(_idle)


def shutdown() -> None:
    """Release the warm workers now, and wait until they are gone. Workers of a call under way are not touched."""
    with _lock:
        workers = [worker for _, worker in _idle]
        _idle.clear()
    _dismiss(workers)


def _dismiss(workers: list[Worker]) -> None:
    for worker in workers:
        worker.leave()
    for worker in workers:
        worker.end(kill=False)


def _take(kind: Kind, n_jobs: int) -> list[Worker]:
    taken: list[Worker] = []
    stale: list[Worker] = []
    with _lock:
        kept: list[tuple[Kind, Worker]] = []
        while _idle:
            other, worker = _idle.pop()
            if not _alive(worker):
                worker.end(kill=True)
            elif other == kind and len(taken) < n_jobs:
                taken.append(worker)
            elif (other.environ, other.folder, other.path, other.generation) != (
                kind.environ, kind.folder, kind.path, kind.generation
            ):  # fmt: skip
                stale.append(worker)
            else:
                kept.append((other, worker))
        _idle.extend(reversed(kept))
    _dismiss(stale)
    try:
        while len(taken) < n_jobs:
            taken.append(_start(kind))
    except BaseException:
        for worker in taken:
            worker.end(kill=True)
        raise
    return taken


def _start(kind: Kind) -> Worker:
    setup = Setup(
        environ=None if kind.start_method == "fork" else kind.environ,
        threads=kind.threads,
        idle_seconds=IDLE_SECONDS,
        initializer=None if kind.initializer is None else ByValue(kind.initializer),
        started_at=monotonic(),
    )
    return start_worker(kind.start_method, setup)


def _alive(worker: Worker) -> bool:
    """Say whether an idle worker is still there, reading what it may have said since."""
    try:
        for kind, _ in worker.inbox.messages():
            if kind == wire.READY:
                worker.ready = True
    except EOFError:
        return False
    return True


def _give_back(kind: Kind, workers: list[Worker]) -> None:
    with _lock:
        _idle.extend((kind, worker) for worker in workers)
        # Widths and start methods may vary from call to call; what no core could run is not kept.
        surplus = [worker for _, worker in _idle[: -4 * machine.cores()]]
        del _idle[: len(surplus)]
    _dismiss(surplus)


def _current_generation(function: Any) -> int:
    """Return a number that grows whenever the module of a function was loaded again since workers last had it."""
    global _generation
    function = getattr(function, "func", function)  # a partial's own function
    name = getattr(function, "__module__", None)
    spec = getattr(sys.modules.get(name or ""), "__spec__", None)
    if name is not None and spec is not None and _modules_seen.setdefault(name, spec) is not spec:
        _modules_seen[name] = spec
        _generation += 1
    return _generation


def _release_at_exit() -> None:
    global _exit_hook_set
    if not _exit_hook_set:
        # Imported first, so that ours runs before its own exit function, which waits for every child.
        import multiprocessing.util  # noqa: F401

        _exit_hook_set = True
        atexit.register(_kill_all)


def _kill_all() -> None:
    """End every worker of this process: the interpreter is leaving, and nobody waits for what still runs."""
    workers = all_workers()
    with _lock:
        _idle.clear()
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.end(kill=True)


class Lease:
    """Some workers, held by one call; a `Backend`."""

    def __init__(self, kind: Kind, workers: list[Worker], n_jobs: int, function: bytes, stop_at_error: bool) -> None:
        self._kind = kind
        self._workers = workers
        self._n_jobs = n_jobs
        self._function = function
        self._digest = sha256(function).digest()[:16]
        self._stop_at_error = stop_at_error
        self._call = next(_calls)
        self._selector = selectors.DefaultSelector()
        self._events: list[Done | Lost | Refused] = []
        self._closed = False
        self._pid = os.getpid()
        for worker in workers:
            self._selector.register(worker.sock, selectors.EVENT_READ, worker)

    @property
    def n_jobs(self) -> int:
        """Number of workers."""
        return self._n_jobs

    def widen(self, n_jobs: int) -> None:
        """Allow `n_jobs` workers from now on; further ones start when there is a chunk for them."""
        self._n_jobs = n_jobs

    def any_ready(self) -> bool:
        if not any(worker.ready for worker in self._workers):
            self._pump(0.0)
        return any(worker.ready for worker in self._workers)

    def busy(self) -> bool:
        return any(worker.flights for worker in self._workers)

    def room(self, chunk_seconds: float) -> bool:
        depth = 2 if chunk_seconds <= _QUEUE_SECONDS else 1
        return len(self._workers) < self._n_jobs or any(len(worker.flights) < depth for worker in self._workers)

    def submit(self, chunk: Chunk, slice_seconds: float) -> None:
        try:
            payload = dump_values(chunk.items)
        except Exception:  # user code: anything
            position, error = culprit(chunk.items)
            raise Unsendable(chunk.first + position, error) from error
        head = wire.ChunkHead(
            self._call, chunk.first, len(chunk.items), slice_seconds, self._stop_at_error, self._digest
        )
        while True:
            worker = min(self._workers, key=_load, default=None)
            if worker is None or (worker.flights and len(self._workers) < self._n_jobs):
                worker = self._replace()
            try:
                worker.send_chunk(self._call, chunk, head, payload, self._function)
            except OSError:
                # It left or died since we last looked: the chunk just given to it has not been started.
                worker.flights.pop()
                self._bury(worker)
                continue
            if worker.outbox:
                self._selector.modify(worker.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, worker)
            return

    def wait(self, timeout: float | None = None) -> list[Done | Lost | Refused]:
        deadline = None if timeout is None else perf_counter() + timeout
        while not self._events:
            left = _LIVENESS_SECONDS if deadline is None else deadline - perf_counter()
            self._pump(min(_LIVENESS_SECONDS, max(0.0, left)))
            if left <= 0:
                break
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            return  # a copy in a forked child: the workers are not its own
        try:
            for worker in self._workers:
                if worker.flights:
                    worker.cancel(self._call)
            deadline = perf_counter() + _CANCEL_SECONDS
            while self.busy() and (left := deadline - perf_counter()) > 0:
                self._pump(left)
        finally:
            self._selector.close()
            for worker in self._workers:
                if worker.flights:
                    worker.end(kill=True)
            _give_back(self._kind, [worker for worker in self._workers if not worker.flights])
            self._workers = []

    def kill(self) -> None:
        """Close without grace for workers that are in an item: the user wants out."""
        if not self._closed and os.getpid() == self._pid:
            for worker in [worker for worker in self._workers if worker.flights]:
                self._drop(worker)
                worker.end(kill=True)
        self.close()

    def _pump(self, timeout: float) -> None:
        """Wait once, for `timeout` seconds at most, and take in what came."""
        ready = self._selector.select(timeout)
        for key, mask in ready:
            self._serve(key.data, mask)
        if not ready and timeout >= _LIVENESS_SECONDS:
            for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
                self._bury(worker)

    def _serve(self, worker: Worker, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                worker.outbox.flush()
                if not worker.outbox:
                    self._selector.modify(worker.sock, selectors.EVENT_READ, worker)
            if mask & selectors.EVENT_READ:
                self._hear(worker)
        except (EOFError, OSError):
            self._bury(worker)
            return
        if worker.memory_growth > MEMORY_GROWTH_BYTES and not worker.flights:
            debug("a worker grew by %d bytes and is replaced", worker.memory_growth)
            self._drop(worker)
            _dismiss([worker])

    def _hear(self, worker: Worker) -> None:
        for kind, body in worker.inbox.messages():
            if kind == wire.READY:
                worker.ready = True
                machine.learn_start(worker.start_method, wire.READY_BODY.unpack(body)[0])
            elif kind == wire.REFUSED:
                self._refused(worker, unpack_error(body))
            else:
                self._results(worker, body)

    def _refused(self, worker: Worker, error: BaseException) -> None:
        if worker.ready:
            flight = worker.flights.popleft()
            self._events.append(Refused(flight.chunk, error))
            return
        name = self._kind.initializer.name if self._kind.initializer else "of the worker"
        failure = InitializerError(f"the initializer {name} failed in a worker: {error!r}")
        failure.__cause__ = error
        worker.flights.clear()
        self._events.append(Refused(None, failure))

    def _results(self, worker: Worker, body: memoryview) -> None:
        head = wire.ResultsHead(*wire.RESULTS_HEAD.unpack_from(body))
        at = wire.RESULTS_HEAD.size
        flight = worker.flights[0]
        if head.last:
            worker.flights.popleft()
        flight.results[0] += head.count
        worker.note_memory(head.memory)
        if head.call != self._call or self._closed:
            return
        values = load_values(body[at + head.errors :])
        if type(values) is not list:
            values = list(values)
        failures = _failures(flight.chunk, body[at : at + head.errors], head.first, values)
        rest = None
        if head.last and head.unstarted:
            begun = len(flight.chunk.items) - head.unstarted
            rest = Chunk(flight.chunk.first + begun, flight.chunk.items[begun:])
        self._events.append(
            Done(head.first, values, failures, rest, head.count, head.seconds, head.cpu_seconds, len(body))
        )

    def _bury(self, worker: Worker) -> None:
        """A worker is gone: say what of its chunks ran, and release the rest of it."""
        self._drop(worker)
        try:
            self._hear(worker)  # what it could still say before it died
        except (EOFError, OSError):
            pass
        flights = list(worker.flights)
        lost = [_what_is_left(worker, flight) for flight in flights]
        worker.flights.clear()
        exitcode = worker.end(kill=True)
        for running, finished, rest in lost:
            self._events.append(Lost(running, finished, rest, exitcode))

    def _drop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.sock)

    def _replace(self) -> Worker:
        worker = _take(self._kind, 1)[0]
        self._workers.append(worker)
        self._selector.register(worker.sock, selectors.EVENT_READ, worker)
        return worker


def _failures(chunk: Chunk, packed_errors: memoryview, first: int, values: list[Any]) -> dict[int, Failure]:
    """Return the failures of some results: errors of the function, and results that could not be rebuilt."""
    failures: dict[int, Failure] = {}
    if packed_errors:
        for offset, packed in pickle.loads(packed_errors):
            index = chunk.first + offset
            failures[index] = Failure(add_index(unpack_error(packed), index), chunk.items[offset])
    for position, value in enumerate(values):
        if type(value) is Unpicklable:
            index = first + position
            error = SerializationError(f"the result of item {index} could not be rebuilt: {value.error!r}")
            error.__cause__ = value.error
            failures[index] = Failure(error, chunk.items[index - chunk.first])
            values[position] = None
    return failures


def _load(worker: Worker) -> int:
    return len(worker.flights)


def _what_is_left(worker: Worker, flight: Flight) -> tuple[Chunk | None, Chunk | None, Chunk | None]:
    """Return (running, finished but lost, not started) of a dead worker's chunk."""
    chunk, received = flight.chunk, flight.results[0]
    begun, is_running = worker.progress(flight)
    begun = max(begun, received)
    ended = begun - 1 if is_running and begun > received else begun

    def part(start: int, stop: int) -> Chunk | None:
        return Chunk(chunk.first + start, chunk.items[start:stop]) if start < stop else None

    return part(ended, begun), part(received, ended), part(begun, len(chunk.items))

"""The worker's side: it reads a chunk, runs its items and sends results back, and it exits when the caller does.

One thread reads, runs and writes, in that order, so nothing here needs a lock. Before each item the worker writes the
item's position into a slot of shared memory, from which the caller knows the culprit if this process dies. The clock
is read after each item. About every `FLUSH_SECONDS`, between two items, the worker sends finished results and looks
whether it should stop: a cancelled call or a used-up time slice ends the chunk, and its unstarted items go back. A
second thread only waits for the caller to end.
"""

from __future__ import annotations

import _thread
import os
import pickle
import select
import signal
import sys
from time import monotonic, monotonic_ns, perf_counter, process_time

from .. import context
from ..errors import SerializationError
from ..lean import NamedTuple, map
from ..plan.retry import NOT_OF_ITEMS
from ..runners import runs_items
from ..seeding import Seeded
from ..transport import wire
from ..transport.ambient import snapshot
from ..transport.envelope import discard, is_scalars
from ..transport.memory import PLACE, Place
from ..transport.payload import Outdated
from ..transport.remote import pack_error
from ..transport.serialize import Unpicklable, load_lazily
from ..transport.slots import BEGAN, CALL_CANCELLED, CHUNK_NUMBER, CURSOR, STARTED, TAKEN_BACK, open_shared
from .process_state import ProcessState
from .rebuild import Rebuilt, rebuild
from .run_chunk import dump_around_culprits, refusing_unpicklable
from .said import Relay
from .stacks import Stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from ..rng import Streams
    from ..transport.slots import Inherited, Shared

__all__ = ["THREAD_VARIABLES", "Setup", "flush_output", "main"]

# A smaller value means more messages for the caller to read; a larger one means that more finished work is lost with a
# worker that dies (benchmarks/pool.py).
FLUSH_SECONDS = 0.010
# The resident size is read this often, because a reading costs 10 us; growth between two readings goes unnoticed.
_MEMORY_SECONDS = 0.1
# After so long without a message, memory for large results is given back.
_TRIM_SECONDS = 1.0
# Reading the CPU clock is a system call, so items that take less than this together count as having used the CPU all
# the time.
_CPU_CLOCK_SECONDS = 100e-6
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Setup(NamedTuple):
    """What a worker needs to know before its first chunk.

    Attributes:
        environ: the caller's environment; None if the worker inherited it.
        threads: how many threads numerical libraries may use in the worker.
        idle_seconds: the worker exits after so many seconds without a message.
        initializer: a function that is called without arguments before the first chunk, or None.
        started_at: `time.monotonic()` when the caller ordered this worker.
        relay: as the body of a `wire.RELAY` message, for what the initializer says, and until such a message comes.
    """

    environ: dict[str, str] | None
    threads: int
    idle_seconds: float
    initializer: Any = None
    started_at: float = 0.0
    relay: bytes = b""


def main(sock: socket.socket, setup: Setup, inherited: Inherited | None = None) -> None:
    """Run chunks from `sock` until the caller closes it, sends `EXIT`, or is silent for too long.

    Args:
        sock: the worker's end of the socket.
        setup: what to do before the first chunk.
        inherited: what a forked worker finds the shared memory by; otherwise it comes through the socket.
    """
    _prepare_signals()
    sock.setblocking(True)
    if hasattr(os, "register_at_fork"):
        # A process that an item forks must not keep this end open, because its closing tells the caller of our death.
        os.register_at_fork(after_in_child=sock.close)
    stacks = Stacks.made()
    # This is not a threading.Thread, because its `start` waits until the thread runs.
    _thread.start_new_thread(_leave_with_caller, (sock, stacks))
    context.in_worker.set(True)
    context.worker_process = True
    try:
        shared = open_shared(sock, inherited, _free_memory)
        if sys.platform != "win32" and shared.store is not None:
            os.register_at_fork(before=shared.store.detach)
        if stacks is not None:
            stacks.tell(shared.slots)
        limit = ThreadLimit()
        _prepare_environment(setup, limit)
        _reseed()
        shared.slots[CURSOR] = -1
        relay = Relay(sock, shared.slots)
        relay.change(setup.relay)
        before = None
        if setup.initializer is not None:
            before = snapshot()
            try:
                setup.initializer()
            except BaseException as error:  # even SystemExit: no item may run if the initializer failed
                relay.end_items()
                wire.send(sock, wire.REFUSED, [pack_error(error)])
                return
            relay.end_items()
        wire.send(sock, wire.READY, [wire.READY_BODY.pack(monotonic() - setup.started_at)])
        _Worker(sock, shared, ProcessState(before), limit, relay).serve(setup.idle_seconds)
    except (EOFError, ConnectionError):
        return  # the caller closed its end, so nobody is left to tell
    except Unfit:
        return  # the caller sees that this worker has exited, and starts another


def _free_memory() -> int | None:
    from ..measure.machine import available_memory  # only workers that send large results need it

    return available_memory()


def _prepare_signals() -> None:
    """Let the caller decide what an interrupt means, and drop signal settings that a forked worker inherited."""
    # The handler does nothing. It is not SIG_IGN, because a program that an item runs would inherit SIG_IGN and survive
    # Ctrl-C.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)  # a fork may have inherited an event loop's
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _ignore(signum: int, frame: object) -> None:
    pass


def _leave_with_caller(sock: socket.socket, stacks: Stacks | None) -> None:
    """End this process when the caller's end of the socket closes, even in the middle of an item.

    While it waits for that, this thread shows where the main thread is, when the caller asks.
    """
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(sock, 0)  # `poll` reports a hang-up without being asked to
        if sys.platform != "win32" and stacks is not None:
            poller.register(stacks.asked, select.POLLIN)
        closes = sock.fileno()
        ready = poller.poll()
        while stacks is not None and all(descriptor != closes for descriptor, _ in ready):
            if not stacks.show():
                poller.unregister(stacks.asked)  # an item has closed it, or put something else in its place
            ready = poller.poll()
    else:
        from multiprocessing import parent_process

        parent = parent_process()
        if parent is None:
            return
        parent.join()
    os._exit(1)


def _prepare_environment(setup: Setup, limit: ThreadLimit) -> None:
    if setup.environ is not None and dict(os.environ) != setup.environ:
        os.environ.clear()
        os.environ.update(setup.environ)
    limit.set(setup.threads)


class ThreadLimit:
    """How many threads numerical libraries may use in this process.

    Libraries that are not loaded yet will read the environment; loaded ones are told through threadpoolctl if it is
    installed. A limit that the user set in the environment stays as it is.
    """

    def __init__(self) -> None:
        self.threads = 0
        self._ours: list[str] = []  # the variables that the user did not set

    def set(self, threads: int) -> None:
        """Let libraries use at most `threads` threads from now on."""
        if not self.threads:
            self._ours = [variable for variable in THREAD_VARIABLES if variable not in os.environ]
        self.threads = threads
        for variable in self._ours:
            os.environ[variable] = str(threads)
        if "numpy" in sys.modules and len(self._ours) == len(THREAD_VARIABLES):
            try:
                from threadpoolctl import threadpool_limits
            except ImportError:
                return
            threadpool_limits(threads)


def _reseed() -> None:
    """Give this process random states of its own, because a fork would repeat its parent's numbers."""
    # The module is imported, not taken from sys.modules, because another thread may be in the middle of importing it.
    if "random" in sys.modules:
        import random

        random.seed()
    if "numpy.random" in sys.modules:
        import numpy.random

        numpy.random.seed()


class Unfit(Exception):
    """Items have changed this process in a way that cannot be undone, so it must not run another call."""


class _Worker:
    def __init__(
        self, sock: socket.socket, shared: Shared, state: ProcessState, limit: ThreadLimit, relay: Relay
    ) -> None:
        self._sock = sock
        self._relay = relay
        self._slots, self._store = shared
        self._functions: dict[bytes, memoryview | Rebuilt] = {}
        self._call = 0
        self._state = state
        self._limit = limit
        self._look_due = False
        self._reseed_due = False  # a seeded call has left this process's own random states set
        self.streams: Streams | None = None
        self._kept = wire.KeptFunctions()
        self._number = 0
        self._memory_read_at = float("-inf")

    def serve(self, idle_seconds: float) -> None:
        inbox = wire.Inbox(self._sock)
        soon, late, more_came = (_waiter(self._sock, wait) for wait in (_TRIM_SECONDS, idle_seconds, 0.0))
        while soon() or (self._trim() and late()):
            inbox.read()
            for kind, body in inbox.messages():
                if kind == wire.CHUNK:
                    self._run(body)
                elif kind == wire.FUNCTION:
                    self._keep(bytes(body[:16]), wire.lasting(body)[16:])
                elif kind == wire.SHARED_FUNCTION and self._store is not None:
                    self._keep(bytes(body[:16]), self._store.lend(Place._make(PLACE.unpack_from(body, 16))))
                elif kind == wire.RELAY:
                    self._relay.change(bytes(body), self._state)
                else:
                    return
            if self._look_due and not more_came():
                # This happens once a call. A short call, where the time matters, has usually ended by now.
                self._look_due = False
                self._state.look()

    def _trim(self) -> bool:
        """Give back memory for results, as this worker seems to have nothing to do; the caller has read them by now."""
        if self._store is not None:
            self._store.sweep()
            self._store.trim()
        return True

    def _keep(self, digest: bytes, function: memoryview) -> None:
        for dropped in self._kept.add(digest, len(function)):
            del self._functions[dropped]
        self._functions[digest] = function

    def _function(self, digest: bytes, call: int, threads: int) -> Callable[[Any], Any] | Seeded:
        rebuilt = self._functions[digest]
        begins = call != self._call
        # This comes first, because rebuilding may import modules, which may read the environment and the folder.
        if begins and not self._state.put_back():
            raise Unfit
        if begins and threads != self._limit.threads:
            self._limit.set(threads)
            self._state.take_environment()
        if not isinstance(rebuilt, Rebuilt):
            self._relay.before_loading()
            try:
                rebuilt = self._functions[digest] = rebuild(rebuilt, digest)
            finally:
                self._relay.after_loading()
        else:
            rebuilt.enter()
        if begins:
            self._call, self._look_due = call, True
            rebuilt.space.begin_call()
            if not self._state.settle(rebuilt.ambient):
                raise Unfit
            self._relay.begin_call()
        self._state.known = False
        return rebuilt.function

    def _run(self, body: memoryview) -> None:
        self._run_chunk(body)
        self._slots[BEGAN] = 0
        if self._store is not None:
            self._store.sweep()  # here, where nothing of the items is left

    def _run_chunk(self, body: memoryview) -> None:
        chunk = wire.ChunkHead._make(wire.CHUNK_HEAD.unpack_from(body))
        slots = self._slots
        slots[CURSOR] = -1 - chunk.first
        slots[BEGAN] = monotonic_ns()
        self._number += 1
        slots[CHUNK_NUMBER] = self._number
        # This is read after the line above, because a caller that takes chunks back first writes TAKEN_BACK and then
        # reads whether this chunk had begun.
        payload = body[wire.CHUNK_HEAD.size :]
        if slots[TAKEN_BACK] >= self._number or slots[CALL_CANCELLED] == chunk.call:
            discard(payload, self._store)
            self._send(_Report(chunk), [], last=True)
            return
        if chunk.timed:
            slots[STARTED] = -monotonic_ns()
        report = _Report(chunk)
        report.begin()
        try:
            function = self._function(chunk.function, chunk.call, chunk.threads)
        except Unfit:
            self._send(report, [], last=True)  # no item started, so another worker can run them
            raise
        except Outdated as outdated:
            discard(payload, self._store)
            wire.send(self._sock, wire.REFUSED, [pack_error(outdated)])
            return
        except BaseException as error:  # importing the user's module runs the user's code
            refusal = SerializationError(f"the function could not be rebuilt in a worker: {error!r}")
            refusal.__cause__ = error
            discard(payload, self._store)
            wire.send(self._sock, wire.REFUSED, [pack_error(refusal)])
            return
        if not chunk.count:
            self._send(report, [], last=True)  # the chunk was sent only to have the function loaded
            return
        self.streams = None
        plain = is_scalars(payload)
        if isinstance(function, Seeded):
            self.streams, function = function.begin(lambda: slots[CURSOR], keep=False, plain=plain)
            self._reseed_due = True
        elif self._reseed_due:
            _reseed()
            self._reseed_due = False
        items = load_lazily(payload, self._store)
        if not plain and (type(items) is not list or any(type(item) is Unpicklable for item in items)):
            function = refusing_unpicklable(function)
        self._run_items(chunk, function, items)

    @runs_items("self")
    def _run_items(self, chunk: wire.ChunkHead, function: Callable[[Any], Any], items: Any) -> None:
        slots, timed = self._slots, chunk.timed
        report = _Report(chunk)
        results: list[Any] = []
        append = results.append
        index = chunk.first
        now = report.begin()
        slots[BEGAN] = monotonic_ns()
        stop_at = now + chunk.slice_seconds if chunk.slice_seconds else float("inf")
        look_at = 0.0 if timed else min(now + FLUSH_SECONDS, stop_at)
        for index, item in enumerate(items, chunk.first):
            slots[CURSOR] = index
            if timed:
                slots[STARTED] = monotonic_ns()
            try:
                append(function(item))
            except BaseException as error:  # an item's SystemExit counts as its error, like any other
                report.errors.append((index - chunk.first, pack_error(error)))
                append(None)
                if chunk.stop_at_error or isinstance(error, NOT_OF_ITEMS):
                    break
            now = perf_counter()
            if now >= look_at:
                if now >= stop_at or slots[CALL_CANCELLED] == chunk.call:
                    break
                if index + 1 < chunk.first + chunk.count:
                    slots[CURSOR] = -2 - index  # no item is at fault if sending kills us
                    self._send(report, results, last=False)
                    results.clear()
                    if report.unsent:
                        break  # later results may fail, too, and their items would have to run again
                    now = report.begin()
                    slots[BEGAN] = monotonic_ns()
                    look_at = 0.0 if timed else min(now + FLUSH_SECONDS, stop_at)
        slots[CURSOR] = -2 - index
        self._send(report, results, last=True)

    def _send(self, report: _Report, results: list[Any], *, last: bool) -> None:
        seconds, cpu_seconds = report.elapsed() if results or not report.chunk.count else (0.0, 0.0)
        envelope, unsent = dump_around_culprits(results, report.errors, report.chunk.first, report.sent)
        report.unsent |= unsent
        errors = pickle.dumps(report.errors) if report.errors else b""
        self._slots[STARTED] = 0  # no item runs while the caller is slow to read
        chunk, count = report.chunk, len(results)
        head = wire.RESULTS_HEAD.pack(
            chunk.first + report.sent,
            count,
            chunk.count - report.sent - count,
            last,
            report.began,
            seconds,
            cpu_seconds,
            self._memory(),
            len(errors),
        )
        flush_output()
        self._relay.end_items()
        self._relay.send_results([head, errors, *envelope.pieces(self._store)])
        report.sent += count
        report.errors.clear()

    def _memory(self) -> int:
        now = perf_counter()
        if now - self._memory_read_at < _MEMORY_SECONDS:
            return 0
        self._memory_read_at = now
        own = resident_bytes()
        return own + self._store.bytes_lent if own and self._store is not None else own


class _Report:
    """What a worker knows about a chunk between two messages."""

    def __init__(self, chunk: wire.ChunkHead) -> None:
        self.chunk = chunk
        self.sent = 0
        self.unsent = False  # whether a result could not be pickled
        self.errors: list[tuple[int, bytes]] = []
        self._cpu = self.began = 0.0

    def begin(self) -> float:
        """Restart the clocks, and return the time in `time.perf_counter()` seconds."""
        self._cpu = process_time()
        self.began = perf_counter()
        return self.began

    def elapsed(self) -> tuple[float, float]:
        """Return wall and CPU seconds since `begin`."""
        seconds = perf_counter() - self.began
        return seconds, process_time() - self._cpu if seconds > _CPU_CLOCK_SECONDS else seconds


def _waiter(sock: socket.socket, seconds: float) -> Callable[[], object]:
    """Return a function that waits until `sock` can be read; it returns a false value after `seconds`."""
    if sys.platform == "win32":
        return lambda: select.select([sock], [], [], seconds)[0]
    poller = select.poll()  # `select` would know only the first thousand descriptors
    poller.register(sock, select.POLLIN)
    milliseconds = seconds * 1000
    return lambda: poller.poll(milliseconds)


def flush_output() -> None:
    """Write out what the items printed, because it would be lost if this worker were killed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # the stream is missing or closed


def resident_bytes() -> int:
    """Return this process's resident memory in bytes, shared memory excluded; 0 where it cannot be read cheaply."""
    if sys.platform != "linux":
        return 0
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
            return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0

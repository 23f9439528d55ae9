"""The lease that a call holds on some worker processes.

A call leases workers for itself alone, so their sockets are read by one thread at a time, and trouble in one call does
not reach another call. `idle` keeps the workers between calls.

A worker is sent several short chunks ahead, so that neither side waits for the other (`patrol` takes them back where
that was wrong). A fresh worker that was not forked from the caller loads the function before it is given any items,
because that may import much, and the caller can run items meanwhile.
"""

from __future__ import annotations

import os
import pickle
import selectors
from collections import deque
from itertools import count
from time import perf_counter
from weakref import ref

from ...errors import AmorsizeError, InitializerError, SerializationError, from_signal_handler, let_signals_through
from ...log import debug
from ...measure import machine
from ...plan.schedule import chunks_ahead
from ...transport import wire
from ...transport.envelope import bytes_beside, discard, is_scalars
from ...transport.memory import LEAST_SHARED_BYTES
from ...transport.payload import Outdated, Uncarriable, payload_of, users_classes
from ...transport.remote import unpack_error
from ...transport.serialize import dump_items, load_values
from ..base import Start, dump_chunk, failures_of
from ..events import Broken, Chunk, Lost, Refused, Results, Returned, Said
from . import idle
from .handle import LOADING_SECONDS
from .idle import server_stands, shutdown, warm_count, warm_since
from .patrol import TAKE_BACK_SECONDS, Patrol
from .stacks import where_are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...transport.envelope import Envelope
    from ...transport.payload import Payload
    from ..events import Event
    from ..registry import Job
    from ..where import Where
    from .handle import Worker
    from .idle import Kind

__all__ = ["MEMORY_GROWTH_BYTES", "Lease", "open_backend", "server_stands", "shutdown", "warm_count", "warm_since"]

# How long a cancelled worker may take to finish its item before it is killed: about as long as a new worker would cost.
_CANCEL_SECONDS = 0.05
# The same if the caller has an error or an interrupt to show. Workers in short items can stop in this time.
_HURRY_SECONDS = 0.015
# A worker that has grown by more than this since its first chunk is replaced between chunks.
MEMORY_GROWTH_BYTES = 1 << 30
# A function of this size is loaded before a worker is given items, whatever way the worker was started.
_LARGE_BYTES = 1 << 20
# So long the caller sends a large function before it runs the next item.
_SENDING_SECONDS = 0.02
# After this many workers of one call died in their initializer, others are taken to die as well.
_DEATHS_IN_INITIALIZER = 3

# Making an epoll object and closing it takes longer than it saves where there are few workers.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.DefaultSelector)

_calls = count(1)


def open_backend(job: Job, target: None = None) -> Lease:  # noqa: ARG001 - as every backend's
    """Take workers for one call, warm ones first; start the others without waiting for them.

    With a `timeout`, a worker whose item runs for more than that many seconds is replaced. If nobody named this
    backend, workers must not be used with data that differ from the caller's and cannot be sent.

    Raises:
        SerializationError: the function cannot be pickled. No worker was taken.
    """
    told = {"by_name": job.by_name, "warns": job.warns}
    payload = payload_of(job.function, initializer=job.initializer, gain_seconds=job.gain_seconds, **told)
    kind = idle.kind_for(
        job.function,
        n_jobs=job.width,
        start_method=job.start_method,
        initializer=job.initializer,
        initargs=job.initargs,
        shares_memory=payload.shares_memory,
    )
    held = Lease(kind, payload, job)
    held.take()
    return held


class Lease:
    """A `Backend` on some workers, which one call holds."""

    found: int | None = None
    seconds_per_task: float | None = None  # what a chunk costs the caller is what counts here

    def __init__(self, kind: Kind, payload: Payload, job: Job) -> None:
        self._kind = kind
        self._workers: list[Worker] = []
        self.width = job.width
        self.route = machine.route_of(kind.start_method)
        self._payload = payload
        self._job = job
        self._kinds: set[type] = set()  # the types of the items so far
        self._call = next(_calls)
        self._large = False  # whether a chunk or its results took much memory; then few are sent ahead
        self._selector = _Selector()
        self._events: list[Event] = []
        # Chunks in the form in which they will be sent; they go to the next worker that is ready.
        self._queue: deque[tuple[Chunk, bytes, Envelope, Payload]] = deque()
        self._unsent: set[Worker] = set()
        self._patrol = Patrol(self._workers, job.timeout, perf_counter())
        self._deaths_in_initializer = 0
        self.start = Start()
        self._entered = 0.0
        self._in_hand: Worker | None = None
        self._closed, self._pid = False, os.getpid()
        _unreleased[ref(self, _end_left)] = self._workers, self._pid

    def take(self) -> None:
        """Take the workers; if that fails, no worker is held or left over."""
        try:
            idle.take(self._kind, self.width, self._workers, self._job.function, self._payload.modules, self._job.relay)
            for worker in self._workers:
                self._selector.register(worker.sock, selectors.EVENT_READ, worker)
            warm = not any(worker.fresh for worker in self._workers)
            self.start = Start(warm=warm, ordered_at=idle.ordered_at(self._workers))
            for worker in [*self._workers]:
                self._fit_in(worker)
        except BaseException:
            self._release([])
            raise

    def _fit_in(self, worker: Worker) -> None:
        if len(self._payload) >= _LARGE_BYTES and not worker.has(self._payload.digest):
            worker.takes_chunks = False
        if worker.ready and not (worker.takes_chunks or any(flight.loads for flight in worker.flights)):
            self._load_in(worker)  # it was still starting when the call before was over

    def resize(self, width: int) -> None:
        """Allow `width` workers from now on; further ones start when there is a chunk for them."""
        self.width = width

    @property
    def prompt(self) -> bool:
        return self._kind.start_method == "fork" and len(self._payload) < _LARGE_BYTES

    def starting(self) -> bool:
        if not self._has_begun():
            self._pump(0.0)
            # A large function is sent in one go, because the socket holds little of it while the caller is busy.
            until = perf_counter() + _SENDING_SECONDS
            while any(worker.outbox for worker in self._workers) and perf_counter() < until:
                self._pump(_SENDING_SECONDS)
        return not self._has_begun()

    def _has_begun(self) -> bool:
        return any(worker.ready and worker.takes_chunks for worker in self._workers)

    def busy(self) -> bool:
        return bool(self._events or self._queue) or self._under_way()

    def room(self, chunk_seconds: float | None) -> int:
        self._check_process()
        depth = chunks_ahead(chunk_seconds, large=self._large)
        # Workers that are starting, or may still be started, take chunks from the queue when they are ready.
        here, to_come = 0, self.width
        for worker in self._workers:
            if worker.takes_chunks:
                to_come -= 1
                here += 0 if _is_spent(worker) else max(0, depth - worker.n_under_way())
        queued = len(self._queue)
        return max(0, to_come * depth - queued) + (0 if queued else here)

    def submit(self, chunk: Chunk, slice_seconds: float) -> int:
        envelope = dump_chunk(chunk, self._job.outgoing)
        if not envelope.plain and (kinds := users_classes(chunk.items, self._kinds)):
            self._payload = self._payload.with_items_of(kinds)
        head = self._head(chunk, slice_seconds)
        if not self._kind.tracked and idle.tracker_runs():
            self._retire_untracked()
        self._queue.append((chunk, head, envelope, self._payload))
        self._assign()
        if self._queue and self._queue[-1][2] is envelope:  # it waits, and the user may change what it refers to
            self._queue[-1] = chunk, head, envelope.settled(), self._payload
        nbytes = len(head) + envelope.nbytes()
        self._large |= nbytes >= LEAST_SHARED_BYTES
        return nbytes

    def _head(self, chunk: Chunk, slice_seconds: float) -> bytes:
        return wire.CHUNK_HEAD.pack(
            self._call,
            chunk.first,
            len(chunk.items),
            slice_seconds,
            self._job.stop_at_error,
            self._job.timeout is not None,
            self._kind.threads,
            self._payload.digest,
        )

    def _retire_untracked(self) -> None:
        """Use other workers from now on, because the caller has made shared memory since these were forked.

        The chunks that they have were sent before and cannot refer to that memory, so the workers finish these first.
        """
        self._kind = self._kind._replace(tracked=True)
        for worker in self._workers:
            worker.retires, worker.takes_chunks = True, False
        self._dismiss([worker for worker in self._workers if not worker.flights])

    def _dismiss(self, workers: list[Worker]) -> None:
        for worker in workers:
            self._drop(worker)
        idle.dismiss(workers)

    def _assign(self) -> None:
        """Give queued chunks to workers that are ready, but only few to each while others are starting."""
        while self._queue:
            worker = self._least_busy()
            if worker is None or worker.flights:
                if len(self._workers) < self.width:
                    self._start_another()
                    continue  # there is another worker now, or the width allows no more
                starting = not all(worker.takes_chunks for worker in self._workers)
                if worker is None or (starting and len(worker.flights) > 1):
                    return
            at_once = not worker.flights
            self._in_hand = worker
            worker.put_chunk(*self._queue.popleft(), self._job.relay)
            self._in_hand = None
            if not at_once:
                self._unsent.add(worker)  # it has other chunks; this one is sent with more before the caller waits
            elif not self._flush(worker):
                # The worker has left or died since the last look, so it has not started the chunk just given to it.
                self._hand_back(worker.flights.pop().chunk)
                self._bury(worker)

    def _least_busy(self) -> Worker | None:
        least = None
        for worker in self._workers:
            if worker.takes_chunks and (least is None or len(worker.flights) < len(least.flights)):
                least = worker
        return least

    def flush(self) -> None:
        while self._unsent:
            worker = self._unsent.pop()
            if not self._flush(worker):
                self._bury(worker)

    def wait(self, timeout: float | None = None) -> list[Event]:
        self._check_process()
        self._entered = perf_counter()
        deadline = None if timeout is None else self._entered + timeout
        while not self._events:
            self._assign()
            self.flush()
            now = perf_counter()
            due = self._patrol.look(now)
            left = due.seconds if deadline is None else deadline - now
            for chunk in due.taken_back:
                self._hand_back(chunk)
            for worker in due.late:
                self._bury(worker, timed_out=True)
            self._pump(0.0 if self._events else max(0.0, min(left, due.seconds)))
            if left <= 0 and deadline is not None:
                break
        events, self._events = self._events, []
        return events

    def where(self) -> list[Where]:
        return where_are([*self._workers]) if self._holds_workers() else []

    def close(self, *, hurry: bool = False) -> None:
        """Close; in a hurry, workers that run an item get almost no time to finish it, because the user wants out."""
        if hurry and self._in_hand in self._workers and self._holds_workers():
            # The interrupt came while a message to or from this worker was under way.
            self._drop(self._in_hand)
            self._in_hand.end(kill=True)
        self._close(_HURRY_SECONDS if hurry else _CANCEL_SECONDS)

    def _close(self, grace_seconds: float) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._holds_workers():
            return
        self._queue.clear()
        try:
            for worker in self._workers:
                if not all(flight.loads for flight in worker.flights):  # it may go on loading for the next call
                    worker.cancel(self._call)
                    worker.ask_back()
            self.flush()
            began = perf_counter()
            while self._under_way() and (left := began + grace_seconds - perf_counter()) > 0:
                self._pump(min(left, TAKE_BACK_SECONDS))
                if perf_counter() - began >= TAKE_BACK_SECONDS:
                    for worker in self._workers:
                        worker.take_back()
        finally:
            # A worker with half a message under way would be trouble for the next call, so it is not kept.
            fit: list[Worker] = []
            try:
                fit += [one for one in self._workers if not (one.n_under_way() or one.outbox or _is_spent(one))]
            finally:  # a signal handler may raise above, and then none is kept
                self._release(fit)

    def _release(self, fit: list[Worker]) -> None:
        """Release the workers: those in `fit` wait for the next call, the others end."""
        self._closed = True
        try:
            self._selector.close()
            for worker in self._workers:
                if worker not in fit:
                    worker.end(kill=True)
            idle.give_back(self._kind, fit)
        except BaseException:  # from a signal handler; workers that are not given back by now are not fit either
            waiting = idle.idle_workers()
            for worker in self._workers:
                if worker not in waiting:
                    worker.end(kill=True)
            raise
        finally:
            self._workers.clear()
            _unreleased.pop(ref(self), None)

    def _under_way(self) -> bool:
        return any(worker.n_under_way() for worker in self._workers)

    def _holds_workers(self) -> bool:
        # In a forked child, the workers are the parent's; when the interpreter is leaving, they have been ended.
        return os.getpid() == self._pid and not idle.leaving()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise AmorsizeError("this iterator's workers belong to the process that this one was forked from")

    def _pump(self, timeout: float) -> None:
        """Wait once, for `timeout` seconds at most, and take in the messages that came."""
        for key, mask in self._selector.select(timeout):
            self._serve(key.data, mask)
        for worker in self._patrol.dead(perf_counter()):
            self._bury(worker)

    def _flush(self, worker: Worker) -> bool:
        """Write as much as fits now, and have the selector tell when more fits; say whether the worker is there."""
        self._in_hand = worker
        try:
            worker.outbox.flush()
        except OSError as error:
            let_signals_through(error)
            return False
        self._in_hand = None
        if worker.outbox:
            self._selector.modify(worker.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, worker)
        return True

    def _serve(self, worker: Worker, mask: int) -> None:
        self._in_hand = worker
        try:
            if mask & selectors.EVENT_WRITE:
                worker.outbox.flush()
                if not worker.outbox:
                    self._selector.modify(worker.sock, selectors.EVENT_READ, worker)
            if mask & selectors.EVENT_READ and worker.inbox.read():
                self._hear(worker)
        except (EOFError, OSError) as error:
            let_signals_through(error)
            self._bury(worker)
            return
        self._in_hand = None
        if _is_spent(worker) and not worker.flights:
            debug("a worker that grew by %d bytes is replaced", worker.memory_growth)
            self._dismiss([worker])

    def _hear(self, worker: Worker) -> None:
        for kind, body in worker.inbox.messages():
            if kind == wire.RESULTS:
                self._results(worker, body)
            elif kind == wire.SAID:
                self._events += [] if self._closed else [Said(worker.number, bytes(body))]
            elif kind == wire.READY:
                worker.ready = True
                worker.settle()
                worker.number = worker.process.pid
                loading = machine.learn_start(self.route, wire.READY_BODY.unpack(body)[0], served=worker.served)
                self._note_loading(loading, worker)
                if self.prompt:  # it has what the caller has loaded
                    worker.takes_chunks = not worker.retires
                elif not worker.retires and worker in self._workers:  # it may have died since it said so
                    self._load_in(worker)
            else:
                self._refused(worker, unpack_error(body))
                if worker not in self._workers:
                    return  # the worker's program was outdated, so it was ended

    def _note_loading(self, seconds: float, worker: Worker) -> None:
        """Add up what was loaded for a worker, by its fork server, if that was started for it, and by itself."""
        if not worker.served:
            worker.load_seconds += seconds
            self.start = self.start._replace(load_seconds=worker.load_seconds)

    def _load_in(self, worker: Worker) -> None:
        """Have a fresh worker load the function before it is given items, which others can run meanwhile."""
        head = self._head(Chunk(0, []), 0.0)
        worker.put_chunk(Chunk(0, []), head, dump_items([]), self._payload, self._job.relay)
        self._unsent.add(worker)
        self.flush()

    def _refused(self, worker: Worker, error: BaseException) -> None:
        if worker.ready:
            flight = worker.flights.popleft()
            if flight.loads and flight.digest != self._payload.digest:
                self._load_in(worker)  # it was to load the function of an earlier call
            elif isinstance(error, Outdated) and self._bring_up_to_date(worker, error):
                self._hand_back(flight.chunk)
                if flight.loads and worker in self._workers:
                    self._load_in(worker)
            elif flight.loads:
                worker.takes_chunks = not worker.retires  # the first chunk will be refused for the same reason
            else:
                self._events.append(Refused(flight.chunk, error))
            return
        worker.flights.clear()
        self._events.append(self._bad_initializer(f"failed in a worker: {error!r}", error))

    def _bring_up_to_date(self, worker: Worker, outdated: Outdated) -> bool:
        """Send workers the caller's code and data where theirs differ; say whether the chunk is to be run again."""
        if outdated.digest != self._payload.digest:
            return True  # another worker said so before, and the chunk is sent again with the newer payload
        try:
            self._payload = self._payload.brought_up_to_date(outdated.places, waive_data=self._job.by_name)
        except Uncarriable as problem:
            debug("%s", problem)
            if not worker.used:
                outdated.__cause__ = problem
                return False
            idle.outdate()
            self._drop(worker)
            for flight in worker.flights:
                self._hand_back(flight.chunk)
            worker.flights.clear()
            worker.end(kill=True)
        else:
            self._hand_back_queue()
        return True

    def _bad_initializer(self, text: str, cause: BaseException | None = None) -> Refused:
        name = self._kind.initializer.name if self._kind.initializer else "of the worker"
        failure = InitializerError(f"the initializer {name} {text}")
        failure.__cause__ = cause
        return Refused(None, failure)

    def _results(self, worker: Worker, body: memoryview) -> None:
        # The names are in the order of wire.ResultsHead. No such tuple is made here, because that would be a tenth of a
        # short chunk's cost.
        (
            first, n_results, unstarted, last, began, seconds, cpu_seconds, memory, n_errors,
        ) = wire.RESULTS_HEAD.unpack_from(body)  # fmt: skip
        at = wire.RESULTS_HEAD.size
        flight = worker.flights[0]
        if last:
            worker.flights.popleft()
        flight.received += n_results
        if memory:
            worker.note_memory(memory)
        if flight.loads:
            worker.takes_chunks = not worker.retires
            if flight.digest == self._payload.digest:
                self._note_loading(seconds, worker)
        payload = body[at + n_errors :]
        if self._closed or flight.taken_back:
            discard(payload, worker.store)
            return
        if len(body) >= machine.LEAST_BYTES_OBSERVED and worker.inbox.body_began >= self._entered:
            # All of the message came while the caller waited for it, so the time includes no work of the user's.
            machine.learn_bandwidth(self.route, len(body), perf_counter() - worker.inbox.body_began, out=True)
        nbytes = len(body) + bytes_beside(payload)
        self._large |= nbytes >= LEAST_SHARED_BYTES
        values = load_values(payload, worker.store)
        if type(values) is not list:
            values = list(values)
        chunk = flight.chunk
        failures = {}
        # Scalars are not searched for failures, because there may be 100,000 of them that took a microsecond each.
        if n_errors or not is_scalars(payload):
            errors = pickle.loads(body[at : at + n_errors]) if n_errors else ()
            failures = failures_of(chunk, errors, first, values)
        if n_results:
            self._patrol.ran.append((seconds, n_results))
            sent = flight.sent
            after = began - sent if began > sent else 0.0  # all processes of a machine have the same clock
            self._events.append(
                Results(first, values, failures, seconds, cpu_seconds, nbytes, worker.number, sent, after)
            )
        if last and unstarted:
            begun = len(chunk.items) - unstarted
            self._hand_back(Chunk(chunk.first + begun, chunk.items[begun:]))

    def _hand_back(self, chunk: Chunk) -> None:
        if chunk.items:
            self._events.append(Returned(chunk))

    def _bury(self, worker: Worker, *, timed_out: bool = False) -> None:
        """End a worker that has died or is late; report which of its items ran, and hand back the others."""
        if idle.leaving():
            # The program ended while this daemon thread still ran, so there is nobody to report to.
            raise SystemExit
        self._drop(worker)
        if (unstarted := worker.settle()) is not None:
            worker.end(kill=True)
            self._do_without(unstarted)
            return
        try:
            while worker.inbox.read():  # these are the messages that it could send before it died
                self._hear(worker)
        except EOFError:
            pass
        flights = [flight for flight in worker.flights if not flight.taken_back]
        front = worker.what_is_left(flights[0]) if flights else None
        if not (worker.takes_chunks or worker.retires) and self._queue:
            # This chunk was for the dead worker. It is reported as lost, because others may die of the same cause.
            front = None, None, self._queue.popleft()[0]
        worker.flights.clear()
        exitcode = worker.end(kill=True)
        if not worker.ready and self._kind.initializer is not None:
            self._deaths_in_initializer += 1
            if self._deaths_in_initializer == _DEATHS_IN_INITIALIZER:
                text = f"ended {_DEATHS_IN_INITIALIZER} workers, the last with exit code {exitcode}"
                self._events.append(self._bad_initializer(text))
        if timed_out and front is not None and front[:2] == (None, None):
            text = f"the function or an item could not be rebuilt in a worker within {LOADING_SECONDS:g} seconds"
            self._events.append(Refused(front[2], SerializationError(text)))
            front = None
        # One death is reported as one loss, that of the chunk in front, begun or not. The chunks behind it come back.
        if front is not None:
            self._events.append(Lost(*front, exitcode, timed_out))
        for flight in flights[1:]:
            self._hand_back(flight.chunk)

    def _drop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.sock)
        self._unsent.discard(worker)
        self._patrol.forget(worker)

    def _start_another(self) -> None:
        """Start one more worker; if none can be had, the call goes on with those that are there."""
        taken: list[Worker] = []
        try:
            idle.take(self._kind, 1, taken, self._job.function, self._payload.modules, self._job.relay)
            self._selector.register(taken[0].sock, selectors.EVENT_READ, taken[0])
            self._workers += taken
            self._fit_in(taken[0])
        except BaseException as error:
            for worker in taken:
                if worker not in self._workers:
                    worker.end(kill=True)
            if not isinstance(error, Exception) or from_signal_handler(error):
                raise
            self._do_without(error)

    def _do_without(self, error: BaseException) -> None:
        debug("no worker to be had beside %d others: %r", len(self._workers), error)
        self.width = len(self._workers)
        if not self._workers:
            self._hand_back_queue()
            self._events.append(Broken(error))

    def ask_back(self) -> None:
        self._hand_back_queue()
        for worker in self._workers:
            if worker.takes_chunks:
                worker.ask_back()

    def _hand_back_queue(self) -> None:
        while self._queue:
            self._hand_back(self._queue.popleft()[0])


def _is_spent(worker: Worker) -> bool:  # it gets no more chunks, in this call or another
    return worker.retires or worker.memory_growth > MEMORY_GROWTH_BYTES


# The workers of each lease that was not released, and the process they belong to. A lease stays unreleased only if a
# signal handler's exception came before any code had the lease, or while it was closing. `__del__` is not used for
# this: it would run for every lease, and what a signal handler raises in it is lost.
_unreleased: dict[ref[Lease], tuple[list[Worker], int]] = {}


def _end_left(lease: ref[Lease]) -> None:
    workers, pid = _unreleased.pop(lease, ((), None))
    if os.getpid() == pid and not idle.leaving():
        for worker in workers:
            worker.end(kill=True)

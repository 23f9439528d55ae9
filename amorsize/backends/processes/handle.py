"""The caller's handle on one worker process: it knows the worker's chunks and progress, and ends the worker."""

from __future__ import annotations

import multiprocessing
import select
import sys
import weakref
from collections import deque
from itertools import accumulate
from time import monotonic, monotonic_ns, perf_counter, sleep

from ...errors import let_signals_through
from ...lean import map
from ...transport import bound, wire
from ...transport.memory import LEAST_SHARED_BYTES, PLACE
from ...transport.slots import (
    BEGAN,
    CALL_CANCELLED,
    CHUNK_NUMBER,
    CURSOR,
    STACK_FILE,
    STACK_PIPE,
    STARTED,
    TAKEN_BACK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from ...transport.envelope import Envelope
    from ...transport.memory import Buffer
    from ...transport.payload import Payload
    from ...transport.slots import Shared
    from ..events import Chunk

__all__ = ["LEAVE_SECONDS", "LOADING_SECONDS", "Flight", "Worker", "all_workers", "children", "forget", "remember"]

# How long a worker may take to leave. One that is told to leave does so within a millisecond, unless it is stuck in its
# exit handlers.
LEAVE_SECONDS = 1.0
# How long a killed process may take to be gone. It takes longer only if the system itself is stuck.
_DIE_SECONDS = 5.0
# How long loading a function or an item may take in a call whose items have deadlines. A function may import much, and
# that is no running time of an item.
LOADING_SECONDS = 60.0
# How long the system may take to suspend a process.
_SUSPEND_SECONDS = 0.1
# How often an ending process is asked whether it has ended, in case its sentinel does not tell.
_ASK_SECONDS = 0.02


class Flight:
    """The caller's copy of a chunk under way, which it submits again if the worker cannot run it.

    Attributes:
        chunk: the chunk that was sent.
        number: the number of the chunk among those of its worker.
        sent: when the worker was given the chunk, in `time.perf_counter()` seconds.
        received: number of results that have come back.
        taken_back: whether the caller has taken it back before it was begun, or wants nothing of it; the worker's
            message on it still comes.
        loads: whether it has no items, and only has the worker load the function.
        digest: the digest of the function that is to run it.
    """

    __slots__ = ("chunk", "digest", "loads", "number", "received", "sent", "taken_back")

    def __init__(self, chunk: Chunk, number: int, digest: bytes) -> None:
        self.chunk = chunk
        self.number = number
        self.digest = digest
        self.sent = perf_counter()
        self.received = 0
        # Nobody waits for a chunk without items, so it is as good as taken back.
        self.loads = self.taken_back = not chunk.items


class Worker:
    """The caller's handle on one worker process.

    Attributes:
        ready: whether the worker has said that it is ready.
        number: the number of its process, once it is ready; None before.
        takes_chunks: whether it may be given chunks: it is ready and has loaded a function, or will be without delay.
            Otherwise chunks wait for the worker that is ready first.
        used: whether it has served another call before.
        fresh: whether no call before this one has seen it ready to run items.
        served: whether a fork server was there when it was started.
        ordered_at: when it was ordered, in `time.perf_counter()` seconds.
        store: memory that is shared with it; None where there can be none.
        load_seconds: how long what it needs was loaded, by a fork server that was started for it and by itself.
        retires: whether it gets no more chunks, and leaves when it has no chunk left.
    """

    def __init__(self, process: Any, sock: socket.socket, shared: Shared, *, takes_chunks: bool = False) -> None:
        self.process = process
        self.sock = sock
        self.inbox = wire.Inbox(sock)
        self.outbox = wire.Outbox(sock)
        self.flights: deque[Flight] = deque()
        self.ready = False
        self.number: int | None = None
        self.takes_chunks = takes_chunks
        self.used = self.retires = False
        self.fresh, self.served, self.load_seconds = True, False, 0.0
        self.ordered_at = perf_counter()
        self.memory_growth = 0
        self._first_memory = 0
        self._slots, self.store = shared
        self._number = 0
        self._functions = wire.KeptFunctions()

    def put_chunk(self, chunk: Chunk, head: bytes, envelope: Envelope, payload: Payload, relay: bytes) -> None:
        """Put a chunk into the outbox, after what the worker needs for it and does not have yet.

        Args:
            chunk: the items.
            head: what precedes them in the message.
            envelope: the items, pickled.
            payload: the function.
            relay: what to tell about what is to be relayed.
        """
        self.outbox.tell(relay)
        self._number += 1
        digest = payload.digest
        self.flights.append(Flight(chunk, self._number, digest))
        if digest not in self._functions:
            self._put_function(digest, payload.parts())
        pieces = envelope.pieces(self.store)
        if envelope.buffers and len(pieces) > 1:  # they wait in the outbox, and what the user does meanwhile must not
            pieces = [bytes(piece) for piece in pieces]  # change them
        self.outbox.put(wire.CHUNK, [head, *pieces])

    def _put_function(self, digest: bytes, parts: list[Buffer]) -> None:
        starts = [*accumulate(map(len, parts), initial=0)]
        nbytes = starts.pop()
        self._functions.add(digest, nbytes)
        if self.store is not None and nbytes >= LEAST_SHARED_BYTES:
            place = self.store.put(parts, starts, nbytes)
            if place is not None:
                self.outbox.put(wire.SHARED_FUNCTION, [digest, PLACE.pack(*place)])
                return
        self.outbox.put(wire.FUNCTION, [digest, *parts])

    def has_started(self) -> bool:
        """Say whether the worker is ready, has said so, or has gone; what its initializer prints does not count."""
        if self.ready:
            return True
        from socket import MSG_PEEK

        try:
            return self.sock.recv(1, MSG_PEEK) != bytes([wire.SAID])  # a message begins with its kind
        except BlockingIOError:
            return False
        except OSError as error:
            let_signals_through(error)
            return True

    def has(self, digest: bytes) -> bool:
        """Say whether the worker has the function with this digest."""
        return digest in self._functions

    def cancel(self, call: int) -> None:
        """Ask the worker to drop its chunks of this call as soon as its present item is over."""
        self._slots[CALL_CANCELLED] = call

    def ask_back(self) -> None:
        """Forbid the worker to begin the chunks that wait behind its running one."""
        self._slots[TAKEN_BACK] = self._number

    def take_back(self) -> list[Chunk]:
        """Return the chunks that the worker has not begun since it was forbidden to; it will only confirm that."""
        taken = [flight for flight in self.flights if not flight.taken_back and not self.has_begun(flight)]
        for flight in taken:
            flight.taken_back = True
        return [flight.chunk for flight in taken]

    def has_begun(self, flight: Flight) -> bool:
        """Say whether the worker has begun a chunk, or has seen that it must not begin it."""
        return bool(self._slots[CHUNK_NUMBER] >= flight.number)

    def n_under_way(self) -> int:
        """Return how many chunks the worker has, without those that were taken back."""
        return sum(not flight.taken_back for flight in self.flights)

    def note_memory(self, resident_bytes: int) -> None:
        """Note how much memory the worker takes; 0 means that this was not read."""
        if resident_bytes:
            self._first_memory = self._first_memory or resident_bytes
            self.memory_growth = resident_bytes - self._first_memory

    def what_is_left(self, flight: Flight) -> tuple[Chunk | None, Chunk | None, Chunk | None]:
        """Return (running, finished but lost, not started) of a chunk, once the worker has died."""
        chunk, received = flight.chunk, flight.received
        begun, is_running = self._progress(flight)
        begun = max(begun, received)
        ended = begun - 1 if is_running and begun > received else begun

        def part(start: int, stop: int) -> Chunk | None:
            return chunk._replace(first=chunk.first + start, items=chunk.items[start:stop]) if start < stop else None

        return part(ended, begun), part(received, ended), part(begun, len(chunk.items))

    def _progress(self, flight: Flight) -> tuple[int, bool]:
        """Return (items of the chunk begun, whether the last of them is running) of a worker that has died."""
        if self._slots[CHUNK_NUMBER] != flight.number:
            # The chunk was not begun, or it has ended and a later one was begun; then its last message has been read.
            return 0, False
        cursor = self._slots[CURSOR]
        if cursor >= 0:
            return cursor - flight.chunk.first + 1, True
        return -1 - cursor - flight.chunk.first, False

    def position(self) -> tuple[int | None, float] | None:
        """Return the item that the worker is on, None between items, and for how many seconds; None if it is idle.

        This may be asked from any thread.
        """
        slots = self._slots
        try:
            began = slots[BEGAN]
            cursor = slots[CURSOR]
            while began != (now := slots[BEGAN]):  # the cursor may be of what began since
                began, cursor = now, slots[CURSOR]
        except ValueError:  # another thread has released the worker
            return None
        if not began:
            return None
        return cursor if cursor >= 0 else None, max(0.0, (monotonic_ns() - began) / 1e9)

    def stack_files(self) -> list[tuple[int, int]]:
        """Return the descriptors, in the worker, of its pipe and its file (`child.stacks`), each with its inode."""
        slots = self._slots
        try:
            return [(slots[at] - 1, slots[at + 1]) for at in (STACK_PIPE, STACK_FILE) if slots[at]]
        except ValueError:  # another thread has released the worker
            return []

    def seconds_left(self, timeout: float) -> float:
        """Return how long the worker's present step may still last; items get `timeout`, loading `LOADING_SECONDS`."""
        started = self._slots[STARTED]
        if not started:
            return timeout
        return (timeout if started > 0 else LOADING_SECONDS) - (monotonic_ns() - abs(started)) / 1e9

    def suspend_if_late(self, timeout: float) -> bool:
        """Suspend the worker if its item has run for `timeout` seconds and still runs; say whether it is suspended."""
        before = bytes(self._slots)
        if self.seconds_left(timeout) > 0:
            return False
        import psutil

        try:
            process = psutil.Process(self.process.pid)
            process.suspend()
            until = monotonic() + _SUSPEND_SECONDS
            while process.status() != psutil.STATUS_STOPPED and monotonic() < until:
                sleep(0)
            if bytes(self._slots) == before:
                return True
            process.resume()  # the item was done at the last moment, and the worker is at another one
        except psutil.NoSuchProcess:
            pass  # the socket will tell that the worker has ended
        return False

    def leave(self) -> None:
        """Tell an idle worker to end, without waiting for it."""
        try:
            self.outbox.put(wire.EXIT, [])
            self.outbox.flush()
        except OSError as error:
            let_signals_through(error)
            return  # the worker has left already

    def settle(self) -> BaseException | None:
        """Wait until the process, of which something was heard, is known by its number; return why it did not start."""
        settle: Any = getattr(self.process, "settle", None)
        error: BaseException | None = settle(_DIE_SECONDS) if settle else None
        return error

    def end(self, *, kill: bool, until: float = 0.0) -> int | None:
        """Make sure that the process is gone and all its resources are released; return its exit code.

        Args:
            kill: whether to kill the process at once.
            until: the `time.monotonic()` until which it may leave by itself.
        """
        if self.process.pid is None and self.process.give_up():  # it will leave by itself, should it come to be
            children().discard(self.process)
            self.release()
            return None
        if kill or not self._gone(until - monotonic()):
            if self.process.exitcode is None:  # the number of an ended process may be another one's by now
                self.process.kill()
            self._gone(_DIE_SECONDS)
        exitcode: int | None = self.process.exitcode
        # If the program ignores its children's ends, or waits for them itself, the exit code went elsewhere, so the
        # process must be removed here.
        children().discard(self.process)
        if exitcode is not None:
            # `close()` is not used: `Process.start()` in another thread may be asking the process for its state, and
            # would then fail. The finalizer closes the descriptors, but the process still knows its exit code.
            finalizer = getattr(getattr(self.process, "_popen", None), "finalizer", None) or self.process.close
            finalizer()
        self.release()
        return exitcode

    def _gone(self, seconds: float) -> bool:
        """Wait for the end of the process, at most `seconds`; say whether it has ended."""
        until = monotonic() + seconds
        while self.process.exitcode is None:
            left = max(0.0, until - monotonic())
            # The process is asked again now and then, because a grandchild that inherited the sentinel keeps it silent.
            if _ended(self.process.sentinel, min(left, _ASK_SECONDS)):
                self.process.join()  # returns at once, even if the exit code went to other code
                return True
            if not left:
                return False
        return True

    def forget(self) -> None:
        """Release what a forked child inherited of its parent's end."""
        self.sock.close()
        self._slots.release()
        if self.store is not None:
            self.store.close()

    def release(self) -> None:
        """Close the caller's ends of the socket and of the shared memory."""
        self.forget()
        _all_workers.discard(self)
        if not _all_workers:
            bound.forget()


def _ended(sentinel: int, seconds: float) -> bool:
    """Wait at most `seconds` for a sentinel to tell that its process has ended; say whether it did."""
    if sys.platform == "win32":
        from multiprocessing import connection

        return bool(connection.wait([sentinel], seconds))
    poller = select.poll()  # `connection.wait` does the same here, but importing it takes 7 ms
    poller.register(sentinel, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


_all_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def all_workers() -> list[Worker]:
    """Return the workers of this process that have not been released."""
    return list(_all_workers)


def children() -> set[Any]:
    """Return the set of processes that the standard library waits for at exit; it has no public way to remove one."""
    children: set[Any] = getattr(multiprocessing.process, "_children", set())
    return children


def remember(workers: list[Worker]) -> None:
    """Add workers that were just started to those of this process."""
    _all_workers.update(workers)


def forget(workers: list[Worker]) -> None:
    """Release the workers that belong to another process, the parent of this one."""
    for worker in workers:
        worker.forget()
        forget_start: Any = getattr(worker.process, "forget", None)
        if forget_start:
            forget_start()
        # Otherwise this process would wait, at its exit, for children that are not its own.
        children().discard(worker.process)
    _all_workers.clear()

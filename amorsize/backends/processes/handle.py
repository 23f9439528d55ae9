"""The caller's handle on one worker process: what it has, how far it is, and its end."""

from __future__ import annotations

import multiprocessing
import select
import sys
import weakref
from collections import deque
from time import monotonic, monotonic_ns, perf_counter, sleep

from ...errors import let_signals_through
from ...transport import wire
from ...transport.slots import CALL_CANCELLED, CHUNK_NUMBER, CURSOR, STARTED, TAKEN_BACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from ...transport.payload import Payload
    from ..events import Chunk

__all__ = ["LEAVE_SECONDS", "LOADING_SECONDS", "Flight", "Worker", "all_workers", "children", "forget", "remember"]

# A worker told to leave does so within a millisecond; one that does not is stuck in its exit handlers.
LEAVE_SECONDS = 1.0
# What a killed process gets to be gone. Longer only where the system itself is stuck.
_DIE_SECONDS = 5.0
# A function may import much, which is not an item's running time; where items have deadlines it gets this long.
LOADING_SECONDS = 60.0
# What the system gets to suspend a process.
_SUSPEND_SECONDS = 0.1
# How often an ending process is asked whether it has ended, where its sentinel does not tell.
_ASK_SECONDS = 0.02


class Flight:
    """A chunk under way: the caller's copy, to be run again or handed on if the worker cannot.

    Attributes:
        chunk: what was sent.
        number: of the chunk, among those of its worker.
        sent: when the worker was given it, in `time.perf_counter()` seconds.
        received: number of results that have come back.
        taken_back: whether the caller has taken it back unbegun; then only the worker's word on it is awaited.
        digest: of the function that is to run it.
    """

    __slots__ = ("chunk", "digest", "number", "received", "sent", "taken_back")

    def __init__(self, chunk: Chunk, number: int, digest: bytes) -> None:
        self.chunk = chunk
        self.number = number
        self.digest = digest
        self.sent = perf_counter()
        self.received = 0
        self.taken_back = False


class Worker:
    """The caller's handle on one worker process.

    Attributes:
        ready: whether it has said that it is ready.
        number: that of its process, once it is ready.
        takes_chunks: whether it is, or will be without delay: chunks for a slow starter wait for whichever is first.
        used: whether it has served another call before.
        retires: whether it gets no more chunks, and leaves when it has none.
    """

    def __init__(
        self, process: Any, sock: socket.socket, slots: memoryview, start_method: str, *, takes_chunks: bool = False
    ) -> None:
        self.process = process
        self.sock = sock
        self.start_method = start_method
        self.inbox = wire.Inbox(sock)
        self.outbox = wire.Outbox(sock)
        self.flights: deque[Flight] = deque()
        self.ready = False
        self.number: int | None = None
        self.takes_chunks = takes_chunks
        self.used = self.retires = False
        self.memory_growth = 0
        self._first_memory = 0
        self._slots = slots
        self._number = 0
        self._functions = wire.KeptFunctions()

    def put_chunk(self, chunk: Chunk, pieces: list[bytes | memoryview], payload: Payload) -> None:
        """Put a chunk into the outbox, and before it the function unless the worker has it."""
        self._number += 1
        digest = payload.digest
        self.flights.append(Flight(chunk, self._number, digest))
        if digest not in self._functions:
            self._functions.add(digest, len(payload))
            self.outbox.put(wire.FUNCTION, [digest, *payload.parts()])
        self.outbox.put(wire.CHUNK, pieces)

    def cancel(self, call: int) -> None:
        """Ask the worker to drop what it has of this call at the next item."""
        self._slots[CALL_CANCELLED] = call

    def ask_back(self) -> None:
        """Forbid the worker to begin what waits behind its running chunk."""
        self._slots[TAKEN_BACK] = self._number

    def take_back(self) -> list[Chunk]:
        """Return the chunks that the worker has not begun, some time after it was forbidden to; it will only say so."""
        taken = [flight for flight in self.flights if not flight.taken_back and not self.has_begun(flight)]
        for flight in taken:
            flight.taken_back = True
        return [flight.chunk for flight in taken]

    def has_begun(self, flight: Flight) -> bool:
        """Say whether the worker has begun a chunk, or has seen that it may not."""
        return bool(self._slots[CHUNK_NUMBER] >= flight.number)

    def busy(self) -> bool:
        """Say whether the worker has something to do that has not been taken back."""
        return any(not flight.taken_back for flight in self.flights)

    def note_memory(self, resident_bytes: int) -> None:
        """Follow the worker's size, 0 meaning that it was not read."""
        if resident_bytes:
            self._first_memory = self._first_memory or resident_bytes
            self.memory_growth = resident_bytes - self._first_memory

    def progress(self, flight: Flight) -> tuple[int, bool]:
        """Return (items of the chunk begun, whether the last of them is running). For a worker that has died."""
        if self._slots[CHUNK_NUMBER] != flight.number:
            # Not begun, or ended with a later one begun: then its last message has been read.
            return 0, False
        cursor = self._slots[CURSOR]
        if cursor >= 0:
            return cursor - flight.chunk.first + 1, True
        return -1 - cursor - flight.chunk.first, False

    def seconds_left(self, timeout: float) -> float:
        """Return how long what runs may still run: an item `timeout` seconds, loading `LOADING_SECONDS`."""
        started = self._slots[STARTED]
        if not started:
            return timeout
        return (timeout if started > 0 else LOADING_SECONDS) - (monotonic_ns() - abs(started)) / 1e9

    def suspend_if_late(self, timeout: float) -> bool:
        """Suspend the worker if its item has run for `timeout` seconds and still runs then; say whether it did."""
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
            process.resume()  # it was done at the last moment, and is at another item
        except psutil.NoSuchProcess:
            pass  # its end is told by the socket
        return False

    def leave(self) -> None:
        """Tell an idle worker to end, without waiting for it."""
        try:
            self.outbox.put(wire.EXIT, [])
            self.outbox.flush()
        except OSError as error:
            let_signals_through(error)
            return  # it has left already

    def end(self, *, kill: bool, until: float = 0.0) -> int | None:
        """Make sure that the process is gone and everything of it is released; return its exit code.

        Args:
            kill: whether it is killed at once.
            until: `time.monotonic()` when its time to leave by itself is over.
        """
        if kill or not self._gone(until - monotonic()):
            if self.process.exitcode is None:  # asked first: the number of an ended process may be another's by now
                self.process.kill()
            self._gone(_DIE_SECONDS)
        exitcode: int | None = self.process.exitcode
        # Where the program ignores its children's ends, or waits for them itself, the exit code went elsewhere.
        children().discard(self.process)
        if exitcode is not None:
            # Not `close()`: `start` in another thread may just be asking the process how it is, and then finds nothing.
            # This closes its descriptors, and the process still knows its exit code.
            finalizer = getattr(getattr(self.process, "_popen", None), "finalizer", None) or self.process.close
            finalizer()
        self.release()
        return exitcode

    def _gone(self, seconds: float) -> bool:
        """Say whether the process has ended, waiting so long for it."""
        until = monotonic() + seconds
        while self.process.exitcode is None:
            left = max(0.0, until - monotonic())
            # Asked again now and then: what a grandchild has inherited keeps the sentinel from telling.
            if _ended(self.process.sentinel, min(left, _ASK_SECONDS)):
                self.process.join()  # at once, even where somebody else was told the exit code
                return True
            if not left:
                return False
        return True

    def release(self) -> None:
        """Close the caller's ends."""
        self.sock.close()
        self._slots.release()
        _all_workers.discard(self)


def _ended(sentinel: int, seconds: float) -> bool:
    """Wait so long for the end of the process that a sentinel stands for; say whether it tells of one."""
    if sys.platform == "win32":
        from multiprocessing import connection

        return bool(connection.wait([sentinel], seconds))
    poller = select.poll()  # what `connection.wait` does here; importing that takes 7 ms
    poller.register(sentinel, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


_all_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def all_workers() -> list[Worker]:
    """Return the workers of this process that have not been released."""
    return list(_all_workers)


def children() -> set[Any]:
    """Return the processes that the standard library waits for at exit; there is no public way to leave them."""
    children: set[Any] = getattr(multiprocessing.process, "_children", set())
    return children


def remember(workers: list[Worker]) -> None:
    """Count processes that were just started among this process's workers."""
    _all_workers.update(workers)


def forget(workers: list[Worker]) -> None:
    """Let go of another process's workers."""
    for worker in workers:
        worker.sock.close()
        # Else this process would wait, at its exit, for children that are not its own.
        children().discard(worker.process)
    _all_workers.clear()

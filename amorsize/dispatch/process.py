"""The one place that starts worker processes, and the caller's handle on each.

The main module is hidden while a fresh interpreter is started, so a script without a main guard is not run again in
the child: what the function needs of it travels by value instead. A forked child, ours or the user's, closes the
caller's ends that it inherited, so that each pipe ends when its one owner does.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import weakref
from collections import deque
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from . import wire
from .slots import CALL_CANCELLED, CHUNK_SERIAL, CURSOR, create_slots
from .worker import Setup, main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backend import Chunk

__all__ = ["Flight", "Worker", "all_workers", "main_hidden", "start_worker"]

# A worker told to leave does so within a millisecond; one that does not is stuck in its exit handlers.
_LEAVE_SECONDS = 1.0
_start_lock = threading.Lock()


class Flight(NamedTuple):
    """A chunk under way: the caller's copy, to be run again or handed on if the worker cannot."""

    call: int
    chunk: Chunk
    serial: int
    results: list[int]  # [number of results received so far]


class Worker:
    """The caller's handle on one worker process."""

    def __init__(self, process: Any, sock: socket.socket, slots: memoryview, start_method: str) -> None:
        self.process = process
        self.sock = sock
        self.start_method = start_method
        self.inbox = wire.Inbox(sock)
        self.outbox = wire.Outbox(sock)
        self.flights: deque[Flight] = deque()
        self.ready = False
        self.memory_growth = 0
        self._first_memory = 0
        self._slots = slots
        self._serial = 0
        self._functions: dict[bytes, None] = {}

    def send_chunk(self, call: int, chunk: Chunk, head: wire.ChunkHead, payload: list[bytes], function: bytes) -> None:
        """Send a chunk, and before it the function unless the worker has it. Raises OSError if the worker is gone."""
        self._serial += 1
        self.flights.append(Flight(call, chunk, self._serial, [0]))
        if head.function not in self._functions:
            if len(self._functions) >= wire.FUNCTIONS_KEPT:
                del self._functions[next(iter(self._functions))]
            self._functions[head.function] = None
            self.outbox.put(wire.FUNCTION, [head.function, function])
        self.outbox.put(wire.CHUNK, [wire.CHUNK_HEAD.pack(*head), *payload])

    def cancel(self, call: int) -> None:
        """Ask the worker to drop what it has of this call at the next item."""
        self._slots[CALL_CANCELLED] = call

    def note_memory(self, resident_bytes: int) -> None:
        """Follow the worker's size, 0 meaning that it was not read."""
        if resident_bytes:
            self._first_memory = self._first_memory or resident_bytes
            self.memory_growth = resident_bytes - self._first_memory

    def progress(self, flight: Flight) -> tuple[int, bool]:
        """Return (items of the chunk begun, whether the last of them is running). For a worker that has died."""
        if self._slots[CHUNK_SERIAL] != flight.serial:
            # Not begun, or ended with a later one begun: then its last message has been read.
            return 0, False
        cursor = self._slots[CURSOR]
        if cursor >= 0:
            return cursor - flight.chunk.first + 1, True
        return -1 - cursor - flight.chunk.first, False

    def leave(self) -> None:
        """Tell an idle worker to end, without waiting for it."""
        try:
            self.outbox.put(wire.EXIT, [])
        except OSError:
            return  # it has left already

    def end(self, *, kill: bool) -> int | None:
        """Make sure that the process is gone and everything of it is released; return its exit code."""
        if kill:
            self.process.kill()
        self.process.join(_LEAVE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        exitcode: int | None = self.process.exitcode
        self.process.close()
        self.release()
        return exitcode

    def release(self) -> None:
        """Close the caller's ends."""
        self.sock.close()
        self._slots.release()
        _all_workers.discard(self)


_all_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def all_workers() -> list[Worker]:
    """Return the workers of this process that have not been released."""
    return list(_all_workers)


def start_worker(start_method: str, setup: Setup) -> Worker:
    """Start a worker process and return without waiting for it: messages may be sent at once.

    Args:
        start_method: "fork", "spawn" or "forkserver".
        setup: what the worker is told before its first chunk.
    """
    multi = multiprocessing.get_context(start_method)
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            with _start_lock:
                _opening.append(ours)
                try:
                    process = multi.Process(  # type: ignore[attr-defined]
                        target=main, args=(theirs, setup), name="amorsize-worker"
                    )
                    if start_method == "forkserver":
                        _preload()
                    with main_hidden(start_method):
                        process.start()
                finally:
                    _opening.clear()
            slots = create_slots(ours)
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    worker = Worker(process, ours, slots, start_method)
    _all_workers.add(worker)
    return worker


@contextmanager
def main_hidden(start_method: str | None) -> Iterator[None]:
    """Show `multiprocessing` an empty main module, which it then does not run in a fresh interpreter."""
    if start_method == "fork":
        yield
        return
    user_main = sys.modules["__main__"]
    empty = ModuleType("__main__")
    sys.modules["__main__"] = empty
    try:
        yield
    finally:
        sys.modules["__main__"] = user_main


def _preload() -> None:
    """Let the fork server import what every worker needs, unless it runs already or the user chose."""
    from multiprocessing import forkserver

    # No public way to ask; without the attribute the standard behaviour stays.
    server = getattr(forkserver, "_forkserver", None)
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        multiprocessing.set_forkserver_preload([main.__module__])


_opening: list[socket.socket] = []


def _after_fork_in_child() -> None:
    """Let go of the parent's workers: they are not this process's children."""
    children = getattr(multiprocessing.process, "_children", None)
    for worker in list(_all_workers):
        worker.sock.close()
        if children is not None:
            # Else this process would wait, at its exit, for children that are not its own.
            children.discard(worker.process)
    _all_workers.clear()
    for sock in _opening:
        sock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

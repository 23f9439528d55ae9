"""The one place that starts worker processes.

The main module is hidden while a fresh interpreter is started, so a script without a main guard is not run again in
the child: what the function needs of it travels by value instead. A forked child, ours or the user's, closes the
caller's ends that it inherited, so that each pipe ends when its one owner does.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import sys
import threading
from _thread import allocate_lock, start_new_thread
from contextlib import contextmanager, nullcontext
from functools import partial
from types import ModuleType

from ...child.main import Setup, main
from ...errors import from_signal_handler
from ...state import register
from ...transport.slots import create_inherited_slots, create_slots
from .handle import Worker, all_workers, forget, remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["main_hidden", "start_workers"]

# Held while a process starts: the main module is one for all threads.
_start_lock = threading.RLock()
_opening: list[socket.socket] = []


def start_workers(start_method: str, setup: Setup, n: int) -> list[Worker]:
    """Start `n` worker processes, close behind one another, and return without waiting for them.

    Args:
        start_method: "fork", "spawn" or "forkserver".
        setup: what each worker is told before its first chunk.
        n: how many.
    """
    multi: Any = multiprocessing.get_context(start_method)
    prompt = start_method == "fork" and setup.initializer is None
    pairs: list[tuple[Worker, socket.socket]] = []
    with _start_lock:
        try:
            # All is made before the first fork: after it, each page that is written to must be copied first.
            for _ in range(n):
                ours, theirs = socket.socketpair()
                _opening.extend((ours, theirs))
                ours.setblocking(False)
                inherited = create_inherited_slots() if start_method == "fork" else None
                slots = inherited or create_slots(ours)
                process = multi.Process(
                    target=main, args=(theirs, setup, inherited), name="amorsize-worker"
                )
                pairs.append((Worker(process, ours, slots, start_method, takes_chunks=prompt), theirs))
            if start_method == "fork":
                _start_all(start_method, pairs)
            else:
                _uninterrupted(partial(_start_all, start_method, pairs))
        except BaseException:
            for worker, theirs in pairs:
                theirs.close()
                if worker.process.pid is None:
                    worker.release()
                else:
                    worker.end(kill=True)
            for sock in _opening:
                sock.close()
            raise
        finally:
            _opening.clear()
        workers = [worker for worker, _ in pairs]
        remember(workers)
    return workers


def _start_all(start_method: str, pairs: list[tuple[Worker, socket.socket]]) -> None:
    """Start the processes; the lock is held by whoever waits for this."""
    _get_ready(start_method)
    with nullcontext() if start_method == "fork" else _empty_main(), _interrupts_held(start_method):
        for worker, theirs in pairs:
            _opening.remove(theirs)
            worker.process.start()
            theirs.close()


@contextmanager
def main_hidden(start_method: str | None) -> Iterator[None]:
    """Show `multiprocessing` an empty main module, which it then does not run in a fresh interpreter."""
    if start_method == "fork":
        yield
        return
    with _start_lock, _empty_main():
        yield


@contextmanager
def _empty_main() -> Iterator[None]:
    user_main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = user_main


@contextmanager
def _interrupts_held(start_method: str) -> Iterator[None]:
    """Let a child begin deaf to Ctrl-C, until `main` has settled what it means there.

    Not for a fork server, which would hand its deafness on to children of the user's.
    """
    if sys.platform == "win32" or start_method == "forkserver":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _get_ready(start_method: str) -> None:
    """See to the standard library's helpers for a start method before they are started."""
    if start_method == "spawn":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # it lets interrupts through again when it has started
    elif start_method == "forkserver":
        from multiprocessing import forkserver

        # What every worker needs is imported once, unless the server runs already or the user chose. There is no public
        # way to ask; without the attribute the standard behaviour stays.
        server = getattr(forkserver, "_forkserver", None)
        if getattr(server, "_preload_modules", None) == ["__main__"]:
            multiprocessing.set_forkserver_preload([main.__module__])


def _uninterrupted(act: Callable[[], object]) -> None:
    """Do `act` where no signal handler can break it off: in another thread, which the main one waits for.

    The standard library's helpers do not bear it. A fork server ends when an order breaks off, and fails the next one;
    its tracker is taken for dead after any OSError, such as a handler's TimeoutError, and then is waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        act()
        return
    over = allocate_lock()
    over.acquire()
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # raised in the caller's thread
            ended.append(error)
        else:
            ended.append(None)
        over.release()

    try:
        start_new_thread(run, ())
        over.acquire()
    except BaseException as error:
        if isinstance(error, RuntimeError) and not from_signal_handler(error):  # no thread to be had
            run()
        else:
            if not ended:  # else the lock may be taken already: the handler ran just after
                over.acquire()  # what has begun is brought to its end; then who called us sees to what there is
            raise
    if ended[0] is not None:
        raise ended[0]


def _after_fork_in_child() -> None:
    """Let go of the parent's workers: they are not this process's children."""
    global _start_lock
    _start_lock = threading.RLock()
    forget(all_workers())
    for sock in _opening:
        sock.close()
    _opening.clear()
    # The standard library's fork server is the parent's child, and it fails here for waiting for it.
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if server is not None and hasattr(server, "_forkserver_pid"):
        server._forkserver_pid = None


register(after_fork=_after_fork_in_child)

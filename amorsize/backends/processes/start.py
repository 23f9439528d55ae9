"""The one place that starts worker processes.

The main module is hidden while a fresh interpreter is started, so that a script without a main guard is not run again
in the child; what the function needs of the main module is sent by value instead. A forked child, whether it is a
worker or the user's, closes the caller's ends of the sockets that it inherited, so that each socket closes when its one
owner ends.
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
from ...measure import machine, platforms
from ...state import register
from ...transport.slots import create_shared, inherited_shared
from .handle import Worker, all_workers, forget, remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ...transport.slots import Inherited, Shared
    from .server import Wanted

__all__ = ["main_hidden", "serves_here", "start_workers"]

# This lock is held while a process starts, because all threads share the one main module.
_start_lock = threading.RLock()
_opening: list[socket.socket] = []
# What is shared with workers that are being started, save the one whose process starts now. A forked sibling must not
# hold it, because the memory would then be held as long as the sibling lives.
_shared: list[Shared] = []


def start_workers(start_method: str, setup: Setup, n: int, wanted: Wanted | None = None) -> list[Worker]:
    """Start `n` worker processes, one right after the other, and return without waiting for them.

    Args:
        start_method: "fork", "spawn" or "forkserver".
        setup: what each worker is told before its first chunk.
        n: how many workers to start.
        wanted: what our fork server must have to fork them; None if they do without a server.
    """
    new_process: Any
    if sys.platform != "win32" and wanted is not None:
        from .launch import Process

        new_process = Process
    else:
        multi: Any = multiprocessing.get_context("spawn" if start_method == "forkserver" else start_method)
        new_process = multi.Process
    prompt = start_method == "fork" and setup.initializer is None
    pairs: list[tuple[Worker, socket.socket]] = []
    with _start_lock:
        try:
            # Everything is made before the first fork, because a write after it makes the system copy the page first.
            for _ in range(n):
                ours, theirs = socket.socketpair()
                _opening.extend((ours, theirs))
                ours.setblocking(False)
                shared, inherited = _share(ours, start_method)
                process = new_process(target=main, args=(theirs, setup, inherited), name="amorsize-worker")
                pairs.append((Worker(process, ours, shared, takes_chunks=prompt), theirs))
            if sys.platform != "win32" and wanted is not None:
                from multiprocessing import resource_tracker

                from .launch import launch

                _uninterrupted(resource_tracker.ensure_running)
                _start_each(pairs)
                remember([worker for worker, _ in pairs])  # if the program forks meanwhile, the child must know them
                launch([worker.process for worker, _ in pairs], wanted)
            elif start_method == "fork":
                _start_all(start_method, pairs)
            else:
                _uninterrupted(partial(_start_all, start_method, pairs))
        except BaseException:
            for worker, theirs in pairs:
                theirs.close()
                if getattr(worker.process, "_popen", None) is None:
                    worker.release()
                else:
                    worker.end(kill=True)
            _close_begun()
            raise
        finally:
            _opening.clear()
            _shared.clear()
        workers = [worker for worker, _ in pairs]
        remember(workers)
    return workers


def _share(ours: socket.socket, start_method: str) -> tuple[Shared, Inherited | None]:
    """Return the caller's view of what it shares with a new worker, and what a forked one inherits."""
    inherited: Inherited | None = None
    if start_method == "fork":
        shared, inherited = inherited_shared(machine.available_memory)
    else:
        shared = create_shared(ours, machine.available_memory)
    _shared.append(shared)
    return shared, inherited


def _start_all(start_method: str, pairs: list[tuple[Worker, socket.socket]]) -> None:
    """Start the processes. The thread that waits for this holds the lock."""
    if start_method != "fork":
        from multiprocessing import resource_tracker

        # Starting the tracker unblocks interrupts, so it is started before they are blocked.
        resource_tracker.ensure_running()
    with nullcontext() if start_method == "fork" else _empty_main(), _interrupts_held():
        _start_each(pairs)


def _close_begun() -> None:
    for sock in _opening:
        sock.close()
    for shared in _shared:
        shared.close()


def _start_each(pairs: list[tuple[Worker, socket.socket]]) -> None:
    every = _shared[:]
    for at, (worker, theirs) in enumerate(pairs):
        _opening.remove(theirs)
        _shared[:] = [*every[:at], *every[at + 1 :]]
        worker.process.start()
        _shared[:] = every
        theirs.close()


def serves_here() -> bool:
    """Say whether our fork server can run here: neither a system's libraries forbid it nor is the program frozen.

    A frozen program cannot be told to run something else than itself.
    """
    return platforms.has_fork() and not getattr(sys, "frozen", False)


@contextmanager
def main_hidden(start_method: str | None) -> Iterator[None]:
    """Show `multiprocessing` an empty main module, so that it does not run the user's in a fresh interpreter."""
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
def _interrupts_held() -> Iterator[None]:
    """Let a child begin with Ctrl-C blocked, until `main` has settled what it means there."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _uninterrupted(act: Callable[[], object]) -> None:
    """Call `act` in another thread, where no signal handler can interrupt it; the main thread waits for its end.

    The standard library's tracker of shared memory does not survive an interruption: it is taken for dead after any
    OSError, such as a handler's TimeoutError, and is then waited for.
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
        except BaseException as error:  # it is raised again in the waiting thread
            ended.append(error)
        else:
            ended.append(None)
        over.release()

    try:
        start_new_thread(run, ())
        over.acquire()
    except BaseException as error:
        if isinstance(error, RuntimeError) and not from_signal_handler(error):  # no thread can be started
            run()
        else:
            if not ended:  # otherwise this thread may have taken the lock already, just before the handler ran
                over.acquire()  # `act` comes to its end; the calling code then cleans up what it started
            raise
    if ended[0] is not None:
        raise ended[0]


def _after_fork_in_child() -> None:
    """Release the parent's workers, which are not children of this process."""
    global _start_lock
    _start_lock = threading.RLock()
    forget(all_workers())
    _close_begun()
    _opening.clear()
    _shared.clear()
    # The standard library's fork server is a child of the parent. Waiting for it here would fail, so it is forgotten.
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if server is not None and hasattr(server, "_forkserver_pid"):
        server._forkserver_pid = None


register(after_fork=_after_fork_in_child)

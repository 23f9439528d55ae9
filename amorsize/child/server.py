"""The fork server's side: a process that has loaded what workers need, and forks one whenever the caller orders it.

The caller has other threads, so it must not fork itself. The server has one thread, and holds nothing of the caller's
but its standard streams and one end of a socket pair. Over this socket come the descriptors that belong to one worker;
what the worker is to do comes through one of these, as the standard library sends it to any process that it starts.
The server leaves when the caller's end is closed, or when nothing was ordered for a while, but not before its workers
have left, because it is the one who learns their exit codes.

The standard library's own server is not used. It says to others what it is to load by names only, does not take over
the caller's `sys.path`, and has one instance, which is the user's.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from multiprocessing import spawn
from multiprocessing.forkserver import write_signed

from .. import context
from .main import THREAD_VARIABLES, flush_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["ORDER_BYTES", "Inherited", "run", "serve"]

assert sys.platform != "win32"  # which cannot fork

# How long the server waits for an order while it has no worker. A smaller value means that modules are loaded anew
# after a pause at the prompt; a larger one means that memory is held for nobody.
IDLE_SECONDS = 60.0
ORDER_BYTES = 1
# So many descriptors may come with an order; the system itself allows 253.
_MOST_DESCRIPTORS = 253


class Inherited:
    """A descriptor that a worker was given, by its place among them; how the standard library pickles descriptors."""

    descriptors: tuple[int, ...] = ()

    def __init__(self, place: int) -> None:
        self.place = place

    def detach(self) -> int:
        return self.descriptors[self.place]


def serve(control: int, modules: Iterable[str], folder: str) -> None:
    """Load the modules, say so, and fork workers until nobody can want any more.

    Args:
        control: the descriptor of the socket over which orders come.
        modules: what workers will need.
        folder: the caller's current folder.
    """
    os.set_inheritable(control, False)
    sock = socket.socket(fileno=control)
    context.in_worker.set(True)
    context.worker_process = True
    _load(modules, folder)
    sock.sendall(b"r")
    gc.freeze()  # otherwise a worker's first collection would write to, and so copy, all that was loaded
    before = signal.signal(signal.SIGCHLD, _wake)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    reports: dict[int, int] = {}
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.register(awake, select.POLLIN)
    closed = False
    while reports or not closed:
        ready = [descriptor for descriptor, _ in poller.poll(IDLE_SECONDS * 1000)]
        if awake in ready:
            os.read(awake, 4096)
            _report_ends(reports)
        if control in ready:
            order = _read_order(sock)
            if not order:
                poller.unregister(sock)
                closed = True
            elif not _fork(order, reports):
                signal.set_wakeup_fd(-1)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                signal.signal(signal.SIGCHLD, before)
                for descriptor in (awake, wake, *reports.values()):
                    os.close(descriptor)
                sock.close()
                _become_worker(order)
        elif not (ready or reports):
            break
    # The exit functions of the modules belong to programs that use them.
    os._exit(0)


def _load(modules: Iterable[str], folder: str) -> None:
    """Import the modules; one that cannot be imported is left to the workers, which will say what is wrong."""
    for variable in THREAD_VARIABLES:
        # A numerical library with a thread of its own would make the server unfit to fork.
        os.environ.setdefault(variable, "1")
    with suppress(OSError):  # the folder may be gone
        os.chdir(folder)
    for name in modules:
        with suppress(BaseException):  # importing runs the user's code, which may also exit
            import_module(name)
    flush_output()  # what the modules printed would be printed by each worker again


def _wake(signum: int, frame: object) -> None:
    pass


def _read_order(sock: socket.socket) -> list[int]:
    """Return the descriptors of a new worker; none if the caller has closed its end."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    try:
        data, descriptors, _, _ = socket.recv_fds(sock, ORDER_BYTES, _MOST_DESCRIPTORS, flags)
    except ConnectionError:
        return []
    return descriptors if data else []


def _fork(order: list[int], reports: dict[int, int]) -> bool:
    """Fork a worker and report its number; say whether this is still the server."""
    report = order[1]
    try:
        pid = os.fork()
    except OSError as error:
        _tell(report, -(error.errno or 1))
        os.close(report)
    else:
        if pid == 0:
            return False
        _tell(report, pid)
        reports[pid] = report
    for descriptor in order:
        if descriptor != report:
            os.close(descriptor)
    return True


def _report_ends(reports: dict[int, int]) -> None:
    """Report the exit codes of workers that have ended. Processes that the modules started are not waited for."""
    for pid in list(reports):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            report = reports.pop(pid)
            _tell(report, os.waitstatus_to_exitcode(status))
            os.close(report)


def _tell(report: int, number: int) -> None:
    try:
        write_signed(report, number)
    except BrokenPipeError:
        pass  # the caller does not want to know any more


def _become_worker(order: list[int]) -> None:
    code = 1
    try:
        data, report, tracker, out, err, *inherited = order
        os.close(report)
        for descriptor, standard in ((out, 1), (err, 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        code = run(data, tracker, inherited)
    except BaseException:  # it is shown as by an interpreter that ends
        sys.excepthook(*sys.exc_info())
    finally:
        flush_output()
        os._exit(code)


def run(data: int, tracker: int, inherited: Iterable[int]) -> int:
    """Do what the caller wrote for this process, and return its exit code.

    Args:
        data: the descriptor to read it from.
        tracker: the descriptor of the caller's tracker of shared memory.
        inherited: descriptors that the worker was given.
    """
    Inherited.descriptors = tuple(inherited)
    sys.argv[1:] = ["--multiprocessing-fork"]
    try:
        spawn.spawn_main(pipe_handle=data, tracker_fd=tracker)
    except SystemExit as end:
        code: Any = end.code
        return code if isinstance(code, int) else 1
    return 0

"""Starts workers by the fork server, without holding up the caller.

`start` writes down, in the caller's thread, what the new process is to do; an error in that is the caller's. A helper
thread then orders the process. No signal handler can interrupt it there, and the caller need not wait for a server that
loads modules. Until the process is there, its worker can be given up at once: the caller closes its end of the worker's
socket, and a process that comes to be all the same leaves by that.
"""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import context, forkserver, popen_fork, popen_forkserver, reduction, resource_tracker, spawn, util

from ...child import server as child
from ...errors import let_signals_through
from ...state import register
from . import server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar

    from .server import Wanted

__all__ = ["Process", "launch"]

assert sys.platform != "win32"  # which cannot fork

# Held by the thread that orders processes, so that two threads do not load the same modules at once.
_turn = threading.Lock()


class Process(context.ForkServerProcess):
    """A process of the standard library's kind that `launch` starts."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name by which the standard library calls it
        return _Order(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        # The new process needs nothing of this module, and so need not import it.
        return _bare_process, (), self.__dict__

    @property
    def sentinel(self) -> int:
        descriptor: int = self._order.sentinel
        return descriptor

    @property
    def _order(self) -> Any:
        return vars(self)["_popen"]

    def settle(self, seconds: float) -> BaseException | None:
        """Wait until the process was started or that has failed; return why it failed."""
        self._order.settled.wait(seconds)
        error: BaseException | None = self._order.error
        return error

    def give_up(self) -> bool:
        """Say whether the process is not there yet, and is not wanted any more."""
        given_up: bool = self._order.give_up()
        return given_up

    def forget(self) -> None:
        """Close what another process, the parent of this one, keeps for the start."""
        self._order.close_descriptors()


class _Order(popen_forkserver.Popen):
    """What is known of a process: before its start, what it is to do; afterwards, its number and then its exit code."""

    DupFd: ClassVar[Any] = child.Inherited

    def __init__(self, process: Process) -> None:
        self.descriptors: list[int] = []
        self.error: BaseException | None = None
        self.given_up = False
        self.settled = threading.Event()
        self._lock = threading.RLock()  # a signal handler may end workers while its thread ends one
        self._begun = self._own_child = False
        super().__init__(process)

    def duplicate_for_child(self, fd: int) -> int:
        self.descriptors.append(os.dup(fd))  # the caller may close its own before the process is there
        return len(self.descriptors) - 1

    def _launch(self, process: Any) -> None:
        self.pid: Any = None
        self.sentinel: Any = None
        program = spawn.get_preparation_data(process.name)
        for name in ("init_main_from_name", "init_main_from_path"):  # the main module is not run in workers
            program.pop(name, None)
        written = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(program, written)
            reduction.dump(process, written)
        except BaseException:
            self.close_descriptors()
            raise
        finally:
            context.set_spawning_popen(None)
        self.data = written.getvalue()

    def run(self, wanted: Wanted) -> Iterator[None]:
        """Start the process, unless it was given up, in two steps: the second one waits until it is there."""
        with self._lock:
            if self.given_up:
                return
            self._begun = True
        try:
            yield from self._order(wanted)
        except BaseException as error:  # the caller is told when it asks for the process
            self.error = error
            self.returncode = 255
        finally:
            self.close_descriptors()
            self.settled.set()
        if self.given_up and self._own_child and self.pid is not None:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)  # nobody else would wait for it, and it is on its way out

    def _order(self, wanted: Wanted) -> Iterator[None]:
        for _ in range(2):  # a server may leave just as it is asked; then there is another
            found = server.serving(wanted, lambda: not self.given_up)
            if self.given_up:
                return
            if found is None:
                break
            try:
                yield from self._deliver(partial(_ask, found, self.descriptors))
            except (EOFError, ConnectionError):
                server.discard(found)
            else:
                return
        self._own_child = True
        yield from self._deliver(partial(server.execute, wanted, self.descriptors))

    def _deliver(self, start: Callable[[int, int], int | None]) -> Iterator[None]:
        """Have the process started with the data that it reads, and learn its number."""
        with ExitStack() as ours, ExitStack() as theirs:
            data_r, data_w = os.pipe()
            theirs.callback(os.close, data_r)
            ours.callback(os.close, data_w)
            report_r, report_w = os.pipe()
            theirs.callback(os.close, report_w)
            ours.callback(os.close, report_r)
            # As much as fits is written before the process is there; it would complain of a part if the caller ended.
            os.set_blocking(data_w, False)
            written = os.write(data_w, self.data)
            os.set_blocking(data_w, True)
            pid = start(data_r, report_w)
            theirs.close()
            yield
            while written < len(self.data):
                written += os.write(data_w, self.data[written:])
            if pid is None:
                pid = _read_number(report_r, data_w)
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            with self._lock:
                # The process takes the caller for gone when the end that was written to is closed.
                self.finalizer = util.Finalize(self, _close, (data_w, report_r))
                ours.pop_all()
                self.sentinel = report_r
                self.pid = pid

    def give_up(self) -> bool:
        with self._lock:
            if self.pid is not None:
                return False
            self.given_up = True
            self.returncode = 255
            if not self._begun:
                self.close_descriptors()
                self.settled.set()
            return True

    def close_descriptors(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.pid is None or self.returncode is not None:
            return self.returncode
        if self._own_child:
            return popen_fork.Popen.poll(self, flag)
        return super().poll(flag)

    def wait(self, timeout: float | None = None) -> int | None:
        self.settled.wait(timeout)
        return self.returncode if self.pid is None else super().wait(timeout)

    def terminate(self) -> None:
        if not self.give_up():
            super().terminate()

    def kill(self) -> None:
        if not self.give_up():
            super().kill()


def _read_number(report: int, data: int) -> int:
    """Read the number of a process that the server forked.

    Raises:
        EOFError: the server has ended, and there is no such process.
        OSError: the server has ended, and there may be one, so that no other may have its socket.
    """
    try:
        number: int = forkserver.read_signed(report)
    except EOFError:
        poller = select.poll()
        poller.register(data, 0)
        if poller.poll(0):  # nobody has the end that the process would keep
            raise
        raise OSError("the fork server ended as it forked a worker") from None
    return number


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _bare_process() -> context.ForkServerProcess:
    return context.ForkServerProcess.__new__(context.ForkServerProcess)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes begin with Ctrl-C blocked: a worker settles itself what it means, and the server is deaf to it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ask(found: server.Server, inherited: list[int], data: int, report: int) -> None:
    """Order a process from the server, with the caller's present standard streams."""
    standard: list[int] = []
    try:
        for stream in (1, 2):
            try:
                standard.append(os.dup(stream))
            except OSError as error:
                let_signals_through(error)
                standard.append(os.open(os.devnull, os.O_WRONLY))  # the program has closed its own
        tracker: Any = resource_tracker.getfd()
        order = [data, report, tracker, *standard, *inherited]
        socket.send_fds(found.sock, [bytes(child.ORDER_BYTES)], order)
    finally:
        for descriptor in standard:
            os.close(descriptor)


def launch(processes: list[Any], wanted: Wanted) -> None:
    """Have processes started, whose `start` was called, and return without waiting for that."""
    orders = [process._order for process in processes]
    try:
        threading.Thread(target=_run, args=(orders, wanted), name="amorsize-launch", daemon=True).start()
    except RuntimeError as error:  # no thread can be started
        let_signals_through(error)
        _run(orders, wanted)


def _run(orders: list[_Order], wanted: Wanted) -> None:
    with _turn, _interrupts_blocked():
        steps = [order.run(wanted) for order in orders]
        for step in steps:  # all are ordered first, so that no worker is far behind another
            next(step, None)
        for step in steps:
            for _ in step:
                pass


def _after_fork_in_child() -> None:
    global _turn
    _turn = threading.Lock()


register(after_fork=_after_fork_in_child)

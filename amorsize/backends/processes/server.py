"""The caller's side of the fork server: which one serves now, whether it fits and is safe, and how it ends.

A server has loaded the modules that workers will need (`child/server.py`), so each worker forks from it within
milliseconds. There is at most one that takes orders. Another takes its place when more modules are wanted, or when the
environment, the folder, `sys.path` or a module's source is another one; the old one leaves when its last worker has.

Modules are the user's code. If loading them ends the server, or leaves it with threads whose locks a fork would copy,
that is remembered, and workers that want these modules fork from a server that has not loaded them.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from time import monotonic

from ...errors import let_signals_through
from ...lean import NamedTuple
from ...log import debug
from ...measure import platforms
from ...state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Server", "Wanted", "discard", "end", "execute", "reloads", "serving", "stands", "stop", "users_preload"]

# How long a server without workers may take to leave. It does so within a millisecond, unless the system is stuck.
_LEAVE_SECONDS = 1.0
# How often a loading server is asked whether it has ended, in case a process that a module started holds its socket.
_ASK_SECONDS = 0.5
# So many cases in which a server was not fit are remembered.
_MOST_UNFIT = 100


class Wanted(NamedTuple):
    """What the server of a worker must have.

    Attributes:
        modules: the modules that it has loaded.
        path: `sys.path`.
        folder: the current folder.
        program: whatever else must be equal, such as the environment.
    """

    modules: frozenset[str]
    path: tuple[Any, ...]
    folder: str
    program: tuple[Any, ...]


assert sys.platform != "win32"  # which cannot fork


class Server:
    """A server that was started.

    Attributes:
        pid: the number of its process.
        sock: the caller's end of the socket over which it takes orders.
        wanted: what it was started for.
    """

    def __init__(self, pid: int, sock: socket.socket, wanted: Wanted) -> None:
        self.pid = pid
        self.sock = sock
        self.wanted = wanted
        self._ended = False

    def loads(self) -> bool:
        """Wait until all modules are loaded; say whether the server has survived that."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        while not poller.poll(_ASK_SECONDS * 1000):
            if self.has_ended():
                return False
        try:
            return bool(self.sock.recv(1))
        except ConnectionError:
            return False

    def has_ended(self) -> bool:
        if not self._ended:  # the number of an ended process may be another one's by now
            try:
                self._ended = os.waitpid(self.pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # the program ignores its children's ends, or waits for them itself
                self._ended = not _exists(self.pid)
        return self._ended

    def kill(self) -> None:
        if self.has_ended():
            return
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        self._ended = True

    def is_safe(self) -> bool:
        """Say whether a fork of the server copies no other thread's locks; unknown, only our own modules are safe."""
        threads = platforms.native_threads(pid=self.pid)
        return threads == 1 or (threads is None and not self.wanted.modules)

    def fits(self, wanted: Wanted) -> bool:
        return self.wanted[1:] == wanted[1:] and self.wanted.modules >= wanted.modules

    def leave(self) -> None:
        """Let the server leave when its last worker has; wait only for one that has none."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            let_signals_through(error)  # otherwise the server has left already
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        until = monotonic() + _LEAVE_SECONDS
        if poller.poll(_LEAVE_SECONDS * 1000):
            while not self.has_ended() and monotonic() < until:
                os.sched_yield()
        self.sock.close()
        if not self.has_ended():
            _left.append(self)


_lock = threading.RLock()
_current: Server | None = None
_loading: Server | None = None
_left: list[Server] = []
_unfit: list[Wanted] = []
_specs: dict[str, object] = {}
_reloads = 0
_ending = False


def serving(wanted: Wanted, still: Callable[[], bool]) -> Server | None:
    """Return a server that fits and is safe, after starting one if need be; None if there is none to be had.

    One thread at a time may call this. It waits for the loading of the modules.

    Args:
        wanted: what the server must have.
        still: says whether the worker is still wanted; without one no server is started.
    """
    bare = wanted._replace(modules=frozenset())
    for attempt in (wanted, bare) if wanted.modules else (bare,):
        if any(one[1:] == attempt[1:] and one.modules <= attempt.modules for one in _unfit):
            continue
        server = _current
        if server is not None and (server.has_ended() or not server.is_safe()):
            discard(server)
            server = None
        if server is not None and server.fits(attempt):
            return server
        began = _begin(attempt, server, still)
        if began is not None:
            return began
        if not still():
            break
    return None


def _begin(wanted: Wanted, old: Server | None, still: Callable[[], bool]) -> Server | None:
    """Start a server in place of the old one; None if it died or is not safe, or none may be started."""
    global _current, _loading
    modules = wanted.modules
    if modules and old is not None and old.wanted[1:] == wanted[1:]:
        modules |= old.wanted.modules  # otherwise two functions by turns would each have the other's server end
    ours, theirs = socket.socketpair()
    try:
        with theirs, _lock:
            _forget_ended()
            if _ending or not still():
                ours.close()
                return None
            pid = _spawned(wanted, _serve(theirs.fileno(), wanted, modules), [theirs.fileno()])
            server = _loading = Server(pid, ours, wanted._replace(modules=modules))
    except BaseException:
        ours.close()
        raise
    fit = server.loads() and server.is_safe()
    with _lock:
        _loading = None
        if fit and not _ending:
            _current = server
            if old is not None:
                _retire(old)
            return server
    if still():
        debug("workers import %s themselves: a server with them died, or has threads", sorted(wanted.modules))
        _unfit.append(wanted)
        del _unfit[:-_MOST_UNFIT]
    server.kill()
    ours.close()
    return None


def stands() -> bool:
    """Say whether a server is there, or is being started."""
    return _current is not None or _loading is not None


def discard(server: Server) -> None:
    """Send no more orders to a server."""
    global _current
    with _lock:
        if _current is server:
            _current = None
        _retire(server)


def _retire(server: Server) -> None:
    server.sock.close()
    _left.append(server)


def _forget_ended() -> None:
    _left[:] = [server for server in _left if not server.has_ended()]


def stop() -> None:
    """End the server, which has no worker, and wait until it is gone."""
    global _current
    with _lock:
        server, loading = _current, _loading
        _current = None
        _unfit.clear()
        _forget_ended()
    if loading is not None:
        loading.kill()  # the thread that waits for it closes the socket
    if server is not None:
        server.leave()


def end() -> None:
    """End the server because the interpreter is leaving; none is started after this."""
    global _ending
    _ending = True
    stop()


def execute(wanted: Wanted, inherited: list[int], data: int, report: int) -> int:
    """Start a fresh interpreter that is a worker by itself, and return the number of its process.

    Args:
        wanted: `sys.path` counts.
        inherited: descriptors for the worker.
        data: the descriptor from which the worker reads what it is to do.
        report: a descriptor that the worker keeps open until it ends.
    """
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker.getfd()
    program = f"from amorsize.child.server import run; sys.exit(run({data}, {tracker}, {inherited}))"
    with _lock:
        if _ending:
            raise EOFError("the interpreter is leaving")
        return _spawned(wanted, program, [data, report, tracker, *inherited])


def _spawned(wanted: Wanted, program: str, descriptors: list[int]) -> int:
    from multiprocessing import spawn, util

    path = [entry for entry in wanted.path if isinstance(entry, str)]
    command: list[Any] = spawn.get_command_line(pipe_handle=0, tracker_fd=0)
    # Escaped, because an argument cannot have the surrogates that stand for bytes of no encoding.
    command[command.index("-c") + 1] = f"import sys; sys.path[:] = {path!a}; {program}"
    pid: int = util.spawnv_passfds(os.fsencode(command[0]), command, descriptors)
    return pid


def _serve(control: int, wanted: Wanted, modules: frozenset[str]) -> str:
    served = f"{control}, {sorted(modules)!a}, {wanted.folder!a}"
    return f"from amorsize.child.server import serve; serve({served})"


def reloads() -> int:
    """Return a number that grows when a module has been loaded again, of which a server may have the old one."""
    global _reloads
    for name, module in tuple(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if _specs.setdefault(name, spec) is not spec:
            _specs[name] = spec
            _reloads += 1
    return _reloads


def users_preload() -> frozenset[str]:
    """Return the modules that the user told the standard library's own server to load."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    return frozenset(getattr(server, "_preload_modules", None) or ()) - {"__main__"}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _after_fork_in_child() -> None:
    """Forget the servers, which are children of the parent."""
    global _lock, _current, _loading, _ending
    for server in (_current, _loading):
        if server is not None:
            server.sock.close()
    _lock = threading.RLock()
    _current = _loading = None
    _ending = False
    _left.clear()


register(_unfit.clear, after_fork=_after_fork_in_child)

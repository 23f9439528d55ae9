"""How a worker that somebody else started runs a chunk: in a pool, an executor or a cluster, a chunk is a task.

Such a worker may serve several calls, and may run several tasks at once in threads. What a function brings along
stands in the modules of the whole process while it runs (`rebuild`), so tasks of one function and call run at once, and
those of another have to wait until these are over.

A task names its function by digest, and brings the function itself where it is short or was asked for. Nothing is
raised: an engine would log an error, or would run the task again. So what became of a task is told by its *answer*, a
tuple whose first part says which kind it is.

Where the engine's workers are threads of the caller's own process, nothing is pickled: a task then only names a chunk
of a call that is open here.
"""

from __future__ import annotations

import os
import sys
from _struct import Struct
from collections import OrderedDict
from contextvars import copy_context
from functools import partial
from threading import Condition, Lock, get_ident

from .. import context
from ..errors import let_signals_through
from ..transport import by_value
from ..transport.ambient import set_ambient, snapshot
from ..transport.payload import Outdated
from ..transport.remote import pack_error
from ..version import __version__
from .rebuild import Rebuilt, leave, rebuild
from .run_chunk import run_chunk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Answer = tuple[str, Any]

__all__ = ["MISSING", "NOTE", "NOTES", "OUTDATED", "RAN", "REFUSED", "UNFIT", "Asking", "Entry", "is_here"]
__all__ += ["open_calls", "origin", "run_here", "run_noted", "run_task", "versions"]

# The kinds of answers. What ran comes with the worker's key and a `run_chunk.Packed`.
RAN = "ran"
MISSING = "missing"  # the worker does not have the function
OUTDATED = "outdated"  # the worker has something else around the function, at the places that come with the answer
REFUSED = "refused"  # the function could not be rebuilt; the packed error comes with the answer
UNFIT = "unfit"  # the worker has another version of something, which the text that comes with the answer tells

# What a worker notes when it begins a task: its number and that of the process. There is room for so many tasks.
NOTE, NOTES = Struct("<qq"), 4096
# A worker keeps so many functions, each with what it is bound to. With a smaller number two calls in turn send theirs
# again and again; a larger one takes more memory.
_MOST_FUNCTIONS = 2

# Tells this process from others, wherever they are; a forked child has the same bytes under another number.
_token = os.urandom(8)
# The calls of this process whose tasks may run in it, by number: each takes the number of a task, and runs it.
open_calls: dict[int, Callable[[int], object]] = {}


def origin() -> tuple[int, bytes]:
    """Return what names this process among all processes, and this interpreter in it."""
    return os.getpid(), _token


def is_here(asked: tuple[int, bytes]) -> bool:
    """Say whether this process is the one whose `origin` is given."""
    return asked == origin()


def run_here(call: int, number: int) -> None:
    """Run a task of a call that is open in this process; one that was closed meanwhile wants nothing any more."""
    run = open_calls.get(call)
    if run is not None:
        run(number)


def versions() -> tuple[str, tuple[int, int]]:
    """Return what a worker must have as the caller has it: the version of amorsize, and of Python."""
    return __version__, sys.version_info[:2]


# The worker may have another Python, whose code objects differ, so this goes as text; and it may have another amorsize,
# or none, so this asks before anything of amorsize is used.
_ENTRY = """lambda versions, *task, which=__import__("importlib.util", fromlist=["util"]).find_spec: (
    ("unfit", "it has no amorsize; install the same in both places")
    if which("amorsize") is None
    else ("unfit", "it has amorsize %s, and the caller %s; install the same in both places"
          % (getattr(__import__("amorsize"), "__version__", "?"), versions[0]))
    if getattr(__import__("amorsize"), "__version__", "?") != versions[0]
    else ("unfit", "it has Python %d.%d, and the caller %d.%d; install the same in both places"
          % (*__import__("sys").version_info[:2], *versions[1]))
    if tuple(__import__("sys").version_info[:2]) != tuple(versions[1])
    else __import__("amorsize.child.task", fromlist=["run_task"]).run_task(*task)
)"""


# A worker in the caller's process has this module, as the caller has.
_ASKED = """lambda asked: (
    "amorsize.child.task" in __import__("sys").modules
    and __import__("sys").modules["amorsize.child.task"].is_here(asked)
)"""


class Asking:
    """A callable that says in a worker whether that is in the process of a given `origin`."""

    def __call__(self, asked: tuple[int, bytes]) -> bool:
        return is_here(asked)  # only where an engine does not pickle what it calls

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (_ASKED,)


class Entry:
    """A callable that is `run_task` in a worker, where it first compares `versions`; it needs no amorsize to arrive."""

    def __call__(self, wanted: tuple[str, tuple[int, int]], *task: Any) -> Answer:
        return run_task(*task)  # only where an engine does not pickle what it calls

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (_ENTRY,)


def run_task(
    call: tuple[Any, ...],
    digest: bytes,
    function: bytes | None,
    payload: bytes,
    slice_seconds: float,
    stop_at_error: bool,
    first: int,
) -> Answer:
    """Run a chunk, and return what became of it.

    Args:
        call: the origin of the caller, and the number of its call.
        digest: the digest of the function's payload.
        function: the payload, as `rebuild` takes it; None if the worker is expected to have it.
        payload: the pickled items.
        slice_seconds: no further item is started after so many seconds; 0 means no limit.
        stop_at_error: whether an item that raises is the last one to run.
        first: position of the first item in the input.
    """
    if is_here(call[:2]):  # what stands around the function here is the caller's own
        return UNFIT, "it is in the caller's process, and other workers are not"
    run = partial(run_chunk, payload=payload, first=first, slice_seconds=slice_seconds, stop_at_error=stop_at_error)
    try:
        rebuilt = _stage.enter(call, digest, function)
        if rebuilt is None:
            return MISSING, None
        try:
            # What belongs to a thread, as decimal's context does, is set for the chunk alone.
            return RAN, ((*origin(), get_ident()), copy_context().run(_run, rebuilt, run))
        finally:
            _stage.leave()
    except Outdated as outdated:
        return OUTDATED, outdated.places
    except BaseException as error:  # the user's modules may raise anything when they are imported
        let_signals_through(error)
        return REFUSED, pack_error(error)


def run_noted(notes: str, number: int, *task: Any) -> Answer:
    """Run a task as `run_task` does, and note first in a file who does so, for engines that do not tell of deaths."""
    file = os.open(notes, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        os.lseek(file, (number % NOTES) * NOTE.size, os.SEEK_SET)
        os.write(file, NOTE.pack(number, os.getpid()))
    finally:
        os.close(file)
    return run_task(*task)


def _run(rebuilt: Rebuilt, run: Callable[..., Any]) -> Any:
    context.in_worker.set(True)
    set_ambient(rebuilt.ambient)
    return run(rebuilt.function)


class _Stage:
    """What stands around the function that runs in this process, for one function of one call at a time.

    Whoever wants another function waits, and those who come later wait behind it, so that each gets its turn.
    """

    def __init__(self) -> None:
        self._turn = Lock()
        self._changed = Condition()
        self._running = 0
        self._on: tuple[Any, ...] = ()
        self._functions: OrderedDict[bytes, Rebuilt] = OrderedDict()
        self._calls: dict[bytes, tuple[Any, ...]] = {}  # the call that each function ran for last
        self._ambient: tuple[Any, ...] = ()
        self._was_worker = False

    def enter(self, call: tuple[Any, ...], digest: bytes, function: bytes | None) -> Rebuilt | None:
        """Wait for this function's turn, and return it; None if it is not here. `leave` ends what this begins.

        Raises:
            BaseException: whatever rebuilding the function raises; then there is nothing to leave.
        """
        key = (call, digest)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._running or self._on == key)
            if not self._running:
                if digest not in self._functions and function is None:
                    return None
                self._set_up(call, digest, function)
                self._on = key
            self._running += 1
            return self._functions[digest]

    def leave(self) -> None:
        """End a task; with the last one, what its function brought along is taken away."""
        with self._changed:
            self._running -= 1
            if not self._running:
                self._take_down()
                self._changed.notify_all()

    def _set_up(self, call: tuple[Any, ...], digest: bytes, function: bytes | None) -> None:
        self._ambient, self._was_worker = snapshot(), context.worker_process
        context.worker_process = True
        try:
            rebuilt = self._functions.get(digest)
            if rebuilt is None:
                assert function is not None
                while len(self._functions) >= _MOST_FUNCTIONS:
                    self._calls.pop(self._functions.popitem(last=False)[0], None)
                rebuilt = self._functions[digest] = rebuild(function, digest)
            else:
                rebuilt.enter()
            self._functions.move_to_end(digest)
            if self._calls.get(digest) != call:
                self._calls[digest] = call
                rebuilt.space.begin_call()
        except BaseException:
            self._take_down()
            raise

    def _take_down(self) -> None:
        leave()  # the process is not ours: others run their own code in it
        by_value.enter(None)
        set_ambient(self._ambient)
        context.worker_process = self._was_worker


_stage = _Stage()

"""Decides which backend may run a call. Only this module refuses what a backend or this process cannot do."""

from __future__ import annotations

from .. import context
from ..errors import UnsupportedError
from ..lean import NamedTuple
from . import rows
from .rows import AUTO, PROCESSES, SERIAL, THREADS, row_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..options import Options
    from ..seeding import Seeded
    from ..transport.by_value import Outgoing
    from .base import Backend
    from .rows import Row

__all__ = ["Job", "check_input", "find", "find_for_coroutines", "find_for_plan", "open_backend", "stays"]


# What opens a backend, by the name of its module, for modules that have been imported.
_openers: dict[str | None, Callable[..., Any]] = {}


class Job(NamedTuple):
    """The job that a backend is opened for, which is one call.

    Attributes:
        function: runs one item.
        outgoing: pickles what the call sends.
        width: how many workers to use. Where the backend has its own, 0 and -1 mean all, and -2 all but one.
        start_method: how new processes are started.
        stop_at_error: whether an item that raises ends its chunk.
        timeout: how many seconds an item may run; None means without limit.
        initializer, initargs: the function that each worker calls first, and its arguments.
        by_name: whether the user named the backend, so that it also does what "auto" would leave to the caller.
        warns: whether a warning says so if the function's random numbers differ in a worker.
        gain_seconds: how many seconds the call is expected to gain; 0 if unknown.
        finds_width: whether `width` is only the most, for a backend that finds out what is best.
        known_width: the width that was found earlier; None if none was.
        alone_seconds: seconds of an item that runs alone in the caller; None if that is not known.
        relay: what to tell workers of ours, by `transport.relay`; empty if nothing that items say is relayed.
    """

    function: Callable[[Any], Any] | Seeded
    outgoing: Outgoing
    width: int
    start_method: str
    stop_at_error: bool = True
    timeout: float | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    by_name: bool = True
    warns: bool = True
    gain_seconds: float = 0.0
    finds_width: bool = False
    known_width: int | None = None
    alone_seconds: float | None = None
    relay: bytes = b""


def find(function: Callable[..., Any], options: Options) -> Row:
    """Return the row of the backend that runs a call; with `AUTO`, measurements decide.

    Raises:
        UnsupportedError: an option asks for what does not exist yet, or cannot be done here.
    """
    row = row_of(options.backend)
    if options.audit and options.journal is not None:
        raise UnsupportedError("audit= runs items twice, and journal= none again: leave one of them out")
    inside = context.worker_process or context.in_worker.get()
    if options.timeout is not None:
        return _that_stops(row, options.backend, function, inside=inside)
    if inside:
        return SERIAL
    if row is None:
        objects = "an Executor, a multiprocessing.Pool, a Dask Client"
        raise UnsupportedError(f"backend={options.backend!r} is not supported; {objects}, {_names()} are")
    if row.can.starts_processes and row is not AUTO and context.in_daemon():
        raise UnsupportedError(f"backend={row.name!r}: a daemon process may not start processes of its own")
    if row is THREADS:
        _check_threads(options)
    if row.can.width == "own":
        _check_engine(row, options)
    return row


def find_for_coroutines(options: Options) -> None:
    """Refuse what a call of a coroutine function, whose items run on an event loop, cannot do.

    Raises:
        UnsupportedError: an option asks for it.
    """
    row = row_of(options.backend)
    if row is not AUTO and row is not SERIAL:
        shown = repr(row.name) if isinstance(options.backend, str) and row else f"a {type(options.backend).__name__}"
        raise UnsupportedError(
            f"a coroutine function runs on an event loop of this process: backend 'auto' or 'serial', not {shown}"
        )
    if options.seed is not None:
        raise UnsupportedError(f"seed= {_SHARED_STATE}, which coroutines share; leave it out")
    if options.journal is not None:
        raise UnsupportedError("journal= is for plain functions; leave it out for a coroutine function")
    if options.audit:
        raise UnsupportedError("audit= is for plain functions; leave it out for a coroutine function")


def find_for_plan(options: Options) -> tuple[Row, str]:
    """Return the row that `optimize` advises on, and why its plan can only be serial ("" if there is no such reason).

    Raises:
        UnsupportedError: the advisor does not know this backend, or it cannot be used here.
    """
    row = row_of(options.backend)
    if row is None or row.can.width != "cores":
        shown = repr(options.backend) if isinstance(options.backend, str) else type(options.backend).__name__
        raise UnsupportedError(
            f"optimize() advises on a Pool: backend must be {_names('or')}, not {shown}; amorsize.map takes the others"
        )
    if context.worker_process or context.in_worker.get():
        return row, "this already runs in a worker"
    if row is SERIAL:
        return row, "backend='serial' was asked for"
    if row.can.starts_processes and context.in_daemon():
        because = "a daemon process may not start processes"
        if row is not AUTO:
            raise UnsupportedError(f"backend={row.name!r}: {because}")
        return row, because
    return row, ""


def check_input(row: Row, worklist_call: str | None) -> None:
    """Refuse an input that a backend cannot read ahead.

    Args:
        row: the backend that was named.
        worklist_call: what the input's code calls to take an item off something that results may add to; None if
            nothing of the kind.

    Raises:
        UnsupportedError: it calls something.
    """
    if worklist_call is not None:
        raise UnsupportedError(
            f"backend={row.name!r} reads ahead, and this input calls {worklist_call} for its items, to which results "
            "may add: use 'auto' or 'serial', or give a list"
        )


def stays(function: Callable[..., Any], n_jobs: int | None) -> bool:
    """Say whether a call with `AUTO` stays in this process whatever is measured."""
    return n_jobs == 1 or context.works_in_place(function) or context.in_daemon()


def open_backend(row: Row, job: Job, target: object | None = None) -> Backend:
    """Return a backend that is ready for a call's chunks.

    Args:
        row: which backend.
        job: what the backend is to run.
        target: the object that the user gave as `backend=`; None if it was a name.
    """
    opener = _openers.get(row.module)
    if opener is None:
        # An import waits for a thread that is in the middle of the same one.
        module: Any = __import__(row.module or "", fromlist=["open_backend"])
        opener = _openers[row.module] = module.open_backend
    backend: Backend = opener(job, target)
    return backend


_SHARED_STATE = "sets the random state of this process for each item"


def _check_threads(options: Options) -> None:
    if options.seed is not None:
        raise UnsupportedError(f"seed= {_SHARED_STATE}, which threads share: backend 'auto', 'serial' or 'processes'")
    if not options.thread_safe:
        raise UnsupportedError("backend='threads' was asked for, and thread_safe=False forbids threads")


def _check_engine(row: Row, options: Options) -> None:
    """Refuse what has to be asked of the engine itself."""
    given = options.backend
    shown = f"backend={given!r}" if isinstance(given, str) else f"a {type(given).__name__} object"
    if options.initializer is not None:
        raise UnsupportedError(f"{shown} has workers of its own, and so its own initializer; give it to these")
    if options.start_method is not None:
        raise UnsupportedError(f"{shown} starts its workers in its own way; leave start_method= out")
    if not row.can.crosses and options.seed is not None:
        raise UnsupportedError(f"seed= {_SHARED_STATE}, which threads share: backend 'auto', 'serial' or 'processes'")
    if row.extra is not None and row.accepts is None:
        from importlib.util import find_spec

        extra, module = row.extra
        if find_spec(module) is None:
            raise UnsupportedError(f"{shown} needs {module}, which is not installed: pip install 'amorsize[{extra}]'")


def _that_stops(row: Row | None, given: object, function: Callable[..., Any], *, inside: bool) -> Row:
    """Return the row for items with deadlines, whose workers must be such that can be stopped at any time."""
    if row is None or not (row is AUTO or row.can.stops_items):
        name = repr(given) if isinstance(given, str) else f"a {type(given).__name__}"
        raise UnsupportedError(f"timeout= needs workers that can be stopped: backend 'processes' or 'auto', not {name}")
    where = None
    if inside:
        where = "this already runs in a worker"
    elif context.in_daemon():
        where = "a daemon process may not start any"
    elif context.works_in_place(function):
        where = "the function is a method of an object of this process"
    if where is not None:
        raise UnsupportedError(f"timeout= needs worker processes, and {where}")
    return PROCESSES if row is AUTO else row


def _names(word: str = "and") -> str:
    found = [repr(row.name) for row in rows.ROWS if row.accepts is None and (word == "and" or row.can.width == "cores")]
    if word == "and":
        found.remove(repr(AUTO.name))
    return f"{', '.join(found[:-1])} {word} {found[-1]}"

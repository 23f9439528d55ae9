"""Where this code is running, and what may not leave it."""

from __future__ import annotations

import sys
from _thread import get_ident
from contextvars import ContextVar
from functools import partial
from types import BuiltinMethodType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["imported_here", "in_daemon", "in_import", "in_worker", "others_import", "preloading", "works_in_place"]

# What the bound methods of these do is told by their results.
_UNCHANGING: tuple[type, ...] = (ModuleType, type, str, bytes, int, float, complex, tuple)
# True while a worker runs an item, in threads too: a call made there runs serially.
in_worker: ContextVar[bool] = ContextVar("amorsize_in_worker", default=False)
# True in a worker process. A thread started by the user's function has a context of its own, but the same process.
worker_process = False


def in_daemon() -> bool:
    """Say whether this is a daemon process, which may not start processes of its own."""
    process: Any = sys.modules.get("multiprocessing.process")
    try:
        return bool(process.current_process().daemon)
    except (AttributeError, NameError):
        return False  # it is not imported, or another thread is just doing so: this is the first process


# A module that is being imported is locked, and pickling a function of it by name waits for it, as an import does.
# Python knows a circle of imports and breaks it. Of one that leads through a thread or a result that an import waits
# for it knows nothing: so who does not hold the lock himself does nothing that would wait for it.

# Threads of ours that import what workers need, and wait for nobody.
preloading: set[int] = set()


def in_import() -> bool:
    """Say whether the calling thread is in the middle of an import, whose locks another thread would wait for."""
    return _imports(sys._getframe(1))


def others_import() -> bool:
    """Say whether a thread beside the calling one is in the middle of an import, save those that import for us."""
    exempt = {get_ident(), *preloading}
    return any(_imports(frame) for ident, frame in sys._current_frames().items() if ident not in exempt)


def imported_here(module: object) -> bool:
    """Say whether the calling thread is in the middle of importing the module of this name."""
    frame: FrameType | None = sys._getframe(1)
    is_body = False
    while frame is not None:
        if is_body and _is_import(frame):
            return True
        if frame.f_code.co_name == "<module>":
            is_body = frame.f_globals.get("__name__") == module
        frame = frame.f_back
    return False


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if _is_import(frame):
            return True
        frame = frame.f_back
    return False


def _is_import(frame: FrameType) -> bool:
    return frame.f_code.co_filename == "<frozen importlib._bootstrap>"


def works_in_place(function: Any) -> bool:
    """Say whether a function is plainly there for what it changes: a bound method of a container or of a file.

    >>> works_in_place([].append), works_in_place(len)
    (True, False)
    """
    # Not isinstance, which believes what an object says of its class: a mock or a proxy says what it stands for.
    if issubclass(type(function), partial):
        return works_in_place(function.func)
    if type(function) is not BuiltinMethodType:
        return False
    owner = function.__self__
    return owner is not None and not issubclass(type(owner), _UNCHANGING)

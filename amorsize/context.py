"""Where this code is running, and what may not leave it."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import partial
from types import BuiltinMethodType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["in_daemon", "in_import", "in_worker", "works_in_place"]

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


def in_import() -> bool:
    """Say whether the calling thread is in the middle of an import.

    It then holds locks that another thread would wait for, which imports the same or names it in a pickle.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


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

"""Where does this code run, and which functions must stay there? It may be in a worker, a daemon or an import."""

from __future__ import annotations

import sys
from _contextvars import ContextVar
from _thread import get_ident

from .lean import BuiltinMethodType, ModuleType, partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["imported_here", "in_daemon", "in_import", "in_worker", "others_import", "preloading", "works_in_place"]

# The bound methods of these types change nothing: all that they do is to return a result.
_UNCHANGING: tuple[type, ...] = (ModuleType, type, str, bytes, int, float, complex, tuple)
# True while a worker, which may be a thread, runs an item; a call that the item makes then runs serially.
in_worker: ContextVar[bool] = ContextVar("amorsize_in_worker", default=False)
# True in a worker process, and so also in the threads that the user's function starts, which have their own contexts.
worker_process = False


def in_daemon() -> bool:
    """Say whether this is a daemon process, which may not start processes of its own."""
    process: Any = sys.modules.get("multiprocessing.process")
    try:
        return bool(process.current_process().daemon)
    except (AttributeError, NameError):
        return False  # multiprocessing is not imported, or its import has not ended, so this is the first process


# A module is locked while it is imported, and pickling one of its functions by name waits for the lock, as an import
# of it does. Python recognises a circle of imports and breaks it, but not a circle that leads through a thread or a
# result that an import waits for. Therefore a thread that does not hold the lock does nothing that would wait for it.

# The identifiers of amorsize's own threads that import what workers need; these threads wait for nobody.
preloading: set[int] = set()


def in_import() -> bool:
    """Say whether the calling thread is in the middle of an import, for whose locks another thread would wait."""
    return _imports(sys._getframe(1))


def others_import() -> bool:
    """Say whether a thread is in the middle of an import, not counting the calling one and those in `preloading`."""
    exempt = {get_ident(), *preloading}
    return any(_imports(frame) for ident, frame in sys._current_frames().items() if ident not in exempt)


def imported_here(module: object) -> bool:
    """Say whether the calling thread is in the middle of importing the module that has this name."""
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
    """Say whether a function is a bound method of a container or a file, which is there for what it changes.

    >>> works_in_place([].append), works_in_place(len)
    (True, False)
    """
    # isinstance would believe what an object says of its class, and a mock or a proxy names the class it stands for.
    if issubclass(type(function), partial):
        return works_in_place(function.func)
    if type(function) is not BuiltinMethodType:
        return False
    owner = function.__self__
    return owner is not None and not issubclass(type(owner), _UNCHANGING)

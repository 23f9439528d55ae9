"""Imports what a call on workers needs before it is needed, in a thread that has time for it.

Such a thread may go on when the item is over beside which it began: nobody waits for it, save a call that is about to
start workers (`finish`), and a fork, because the child would find modules half imported and locked for ever.
"""

from __future__ import annotations

import os
import sys
from _thread import LockType, get_ident

from ..context import preloading
from ..guard import Guard
from ..log import debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["finish", "glancing", "loaded", "preload", "preload_what_decides", "wait_for_glances"]

# What it takes to decide where a call runs, beyond what `import amorsize` loads.
_DECIDING = "cache.costs", "cache.lookup", "measure.container", "plan.escalate", "transport.memory"
_OURS = __name__.partition(".")[0]
# How long anybody waits for such a thread. It is as long as an import of our own can reasonably take.
_LONGEST_SECONDS = 1.0
# A thread is in a block of this while it imports, and while it forks.
_busy = Guard(_LONGEST_SECONDS)
_loaded: list[int] = []  # number of modules, for each time
# Locks that bare threads beside first items hold (`headstart`) which end by themselves, as those items are over.
glancing: set[LockType] = set()


def preload() -> None:
    """Import what a call on workers imports, from any thread. It takes tens of milliseconds in a fresh process."""
    _import(_what_decides, _what_workers_need)


def preload_what_decides() -> None:
    """Import what a decision about workers takes, from any thread, which is a tenth of that."""
    _import(_what_decides)


def _import(*parts: Callable[[], object]) -> None:
    with _busy:
        preloading.add(get_ident())
        before = len(sys.modules)
        try:
            for part in parts:
                part()
        except Exception as error:  # this was only an attempt
            debug("what workers need was not imported: %r", error)
        finally:
            preloading.discard(get_ident())
            _loaded.append(len(sys.modules) - before)


def loaded() -> int:
    """Return how many modules such threads have loaded, so that they are not taken for those of an item beside them."""
    return sum(_loaded)


def _what_decides() -> None:
    for module in _DECIDING:
        __import__(f"{_OURS}.{module}")


def _what_workers_need() -> None:
    from ..backends.processes import lease  # noqa: F401
    from ..backends.processes.start import serves_here

    if serves_here():
        from ..backends.processes import launch  # noqa: F401
    from ..feed import pump  # noqa: F401


def finish() -> None:
    """Wait until no thread is importing what workers need, but not for long."""
    with _busy:
        pass


def wait_for_glances() -> None:
    """Wait until no bare thread is left beside a first item that is over, because threads are about to be counted."""
    for lock in tuple(glancing):
        if lock.acquire(timeout=_LONGEST_SECONDS):
            lock.release()


def _before_fork() -> None:
    wait_for_glances()
    _busy.acquire()


def _after_fork_in_child() -> None:
    _busy.renew()
    glancing.clear()
    preloading.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_busy.release, after_in_child=_after_fork_in_child)

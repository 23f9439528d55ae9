"""Imports what a call on workers needs before it is needed, in a thread that has time for it.

Such a thread may go on when the item is over beside which it began: nobody waits for it, save a call that is about to
start workers (`finish`), and a fork, because the child would find modules half imported and locked for ever.
"""

from __future__ import annotations

import os
from _thread import LockType, get_ident

from ..context import preloading
from ..guard import Guard
from ..log import debug

__all__ = ["finish", "glancing", "preload", "wait_for_glances"]

# How long anybody waits for such a thread. It is as long as an import of our own can reasonably take.
_LONGEST_SECONDS = 1.0
# A thread is in a block of this while it imports, and while it forks.
_busy = Guard(_LONGEST_SECONDS)
# Locks that bare threads beside first items hold (`headstart`) which end by themselves, as those items are over.
glancing: set[LockType] = set()


def preload() -> None:
    """Import what a call on workers imports, from any thread. It takes tens of milliseconds in a fresh process."""
    with _busy:
        preloading.add(get_ident())
        try:
            from ..backends.processes import lease  # noqa: F401
            from ..backends.processes.start import serves_here

            if serves_here():
                from ..backends.processes import launch  # noqa: F401
            from ..feed import pump  # noqa: F401
        except Exception as error:  # this was only an attempt
            debug("what workers need was not imported: %r", error)
        finally:
            preloading.discard(get_ident())


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

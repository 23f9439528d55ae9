"""How is the state that outlives a call forgotten, and what does a forked child do with it? Its owners say so here.

The state itself stays in the modules that use it. What was learnt or cached can be forgotten, so that a test, or a
program that wants to begin anew, finds itself as in a new process. Workers, locks, numbers that must not come twice and
what belongs to a worker's own life are not forgotten; `amorsize.shutdown()` releases workers.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["register", "reset_all"]

_resets: list[Callable[[], object]] = []


def register(reset: Callable[[], object] | None = None, *, after_fork: Callable[[], object] | None = None) -> None:
    """Register what becomes of a piece of state. The module that makes the state calls this, once in a process.

    Args:
        reset: forgets the state.
        after_fork: is called in a forked child, in the order of registration; an error in one function does not stop
            the others.
    """
    if reset is not None:
        _resets.append(reset)
    if after_fork is not None and hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=after_fork)


def reset_all() -> None:
    """Forget everything that this process has learnt or cached in the modules that are loaded."""
    for reset in tuple(_resets):
        reset()

"""What this process keeps beside any call: each owner says here how it is forgotten, and what a forked child does.

The names themselves stay in their modules, where they are used. What is forgotten is what was learnt or cached, so that
a test, or a program that wants to begin anew, is as in a new process. Workers, locks, numbers that must not come twice
and what belongs to a worker's own life are no such things: `amorsize.shutdown()` is there for workers.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["register", "reset_all"]

_resets: list[Callable[[], object]] = []


def register(reset: Callable[[], object] | None = None, *, after_fork: Callable[[], object] | None = None) -> None:
    """Say what becomes of a piece of state. Called where it is made, once a process.

    Args:
        reset: forgets it.
        after_fork: called in a forked child, in the order of registration; an error of one does not stop the others.
    """
    if reset is not None:
        _resets.append(reset)
    if after_fork is not None and hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=after_fork)


def reset_all() -> None:
    """Forget all that this process has learnt or cached, as far as its owners were loaded."""
    for reset in tuple(_resets):
        reset()

"""Does work mostly wait, and what would threads make of it?

Threads of one interpreter share its time: items that use a share `s` of it as CPU time can be at most `1 / s` times as
fast on any number of threads (Amdahl, AFIPS 1967). So threads are for a small share; for a large one, processes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import WorkProfile

__all__ = ["WAITING_SHARE", "is_due", "is_worth_it", "predicted_seconds", "waits"]

# Items wait if they use no more CPU time than this share of their time. With a larger value, threads are tried where
# they could gain little and cost switches; with a smaller one, clients that parse what they fetch are not found out.
WAITING_SHARE = 0.25
# This much waiting shows what items are: one long item, or a few shorter ones.
_ONE_SECONDS = 0.010
_FEW_SECONDS, _FEW = 0.003, 2
_CLOCK_STEPS = 8
# What threads could save must be clear of what they cost to start, 0.1 ms each; and of the modules that they need and
# that ask whether they may share the function, as long as nothing has loaded these. With smaller values, short work is
# moved for nothing; with larger ones, it waits one by one (the rows of short items in benchmarks/waiting.py).
_LEAST_SAVED_SECONDS = 0.005
_LEAST_SAVED_UNLOADED_SECONDS = 0.020
# However many threads there are, an item on one takes this much, because they share the interpreter. With a larger
# value, shorter waits stay in the caller; with a smaller one, some go that gain nothing (the same rows).
_ON_THREAD_SECONDS = 30e-6


def waits(work: WorkProfile) -> bool:
    """Say whether items wait for most of their time."""
    return work.cpu_share <= WAITING_SHARE


def is_due(items: int, seconds: float, busy_seconds: float, *, clock_step: float = 0.0) -> bool:
    """Say whether items that ran in the caller have shown that they wait.

    Args:
        items: number of items.
        seconds: how long they took.
        busy_seconds: CPU seconds that this process, and programs it has run, used meanwhile.
        clock_step: by how much the clock of the CPU time advances at a time, in seconds.

    >>> is_due(2, 0.040, 0.002), is_due(2, 0.040, 0.039), is_due(1, 0.002, 0.0)
    (True, False, False)
    """
    enough = seconds >= _ONE_SECONDS or (items >= _FEW and seconds >= _FEW_SECONDS)
    return enough and seconds >= _CLOCK_STEPS * clock_step and busy_seconds <= WAITING_SHARE * seconds


def is_worth_it(seconds_per_item: float, n_items: int, *, loaded: bool = True) -> bool:
    """Say whether threads could save more than they cost.

    Args:
        seconds_per_item: how long an item takes alone.
        n_items: how many are left.
        loaded: whether this process has loaded what threads need.

    >>> is_worth_it(0.020, 400), is_worth_it(0.020, 1), is_worth_it(0.0001, 10), is_worth_it(0.020, 2, loaded=False)
    (True, False, False, False)
    """
    least = _LEAST_SAVED_SECONDS if loaded else _LEAST_SAVED_UNLOADED_SECONDS
    return n_items >= 2 and (seconds_per_item - _ON_THREAD_SECONDS) * (n_items - 1) >= least


def predicted_seconds(seconds_per_item: float, n_items: int, width: int) -> float:
    """Return the seconds that items take of which so many wait at once.

    >>> predicted_seconds(0.020, 400, 32)
    0.26
    """
    return seconds_per_item * -(-n_items // max(1, width))

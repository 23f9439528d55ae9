"""Has the moment come to start workers for work that the caller has begun itself?

This question is the ski-rental problem. Going on in the caller is the rent, which is paid item by item; starting
workers is the price of the skis, which is paid once; and nobody knows how long the season lasts. The rule compares what
workers would have saved so far with what starting them costs now, so nothing need be known of the items to come:

- If the number of remaining items is unknown, workers start once the saving missed so far equals the cost. This is the
  classic break-even rule (Karlin, Manasse, Rudolph & Sleator, Algorithmica 1988).
- If it is known, the model predicts whether the rest repays the cost. If the rest does, workers start as soon as the
  saving missed is `TRUST` times the cost; otherwise only when it is 1 / `TRUST` times the cost, which guards against a
  wrong prediction. This is ski rental with predictions (Purohit, Svitkina & Kumar, NeurIPS 2018).

**The bound.** For any sequence of item times, however the prediction changes from item to item, the whole takes at most

    (1 + 1 / TRUST) x best + longest item + the caller's sending of all items

or, where the number is unknown, 2 x best with the same two terms added. "Best" is the better of two choices made in
hindsight: to run everything in the caller, or to start the same number of workers at once. The longest item is part of
the bound because an item cannot be interrupted. The sending is part of it because what remains may turn out cheaper to
run than to send; the stream takes such work back to the caller. Saving and cost are both predictions from one machine
profile, and the bound is as true as that profile is. `tests/test_escalate.py` checks the bound on simulated time.

The bound holds for this reason. Before the switch the saving missed is less than the cost divided by `TRUST`, so the
time spent is at most that, plus one item, plus what workers would have needed for the same items. After the switch, at
least `TRUST` times the cost of the start is matched by time already spent in the caller, which the choice to stay there
would have spent too.
"""

from __future__ import annotations

from .look import TRUST
from .model import caller_seconds_per_item, predict_seconds, start_seconds
from .planner import best_width, gains, widest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import Limits, MachineProfile, WorkProfile

__all__ = ["should_escalate"]


def should_escalate(
    seconds_spent: float,
    items_done: int,
    remaining: int | None,
    work: WorkProfile,
    machine: MachineProfile,
    limits: Limits,
) -> bool:
    """Return whether the rest of the items should go to workers now.

    Args:
        seconds_spent: running time of the items done in the caller in this call.
        items_done: number of those items.
        remaining: number of items that are left; None if unknown.
        work: the best estimate of the items to come.
        machine: what is known of the machine now.
        limits: what the user fixed.

    >>> from amorsize.plan.profile import Limits, MachineProfile, WorkProfile
    >>> machine = MachineProfile(2, 2, None, "fork", 0.010, 0.001)
    >>> should_escalate(0.1, 10, 1000, WorkProfile(10, 0.01), machine, Limits())
    True
    >>> should_escalate(0.1, 10, 1, WorkProfile(10, 0.01), machine, Limits())
    False
    """
    if "processes" not in limits.backends or (remaining is not None and remaining < 2):
        return False
    width = max(1, limits.n_jobs) if limits.n_jobs is not None else widest(machine, work)[0]
    if width < 2:
        return False
    # The part of each second in the caller that workers would have saved.
    saved_share = 1.0 - max(1.0 / width, work.cpu_share / max(1, machine.cores))
    saved = seconds_spent * saved_share - items_done * caller_seconds_per_item(work, machine)
    if saved <= 0.0 or saved < TRUST * _switch_seconds(work, machine, 2):  # no choice below starts workers for this
        return False
    cost = _switch_seconds(work, machine, width)
    if remaining is None:
        return saved >= cost
    if saved >= cost / TRUST:
        return True
    n_jobs = best_width(work, machine, remaining, limits)
    if n_jobs < 2 or saved < TRUST * _switch_seconds(work, machine, n_jobs):
        return False
    in_caller = predict_seconds(work, machine, remaining, "serial", 1)
    there = predict_seconds(work, machine, remaining, "processes", n_jobs, limits.chunksize)
    return gains(there, in_caller, machine)


def _switch_seconds(work: WorkProfile, machine: MachineProfile, n_jobs: int) -> float:
    call = machine.seconds_per_call if work.call_seconds is None else work.call_seconds
    return start_seconds(machine, n_jobs) + max(0.0, call) + n_jobs * max(0.0, machine.seconds_per_chunk)

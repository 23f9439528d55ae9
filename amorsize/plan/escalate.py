"""The caller has begun the work itself: has the moment come to start workers?

This is ski rental. Going on in the caller is the rent, paid item by item; starting workers is the price, paid once;
nobody knows how long the season lasts. The rule compares what workers would have saved so far with what starting them
costs now, so nothing need be known of the items to come:

- Number of remaining items unknown: start once the saving missed so far equals the cost. This is the classic break-even
  rule (Karlin, Manasse, Rudolph & Sleator, Algorithmica 1988).
- Known: the model predicts whether the rest repays the cost. If it does, start already at `TRUST` times the cost, else
  only at 1 / `TRUST` times the cost, which guards against a wrong prediction. This is ski rental with predictions
  (Purohit, Svitkina & Kumar, NeurIPS 2018).

**The bound.** For any sequence of item times, however the prediction changes from item to item, the whole takes at most

    (1 + 1 / TRUST) x best + longest item + the caller's sending of all items

or 2 x best + the same where the number is unknown. "Best" is the better of the two choices made in hindsight: all in
the caller, or workers, as many, from the start. The longest item is there because an item cannot be interrupted. The
sending is there because what remains may turn out cheaper to run than to send; the stream takes such work back to the
caller. Saving and cost are both predictions of one machine profile, and the bound holds as far as that profile does.
`tests/test_escalate.py` proves it on simulated time.

Why it holds: before the switch the saving missed is under the cost divided by `TRUST`, so the time spent is at most
that, one item, and what workers would have needed for the same items. After it, the start has been repaid `TRUST`
times over by time already spent, which the choice to stay would have spent too.
"""

from __future__ import annotations

from .model import caller_seconds_per_item, predict_seconds, start_seconds
from .planner import best_width, widest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profile import Limits, MachineProfile, WorkProfile

__all__ = ["TRUST", "should_escalate"]

# How far a prediction is trusted, from 0 to 1. Smaller: workers start sooner on a right prediction, and a wrong one may
# cost more (the bound above). At 1 predictions count for nothing. Equal items that the prediction keeps in the caller
# miss less than (1 + TRUST) times the cost in all; 1 / TRUST must be larger, or workers would start for the last few of
# them, so TRUST < 0.61. First calls in benchmarks/regret.py show what it costs.
TRUST = 0.5


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
        items_done: how many those are.
        remaining: how many items are left; None if unknown.
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
    # Of each second in the caller, the part that workers would have saved.
    saved_share = 1.0 - max(1.0 / width, work.cpu_share / max(1, machine.cores))
    saved = seconds_spent * saved_share - items_done * caller_seconds_per_item(work, machine)
    if saved <= 0.0 or saved < TRUST * _switch_seconds(machine, 2):  # what no choice below would take
        return False
    cost = _switch_seconds(machine, width)
    if remaining is None:
        return saved >= cost
    if saved >= cost / TRUST:
        return True
    n_jobs = best_width(work, machine, remaining, limits)
    if n_jobs < 2 or saved < TRUST * _switch_seconds(machine, n_jobs):
        return False
    in_caller = predict_seconds(work, machine, remaining, "serial", 1)
    return predict_seconds(work, machine, remaining, "processes", n_jobs, limits.chunksize) < in_caller


def _switch_seconds(machine: MachineProfile, n_jobs: int) -> float:
    return start_seconds(machine, n_jobs) + n_jobs * max(0.0, machine.seconds_per_chunk)

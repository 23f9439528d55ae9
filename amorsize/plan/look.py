"""When is it worth asking where the rest of a call should run? Asking costs time, too.

A look at cache, machine and model takes a tenth of a millisecond, and the first one of a process ten times as much,
because it loads modules and reads files. A call of some milliseconds would pay a good part of its time for answers that
can only be no. So nothing is asked as long as no answer could be yes, and then only so often that all looks together
take a small share of the call.
"""

from __future__ import annotations

__all__ = ["TRUST", "can_gain", "next_look"]

# How far a prediction is trusted, between 0 and 1. A smaller value means that workers start sooner on a right
# prediction, and that a wrong one may cost more (see the bound in `escalate`); at 1, predictions count for nothing. If
# all items take equally long and the prediction keeps them in the caller, the saving missed stays below (1 + TRUST)
# times the cost. 1 / TRUST must be larger than 1 + TRUST, or workers would start for the last few of these items; so
# TRUST must be below 0.61. The rows of first calls in benchmarks/regret.py show what the value costs.
TRUST = 0.5
# Looks may take this share of the time between them. With a smaller value, work goes to workers later; with a larger
# one, a call that stays pays more for being asked (the rows of reads in benchmarks/waiting.py).
_LOOK_SHARE = 0.04
# A look that seems to take longer was held up by other programs. With a larger value, work goes to workers later on a
# busy machine; with a smaller one, looks that do take long take more than their share (the same rows).
_MOST_LOOK_SECONDS = 200e-6
# So many items, or a first one that took this share of the price, tell how long the others will take: the first of
# short items has often paid for something once. With larger values, long work is looked at later; with smaller ones,
# short work is taken for long.
_LEAST_ITEMS = 4
_SHOWN_SHARE = 0.05


def can_gain(
    seconds_spent: float, items_done: int, seconds_left: float | None, price_seconds: float, width: int
) -> bool:
    """Say whether workers that must be started for this price could gain anything.

    Args:
        seconds_spent: how long items ran in the caller so far.
        items_done: how many these were.
        seconds_left: how long the others would take there, by what is known now; None if that is unknown. Then workers
            start only once as much was missed as `escalate.should_escalate` asks for.
        price_seconds: what starting workers costs at least.
        width: how many workers there may be.

    >>> can_gain(0.001, 9, 0.004, 0.030, 8), can_gain(0.001, 9, 0.400, 0.030, 8), can_gain(0.001, 9, None, 0.030, 8)
    (False, True, False)
    """
    saved_share = 1.0 - 1.0 / max(1, width)
    if saved_share * seconds_spent >= TRUST * price_seconds:
        return True
    if seconds_left is None or (items_done < _LEAST_ITEMS and seconds_spent < _SHOWN_SHARE * price_seconds):
        return False
    return saved_share * (seconds_spent + seconds_left) > price_seconds


def next_look(seconds_spent: float, look_seconds: float) -> float:
    """Return how long items must have run in the caller before the next look, after one that took so long.

    >>> round(next_look(0.001, 0.0001), 4)
    0.0035
    """
    return seconds_spent + min(look_seconds, _MOST_LOOK_SECONDS) / _LOOK_SHARE

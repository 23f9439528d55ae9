"""What is known of a function whose last call stayed in the caller, so that the next ones need not ask again."""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["MOST_SHORT_SECONDS", "STAY_CALLS", "STAY_SECONDS", "Stay"]

# Calls longer than this ask anew each time, which costs them 2% at most.
MOST_SHORT_SECONDS = 0.020
# After so many calls, or so long, it is asked again, in case that workers have started or items have become longer.
# Smaller numbers mean that asking costs more; larger ones that a change is noticed later.
STAY_CALLS = 16
STAY_SECONDS = 0.5


class Stay(NamedTuple):
    """How the next calls of a function begin.

    Attributes:
        seconds: how long a call may take before it is asked where the rest of it should run.
        missed_seconds: what running workers would have saved each call.
        calls: for how many calls this holds; 0 for any number.
        until: until when it holds, in `time.monotonic()` seconds.
    """

    seconds: float
    missed_seconds: float = 0.0
    calls: int = 0
    until: float = float("inf")

"""What is known of a function whose last call stayed in the caller, so that the next ones need not ask again."""

from __future__ import annotations

from time import monotonic

from ..code.functions import FunctionTable
from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Stay", "let_stay", "staying"]

# A call that is over in this time begins as the builtin would the next time. On two cores workers could save half of
# it, which is about what a call on warm workers costs; a look at cache and machine would cost a tenth.
_SHORT_SECONDS = 0.001

# Calls longer than this ask anew each time, which costs them 2% at most.
_MOST_SHORT_SECONDS = 0.020
# After so many calls, or so long, it is asked again, in case that workers have started or items have become longer.
# Smaller numbers mean that asking costs more; larger ones that a change is noticed later.
_STAY_CALLS = 16
_STAY_SECONDS = 0.5
# The next calls may take so many times as long as the last one before it is asked again where they should run.
_LONGER = 1.5


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


def let_stay(function: Callable[..., Any], seconds: float, missed: float, *, distrusted: bool) -> None:
    """Have the next calls begin as the builtin would if the last one was short, and so will they be.

    Args:
        function: the user's function, undecorated.
        seconds: how long its items took, all of which ran in the caller.
        missed: how many seconds running workers would have saved.
        distrusted: whether the function has lost on workers, so that all calls are counted.
    """
    if seconds < _SHORT_SECONDS:
        staying.put(function, Stay(_SHORT_SECONDS))
    elif seconds < _MOST_SHORT_SECONDS and not distrusted:
        staying.put(function, Stay(_LONGER * seconds, missed, _STAY_CALLS, monotonic() + _STAY_SECONDS))


# Functions whose last call stayed in the caller and was short.
staying: FunctionTable[Stay] = FunctionTable()

"""Items that fail: how long to wait before one is tried again, and what is told of those that failed for good."""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["NOT_OF_ITEMS", "Failed", "backoff_seconds"]

# What fails by chance is tried again at once; what fails for want of something outside needs time.
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


# What an item raises is its error, `SystemExit` and a cancellation included, save these: the first ends the results as
# it ends the builtin's, the others are for whoever waits for them.
NOT_OF_ITEMS = (StopIteration, KeyboardInterrupt, GeneratorExit)


class Failed(NamedTuple):
    """An item that failed for good.

    Attributes:
        index: its position in the input.
        error: its last error.
        tries: how often it was started.
    """

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    error: BaseException
    tries: int


def backoff_seconds(tries: int) -> float:
    """Return the wait before the next try of an item that has failed `tries` times, at least once.

    No wait after the first failure, then 0.1 s, doubled each time, 5 s at most: exponential back-off without jitter,
    for the items of a call do not fail in step.

    >>> [backoff_seconds(tries) for tries in (1, 2, 3, 4, 20)]
    [0.0, 0.1, 0.2, 0.4, 5.0]
    """
    if tries < 2:
        return 0.0
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(tries - 2, 30))

"""How long is the wait before a failed item is tried again, and what is told of an item that failed for good?"""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["NOT_OF_ITEMS", "Failed", "backoff_seconds"]

# An item that failed by chance is tried again at once; one that failed for want of something outside needs time.
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


# Whatever an item raises is the item's error, even `SystemExit` and a cancellation, save these three: StopIteration
# ends the results, as it ends those of the builtin map, and the other two are for whoever waits for the results.
NOT_OF_ITEMS = (StopIteration, KeyboardInterrupt, GeneratorExit)


class Failed(NamedTuple):
    """An item that failed for good.

    Attributes:
        index: the item's position in the input.
        error: the item's last error.
        tries: how often the item was started.
    """

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    error: BaseException
    tries: int


def backoff_seconds(tries: int) -> float:
    """Return the wait before the next try of an item that has failed `tries` times, at least once.

    There is no wait after the first failure, then one of 0.1 s, which doubles each time up to 5 s. This is exponential
    back-off without jitter, because the items of a call do not fail in step.

    >>> [backoff_seconds(tries) for tries in (1, 2, 3, 4, 20)]
    [0.0, 0.1, 0.2, 0.4, 5.0]
    """
    if tries < 2:
        return 0.0
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(tries - 2, 30))

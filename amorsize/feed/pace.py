"""Learns from a run's own chunks how fast its items are."""

from __future__ import annotations

from ..plan.schedule import smoothed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..backends.events import Results

__all__ = ["Pace"]


# The first items on workers are compared with the newest ones in the caller until they have taken so long. With a
# larger value, items that grow or shrink on the way are taken for slow or quick workers; with a smaller one, chance is.
_FIRST_SECONDS = 0.020


class Pace:
    """What a call's own chunks say about its items on one route: the recent seconds per item, and the totals.

    Args:
        seconds_per_item: what items are expected to take.
        route: the route.
        before_seconds_per_item: what the newest items in the caller took; None if there were few.
    """

    def __init__(
        self,
        seconds_per_item: float | None = None,
        route: str | None = None,
        before_seconds_per_item: float | None = None,
    ) -> None:
        self.seconds_per_item = seconds_per_item
        self.route = route
        self._before_seconds_per_item = before_seconds_per_item
        self._first_items, self._first_seconds = 0, 0.0
        self.items = 0
        self.seconds = 0.0
        self.seconds_max = 0.0  # the longest items, or means of chunks
        self.cpu_seconds = 0.0
        self.bytes_out = 0
        self.width: int | None = None  # how many were found to be best at once

    def add(self, results: Results) -> None:
        """Take in how long some items took, and how large their results are."""
        items, seconds = len(results.values), results.seconds
        self.items += items
        self.seconds += seconds
        self.seconds_max = max(self.seconds_max, seconds / items)
        if self._first_seconds < _FIRST_SECONDS:
            self._first_items += items
            self._first_seconds += seconds
        self.cpu_seconds += results.cpu_seconds
        self.bytes_out += results.bytes_out
        if self.seconds_per_item is None:
            self.seconds_per_item = seconds / items
        else:
            self.seconds_per_item = smoothed(self.seconds_per_item, items, seconds)

    def slowdown_seen(self) -> tuple[float, int] | None:
        """Return how many times as long the first items took here as the newest ones in the caller, and how many tell.

        Calls whose items take longer and longer, or less and less, would otherwise be taken for slow or quick workers.
        For the same reason, what items have changed by since then, here, explains as much of the difference.
        """
        before = self._before_seconds_per_item
        if not before or not self._first_items or self._first_seconds <= 0.0:
            return None
        first = self._first_seconds / self._first_items
        seen, later = first / before, self.items - self._first_items
        if later:
            changed = (self.seconds - self._first_seconds) / later / first
            if seen > 1.0:
                seen = max(1.0, seen / max(1.0, changed))
            else:
                seen = min(1.0, seen / min(1.0, changed)) if changed > 0.0 else 1.0
        return seen, self._first_items

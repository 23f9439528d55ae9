"""Learns from a run's own chunks how fast its items are."""

from __future__ import annotations

from ..plan.schedule import smoothed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..backends.events import Results

__all__ = ["Pace"]


class Pace:
    """What a call's own chunks say about its items on one route: the recent seconds per item, and the totals."""

    def __init__(self, seconds_per_item: float | None = None, route: str | None = None) -> None:
        self.seconds_per_item = seconds_per_item
        self.route = route
        self.items = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.bytes_out = 0
        self.width: int | None = None  # how many were found to be best at once

    def add(self, results: Results) -> None:
        """Take in how long some items took, and how large their results are."""
        items, seconds = len(results.values), results.seconds
        self.items += items
        self.seconds += seconds
        self.cpu_seconds += results.cpu_seconds
        self.bytes_out += results.bytes_out
        if self.seconds_per_item is None:
            self.seconds_per_item = seconds / items
        else:
            self.seconds_per_item = smoothed(self.seconds_per_item, items, seconds)

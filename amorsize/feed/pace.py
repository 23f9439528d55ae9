"""What a run's own chunks tell of its items: how fast they are."""

from __future__ import annotations

from ..plan.schedule import smoothed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..backends.events import Results

__all__ = ["Pace"]


class Pace:
    """What a call's own chunks say of its items: the recent seconds an item, and the totals, on the workers' route."""

    def __init__(self, seconds_per_item: float | None = None, route: str | None = None) -> None:
        self.seconds_per_item = seconds_per_item
        self.route = route
        self.items = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.bytes_out = 0

    def add(self, results: Results) -> None:
        """Take in what some results took."""
        items, seconds = len(results.values), results.seconds
        self.items += items
        self.seconds += seconds
        self.cpu_seconds += results.cpu_seconds
        self.bytes_out += results.bytes_out
        if self.seconds_per_item is None:
            self.seconds_per_item = seconds / items
        else:
            self.seconds_per_item = smoothed(self.seconds_per_item, items, seconds)

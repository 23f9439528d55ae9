"""Mean, spread and maximum of items' times, which may be known for each item or only for blocks of them."""

from __future__ import annotations

__all__ = ["ItemTimes"]


class ItemTimes:
    """Mean, spread and maximum of item times, which are updated with each new time and take constant memory.

    Items may be added one by one, or in blocks of items that were timed together. The longer the blocks are, the less
    their means differ, so weighing each block's squared deviation by its length gives the spread of single independent
    items again (Welford 1962; Chan, Golub and LeVeque 1979, with as many degrees of freedom as there were blocks).

    >>> times = ItemTimes()
    >>> for seconds in (1.0, 2.0, 3.0):
    ...     times.add(seconds)
    >>> times.mean, times.std, times.max
    (2.0, 1.0, 3.0)
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self.max = 0.0
        self._blocks = 0
        self._squares = 0.0

    @property
    def std(self) -> float:
        """Standard deviation of one item's time in seconds; 0 while fewer than two times were added."""
        return (self._squares / (self._blocks - 1)) ** 0.5 if self._blocks > 1 else 0.0

    @property
    def relative_error(self) -> float:
        """Standard error of the mean over the mean; infinite while fewer than two times were added."""
        if self._blocks < 2:
            return float("inf")
        return self.std / self.n**0.5 / self.mean if self.mean > 0 else 0.0

    def add(self, seconds: float) -> None:
        """Add one item that took `seconds`; it is done for each item that is timed, so nothing more is called."""
        self.n = n = self.n + 1
        distance = seconds - self.mean
        self._squares += distance * distance * ((n - 1) / n)
        self.mean += distance / n
        self._blocks += 1
        self.max = max(self.max, seconds)

    def add_block(self, n_items: int, total_seconds: float) -> None:
        """Add `n_items` that took `total_seconds` together. Only their mean, as all that is known, counts for `max`."""
        if n_items < 1:
            return
        mean = total_seconds / n_items
        self._fold(n_items, mean, mean, 1, 0.0)

    def without(self, seconds: float) -> ItemTimes:
        """Return the times without one item that took `seconds`, which must be one of two or more.

        The maximum of the others is not known, if this was it; then it is taken to be three deviations above the mean.

        >>> times = ItemTimes()
        >>> for seconds in (9.0, 1.0, 3.0):
        ...     times.add(seconds)
        >>> times.without(9.0).mean
        2.0
        """
        rest = ItemTimes()
        rest.n, rest._blocks = self.n - 1, self._blocks - 1
        rest.mean = max(0.0, (self.n * self.mean - seconds) / rest.n)
        rest._squares = max(0.0, self._squares - (seconds - self.mean) * (seconds - rest.mean))
        rest.max = self.max if seconds < self.max else rest.mean + 3 * rest.std
        return rest

    def merge(self, other: ItemTimes) -> None:
        """Add all that `other` has seen."""
        if other.n:
            self._fold(other.n, other.mean, other.max, other._blocks, other._squares)

    def _fold(self, n: int, mean: float, most: float, blocks: int, squares: float) -> None:
        total = self.n + n
        distance = mean - self.mean
        self._squares += squares + distance * distance * (self.n * n / total)
        self.mean += distance * (n / total)
        self.n = total
        self._blocks += blocks
        self.max = max(self.max, most)

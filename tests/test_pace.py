"""What a call's chunks say of its items and of the workers they ran on."""

from __future__ import annotations

import pytest

from amorsize.backends.events import Results
from amorsize.feed.pace import Pace


def results(items, seconds_per_item):
    """Return what a worker says of so many items."""
    return Results(0, [None] * items, {}, items * seconds_per_item, 0.0, 0, 1, 0.0, 0.0)


class TestSlowdown:
    """The first items on workers are compared with the newest ones in the caller."""

    def test_later_items_do_not_count(self):
        """They may be longer for reasons of their own."""
        pace = Pace(before_seconds_per_item=0.001)
        pace.add(results(10, 0.0015))
        pace.add(results(10, 0.0015))
        pace.add(results(100, 0.009))

        slowdown, items = pace.slowdown_seen()
        assert slowdown == pytest.approx(1.5)
        assert items == 20

    @pytest.mark.parametrize("before", [None, 0.0])
    def test_without_enough_items_in_the_caller_nothing_is_known(self, before):
        """Nor before the first answer of a worker."""
        pace = Pace(before_seconds_per_item=before)
        pace.add(results(10, 0.001))

        assert pace.slowdown_seen() is None
        assert Pace(before_seconds_per_item=0.001).slowdown_seen() is None

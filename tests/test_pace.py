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

    def test_the_first_items_count(self):
        """Those of some milliseconds, if the later ones take as long."""
        pace = Pace(before_seconds_per_item=0.001)
        for _ in range(12):
            pace.add(results(10, 0.0015))

        slowdown, items = pace.slowdown_seen()
        assert slowdown == pytest.approx(1.5)
        assert items == 20

    @pytest.mark.parametrize(
        ("first", "later", "slowdown"),
        [
            (0.002, 0.003, 2.0 / 1.5),  # they grow, and have grown before
            (0.002, 0.009, 1.0),
            (0.002, 0.001, 2.0),  # they shrink, so growing is no explanation
            (0.0005, 0.0004, 0.5 / 0.8),
            (0.0005, 0.0001, 1.0),
            (0.0005, 0.0, 1.0),
            (0.0005, 0.001, 0.5),
        ],
    )
    def test_what_items_change_by_on_the_way_explains_as_much(self, first, later, slowdown):
        """It is no matter of the workers, whose difference is then between what was seen and none at all."""
        pace = Pace(before_seconds_per_item=0.001)
        pace.add(results(40, first))
        pace.add(results(100, later))

        assert pace.slowdown_seen()[0] == pytest.approx(slowdown)

    @pytest.mark.parametrize("before", [None, 0.0])
    def test_without_enough_items_in_the_caller_nothing_is_known(self, before):
        """Nor before the first answer of a worker."""
        pace = Pace(before_seconds_per_item=before)
        pace.add(results(10, 0.001))

        assert pace.slowdown_seen() is None
        assert Pace(before_seconds_per_item=0.001).slowdown_seen() is None

"""The back-off between tries: pure arithmetic."""

from __future__ import annotations

from amorsize.plan.retry import backoff_seconds


def test_the_first_retry_is_at_once():
    """What failed by chance need not wait."""
    assert backoff_seconds(1) == 0.0


def test_waits_double_up_to_a_limit():
    """Later tries wait longer, but never long."""
    waits = [backoff_seconds(tries) for tries in range(2, 2000)]

    assert waits[:3] == [0.1, 0.2, 0.4]
    assert waits == sorted(waits)
    assert max(waits) == 5.0

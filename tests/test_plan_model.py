"""The cost model: straight lines whose parts mean what they say."""

from __future__ import annotations

import pytest

from amorsize.plan.model import caller_seconds_per_item, predict_seconds, processes_line, start_seconds
from amorsize.plan.profile import MachineProfile, WorkProfile

COLD = MachineProfile(4, 4, None, "fork", seconds_first_start=0.010, seconds_next_start=0.002)
WARM = COLD._replace(warm_workers=4)
WORK = WorkProfile(100, 0.001)


def test_serial_is_items_times_seconds() -> None:
    """In the caller nothing but the items themselves takes time."""
    assert predict_seconds(WORK, COLD, 2000, "serial", 1) == pytest.approx(2.0)


def test_no_items_take_no_time() -> None:
    """An empty input is predicted to take no time, workers or not."""
    assert predict_seconds(WORK, COLD, 0, "processes", 4) == 0.0


def test_unknown_backend_is_refused() -> None:
    """A backend that the model does not know is an error, not a guess."""
    with pytest.raises(ValueError, match="'dask'"):
        predict_seconds(WORK, COLD, 10, "dask", 2)


@pytest.mark.parametrize(
    ("warm", "n_jobs", "seconds"), [(0, 1, 0.010), (0, 4, 0.016), (2, 2, 0.0), (2, 4, 0.004), (4, 2, 0.0)]
)
def test_only_missing_workers_are_started(warm: int, n_jobs: int, seconds: float) -> None:
    """Warm workers cost nothing; the first of none costs most, and each further one its own share."""
    assert start_seconds(COLD._replace(warm_workers=warm), n_jobs) == pytest.approx(seconds)


def test_long_work_divides_by_the_workers() -> None:
    """For much dear work the start and the chunks hardly count."""
    assert predict_seconds(WORK, COLD, 100_000, "processes", 4) == pytest.approx(25.0, rel=0.05)


def test_sending_bounds_the_speed_up() -> None:
    """When pickling an item takes half its running time, no number of workers is more than twice as fast."""
    work = WORK._replace(transfer_seconds_per_item=0.0005)
    machine = WARM._replace(cores=64, warm_workers=64)
    assert predict_seconds(work, machine, 10_000, "processes", 64) >= 5.0


def test_bytes_take_the_pipe_both_ways() -> None:
    """Bytes in and bytes out both count against the bandwidth."""
    work = WORK._replace(bytes_in=1e6, bytes_out=3e6)
    assert caller_seconds_per_item(work, WARM) == pytest.approx(0.004, rel=0.01)


def test_shorter_chunks_cost_more() -> None:
    """One item a chunk is dearer than a hundred, for cheap items."""
    work = WorkProfile(100, 10e-6)
    one, many = (predict_seconds(work, WARM, 10_000, "processes", 2, chunksize) for chunksize in (1, 100))
    assert one > 2 * many


def test_spread_costs_at_the_end() -> None:
    """Of two functions with the same mean, the one with more spread is predicted to take longer on workers."""
    assert predict_seconds(WORK._replace(seconds_std=0.01), WARM, 100, "processes", 4) > predict_seconds(
        WORK, WARM, 100, "processes", 4
    )


def test_longest_item_is_a_floor() -> None:
    """No width finishes before the longest item."""
    work = WorkProfile(100, 0.011, seconds_std=0.1, seconds_max=1.0)
    assert predict_seconds(work, WARM, 100, "processes", 4) >= 1.0


def test_items_that_fill_the_cores_gain_nothing() -> None:
    """Items that keep every core busy by themselves are not sped up by workers."""
    work = WORK._replace(cpu_share=4.0)
    assert processes_line(work, WARM, 4).seconds_per_item >= work.seconds_per_item


def test_caller_shares_the_cores() -> None:
    """With as many workers as cores, the caller's own work is paid for in the items' time."""
    work = WORK._replace(transfer_seconds_per_item=0.0002)
    assert processes_line(work, WARM, 4).seconds_per_item > (0.001 + 0.0002) / 4

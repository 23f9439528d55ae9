"""Chunk lengths: within their bounds always, and near the best schedule in simulation."""

from __future__ import annotations

import importlib.util
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from amorsize.plan.schedule import OVERHEAD_SHARE, SLICE_SECONDS, chunk_length, smoothed

CHUNK_COST = 30e-6


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """Return the benchmark's module, for its simulator."""
    path = Path(__file__).parent.parent / "benchmarks" / "schedule.py"
    spec = importlib.util.spec_from_file_location("benchmarks_schedule", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.path[:]
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@given(
    st.integers(1, 10**12),
    st.integers(1, 10_000),
    st.one_of(st.just(0.0), st.just(inf), st.floats(0.0, allow_infinity=False, allow_nan=False)),
    st.floats(0.0, 1e300),
)
def test_length_is_between_one_and_an_even_part(
    remaining: int, n_workers: int, seconds_per_item: float, seconds_per_chunk: float
) -> None:
    """Whatever the figures, a chunk has an item, and no more than an even part of what remains."""
    length = chunk_length(remaining, n_workers, seconds_per_item, seconds_per_chunk=seconds_per_chunk)
    assert 1 <= length <= -(-remaining // n_workers)


@given(st.integers(1, 10**9), st.integers(1, 64), st.floats(1e-9, 10.0))
def test_a_chunk_is_not_longer_than_a_slice(remaining: int, n_workers: int, seconds_per_item: float) -> None:
    """If the estimate is right, a chunk of several items ends before its slice does."""
    length = chunk_length(remaining, n_workers, seconds_per_item, seconds_per_chunk=CHUNK_COST)
    assert length == 1 or length * seconds_per_item <= SLICE_SECONDS


@given(st.integers(1, 10**9), st.integers(2, 16), st.floats(1e-9, 1e-3))
def test_overhead_stays_small_while_much_remains(remaining: int, n_workers: int, seconds_per_item: float) -> None:
    """A chunk is long enough for its fixed cost, unless so little remains that all are needed to share it."""
    length = chunk_length(remaining, n_workers, seconds_per_item, seconds_per_chunk=CHUNK_COST)
    enough = (length + 1) * seconds_per_item * OVERHEAD_SHARE >= CHUNK_COST * (1 - 1e-9)
    assert enough or length == -(-remaining // n_workers)


def test_nothing_known_is_one_item() -> None:
    """While nothing is known of the items, they go out one by one."""
    assert chunk_length(10**6, 2, inf, seconds_per_chunk=CHUNK_COST) == 1


def test_chunks_shrink_towards_the_end() -> None:
    """The less remains, the shorter the chunk."""
    lengths = [chunk_length(left, 4, 1e-3, seconds_per_chunk=CHUNK_COST) for left in (10_000, 100, 40, 8, 1)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 1


def test_first_chunk_replaces_ignorance() -> None:
    """The first chunk that returns is the estimate; later ones move it towards themselves."""
    assert smoothed(inf, 10, 0.1) == pytest.approx(0.01)
    assert 0.01 < smoothed(0.01, 10, 1.0) < 0.1


@pytest.mark.parametrize("n_workers", [2, 8])
def test_best_or_near_it_in_simulation(benchmark: Any, monkeypatch: pytest.MonkeyPatch, n_workers: int) -> None:
    """In a small run of the benchmark, every row is within its target."""
    monkeypatch.setattr(benchmark, "SEEDS", (1,))
    lines: list[str] = []
    assert benchmark.table((n_workers,), lines.append), "\n".join(lines)


@pytest.mark.parametrize("guess", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("probe", ["probe A", "probe B"])
def test_wrong_first_guess_is_forgiven(benchmark: Any, probe: str, guess: float) -> None:
    """Free items before slow ones, or slow before cheap, end within 10% of the bound from any first guess."""
    times = dict(benchmark.shapes(2, 1))[probe]
    schedule = benchmark.Amorsize(len(times), 2)
    schedule.seconds_per_item = guess
    assert benchmark.simulate(times, 2, schedule).seconds <= 1.1 * sum(times) / 2


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=100), st.integers(1, 8))
def test_simulator_runs_every_item_once(benchmark: Any, times: list[float], n_workers: int) -> None:
    """The simulated workers are told of every item once, pieces handed back included."""
    told: list[int] = []

    class Counting(benchmark.Amorsize):  # type: ignore[misc]
        def learn(self, chunk_items: int, chunk_seconds: float) -> None:
            told.append(chunk_items)
            super().learn(chunk_items, chunk_seconds)

    run = benchmark.simulate(times, n_workers, Counting(len(times), n_workers))
    assert sum(told) == len(times)
    assert run.seconds >= sum(times) / n_workers

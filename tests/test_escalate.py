"""When the caller hands over to workers: never too early for free items, and within its bound for any item times."""

from __future__ import annotations

from heapq import heapify, heapreplace

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given
from hypothesis import strategies as st

from amorsize.plan.escalate import should_escalate
from amorsize.plan.look import TRUST
from amorsize.plan.model import caller_seconds_per_item, start_seconds
from amorsize.plan.profile import Limits, MachineProfile, WorkProfile

COLD = MachineProfile(2, 2, None, "fork", seconds_first_start=0.010, seconds_next_start=0.001)
WARM = COLD._replace(warm_workers=2)
# Equal items are the hard case: the input may end just when workers were started.
TIMES = st.one_of(
    st.lists(st.one_of(st.just(0.0), st.floats(0.0, 1e-4), st.floats(0.0, 0.1), st.floats(0.0, 10.0)), max_size=60),
    st.builds(lambda n_items, seconds: [seconds] * n_items, st.integers(1, 100), st.floats(1e-4, 0.1)),
)


def _predictions(n_items: int) -> st.SearchStrategy[list[float]]:
    return st.one_of(
        st.just([0.0] * n_items),
        st.just([10.0] * n_items),
        st.lists(st.floats(0.0, 10.0), min_size=n_items, max_size=n_items),
    )


def _greedy_seconds(times: list[float], n_workers: int) -> float:
    """Return when the last item ends if each goes to the worker that is free first."""
    free_at = [0.0] * n_workers
    heapify(free_at)
    for seconds in times:
        heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)


def _run(
    times: list[float], predictions: list[float], machine: MachineProfile, transfer: float, *, length_known: bool
) -> tuple[float, float, float]:
    """Return the seconds by the rule, by the better choice in hindsight, and of sending every item."""
    limits = Limits(n_jobs=machine.cores)
    sending = caller_seconds_per_item(WorkProfile(1, 0.0, transfer_seconds_per_item=transfer), machine)
    start = start_seconds(machine, machine.cores) + machine.cores * machine.seconds_per_chunk

    def on_workers(items: list[float]) -> float:
        return start + max(_greedy_seconds(items, machine.cores), len(items) * sending)

    spent = 0.0
    taken = None
    for done, (seconds, prediction) in enumerate(zip(times, predictions, strict=True), 1):
        spent += seconds
        work = WorkProfile(done, prediction, transfer_seconds_per_item=transfer)
        if should_escalate(spent, done, len(times) - done if length_known else None, work, machine, limits):
            taken = spent + on_workers(times[done:])
            break
    in_caller = sum(times)
    return in_caller if taken is None else taken, min(in_caller, on_workers(times)), len(times) * sending


@given(
    TIMES.flatmap(lambda times: st.tuples(st.just(times), _predictions(len(times)))),
    st.integers(2, 8),
    st.floats(0.0, 2.0),
    st.one_of(st.just(0.0), st.floats(0.0, 0.1)),
    st.booleans(),
)
@example(([0.001] * 5, [10.0] * 5), 2, 1.0, 0.0, True)
@example(([0.17] * 62, [0.0] * 62), 8, 0.5, 0.0, True)
@example(([0.01] * 30, [0.0] * 30), 8, 0.5, 0.0, False)
@example(([0.1] * 80, [0.0] * 80), 8, 0.5, 0.0, False)
def test_bound_for_any_item_times(
    run: tuple[list[float], list[float]], cores: int, first_start: float, transfer: float, length_known: bool
) -> None:
    """Whatever the item times and the predictions, the whole stays within the bound of the module's docstring."""
    times, predictions = run
    machine = COLD._replace(cores=cores, seconds_first_start=first_start)
    taken, best, sending = _run(times, predictions, machine, transfer, length_known=length_known)
    factor = 1 + 1 / TRUST if length_known else 2.0
    assert taken <= factor * best + max(times, default=0.0) + sending + 1e-9


@given(st.integers(0, 300), st.floats(1e-6, 1.0), st.integers(2, 8), st.floats(0.0, 2.0))
def test_right_predictions_do_better(n_items: int, seconds: float, cores: int, first_start: float) -> None:
    """For equal items, rightly predicted, the factor is 1 + TRUST instead of 1 + 1 / TRUST."""
    machine = COLD._replace(cores=cores, seconds_first_start=first_start, seconds_per_chunk=1e-7)
    taken, best, sending = _run([seconds] * n_items, [seconds] * n_items, machine, 0.0, length_known=True)
    assert taken <= (1 + TRUST) * best + 2 * seconds + sending + 1e-5


def test_free_items_never_start_workers() -> None:
    """Items cheaper to run than to send stay in the caller, however many were done and however many remain."""
    work = WorkProfile(10_000, 50e-9)
    for done in (100, 20_000, 10_000_000):
        for remaining in (20_000, 10**9, None):
            assert not should_escalate(done * 50e-9, done, remaining, work, WARM, Limits())


def test_dear_items_start_workers_early() -> None:
    """Of 100,000 items of 10 us, less than 2% run before workers are started."""
    work = WorkProfile(2_000, 10e-6)
    assert should_escalate(0.02, 2_000, 98_000, work, COLD, Limits())


def test_short_rest_stays() -> None:
    """When what remains would not repay the start, it stays, although as much was done already."""
    work = WorkProfile(100, 100e-6)
    assert not should_escalate(0.010, 100, 100, work, COLD, Limits())


def test_equal_items_never_escalate_at_their_end() -> None:
    """Equal items that are not worth workers at the beginning are not given to workers for the last few of them."""
    for n_items in range(10, 400, 10):
        moments = [
            done
            for done in range(1, n_items)
            if should_escalate(done * 100e-6, done, n_items - done, WorkProfile(done, 100e-6), COLD, Limits())
        ]
        assert not moments or moments[0] < n_items / 2


@pytest.mark.parametrize(
    ("machine", "limits", "remaining"),
    [
        (COLD, Limits(backends=("serial",)), 1000),
        (COLD, Limits(n_jobs=1), 1000),
        (COLD, Limits(), 1),
        (COLD, Limits(), 0),
        (COLD._replace(cores=1), Limits(), None),
        (COLD._replace(available_memory=1), Limits(), 1000),
    ],
)
def test_limits_keep_it_in_the_caller(machine: MachineProfile, limits: Limits, remaining: int | None) -> None:
    """Where workers are not allowed, not possible or without a second item, the answer is no."""
    assert not should_escalate(100.0, 100, remaining, WorkProfile(100, 1.0), machine, limits)


def test_items_that_fill_the_cores_stay() -> None:
    """Items that keep every core busy by themselves have nothing to gain from workers."""
    assert not should_escalate(100.0, 100, 1000, WorkProfile(100, 1.0, cpu_share=2.0), WARM, Limits())

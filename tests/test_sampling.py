"""Measuring work on simulated clocks: times and spread, sampling, what crossing costs, inputs given back whole."""

from __future__ import annotations

import math
import pickle
import random
import statistics
import sys
import threading
import tracemalloc
import types
from collections import deque
from itertools import islice

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from amorsize.measure.inputs import Input
from amorsize.measure.sampling import (
    DEAR_DUMP_SECONDS,
    KEPT_RESULTS,
    LEAST_ITEMS,
    MOST_ITEMS,
    ItemTimes,
    measure_transfer,
    sample,
    spread,
)

BUDGET = 0.025
seconds = st.floats(min_value=0, max_value=1e4)


class Clock:
    """A clock that moves only when told, or by a fixed step at each reading."""

    def __init__(self, step=0.0):
        self.now = 0.0
        self.step = step

    def __call__(self):
        self.now += self.step
        return self.now


def sleeper(clock, cpu=None):
    """Return a function whose item is the seconds it takes on `clock`, and on the CPU's clock if given."""

    def work(item):
        clock.now += item
        if cpu is not None:
            cpu.now += item
        return item

    return work


def run(times, *, cpu_share=1.0, budget=BUDGET, step=0.0):
    """Sample items that take `times` on a simulated clock."""
    clock, cpu = Clock(step), Clock()

    def work(item):
        clock.now += item
        cpu.now += item * cpu_share
        return item

    return sample(work, iter(times), budget, clock, cpu)


@given(st.lists(seconds, min_size=1, max_size=50))
def test_running_agrees_with_statistics(times):
    """Mean, deviation and maximum are those of the list."""
    running = ItemTimes()
    for value in times:
        running.add(value)
    assert running.n == len(times)
    assert running.max == max(times)
    assert running.mean == pytest.approx(statistics.fmean(times))
    expected = statistics.stdev(times) if len(times) > 1 else 0.0
    assert running.std == pytest.approx(expected, rel=1e-6, abs=1e-6 * max(times) + 1e-12)


@given(st.lists(seconds, max_size=30), st.lists(seconds, max_size=30))
def test_merged_halves_are_the_whole(first, second):
    """It does not matter which accumulator saw an item."""
    left, right, whole = ItemTimes(), ItemTimes(), ItemTimes()
    for value in first:
        left.add(value)
        whole.add(value)
    for value in second:
        right.add(value)
        whole.add(value)
    left.merge(right)
    assert (left.n, left.max) == (whole.n, whole.max)
    assert left.mean == pytest.approx(whole.mean)
    assert left.std == pytest.approx(whole.std, rel=1e-6, abs=1e-6 * whole.max + 1e-12)


def test_spread_survives_timing_in_blocks():
    """Times taken over blocks of independent items give the spread of single ones again, and the mean exactly."""
    times = random.Random(7).choices((0.001, 0.003), k=20_000)
    blocks = ItemTimes()
    for start in range(0, len(times), 100):
        blocks.add_block(100, sum(times[start : start + 100]))
    assert blocks.n == len(times)
    assert blocks.mean == pytest.approx(statistics.fmean(times))
    assert blocks.std == pytest.approx(statistics.stdev(times), rel=0.15)


def test_nothing_added_is_nothing_known():
    """Empty accumulators and empty blocks have no mean, no spread and an unbounded error."""
    running = ItemTimes()
    running.add_block(0, 0.0)
    running.merge(ItemTimes())
    assert (running.n, running.mean, running.std, running.max) == (0, 0.0, 0.0, 0.0)
    assert running.relative_error == math.inf


def test_free_items_have_no_error():
    """Items that take no time at all have a mean of nothing, known exactly."""
    running = ItemTimes()
    running.add(0.0)
    running.add(0.0)
    assert running.relative_error == 0.0


def test_sample_stops_when_the_mean_is_known():
    """Even items of a millisecond need no more than the least number."""
    assert len(run([0.001] * 100).items) == LEAST_ITEMS


def test_sample_stops_when_the_budget_is_spent():
    """No item is taken once the budget is spent, however uneven they are."""
    found = run([0.002, 0.012] * 100)
    assert len(found.items) == 4
    assert not found.exhausted


def test_sample_runs_one_item_even_if_it_is_dear():
    """One item is run, whatever it costs, and no second."""
    found = run([10.0] * 5)
    assert found.items == [10.0]
    assert found.times.mean == 10.0


def test_sample_counts_the_input_s_own_time():
    """An input that takes its time to give items spends the budget too."""
    clock = Clock()

    def slow():
        for item in range(1000):
            clock.now += 0.010
            yield item

    found = sample(lambda item: item, slow(), BUDGET, clock, Clock())
    assert len(found.items) == 3
    assert found.times.mean == 0.0


def test_sample_takes_a_bounded_number_of_free_items():
    """Items that cost nothing end by their number."""
    assert len(run([0.0] * (MOST_ITEMS + 5)).items) == MOST_ITEMS


def test_sample_subtracts_the_reading_of_the_clock():
    """What it takes to read the clock is no part of an item's time."""
    found = run([1e-5] * 200, step=1e-6)
    assert found.times.mean == pytest.approx(1e-5)


def test_sample_of_a_short_input_tells_that_it_ended():
    """An input that ends first is exhausted, an empty one too."""
    assert run([0.001] * 2).exhausted
    empty = run([])
    assert empty.exhausted
    assert empty.items == []
    assert empty.times.n == 0


def test_sample_takes_nothing_that_it_does_not_run():
    """What is left of the input begins after the last item that ran."""
    clock = Clock()
    rest = iter([0.02] * 10)
    found = sample(sleeper(clock), rest, BUDGET, clock, Clock())
    assert len(found.items) + len(list(rest)) == 10


def test_sample_drops_a_first_time_cost():
    """A first call far dearer than all others paid for something that is now done."""
    found = run([0.020] + [0.00001] * 200)
    assert found.times.mean == pytest.approx(0.00001)
    assert found.times.n == len(found.items) - 1


def test_sample_keeps_a_first_item_that_is_merely_dear():
    """A first item within the range of the others counts."""
    found = run([0.005, 0.001] + [0.002] * 50)
    assert found.times.max == 0.005


def test_first_item_that_imports_is_not_taken_for_the_usual_one(monkeypatch):
    """When the first item loaded a module, a second one is run although the budget is spent."""
    clock = Clock()
    monkeypatch.delitem(sys.modules, "amorsize_imported_by_item", raising=False)

    def work(item):
        if "amorsize_imported_by_item" not in sys.modules:
            monkeypatch.setitem(sys.modules, "amorsize_imported_by_item", types.ModuleType("imported"))
            clock.now += 1.0
        clock.now += 0.001
        return item

    found = sample(work, iter(range(10)), BUDGET, clock, Clock())
    assert len(found.items) == 2
    assert found.times.mean == pytest.approx(0.001)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, 2.0])
def test_share_of_cpu_time(share):
    """Waiting, computing, and computing on several cores are told apart."""
    assert run([0.005] * 10, cpu_share=share).cpu_share == pytest.approx(share)


def test_too_short_a_time_counts_as_computing():
    """A share measured below the clock's resolution would be noise."""
    assert run([0.0001] * 3, cpu_share=0.0).cpu_share == 1.0


def test_failing_item_is_measured_and_named():
    """An exception neither ends the sample nor loses the item's time."""
    clock = Clock()

    def work(item):
        clock.now += 0.001
        if item == 2:
            raise ValueError("odd one")
        return -item

    found = sample(work, iter(range(10)), BUDGET, clock, Clock())
    assert found.items[:4] == [0, 1, 2, 3]
    assert [(place, type(error)) for place, error in found.failures] == [(2, ValueError)]
    assert found.results[:3] == [0, -1, -3]
    assert found.times.n == len(found.items)


def test_interrupt_is_not_swallowed():
    """Ctrl-C during a sampled item reaches the caller."""

    def work(_item):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(work, iter([1]), BUDGET, Clock(), Clock())


def test_error_of_the_input_passes():
    """An input that breaks is the caller's to know."""

    def broken():
        yield 0.001
        raise OSError("input broke")

    clock = Clock()
    with pytest.raises(OSError, match="input broke"):
        sample(sleeper(clock), broken(), BUDGET, clock, Clock())


def test_few_results_are_kept():
    """Results are kept only as far as measuring their way back needs them."""
    assert len(run([0.0] * 500).results) == KEPT_RESULTS


def test_bytes_are_an_item_s_own():
    """The fixed cost of a dump is not counted to the items: a small whole number takes two bytes among others."""
    found = measure_transfer(list(range(10, 42)), [bytes([n]) * 1000 for n in range(9)], Clock())
    assert found.bytes_in == pytest.approx(2, rel=0.05)
    assert found.bytes_out == pytest.approx(1000, rel=0.01)


def test_shared_object_crosses_once():
    """What many items share is not counted to each of them."""
    shared = "s" * 10_000
    found = measure_transfer([(n, shared) for n in range(20)], [], Clock())
    assert found.bytes_in is not None
    assert found.bytes_in < 100


def test_single_item_is_compared_with_none():
    """With one item only, the empty dump tells the fixed cost."""
    found = measure_transfer([b"x" * 500], [1.5], Clock())
    assert 500 <= found.bytes_in < 520
    assert 9 <= found.bytes_out < 20


@pytest.mark.parametrize("stuck", [threading.Lock(), lambda: None, (n for n in ())])
def test_unpicklable_is_none(stuck):
    """What cannot be pickled has no size, on its own side only."""
    assert measure_transfer([stuck], [1], Clock()).bytes_in is None
    found = measure_transfer([1, 2], [stuck, stuck], Clock())
    assert found.bytes_in is not None
    assert found.bytes_out is None


def test_large_arrays_are_priced_by_their_length_and_a_copy_of_some():
    """Of a result of 8 MB that loading would copy, no more than a part is copied; of an item nothing is."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.zeros(1_000_000) for _ in range(2)]
    tracemalloc.start()
    try:
        found = measure_transfer(arrays, arrays, Clock(1e-6))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found.bytes_in == found.bytes_out == pytest.approx(8_000_000, rel=0.001)
    assert 0 < found.copied_bytes <= 1_000_000
    assert found.copied_seconds > 0
    assert most < 2_000_000


class Rude:
    """Raises an unusual error when pickled."""

    def __reduce__(self):
        raise ZeroDivisionError


def test_any_error_while_pickling_is_unpicklable():
    """An object's own pickling code may raise anything."""
    assert measure_transfer([1, Rude()], [], Clock()).bytes_in is None


def test_no_items_and_no_results_have_no_size():
    """Nothing measured is no figure, and costs nothing."""
    assert measure_transfer([], [], Clock()) == (None, None, 0.0, 0, 0.0)


dumped = []
slow_clock = Clock()


class Dear:
    """Takes long to pickle, on a simulated clock."""

    def __reduce__(self):
        dumped.append(1)
        slow_clock.now += 2 * DEAR_DUMP_SECONDS
        return Dear, ()


def test_dear_item_is_dumped_once():
    """One dump that takes long is enough."""
    dumped.clear()
    found = measure_transfer([Dear() for _ in range(30)], [], slow_clock)
    assert len(dumped) == 1
    assert found.seconds_per_item == pytest.approx(2 * DEAR_DUMP_SECONDS)


@given(st.integers(min_value=1, max_value=3000))
def test_spread_visits_every_place_once(length):
    """Every position comes exactly once."""
    assert sorted(spread(length)) == list(range(length))


@given(st.integers(min_value=40, max_value=100_000), st.integers(min_value=10, max_value=40))
def test_spread_leaves_no_large_gap(length, taken):
    """After any number of steps, no stretch without a sample is longer than four times the even share."""
    places = sorted(islice(spread(length), taken))
    gaps = [after - before for before, after in zip([0, *places], [*places, length], strict=True)]
    assert max(gaps) <= 4 * length / taken + 1


class Restartable:
    """Knows its length, but not whether its items come twice: as a progress bar around a generator."""

    def __init__(self, items):
        self.items = iter(items)

    def __len__(self):
        return 4

    def __iter__(self):
        yield from self.items


class WithPlaces:
    """Has a length and items by place, as an array."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return "abcd"[place]


def an_input(data):
    """Return an input whose items are fixed by pickling."""
    return Input(data, pickle.dumps, pickle.loads)


@pytest.mark.parametrize(
    "data",
    [
        list("abcd"),
        tuple("abcd"),
        range(4),
        "abcd",
        b"abcd",
        {1, 2, 3, 4},
        dict.fromkeys("abcd"),
        dict.fromkeys("abcd").values(),
        deque("abcd"),
        WithPlaces(),
    ],
    ids=lambda data: type(data).__name__,
)
def test_collection_is_given_back_as_it_is(data):
    """What can be iterated again is the same object after a sample."""
    source = an_input(data)
    assert len(list(islice(source.items(), 2))) == 2
    assert source.whole() is data
    assert source.n_items == 4


@pytest.mark.parametrize(
    ("data", "n_items"),
    [((x for x in "abcd"), None), (iter("abcd"), None), (map(str.lower, "ABCD"), None), (Restartable("abcd"), 4)],
    ids=["generator", "iterator", "map", "restartable"],
)
@pytest.mark.parametrize("taken", [0, 2, 4, 9])
def test_anything_else_is_given_back_whole(data, n_items, taken):
    """What was taken stands in front of the rest again."""
    fresh = list("abcd")
    data = type(data)(fresh) if isinstance(data, Restartable) else iter(fresh)
    source = an_input(data)
    assert source.n_items == n_items
    assert list(islice(source.items(), taken)) == fresh[:taken]
    assert list(source.whole()) == fresh


def test_items_are_given_back_as_they_were_taken():
    """One record, refilled for each item and changed by who had it, comes back as it was each time."""
    record = []

    def refilled():
        for number in range(4):
            record[:] = [number]
            yield record

    source = an_input(refilled())
    for item in islice(source.items(), 2):
        item.append("changed")
    assert [list(item) for item in source.whole()] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("item", [iter("ab"), (1, iter("ab")), threading.Lock()], ids=["iterator", "tuple", "lock"])
def test_an_item_that_cannot_be_kept_is_not_handed_out(item):
    """It ends the sample, and is the very same in the input that is given back."""
    source = an_input(iter([1, item, 3]))
    assert list(source.items()) == [1]
    assert type(item).__name__ in source.kept
    assert list(source.whole()) == [1, item, 3]


def test_iterators_in_a_list_are_not_handed_out():
    """Who has them uses them up."""
    data = [iter("ab")] * 3
    source = an_input(data)
    assert list(source.items()) == []
    assert source.kept
    assert source.whole() is data


def test_hint_of_an_iterator_is_no_length():
    """An iterator over a list tells how much is left, which is a hint and not a promise."""
    source = an_input(iter([1, 2, 3]))
    assert (source.n_items, source.expected_items()) == (None, 3)
    assert an_input(x for x in ()).expected_items() is None
    assert an_input([1, 2]).expected_items() == 2


def test_place_of_a_sampled_item():
    """The place that is told is the one where the item stands in the input."""
    data = list(range(100))
    source = an_input(data)
    taken = list(islice(source.items(), 10))
    assert [source.place(number) for number in range(10)] == taken
    assert an_input(iter(data)).place(7) == 7


def test_what_is_no_input_is_refused():
    """The error is Python's own."""
    with pytest.raises(TypeError, match="not iterable"):
        an_input(5)  # type: ignore[arg-type]

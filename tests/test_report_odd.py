"""Reports of calls that end early, of odd functions and inputs, and while others look on."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

import amorsize
from amorsize.backends.events import Results
from amorsize.call.stay import Stay, staying
from amorsize.report.record import Record
from amorsize.report.tally import MOST_WORKERS, Tally

GUARD_SECONDS = 30


def same(number):
    return number


def spin(number):
    sum(range(20_000))
    return number


def zero_fails(number):
    return 1 / number


class OnceInFolder:
    """Callable whose process exits the first time that it is given 3."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self, number):
        if number == 3 and not os.path.exists(os.path.join(self.folder, "died")):
            Path(self.folder, "died").touch()
            os._exit(1)
        return number


class Endless:
    """Answers every question with itself."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, number):
        return number


class Raising:
    """Will not tell its name."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __call__(self, number):
        return number


class NoLength(list):
    """Will not tell its length."""

    def __len__(self):
        raise RuntimeError("no length")


@pytest.fixture
def short_function():
    """Give a function whose calls are known to be short and to stay."""

    def function(number):
        return 6 // number

    for _ in range(3):
        list(amorsize.map(function, [1, 2, 3]))
    return function


class TestNames:
    """A function may be any callable, and keeping a report never fails a call."""

    @pytest.mark.parametrize(
        "make",
        [partial(Mock, return_value=1), Endless, Raising, lambda: partial(partial(same)), lambda: int],
        ids=["mock", "endless", "raising", "partial", "class"],
    )
    def test_pools_take_any(self, make):
        """And have a report of the call."""
        function = make()
        with amorsize.Pool() as pool:
            for _ in range(3):
                assert len(pool.map(function, [1, 2, 3])) == 3

        assert pool.report.items == 3
        assert pool.report.function


class TestShortCalls:
    """What ran as the builtin would is counted as it ran."""

    @pytest.mark.parametrize(
        ("make", "items"),
        [
            (lambda: (number for number in range(1, 6)), 5),
            (lambda: iter([1, 2, 3]), 3),
            (lambda: [1, 2, 3], 3),
            (lambda: NoLength([1, 2, 3]), 3),
        ],
    )
    def test_items_of_any_input(self, short_function, make, items):
        """None is asked for its length."""
        stream = amorsize.map(short_function, make())
        assert len([*stream]) == items

        assert (stream.report.items, stream.report.over) == (items, True)

    def test_the_shortest_of_several(self):
        """It ends the call."""
        for _ in range(3):
            stream = amorsize.map(pow, range(10), [1, 2])
            list(stream)

        assert stream.report.items == 2

    def test_closed_early(self, short_function):
        """What was handed out counts."""
        stream = amorsize.map(short_function, [1, 2, 3, 6])
        next(stream)
        next(stream)
        assert (stream.report.items, stream.report.over) == (2, False)
        stream.close()

        assert (stream.report.items, stream.report.over) == (2, True)

    def test_an_error(self, short_function):
        """The item that raised has no result."""
        stream = amorsize.map(short_function, [1, 0, 3])
        with pytest.raises(ZeroDivisionError):
            list(stream)

        assert (stream.report.items, stream.report.over) == (1, True)

    def test_the_last_call_of_a_decorated_function_is_the_one_that_raised(self):
        """Not the one before it."""
        function = amorsize.parallelize(zero_fails)
        for _ in range(3):
            list(function.map([1, 2, 3]))
        with pytest.raises(ZeroDivisionError):
            list(function.map([1, 2, 4, 5, 0]))

        assert function.report.items == 4

    def test_one_that_turns_long_counts_from_its_beginning(self):
        """Its first items and their time, too."""

        def function(number):
            time.sleep(0.005)
            return number

        staying.put(function, Stay(0.001))  # as if its calls had been short
        stream = amorsize.map(function, range(20))
        list(stream)

        assert stream.report.items == 20
        assert stream.report.items_here >= 1
        assert stream.report.seconds >= 0.005


class TestEnds:
    """What is counted when a call does not simply run to its end."""

    def test_an_error_in_the_caller_stops_the_clock(self):
        """However late somebody asks."""
        stream = amorsize.map(zero_fails, [1, 2, 0, 4], backend="serial")
        with pytest.raises(ZeroDivisionError):
            list(stream)
        first = stream.report

        assert first.over
        assert first.items == 2
        assert stream.report.seconds == first.seconds

    def test_tries_are_no_items(self, backend):
        """Each item counts once."""
        stream = amorsize.map(zero_fails, [1, 0, 2, 0], retries=1, on_error="return", **backend)
        list(stream)

        assert (stream.report.items, stream.report.failed) == (4, 2)

    def test_items_that_were_lost_count(self, tmp_path, one_method):
        """A worker that died is told, and has no part in how the others ended."""
        stream = amorsize.map(OnceInFolder(tmp_path), range(40), retries=1, chunksize=1, **one_method)
        assert list(stream) == [*range(40)]
        report = stream.report

        assert (report.items, report.lost) == (40, 1)
        assert "died" in report.explain()

    def test_islice_and_zip(self, backend):
        """What was handed out is the least that has ended."""
        stream = amorsize.map(same, range(100), **backend)
        list(itertools.islice(stream, 30))
        stream.close()

        assert 30 <= stream.report.items <= 100

    def test_a_first_item_that_is_long_counts_on_every_road(self):
        """It would take its time there, too."""
        stream = amorsize.map(time.sleep, [0.3, *[0.001] * 20], thread_safe=False)
        list(stream)

        assert all(road.seconds >= 0.25 for road in stream.report.roads)

    def test_what_cannot_be_sent_has_no_road_to_workers(self):
        """It is not advised, either."""
        lock = threading.Lock()

        def function(number):
            with lock:
                return spin(number)

        stream = amorsize.map(function, range(2_000), start_method="fork")
        with pytest.warns(RuntimeWarning, match="stays in one process"):
            list(stream)

        assert "processes" not in {road.backend for road in stream.report.roads}


class TestOthersAsk:
    """A report may be asked for at any time, by anybody, and changes nothing."""

    def test_beside_a_call_on_workers(self, one_method):
        """Its clock goes on."""
        stream = amorsize.map(wait_a_little, range(60), **one_method)
        told = []
        thread = threading.Thread(target=lambda: told.extend(asked_until(stream)))
        thread.start()
        list(stream)
        thread.join(GUARD_SECONDS)

        assert not any(report.over for report in told[:-1])
        assert [report.seconds for report in told] == sorted(report.seconds for report in told)
        assert stream.report.items == 60
        for report in told:
            assert sum(report.spent) <= report.seconds * 1.05 + 1e-3

    def test_from_a_display_of_progress(self, one_method):
        """In the same thread."""
        told = []

        def tell(*_):
            told.append(stream.report.over)

        stream = amorsize.map(wait_a_little, range(20), progress=tell, **one_method)
        list(stream)

        assert not any(told[:-1])
        assert stream.report.items == 20


class TestDecorated:
    """Methods, and calls that overlap."""

    def test_a_method_keeps_its_report(self):
        """Though it is bound anew whenever it is named."""

        class Thing:
            @amorsize.parallelize
            def double(self, number):
                return 2 * number

        thing = Thing()
        list(thing.double.map(range(7)))

        assert thing.double.report.items == 7

    def test_an_older_call_does_not_come_back(self):
        """That it is closed later is no news."""

        @amorsize.parallelize
        async def later(number):
            return number

        async def main():
            older = later.map(range(5))
            async for _ in older:
                pass
            async for _ in later.map(range(10)):
                pass
            await older.aclose()
            return later.report

        assert asyncio.run(main()).items == 10


class TestCoroutines:
    """Calls of coroutine functions."""

    def test_they_are_recorded(self):
        """Those that run at once on lanes of their own."""

        async def function(number):
            await asyncio.sleep(0.01)
            return number

        stream = amorsize.map(function, range(20), record=True)
        list(stream)
        recording = stream.report.recording

        assert sorted(span.first for span in recording.spans) == [*range(20)]
        assert len(recording.lanes) > 2

    def test_an_error_ends_them(self):
        """The report says so."""

        async def function(number):
            return zero_fails(number)

        stream = amorsize.map(function, [1, 0, 2])
        with pytest.raises(ZeroDivisionError):
            list(stream)

        assert stream.report.over


class TestTally:
    """The counters."""

    def test_any_number_of_workers(self):
        """Of very many the newest are told apart, with lanes that are used again."""
        record = Record()
        record.begin()
        for worker in range(3 * MOST_WORKERS):
            record.heard(Results(worker, [None], {}, 0.1, 0.1, 0, worker, record.began_at, 0.0))

        assert record.ran == 3 * MOST_WORKERS
        assert len(record.workers) == MOST_WORKERS
        assert len(record.recording("f").lanes) == MOST_WORKERS + 1

    def test_a_tail_is_that_of_the_last_workers(self):
        """One that ended long before, and was replaced, was not idle."""
        tally = Tally()
        tally.begin()
        for worker, ended in ((1, 1.0), (2, 9.0), (3, 9.5)):
            tally.heard(Results(0, [None], {}, 0.5, 0.5, 0, worker, ended - 0.5, 0.0))

        assert tally.tail_seconds(2) == pytest.approx(0.5)


def wait_a_little(number):
    time.sleep(0.01)
    return number


def asked_until(stream):
    """Yield reports until one says that the call is over."""
    end = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < end:
        report = stream.report
        yield report
        if report.over:
            return

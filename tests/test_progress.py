"""What `progress=` shows: how many items have ended, wherever they ran, at most so often, until the end."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
import time
import types
from pathlib import Path

import pytest
import workers

import amorsize
from amorsize.report.progress import Progress

GUARD_SECONDS = 30


class Told(list):
    """A callable that notes what it is told."""

    def __call__(self, done, total):
        self.append((done, total))


class Gate:
    """An item waits until this is open; telling enough opens it."""

    def __init__(self, folder, enough):
        self.path = str(Path(folder) / "gate")
        self.enough = enough

    def tell(self, done, total):
        if done >= self.enough:
            Path(self.path).touch()

    def first_waits(self, number):
        end = time.monotonic() + GUARD_SECONDS
        while number == 0 and not Path(self.path).exists():
            assert time.monotonic() < end, "nobody was told that the others have ended"
            time.sleep(0.002)  # how often it is looked at
        return number

    async def first_awaits(self, number):
        end = time.monotonic() + GUARD_SECONDS
        while number == 0 and not os.path.exists(self.path):  # noqa: ASYNC240 - a file, as for processes
            assert time.monotonic() < end, "nobody was told that the others have ended"
            await asyncio.sleep(0.002)
        return number


@pytest.fixture
def tqdm(monkeypatch):
    """Stand for tqdm: keep every bar, with what became of it."""
    bars = []

    class Bar:
        monitor_interval = 10

        def __init__(self, **given):
            self.given, self.n, self.closed, self.postfix = given, 0, False, {}
            bars.append(self)

        @classmethod
        def set_lock(cls, lock):
            pass

        def update(self, items):
            assert not self.closed
            self.n += items

        def set_postfix(self, *, refresh, **postfix):
            self.postfix = postfix

        def close(self):
            self.closed = True

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return bars


class TestCounting:
    """A callable is told how many items have ended, and of how many."""

    def test_it_is_told_of_all_items(self, anywhere):
        """The numbers rise to the input's length."""
        told = Told()

        list(amorsize.map(workers.square, range(500), progress=told, **anywhere))

        assert told[0] == (0, 500)
        assert told[-1] == (500, 500)
        assert told == sorted(set(told))

    def test_an_unknown_length_is_none(self, anywhere):
        """As for a generator."""
        told = Told()

        list(amorsize.map(workers.square, (number for number in range(30)), progress=told, **anywhere))

        assert told[-1] == (30, None)

    def test_items_that_fail_have_ended_too(self, anywhere):
        """Where the call goes on, they count."""
        told = Told()

        list(amorsize.map(workers.fail_at_seven, range(20), progress=told, on_error="return", **anywhere))

        assert told[-1] == (20, 20)

    def test_an_error_ends_it_with_what_was_done(self, anywhere):
        """All items before it have ended, and perhaps some behind it."""
        told = Told()

        with pytest.raises(KeyError):
            list(amorsize.map(workers.fail_at_seven, range(20), progress=told, **anywhere))

        assert 7 <= told[-1][0] < 20

    @pytest.mark.parametrize("backend", ["threads", "processes"])
    def test_what_ends_behind_a_long_item_is_shown_meanwhile(self, backend, tmp_path):
        """Nobody waits for the item that the others wait for."""
        gate = Gate(tmp_path, 5)

        results = amorsize.map(
            gate.first_waits, range(8), progress=gate.tell, backend=backend, n_jobs=2, chunksize=1
        )

        assert list(results) == list(range(8))

    def test_so_is_what_coroutines_do(self, tmp_path):
        """On a loop that runs, and on one of the call's own."""
        gate = Gate(tmp_path, 5)

        async def main():
            return [result async for result in amorsize.amap(gate.first_awaits, range(8), progress=gate.tell)]

        assert asyncio.run(main()) == list(range(8))
        Path(gate.path).unlink()
        assert list(amorsize.map(gate.first_awaits, range(8), progress=gate.tell)) == list(range(8))

    def test_so_does_what_a_coroutines_display_raises(self):
        """Whether it is told by an item or by a timer."""

        def tell(done, total):
            if done:
                raise LookupError("enough")

        async def wait(number):
            await asyncio.sleep(0.03)
            return number

        async def main():
            return [result async for result in amorsize.amap(wait, range(50), progress=tell, n_jobs=3)]

        with pytest.raises(LookupError, match="enough"):
            asyncio.run(main())

    def test_a_coroutine_that_is_given_up_counts(self):
        """All items have ended when the call has."""
        told = Told()

        async def stubborn(number):
            for _ in range(40 if number == 3 else 0):
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    continue
            return number

        async def main():
            calls = amorsize.amap(stubborn, range(5), progress=told, timeout=0.1, on_error="return")
            return [result async for result in calls]

        assert len(asyncio.run(asyncio.wait_for(main(), GUARD_SECONDS))) == 5
        assert told[-1] == (5, 5)

    def test_what_the_callable_raises_comes_out(self, anywhere):
        """And ends the call."""

        def tell(done, total):
            if done:
                raise LookupError("enough")

        stream = amorsize.map(workers.square, range(50), progress=tell, **anywhere)
        with pytest.raises(LookupError, match="enough"):
            list(stream)
        assert list(stream) == []

    def test_a_call_in_a_worker_shows_nothing(self):
        """The caller's bar is enough."""
        told = Told()

        def nested(number):
            return sum(amorsize.map(abs, [number], progress=told))

        assert list(amorsize.map(nested, range(3), backend="threads", n_jobs=2)) == [0, 1, 2]
        assert told == []


class TestTime:
    """It is shown at most twenty times a second."""

    @pytest.fixture
    def clock(self):
        return types.SimpleNamespace(now=0.0)

    @pytest.fixture
    def told(self):
        return Told()

    @pytest.fixture
    def progress(self, clock, told):
        return Progress(told, 100, [], lambda: clock.now)

    def test_what_comes_soon_waits(self, clock, told, progress):
        """Until it is time, which whoever waits can ask for."""
        clock.now = 0.01
        progress.done(3)
        assert told == [(0, 100)]
        assert progress.shows_in() == pytest.approx(0.04)

        clock.now = 0.06
        progress.done(1)
        assert told[1:] == [(4, 100)]
        assert progress.shows_in() is None

    def test_the_end_shows_the_last_number(self, clock, told, progress):
        """At once, and then nothing any more."""
        clock.now = 0.01
        progress.done(5)
        progress.close()
        progress.close()
        progress.show()
        clock.now = 1.0
        progress.done(1)

        assert told == [(0, 100), (5, 100)]


class TestBar:
    """`progress=True` is a bar of tqdm's where that is installed."""

    def test_it_counts_items(self, anywhere, tqdm):
        """Not chunks; and it is closed at the end."""
        list(amorsize.map(workers.square, range(200), progress=True, **anywhere))

        (bar,) = tqdm
        assert (bar.n, bar.closed, bar.given["total"], bar.given["unit"]) == (200, True, 200, "item")
        assert bar.monitor_interval == 0

    def test_failures_stand_behind_it(self, anywhere, tqdm):
        """How many there are."""
        list(amorsize.map(workers.fail_at_seven, range(20), progress=True, on_error="return", **anywhere))

        assert tqdm[0].postfix == {"failed": 1}

    @pytest.mark.parametrize("end", ["error", "close", "drop"])
    def test_it_is_closed_early(self, anywhere, tqdm, end):
        """After an error, when the stream is closed, and when it is dropped."""
        stream = amorsize.map(workers.fail_at_seven, range(100), progress=True, **anywhere)
        next(stream)
        if end == "error":
            with pytest.raises(KeyError):
                list(stream)
        elif end == "close":
            stream.close()
        else:
            del stream

        assert tqdm[0].closed

    def test_nothing_is_shown_before_a_result_is_asked_for(self, anywhere, tqdm):
        """A call alone does nothing."""
        stream = amorsize.map(workers.square, range(10), progress=True, **anywhere)

        assert tqdm == []
        stream.close()

    @pytest.mark.slow
    def test_the_real_one(self, tmp_path, python):
        """It writes to standard error, starts no thread, and warns of nothing."""
        pytest.importorskip("tqdm")
        script = tmp_path / "script.py"
        script.write_text(
            "import threading, amorsize\n"
            "print(sum(amorsize.map(abs, range(1000), progress=True, backend='processes', n_jobs=2)))\n"
            "print([thread.name for thread in threading.enumerate()])\n"
        )

        child = python("-W", "error", script)

        assert child.stdout.splitlines() == ["499500", "['MainThread']"]
        assert "1000/1000" in child.stderr.replace(",", "")
        assert "Warning" not in child.stderr


    @pytest.mark.parametrize("error", [None, "closed", "full"])
    def test_one_that_cannot_be_shown_ends_nothing(self, monkeypatch, error):
        """The work is what counts."""
        pytest.importorskip("tqdm")
        stream = io.StringIO()
        if error == "closed":
            stream.close()
        elif error == "full":
            stream.write = lambda text: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        monkeypatch.setattr(sys, "stderr", None if error is None else stream)

        assert list(amorsize.map(abs, range(-3, 0), progress=True)) == [3, 2, 1]


class TestLine:
    """Without tqdm it is a line on a terminal."""

    @pytest.fixture(autouse=True)
    def without_tqdm(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    def test_on_a_terminal(self, monkeypatch):
        """It is written over, and ends with the last number."""
        error = io.StringIO()
        error.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", error)

        list(amorsize.map(workers.fail_at_seven, range(20), progress=True, on_error="return", backend="serial"))

        assert error.getvalue().startswith("\r0 of 20 items\r")
        assert error.getvalue().endswith("\r20 of 20 items, 1 failed\n")

    def test_in_a_pipe_there_is_nothing(self, monkeypatch):
        """A log file is no place for it."""
        error = io.StringIO()
        monkeypatch.setattr(sys, "stderr", error)

        list(amorsize.map(abs, range(20), progress=True))

        assert error.getvalue() == ""


def test_pools_show_it_too(tqdm):
    """The options of a pool are those of its calls."""
    with amorsize.Pool(progress=True) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]

    assert (tqdm[0].n, tqdm[0].closed) == (2, True)


def test_no_thread_is_started():
    """Threads forbid forking."""
    before = threading.active_count()
    list(amorsize.map(abs, range(100), progress=Told()))

    assert threading.active_count() == before

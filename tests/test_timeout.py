"""Items with a deadline: who is stopped, who is not, and what it costs the others."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time

import pool_workers
import psutil
import pytest

import amorsize
from amorsize import ItemTimeoutError, UnsupportedError
from amorsize.backends.processes import start as process
from amorsize.transport import slots

TIMEOUT_SECONDS = 0.4
HANG_SECONDS = 1000


def hang():
    """Never come back, in practice."""
    time.sleep(HANG_SECONDS)


def spin():
    """Never come back, nor let another thread run."""
    sum(range(10**13))


def nap(seconds):
    """Sleep, and return what was slept."""
    time.sleep(seconds)
    return seconds


def pid(_):
    """Tell who runs the item."""
    return os.getpid()


def large(number):
    """Return more than a socket holds."""
    return bytes([number]) * 3_000_000


def nested(_):
    """Use a deadline where everything runs serially."""
    with pytest.raises(UnsupportedError, match="already runs in a worker"):
        amorsize.map(abs, [1], timeout=1)
    return True


class TestLateItems:
    """Items that run for too long."""

    @pytest.mark.parametrize("stop", [hang, spin])
    def test_only_the_late_item_fails(self, processes, tmp_path, stop):
        """It fails with its index and tries; every other item has its result, and each ran once."""
        function = pool_workers.Noting(tmp_path, pool_workers.Always(7, stop))

        stream = amorsize.map(function, range(40), timeout=TIMEOUT_SECONDS, on_error="return", **processes)
        found = list(stream)

        assert found[:7] + found[8:] == [number**2 for number in range(40) if number != 7]
        error = found[7]
        assert isinstance(error, ItemTimeoutError)
        assert isinstance(error, TimeoutError)
        assert (error.index, error.seconds, error.tries) == (7, TIMEOUT_SECONDS, 1)
        assert [(failed.index, failed.tries) for failed in stream.failures] == [(7, 1)]
        assert sorted(map(int, pool_workers.notes(tmp_path))) == list(range(40))

    def test_it_is_raised_in_its_place(self, processes):
        """By default the results before it come first."""
        stream = amorsize.map(pool_workers.Always(3, hang), range(9), timeout=TIMEOUT_SECONDS, chunksize=2, **processes)

        assert [next(stream) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(ItemTimeoutError, match=r"item 3 ran longer than timeout=0\.4 seconds"):
            next(stream)

    def test_it_is_tried_again(self, processes, tmp_path):
        """A retry counts as one for errors does, and may succeed."""
        once = pool_workers.Once(tmp_path, 3, hang)
        assert list(amorsize.map(once, range(9), timeout=TIMEOUT_SECONDS, retries=1, **processes)) == [
            number**2 for number in range(9)
        ]

        always = pool_workers.Always(3, hang)
        with pytest.raises(ItemTimeoutError, match="it was tried 2 times"):
            list(amorsize.map(always, range(9), timeout=TIMEOUT_SECONDS, retries=1, **processes))

    def test_several_at_once(self, one_method):
        """Each worker is watched by itself."""
        stream = amorsize.map(
            nap, [HANG_SECONDS, 0, HANG_SECONDS, 0], timeout=TIMEOUT_SECONDS, on_error="return", **one_method
        )

        assert [type(value) for value in stream] == [ItemTimeoutError, int, ItemTimeoutError, int]

    def test_as_they_are_done(self, one_method):
        """Unordered, what is done does not wait for what is late, whose error names it."""
        found = list(
            amorsize.map(
                nap, [HANG_SECONDS, 0, 0], timeout=TIMEOUT_SECONDS, ordered=False, on_error="return", **one_method
            )
        )

        assert found[:2] == [0, 0]
        assert found[2].index == 0


class TestItemsInTime:
    """Items that take their time, but not too much."""

    def test_waiting_is_not_running(self, one_method):
        """Only an item's own time counts, however many wait behind it."""
        items = [TIMEOUT_SECONDS / 4] * 8
        assert (
            list(amorsize.map(nap, items, timeout=TIMEOUT_SECONDS, **{**one_method, "n_jobs": 1, "chunksize": 8}))
            == items
        )

    def test_a_caller_may_take_its_time(self, one_method):
        """A worker that waits for the caller to read large results is not late."""
        stream = amorsize.map(large, range(6), timeout=TIMEOUT_SECONDS, chunksize=1, **one_method)

        sizes = [len(next(stream))]
        time.sleep(2 * TIMEOUT_SECONDS)  # the caller's own work
        sizes.extend(map(len, stream))

        assert len(sizes) == 6
        assert stream.failures == []

    def test_an_item_that_ends_at_the_last_moment(self, monkeypatch):
        """A worker that has gone on to another item when it is suspended, goes on."""
        view = memoryview(bytearray(slots.SLOTS_BYTES)).cast("q")
        view[slots.STARTED] = time.monotonic_ns() - 10**9
        log = []

        class Suspended:
            def __init__(self, pid):
                self.pid = pid

            def suspend(self):
                view[slots.STARTED] = time.monotonic_ns()
                log.append("suspended")

            def status(self):
                return "stopped"

            def resume(self):
                log.append("resumed")

        ours, theirs = socket.socketpair()
        with ours, theirs, monkeypatch.context() as patch:
            patch.setattr(psutil, "Process", Suspended)
            worker = process.Worker(multiprocessing.current_process(), ours, slots.Shared(view, None))

            assert not worker.suspend_if_late(0.5)

        assert log == ["suspended", "resumed"]


class TestWhere:
    """Who can stop an item."""

    def test_auto_runs_on_processes_from_the_first_item(self):
        """No item runs in the caller, which could not be stopped."""
        stream = amorsize.map(pid, range(3), timeout=5)

        assert os.getpid() not in set(stream)
        assert stream.plan.backend == "processes"
        assert "deadline" in stream.plan.reason

    @pytest.mark.parametrize("options", [{"backend": "serial"}, {"backend": "pool"}, {"backend": "threads"}])
    def test_others_refuse(self, options):
        """Nothing runs where an item cannot be stopped."""
        with pytest.raises(UnsupportedError, match=f"timeout= needs .* not '{options['backend']}'"):
            amorsize.map(abs, [1], timeout=1, **options)

    def test_what_must_stay_here_refuses(self):
        """A method of a list of the caller would change a copy."""
        with pytest.raises(UnsupportedError, match="a method of an object of this process"):
            amorsize.map([].append, [1], timeout=1)

    def test_workers_refuse(self, one_method):
        """Inside a worker all is serial, so there is nobody to stop the item."""
        assert list(amorsize.map(nested, range(2), **one_method)) == [True, True]

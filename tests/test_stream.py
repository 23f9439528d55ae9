"""The iterator that a call hands out: closing, dropping, hints, threads, and what it is not."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import operator
import os
import pickle
import sys
import threading
import warnings
import weakref

import pytest
import workers

import amorsize
from amorsize.backends.processes import lease as pool
from amorsize.call import caller as serial_module
from amorsize.call.phases import Phases
from amorsize.call.stream import Stream, start
from amorsize.options import Options

GUARD_SECONDS = 20
LOCAL = [{"backend": "serial"}, {}, {"on_error": "return"}, {"backend": "serial", "retries": 1}]


def name_of(options):
    return ",".join(f"{name}={value}" for name, value in options.items()) or "auto"


@pytest.fixture(params=LOCAL, ids=name_of)
def local(request):
    """Give options under which cheap items run in the caller."""
    return dict(request.param)


class Item:
    """Can be referred to weakly."""


@contextlib.contextmanager
def no_collection():
    """Let only reference counts free things."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class TestClosing:
    """However it ends, what it held is let go."""

    @pytest.mark.parametrize("after", [0, 1, 3, 200, 5000])
    def test_close_in_every_phase(self, local, after):
        """After `close`, which may be repeated, nothing comes and nothing more is pulled."""
        pulled = []
        stream = amorsize.map(abs, (pulled.append(number) or number for number in itertools.count()), **local)
        assert list(itertools.islice(stream, after)) == list(range(after))

        stream.close()
        stream.close()

        assert next(stream, "over") == "over"
        assert list(stream) == []
        assert len(pulled) == after

    def test_close_after_the_end(self, local):
        """Closing what is over is nothing."""
        stream = amorsize.map(abs, [1], **local)
        assert list(stream) == [1]

        stream.close()

        assert next(stream, "over") == "over"

    def test_a_with_block_gives_the_stream(self, local):
        """The block's name is the stream itself, and its end closes it."""
        stream = amorsize.map(abs, itertools.count(), **local)
        with stream as same:
            assert same is stream
            assert next(stream) == 0

        assert list(stream) == []

    def test_a_generator_as_input_is_not_closed(self, local):
        """The input is the caller's: it goes on where it was left."""
        numbers = (number for number in range(10))
        stream = amorsize.map(abs, numbers, **local)
        next(stream)
        stream.close()

        assert next(numbers) == 1

    def test_the_watching_thread_goes_with_it(self, monkeypatch):
        """Dropping a stream in its watched phase ends the thread at once, without a garbage collection."""
        monkeypatch.setattr(serial_module, "_UNWATCHED_SECONDS", 0.0)
        monkeypatch.setattr(serial_module, "_LONG_ITEM_SECONDS", float("inf"))
        stream = amorsize.map(abs, range(100))
        list(itertools.islice(stream, 50))
        assert "amorsize-watch" in [thread.name for thread in threading.enumerate()]

        with no_collection():
            del stream

            assert "amorsize-watch" not in [thread.name for thread in threading.enumerate()]

    def test_dropping_gives_the_workers_back(self, one_method):
        """Workers are free again as soon as nobody refers to the results, without a garbage collection."""
        stream = amorsize.map(workers.square, range(100), chunksize=1, **one_method)
        next(stream)
        assert pool.warm_count() == 0

        with no_collection():
            del stream

            assert pool.warm_count() > 0

    def test_dropping_lets_the_input_go(self):
        """Results of plain serial work keep nothing alive once they are dropped."""
        self.check_input_goes(backend="serial")

    def test_dropping_lets_the_input_go_under_auto(self):
        """Neither do those of watched work."""
        self.check_input_goes()

    def check_input_goes(self, **options):
        items = [Item() for _ in range(100)]
        last = weakref.ref(items[-1])
        with no_collection():
            stream = amorsize.map(id, items, **options)
            list(itertools.islice(stream, 50))
            del items, stream

            assert last() is None


class TestHint:
    """How many results are still to come."""

    def test_it_counts_down_with_the_results(self, local):
        """Before every result the hint is what is left, whatever ran."""
        stream = amorsize.map(abs, list(range(400)), **local)

        for left in range(400, 0, -1):
            assert operator.length_hint(stream, -1) == left
            next(stream)
        assert operator.length_hint(stream, -1) == 0

    def test_results_on_their_way_count(self, one_method):
        """What was read ahead is still to come."""
        with amorsize.map(workers.square, range(10), chunksize=2, **one_method) as stream:
            for left in range(10, 0, -1):
                assert operator.length_hint(stream, -1) == left
                next(stream)

    def test_nothing_comes_after_closing(self, anywhere):
        """A closed stream has no more results, whatever its input still has."""
        stream = amorsize.map(abs, range(9), **anywhere)
        next(stream)
        stream.close()

        assert operator.length_hint(stream, -1) == 0

    def test_the_shortest_input_counts(self, local):
        """Of several inputs the shortest is the hint."""
        with amorsize.map(max, range(9), [1, 2, 3], **local) as stream:
            assert operator.length_hint(stream, -1) == 3

    def test_a_hint_that_fails_is_none(self, local):
        """An input whose hint raises maps like any other."""

        class Broken:
            def __iter__(self):
                return self

            def __next__(self):
                raise StopIteration

            def __length_hint__(self):
                raise OSError("no idea")

        stream = amorsize.map(abs, Broken(), **local)

        assert operator.length_hint(stream, -1) == -1
        assert list(stream) == []


class TestIterator:
    """It is an iterator, and not a value."""

    def test_iter_is_itself(self, local):
        """`iter` of it is itself."""
        stream = amorsize.map(abs, [1], **local)

        assert iter(stream) is stream
        assert isinstance(stream, Stream)
        stream.close()

    @pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda copier: copier.__name__)
    @pytest.mark.parametrize("begun", [False, True])
    def test_it_cannot_be_copied(self, copier, begun, local):
        """A copy would run items twice: it is refused, with a remedy, and nothing runs."""
        with amorsize.map(abs, range(9), **local) as stream:
            if begun:
                next(stream)
            with pytest.raises(TypeError, match="make a list of it first"):
                copier(stream)

            assert list(stream) == list(range(begun, 9))

    def test_cheap_work_has_no_plan(self):
        """Work that is over before a look at the machine would pay never gets a plan."""
        stream = amorsize.map(abs, range(10))

        assert stream.plan is None
        list(stream)
        assert stream.plan is None

    def test_the_plan_is_there_once_made(self, one_method):
        """The plan names the backend that was asked for, from the first result on."""
        with amorsize.map(workers.square, range(10), **one_method) as stream:
            assert stream.plan is None
            next(stream)

            assert (stream.plan.backend, stream.plan.n_jobs) == ("processes", 2)

    def test_failures_are_listed(self, local):
        """Items whose errors were returned are listed with their index and number of tries."""
        stream = amorsize.map(int, ["1", "x"], **{**local, "on_error": "return"})
        results = list(stream)

        assert [(failed.index, failed.error) for failed in stream.failures] == [(1, results[1])]

    def test_only_iter_is_called_before_next(self):
        """Starting a call touches neither the function nor an item."""
        touched = []

        class Input:
            def __iter__(self):
                touched.append("iter")
                return iter(())

            def __len__(self):
                touched.append("len")
                return 0

        start(lambda _: touched.append("run"), (Input(),), Options()).close()

        assert touched == ["iter"]


class TestUnused:
    """A result that was never iterated."""

    def make(self):
        stream = start(abs, ([1, 2],), Options())
        stream.warn_if_never_iterated("work.map")
        return stream

    def test_dropping_it_warns(self):
        """Nothing ran, which is hardly what was meant."""
        stream = self.make()

        with pytest.warns(RuntimeWarning, match="the result of work.map was never iterated, so nothing ran"):
            del stream

    def test_a_begun_one_is_silent(self):
        """One that was iterated, even to one result only, does not warn."""
        stream = self.make()
        next(stream)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del stream

        assert caught == []

    def test_one_that_never_came_to_be_is_silent(self):
        """A stream whose start was interrupted can be dropped."""
        Stream.from_iterable(())


class TestThreads:
    """A second thread in `next`."""

    def test_it_gets_a_clear_error_in_serial_work(self, local):
        """While one thread runs an item, another is refused; no item is doubled or lost by that."""
        entered, go_on, results = threading.Event(), threading.Event(), []

        def function(item):
            if item == 2:
                entered.set()
                assert go_on.wait(GUARD_SECONDS)
            return item

        stream = amorsize.map(function, range(6), **local)
        first = threading.Thread(target=lambda: results.extend(itertools.islice(stream, 4)))
        first.start()
        assert entered.wait(GUARD_SECONDS)
        try:
            with pytest.raises(ValueError, match="already executing"):
                next(stream)
        finally:
            go_on.set()
            first.join()

        assert results + list(stream) == list(range(6))

    def test_it_gets_its_own_item_where_both_waited_for_workers(self):
        """Two threads that wait for the same results share them: none is doubled or lost."""
        entered, go_on, asked, results = threading.Event(), threading.Event(), threading.Event(), []

        def phases():
            entered.set()
            assert go_on.wait(GUARD_SECONDS)
            yield [0, 1, 2]
            yield [3, 4, 5]

        class Lock:
            """Tells when the second thread asks for it."""

            def __init__(self):
                self.lock = threading.RLock()

            def __enter__(self):
                if entered.is_set():
                    asked.set()
                self.lock.acquire()

            def __exit__(self, *_):
                self.lock.release()

        source = Phases(phases())
        source._lock = Lock()
        stream = Stream.from_iterable(source)
        threads = [threading.Thread(target=lambda: results.append(next(stream))) for _ in range(2)]
        threads[0].start()
        assert entered.wait(GUARD_SECONDS)
        threads[1].start()
        assert asked.wait(GUARD_SECONDS)
        go_on.set()
        for thread in threads:
            thread.join()

        rest = iter(lambda: next(stream, "over"), "over")
        assert sorted(itertools.chain(results, rest)) == list(range(6))


class TestBesideTheFirst:
    """Workers that were started beside a long first item."""

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="the file tells too late there")
    def test_they_are_given_back_when_the_rest_is_not_wanted(self, tmp_path, monkeypatch):
        """Dropping the results after the first one releases them."""
        from amorsize.backends.processes.handle import all_workers

        monkeypatch.setattr("amorsize.measure.machine.cores", lambda: 2)
        sign = tmp_path / "sign"

        def function(item):
            from time import monotonic, sleep

            until = monotonic() + 20
            while item == 0 and not sign.exists() and monotonic() < until:
                sleep(0.005)
            sign.touch()
            return item

        stream = amorsize.map(function, range(10), thread_safe=False)  # otherwise it would wait on threads
        assert next(stream) == 0
        assert all_workers()
        del stream
        held = len(all_workers()) - pool.warm_count()
        for worker in all_workers():
            worker.process.kill()

        assert held == 0

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_child_that_the_item_forks_goes_on_without_them(self, python):
        """The thread beside the first item is not copied by a fork, and is not waited for there."""
        program = """
import os
import amorsize

def fork(item):
    return os.fork() if item == 0 else item

results = list(amorsize.map(fork, range(5)))
if results[0]:
    _, status = os.waitpid(results[0], 0)
    print(results[1:], status)
else:
    os._exit(results != [0, 1, 2, 3, 4])
"""
        assert python("-W", "ignore", "-c", program).stdout == "[1, 2, 3, 4] 0\n"

    @pytest.mark.slow
    def test_the_main_thread_stays_the_main_one(self, python):
        """Whoever imports `threading` first is taken for the main thread, which the thread beside an item is not."""
        program = """
import time
import amorsize

def long(item):
    time.sleep(0.05)
    return item

list(amorsize.map(long, range(2)))
import threading
print(threading.current_thread() is threading.main_thread())
"""
        assert python("-c", program).stdout == "True\n"

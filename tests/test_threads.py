"""Threads: chosen under "auto" for work that waits, kept off where they may not be, and gone when the call is."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import warnings

import pytest

import amorsize
from amorsize.backends.overload import is_overload
from amorsize.call import waiting
from amorsize.feed.judge import Judge

GUARD_SECONDS = 30
NAP_SECONDS = 0.02
VARIABLE = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def unknown():
    """No function is known to gain nothing from threads."""
    waiting.unhelped.clear()


def nap(number):
    time.sleep(NAP_SECONDS)
    return number


def spin(number):
    for _ in range(20_000):
        number ^= 1
    return number


def where(number):
    time.sleep(NAP_SECONDS)
    return os.getpid()


class Gate:
    """Counts who is inside, and lets them out when it is told to."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties, timeout=GUARD_SECONDS)

    def pass_together(self, number):
        self.barrier.wait()
        return number


class TestAuto:
    """The choice."""

    def test_work_that_waits_goes_to_threads(self):
        """Of this process, with nothing configured; the plan says why."""
        stream = amorsize.map(nap, range(60))

        assert list(stream) == list(range(60))
        assert stream.plan.backend == "threads"
        assert "wait for most of their" in stream.plan.reason

    @pytest.mark.parametrize("use_cache", [True, False])
    def test_it_does_so_after_work_that_computes_too(self, use_cache):
        """However long this thread has waited for a processor before, and whatever processes could gain."""
        list(amorsize.map(sum, [range(3_000_000)] * 4, backend="processes", n_jobs=1))
        sum(range(3_000_000))
        for _ in range(2):
            stream = amorsize.map(nap, range(60), use_cache=use_cache)
            assert list(stream) == list(range(60))
            assert stream.plan.backend == "threads"

    def test_what_was_found_is_known_to_the_next_call(self):
        """It begins on threads, with the width of the last one."""
        list(amorsize.map(where, range(120)))
        stream = amorsize.map(where, range(120))
        assert next(stream) == os.getpid()

        assert stream.plan.backend == "threads"
        assert stream.plan.n_jobs > 2
        assert set(stream) == {os.getpid()}

    def test_work_that_computes_does_not(self):
        """It stays, or goes to processes."""
        stream = amorsize.map(spin, range(100))
        list(stream)

        assert stream.plan is None or stream.plan.backend != "threads"

    def test_programs_that_a_function_runs_count_as_its_work(self):
        """Their processor time is not taken for waiting."""
        code = "import time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass"

        def run(number):
            subprocess.run([sys.executable, "-S", "-c", code], check=True)
            return number

        stream = amorsize.map(run, range(4))
        list(stream)

        assert stream.plan is None or stream.plan.backend != "threads"

    @pytest.mark.parametrize("place", ["call", "decorator", "config", "environment"])
    def test_thread_safe_forbids_it(self, place, monkeypatch):
        """Everywhere an option can be given."""
        options = {"thread_safe": False}
        if place == "environment":
            monkeypatch.setenv("AMORSIZE_THREAD_SAFE", "0")
        if place == "decorator":
            stream = amorsize.parallelize(thread_safe=False)(nap).map(range(6))
        elif place == "config":
            with amorsize.config(**options):
                stream = amorsize.map(nap, range(6))
        else:
            stream = amorsize.map(nap, range(6), **(options if place == "call" else {}))
        list(stream)

        assert stream.plan is None or stream.plan.backend != "threads"

    def test_a_seed_keeps_it_off_threads(self):
        """They would share the random state that is set for each item."""
        stream = amorsize.map(nap, range(6), seed=1)
        list(stream)

        assert stream.plan is None or stream.plan.backend != "threads"

    def test_a_function_that_rebinds_a_global_stays_off(self):
        """As a plain loop, it sees what it left."""
        seen = []

        def counted(number):
            nonlocal seen
            time.sleep(NAP_SECONDS)
            seen = [*seen, number]
            return len(seen)

        stream = amorsize.map(counted, range(4))
        list(stream)

        assert stream.plan is None or stream.plan.backend != "threads"

    def test_threads_that_do_not_help_are_left(self):
        """Something that serves one at a time makes more threads useless, and the next calls stay."""
        lock = threading.Lock()

        def served(number):
            with lock:
                time.sleep(0.005)
            return number

        stream = amorsize.map(served, range(80))
        assert list(stream) == list(range(80))
        assert stream.plan is None
        again = amorsize.map(served, range(20))
        assert list(again) == list(range(20))
        assert again.plan is None or again.plan.backend != "threads"

    def test_items_beside_a_long_first_one_go_to_threads_if_it_waits(self):
        """They run while it still does."""
        gate = Gate(3)

        assert list(amorsize.map(gate.pass_together, range(3))) == list(range(3))


    def test_items_that_serve_one_thread_stay(self, tmp_path):
        """As connections do."""
        with contextlib.closing(sqlite3.connect(tmp_path / "x")) as connection:

            def ask(pair):
                one, number = pair
                time.sleep(NAP_SECONDS)
                return one.execute("select ?", (number,)).fetchone()[0]

            assert list(amorsize.map(ask, [(connection, n) for n in range(8)])) == list(range(8))

    def test_a_call_of_a_module_that_is_being_imported_does_not(self, tmp_path, python):
        """A thread that imports a part of it would wait for ever."""
        package = tmp_path / "half_imported"
        package.mkdir()
        (package / "__init__.py").write_text("from .data import TABLE\n")
        (package / "util.py").write_text("ONE = 1\n")
        (package / "data.py").write_text(
            "import time, amorsize\n"
            "def load(number):\n"
            "    time.sleep(0.02)\n"
            "    from . import util\n"
            "    return number + util.ONE\n"
            "TABLE = list(amorsize.map(load, range(8)))\n"
        )
        done = python("-c", "import half_imported; print(half_imported.TABLE)", cwd=tmp_path)

        assert done.stdout.strip() == str(list(range(1, 9))), done.stderr

    def test_what_a_profile_says_is_not_enough(self):
        """Programs that a function runs are not seen by it, so items show anew that they wait."""
        code = "import time\nend = time.process_time() + 0.05\nwhile time.process_time() < end: pass"

        def run(number):
            subprocess.run([sys.executable, "-S", "-c", code], check=True)
            return number

        for _ in range(3):
            stream = amorsize.map(run, range(4))
            list(stream)
            assert stream.plan is None or stream.plan.backend != "threads"

    def test_work_that_turns_out_to_compute_is_found_out(self):
        """A first item that waited does not condemn the others to share one interpreter."""
        judge = Judge(0.0, 0.0)
        judge.begin(0.0)
        judge.working_seconds = 0.1
        assert judge.finds_computing(0.09)
        assert not judge.finds_computing(0.10)  # they have waited since
        assert not judge.finds_computing(0.29)  # they keep two cores busy, so they let each other run
        judge.working_seconds = 0.01
        assert not judge.finds_computing(0.30)  # that is too soon to tell


class TestNamed:
    """`backend="threads"`."""

    def test_items_run_in_copies_of_the_callers_context(self):
        """They see its variables, and what they set is theirs."""
        VARIABLE.set("the caller's")

        def look(number):
            before = VARIABLE.get()
            VARIABLE.set(number)
            return before

        assert set(amorsize.map(look, range(20), backend="threads", n_jobs=2)) == {"the caller's"}
        assert VARIABLE.get() == "the caller's"

    def test_a_call_within_an_item_runs_serially(self):
        """In the same thread."""

        def nested(number):
            inner = amorsize.map(lambda _: threading.get_ident(), range(3), backend="threads")
            return set(inner) == {threading.get_ident()}

        assert all(amorsize.map(nested, range(4), backend="threads", n_jobs=2))

    def test_the_width_is_the_users_where_one_is_given(self):
        """So many run at once, and no more."""
        gate = Gate(5)
        stream = amorsize.map(gate.pass_together, range(25), backend="threads", n_jobs=5)

        assert list(stream) == list(range(25))
        assert stream.plan.n_jobs == 5

    @pytest.mark.parametrize(("option", "match"), [({"timeout": 1}, "stopped"), ({"seed": 1}, "share")])
    def test_what_threads_cannot_do_is_refused_by_name(self, option, match):
        """Nothing runs."""
        with pytest.raises(amorsize.UnsupportedError, match=match):
            amorsize.map(abs, [1], backend="threads", **option)

    def test_it_contradicts_thread_safe(self):
        """Both were said, so neither is ignored."""
        with pytest.raises(amorsize.UnsupportedError, match="thread_safe"):
            amorsize.map(abs, [1], backend="threads", thread_safe=False)

    def test_nothing_need_be_pickled(self):
        """Neither functions, nor items of any input, nor results."""
        locks = [threading.Lock() for _ in range(6)]
        results = amorsize.map(lambda lock: lock, (lock for lock in locks), backend="threads", n_jobs=2)

        assert list(results) == locks

    def test_readers_may_refill_one_record(self):
        """Each item is what it was when it was read."""

        def refilled():
            record = [None]
            for number in range(50):
                record[0] = number
                yield record

        def later(record):
            time.sleep(0.001)
            return record[0]

        assert list(amorsize.map(later, refilled(), backend="threads", n_jobs=4)) == list(range(50))

    def test_the_first_error_in_order_is_raised(self):
        """What lies before it is handed out; others that had happened are told."""
        gate = threading.Event()

        def fail(number):
            if number == 1:
                gate.wait(GUARD_SECONDS)
                raise ValueError(number)
            if number == 3:
                gate.set()
                raise KeyError(number)
            return number

        stream = amorsize.map(fail, range(4), backend="threads", n_jobs=4, chunksize=1)
        results = [next(stream)]
        with pytest.raises(ValueError, match="1"):
            results.append(next(stream))

        assert results == [0]
        assert 1 in {failure.index for failure in stream.failures}

    def test_the_initializer_runs_in_each_thread(self):
        """Before its first item; if it fails, nothing runs there."""
        ready = threading.local()

        def prepare():
            ready.value = 1

        options = {"backend": "threads", "n_jobs": 3}
        assert set(amorsize.map(lambda _: ready.value, range(9), initializer=prepare, **options)) == {1}

        def set_variable():
            VARIABLE.set("the initializer's")

        results = amorsize.map(lambda _: VARIABLE.get(), range(9), initializer=set_variable, **options)
        assert set(results) == {"the initializer's"}

        def fail():
            raise OSError("no")

        with pytest.raises(amorsize.InitializerError) as caught:
            list(amorsize.map(abs, range(9), backend="threads", n_jobs=2, initializer=fail))
        assert isinstance(caught.value.__cause__, OSError)

    def test_overload_makes_it_narrower(self):
        """Errors that say so halve the width, and retries bring the results all the same."""
        now, most = 0, []
        lock = threading.Lock()

        def crowded(number):
            nonlocal now
            with lock:
                now += 1
                most.append(now)
            try:
                time.sleep(0.005)
                if now > 6:
                    raise OSError(errno.ECONNREFUSED, "too many")
            finally:
                with lock:
                    now -= 1
            return number

        results = amorsize.map(crowded, range(300), backend="threads", retries=50)

        assert list(results) == list(range(300))
        assert max(most[-50:]) < 16


class TestEnd:
    """What is left of a call."""

    def test_an_early_close_does_not_wait_for_what_cannot_be_stopped(self):
        """It is named, takes no further item, and nothing waits for it."""
        release, begun = threading.Event(), []

        def stuck(number):
            begun.append(number)
            if number:
                release.wait(GUARD_SECONDS)
            return number

        stream = amorsize.map(stuck, range(50), backend="threads", n_jobs=2)
        assert next(stream) == 0
        while len(begun) < 3:
            time.sleep(0.001)
        began = time.monotonic()
        with pytest.warns(RuntimeWarning, match="items 1, 2 of .* still run in threads"):
            stream.close()
        took = time.monotonic() - began
        release.set()
        for thread in threading.enumerate():
            if thread.name.startswith("amorsize"):
                thread.join(GUARD_SECONDS)

        assert took < GUARD_SECONDS / 2
        assert len(begun) == 3

    def test_the_exit_is_not_held_up(self, python):
        """By a thread that sleeps for an hour."""
        code = (
            "import amorsize, time, warnings\n"
            "warnings.simplefilter('ignore')\n"
            "stream = amorsize.map(lambda n: time.sleep(3600 * n), range(8), backend='threads', n_jobs=2)\n"
            "next(stream)\n"
            "stream.close()\n"
            "print('closed')\n"
        )
        began = time.monotonic()

        assert python("-c", code).stdout.split() == ["closed"]
        assert time.monotonic() - began < GUARD_SECONDS

    def test_ctrl_c_ends_it(self, python):
        """Although items go on."""
        code = (
            "import amorsize, os, signal, threading, time\n"
            "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "try:\n"
            "    list(amorsize.map(lambda n: time.sleep(3600), range(8), backend='threads', n_jobs=2))\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted')\n"
        )

        assert python("-W", "error", "-c", code).stdout.split() == ["interrupted"]

    def test_a_forked_child_has_threads_of_its_own(self):
        """And gets every result that was still to come."""
        if not hasattr(os, "fork"):
            pytest.skip("no fork here")
        stream = amorsize.map(nap, range(40), backend="threads", n_jobs=4)
        assert next(stream) == 0
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            signal.alarm(GUARD_SECONDS)
            right = list(stream) == list(range(1, 40))
            os.write(write, b"y" if right else b"n")
            os._exit(0)
        rest = list(stream)
        os.waitpid(child, 0)
        told = os.read(read, 1)
        os.close(read)
        os.close(write)

        assert rest == list(range(1, 40))
        assert told == b"y"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (OSError(errno.EMFILE, "many"), True),
        (urllib.error.HTTPError("u", 429, "m", None, None), True),
        (urllib.error.HTTPError("u", 404, "m", None, None), False),
        (urllib.error.URLError(ConnectionResetError()), True),
        (FileNotFoundError(errno.ENOENT, "x"), False),
        (ValueError("503"), False),
    ],
    ids=repr,
)
def test_overload_is_told_from_other_errors(error, expected):
    """By class, number or status, wherever a library keeps it."""
    assert is_overload(error) is expected


def test_overload_is_found_behind_a_librarys_error():
    """As the cause of it, or in its response."""

    class Response:
        status_code = 503

    class LibraryError(Exception):
        pass

    error = LibraryError()
    error.response = Response()
    wrapped = RuntimeError()
    wrapped.__cause__ = TimeoutError()

    assert is_overload(error)
    assert is_overload(wrapped)

"""What must stay true wherever items run; laziness and equal answers stand in the contract's tests."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing.process
import os
import stat
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest

import amorsize
from amorsize import context
from amorsize.cache import disk, lookup
from amorsize.cache.lookup import Found
from amorsize.code import fingerprint
from amorsize.plan.profile import WorkProfile
from amorsize.state import reset_all

GUARD_SECONDS = 30


@pytest.fixture
def log(tmp_path):
    """Give a path to append to, one line a start of an item, from any process; and the counter of its lines."""
    path = str(tmp_path / "log")

    def count():
        return Counter(int(line.split()[0]) for line in Path(path).read_text().splitlines())

    return path, count


def logging(path, *, spin_seconds=0.0, fails=(), dies=()):
    """Return a function that travels by value, writes down each start of an item at `path`, and doubles it.

    An item computes for `spin_seconds`; those in `fails` raise; those in `dies` kill their process, if it is a worker.
    """
    home = os.getpid()

    def function(item):
        import os
        from time import perf_counter

        began = perf_counter()
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{item} {os.getpid()}\n".encode())
        os.close(handle)
        if item in dies and os.getpid() != home:
            os._exit(3)
        if item in fails:
            raise KeyError(item)
        while perf_counter() - began < spin_seconds:
            pass
        return item * 2

    return function


def places(path):
    """Return the processes that ran items."""
    return {int(line.split()[1]) for line in Path(path).read_text().splitlines()}


class TestExactlyOnce:
    """An item's evaluation starts once; again only by retries, or for results that were lost with a worker."""

    def test_every_item_starts_once(self, anywhere, log):
        """Measured items are real work: nothing runs twice, on any backend."""
        path, count = log

        results = list(amorsize.map(logging(path), range(200), **anywhere))

        assert results == [item * 2 for item in range(200)]
        assert count() == Counter(range(200))

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{}, {"backend": "processes"}, {"backend": "pool"}], ids=str)
    def test_items_that_are_handed_back_start_once(self, log, options, one_method):
        """Items that move between the caller and workers, or come back when a slice is over, start once too."""
        path, count = log
        given = {**one_method, **options} if options else {"start_method": one_method["start_method"], "n_jobs": 2}

        results = list(amorsize.map(logging(path, spin_seconds=0.004), iter(range(150)), **given))

        assert results == [item * 2 for item in range(150)]
        assert count() == Counter(range(150))

    def test_retries_start_only_what_failed(self, anywhere, log):
        """With `retries`, the failing item starts as often as allowed and the others once."""
        path, count = log
        function = logging(path, fails=(5,))

        results = list(amorsize.map(function, range(20), retries=1, on_error="return", **anywhere))

        assert isinstance(results[5], KeyError)
        assert count() == Counter([*range(20), 5])

    def test_neighbours_of_a_death_start_again_only_if_their_results_were_lost(self, log, one_method):
        """Under "return" the culprit starts once; neighbours once, or twice where their results went with it."""
        path, count = log
        function = logging(path, dies=(7,))

        results = list(amorsize.map(function, range(20), on_error="return", chunksize=10, **one_method))

        assert isinstance(results[7], amorsize.WorkerCrashError)
        assert results[:7] + results[8:] == [item * 2 for item in range(20) if item != 7]
        starts = count()
        assert starts[7] == 1
        assert all(starts[item] <= (2 if item < 7 else 1) for item in range(20))

    def test_an_abandoned_call_starts_nothing_more(self, one_method, log):
        """After `close` no further item starts, and none of those begun is begun again."""
        path, count = log
        stream = amorsize.map(logging(path), range(10_000), **one_method)
        next(stream)
        stream.close()
        amorsize.shutdown()

        assert set(count().values()) == {1}


class TestTuningNeverBreaksWork:
    """A wrong profile, a damaged cache, a full disk: the run goes on."""

    @pytest.mark.parametrize("content", [b"", b"\0" * 500, b"[" * 20_000, b'{"format": 1}', b"not text \xe9"])
    def test_a_damaged_cache_is_no_obstacle(self, log, content):
        """Whatever stands in the files, the work is done, and may be remembered anew."""
        path, count = log
        function = logging(path, spin_seconds=0.001)
        list(amorsize.map(function, range(5), n_jobs=1))
        list(amorsize.map(function, iter(range(5))))
        folder = Path(disk.folder())
        for file in folder.glob("*"):
            file.write_bytes(content)
        reset_all()

        assert list(amorsize.map(function, iter(range(5)))) == [item * 2 for item in range(5)]
        assert count() == Counter([*range(5)] * 3)

    def test_a_cache_that_cannot_be_made(self, log, monkeypatch, tmp_path):
        """A place that allows no folder costs the memory of this run, and nothing else."""
        (tmp_path / "file").touch()
        monkeypatch.setenv("AMORSIZE_CACHE_DIR", str(tmp_path / "file" / "cache"))

        results = list(amorsize.map(logging(log[0], spin_seconds=0.001), iter(range(5))))

        assert results == [item * 2 for item in range(5)]

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_cache_that_is_read_only(self, log, amorsize_cache):
        """Neither does a folder that may only be read matter."""
        amorsize_cache.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)

        results = list(amorsize.map(logging(log[0], spin_seconds=0.001), iter(range(5))))

        amorsize_cache.chmod(stat.S_IRWXU)
        assert results == [item * 2 for item in range(5)]

    def test_a_disk_that_is_full(self, log, monkeypatch):
        """An error at writing what was learnt is not the run's."""

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(disk, "write", full)

        results = list(amorsize.map(logging(log[0], spin_seconds=0.001), iter(range(5))))

        assert results == [item * 2 for item in range(5)]

    @pytest.mark.parametrize(
        ("seconds", "spin_seconds"), [(10.0, 0.0), (1e-9, 0.005)], ids=["says slow", "says free"]
    )
    def test_a_profile_that_is_wrong(self, log, monkeypatch, one_method, seconds, spin_seconds):
        """Work that is taken for slow and is free, or the other way round, is done right and once."""
        path, count = log
        wrong = Found(WorkProfile(1000, seconds, seconds / 2, seconds * 2, 1.0, 5.0, 5.0), "hit")
        monkeypatch.setattr(fingerprint, "remembers", lambda _: True)
        monkeypatch.setattr(lookup, "find", lambda *_, **__: wrong)

        results = list(
            amorsize.map(
                logging(path, spin_seconds=spin_seconds), range(60), start_method=one_method["start_method"], n_jobs=2
            )
        )

        assert results == [item * 2 for item in range(60)]
        assert count() == Counter(range(60))

    @pytest.mark.parametrize("what", ["__len__", "__length_hint__"])
    def test_an_input_that_lies_about_its_length(self, what):
        """A length that is too small, too large or an error changes no result."""
        for told in (0, 3, 10**6, -1, ValueError("no idea")):

            def tell(self, told=told):
                if isinstance(told, Exception):
                    raise told
                return told

            def step(self):
                self.left -= 1
                if self.left < 0:
                    raise StopIteration
                return self.left

            def again(self):
                return self

            lying = type("Lying", (), {what: tell, "__iter__": again, "__next__": step, "left": 1000})()

            assert sum(amorsize.map(abs, lying)) == sum(range(1000))

    @pytest.mark.parametrize(
        "items",
        [
            range(50_000),
            (number for number in range(50_000)),
        ],
        ids=["length", "no length"],
    )
    def test_no_thread_to_be_had(self, monkeypatch, items):
        """Where no thread can be started, work goes on without watching."""

        def refuse(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)

        assert list(amorsize.map(lambda number: number, items)) == list(range(50_000))


class TestExplicitIsObeyed:
    """A backend that is named gets every item, or the call is refused."""

    @pytest.mark.parametrize("place", ["argument", "decorator", "config", "environment"])
    def test_every_item_goes_where_it_was_sent(self, log, one_method, monkeypatch, place):
        """However it is named, not one item runs in the caller, were it ever so cheap."""
        path, _ = log
        function = logging(path)
        with contextlib.ExitStack() as stack:
            if place == "argument":
                stream = amorsize.map(function, range(30), **one_method)
            elif place == "decorator":
                stream = amorsize.map(amorsize.parallelize(**one_method)(function), range(30))
            elif place == "config":
                stack.enter_context(amorsize.config(**one_method))
                stream = amorsize.map(function, range(30))
            else:
                for name, value in one_method.items():
                    monkeypatch.setenv(f"AMORSIZE_{name.upper()}", str(value))
                stream = amorsize.map(function, range(30))
            results = list(stream)

        assert results == [item * 2 for item in range(30)]
        assert os.getpid() not in places(path)
        assert len(places(path)) <= 2

    def test_serial_is_obeyed(self, log):
        """Under "serial" every item runs in the caller, were it ever so slow."""
        list(amorsize.map(logging(log[0], spin_seconds=0.02), range(20), backend="serial"))

        assert places(log[0]) == {os.getpid()}

    def test_one_worker_is_one_worker(self, log, one_method):
        """`n_jobs=1` under "processes" is one worker, not the caller."""
        list(amorsize.map(logging(log[0]), range(20), **{**one_method, "n_jobs": 1}))

        assert os.getpid() not in places(log[0])
        assert len(places(log[0])) == 1

    @pytest.mark.parametrize("backend", ["processes", "pool"])
    def test_what_cannot_be_done_is_refused_at_the_call(self, monkeypatch, backend):
        """A daemon process may not have children: naming them is an error before anything runs, and "auto" works."""
        monkeypatch.setitem(multiprocessing.process.current_process()._config, "daemon", True)

        with pytest.raises(amorsize.UnsupportedError, match="daemon"):
            amorsize.map(abs, [1], backend=backend)
        assert list(amorsize.map(abs, [-1])) == [1]

    def test_a_function_that_cannot_be_sent_is_refused(self, one_method):
        """Named workers that cannot have the function are an error, and nothing runs here instead."""
        lock, ran = threading.Lock(), []

        def function(item):
            ran.append(item)
            return lock

        with pytest.raises(amorsize.SerializationError):
            list(amorsize.map(function, range(3), **one_method))
        assert ran == []


class TestBounded:
    """Whatever the input's length, what is held is bounded, and threads do not confuse it."""

    @pytest.mark.parametrize("chunksize", [None, 10])
    def test_results_that_wait_are_bounded(self, one_method, chunksize):
        """A caller who takes one result of an endless input and pauses finds the input little further."""
        pulled = []

        def endless():
            while True:
                pulled.append(None)
                yield 1

        with amorsize.map(abs, endless(), chunksize=chunksize, **one_method) as stream:
            for _ in range(3):
                next(stream)
                threading.Event().wait(0.02)  # time in which an unbounded reader would read on

            assert len(pulled) <= 5000

    def test_the_input_is_read_by_the_thread_in_next(self, anywhere):
        """No thread of ours touches an input without a length."""
        threads = set()

        def items():
            for number in range(500):
                threads.add(threading.get_ident())
                yield number

        list(amorsize.map(abs, items(), **anywhere))

        assert threads == {threading.get_ident()}

    @pytest.mark.parametrize("backend", ["serial", "auto"])
    def test_threads_share_items_without_doubling_or_losing_any(self, backend):
        """Threads that read one iterator each get their own items, or are told to wait and ask again."""
        stream = amorsize.map(abs, range(3000), backend=backend)
        begin = threading.Barrier(3)
        shares = [[], [], []]

        def read(share):
            begin.wait(GUARD_SECONDS)
            while True:
                try:
                    share.append(next(stream))
                except ValueError:  # "generator already executing"
                    continue
                except StopIteration:
                    return

        threads = [threading.Thread(target=read, args=(share,)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(itertools.chain.from_iterable(shares)) == list(range(3000))


class TestNothingLeft:
    """Threads, processes and shared memory are looked after by the fixtures of all tests; here is the rest."""

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
    @pytest.mark.parametrize("ending", ["end", "error", "close", "drop", "death"])
    def test_descriptors_and_files(self, one_method, ending):
        """However a call ends, no descriptor and no temporary file is left once the workers are released."""

        def call():
            function = logging(os.devnull, fails=(50,) * (ending == "error"), dies=(50,) * (ending == "death"))
            stream = amorsize.map(function, range(100), **one_method)
            if ending in ("close", "drop"):
                next(stream)
                if ending == "close":
                    stream.close()
                del stream
            else:
                with contextlib.suppress(KeyError, amorsize.WorkerCrashError):
                    list(stream)
            amorsize.shutdown()

        call()  # what lasts until exit is there now
        before = sorted(os.listdir("/proc/self/fd")), sorted(os.listdir(tempfile.gettempdir()))
        call()

        assert len(os.listdir("/proc/self/fd")) <= len(before[0])
        new = set(os.listdir(tempfile.gettempdir())) - set(before[1])
        assert not [name for name in new if "amorsize" in name or name.startswith("pymp-")]


class TestInsideAWorker:
    """A call made inside a worker runs there, whatever backend it names."""

    @pytest.mark.parametrize("inner", ["auto", "processes", "pool"])
    def test_in_the_worker_and_in_its_threads(self, one_method, inner):
        """All nested items run in the worker's own process, from its main thread and from others."""

        def function(_):
            import os
            import threading

            import amorsize

            def call(found):
                found.extend(amorsize.map(lambda _: os.getpid(), range(5), backend=inner, n_jobs=2))

            found = []
            call(found)
            thread = threading.Thread(target=call, args=(found,))
            thread.start()
            thread.join()
            return set(found) == {os.getpid()} and len(found) == 10

        assert list(amorsize.map(function, range(2), **one_method)) == [True, True]

    def test_a_context_variable_tells(self):
        """Code that runs on behalf of a worker is known by its context, and sends nothing away."""
        token = context.in_worker.set(True)
        try:
            stream = amorsize.map(lambda _: os.getpid(), range(3), backend="processes")
        finally:
            context.in_worker.reset(token)

        assert set(stream) == {os.getpid()}

"""Workers that stay: when they are used again, when not, and how they go."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import threading
from functools import partial

import pool_workers
import psutil
import pytest
from conftest import FORKED
from pool_workers import pid_after_meeting

import amorsize
from amorsize.backends.processes import idle as warm
from amorsize.backends.processes import lease as pool
from amorsize.backends.processes.handle import all_workers


@pytest.fixture
def pids(one_method, tmp_path):
    """Give a function that maps two items that meet, and returns the processes they ran in."""
    calls = iter(range(1000))

    def run(**options):
        place = tmp_path / str(next(calls))
        place.mkdir()
        return frozenset(amorsize.map(pid_after_meeting, [str(place)] * 2, chunksize=1, **{**one_method, **options}))

    return run


class TestReuse:
    """A call takes the workers that an earlier one left."""

    def test_across_calls_and_functions(self, pids, one_method):
        """The same processes serve call after call, whatever they map."""
        first = pids()

        assert len(first) == 2
        assert pids() == first
        assert {-pid for pid in amorsize.map(pool_workers.pid_of_another, range(9), **one_method)} <= first

    def test_a_function_is_sent_once_to_each_worker(self, processes, tmp_path):
        """Further chunks and calls do not send it again."""
        shipped = pool_workers.Shipped(tmp_path)

        for _ in range(3):
            list(amorsize.map(shipped, range(20), chunksize=1, **processes))

        rebuilt = pool_workers.notes(tmp_path)
        assert len(rebuilt) == len(set(rebuilt)) <= 2

    def test_an_iterator_that_is_closed_leaves_its_workers(self, pids, one_method):
        """Closing, abandoning or leaving an iterator with short items half-way does not cost its workers."""
        first = pids()
        stream = amorsize.map(pool_workers.pid_of, range(100_000), chunksize=1, **one_method)
        next(stream)
        stream.close()
        stream = amorsize.map(pool_workers.pid_of, range(100_000), chunksize=1, **one_method)
        next(stream)
        del stream

        assert pids() == first

    def test_an_error_leaves_the_workers(self, pids, one_method):
        """An item that fails costs no worker."""
        first = pids()
        with pytest.raises(ZeroDivisionError):
            list(amorsize.map(partial(divmod, 1), [1, 0, *range(1, 50)], chunksize=1, **one_method))

        assert pids() == first

    def test_a_cancelled_call_does_not_cancel_an_older_one(self, one_method):
        """A worker that a newer call gave back after cancelling it works for an older call all the same."""
        older = amorsize.map(pool_workers.pid_of, range(200), chunksize=1, retries=2, **one_method)
        first = next(older)
        newer = amorsize.map(pool_workers.pid_of, range(200), chunksize=1, **one_method)
        next(newer)
        newer.close()
        os.kill(first, 9)

        assert len(list(older)) == 199

    def test_threads_do_not_share_a_worker_at_once(self, one_method, tmp_path):
        """Two calls under way at the same time, in two threads, have workers of their own."""
        seen = {}
        start = threading.Barrier(2)

        def call(name):
            place = tmp_path / name
            place.mkdir()
            start.wait()
            with amorsize.map(pid_after_meeting, [str(place)] * 2, chunksize=1, **one_method) as stream:
                seen[name] = {next(stream)}
                start.wait()
                seen[name].update(stream)

        threads = [threading.Thread(target=call, args=(name,)) for name in ("one", "other")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(seen["one"] | seen["other"]) == 4


class TestRelease:
    """Workers go."""

    def test_by_themselves(self, processes, monkeypatch):
        """An idle worker leaves after the idle time, without a word from the caller."""
        monkeypatch.setattr(warm, "IDLE_SECONDS", 0.05)
        list(amorsize.map(pool_workers.pid_of, range(4), chunksize=1, **processes))
        workers = [psutil.Process(worker.process.pid) for worker in all_workers() if worker.process.is_alive()]

        _, alive = psutil.wait_procs(workers, timeout=pool_workers.GUARD_SECONDS)

        assert alive == []
        assert list(amorsize.map(abs, [-1], **processes)) == [1]

    def test_not_taken_when_about_to_leave(self, pids):
        """A worker whose time is nearly over is not given work: it could leave just then."""
        first = pids()
        warm._idle[:] = [(kind, worker, 0.0) for kind, worker, _ in warm._idle]

        assert not pids() & first

    def test_shutdown(self, pids):
        """`shutdown` returns when the warm workers are gone, and the next call has new ones."""
        first = pids()

        amorsize.shutdown()

        assert not any(psutil.pid_exists(pid) for pid in first)
        assert warm.warm_count() == 0
        assert not pids() & first

    def test_shutdown_leaves_a_call_alone(self, one_method):
        """Workers of a call that is under way finish it."""
        stream = amorsize.map(abs, range(-50, 0), chunksize=1, **one_method)
        next(stream)

        amorsize.shutdown()

        assert list(stream) == list(range(49, 0, -1))

    def test_few_are_kept(self, one_method):
        """However wide calls were, only a few idle workers are kept for each core."""
        wide = {**one_method, "n_jobs": 4 * warm.machine.cores() + 2}
        list(amorsize.map(abs, range(40), chunksize=1, **wide))

        assert warm.warm_count() <= 4 * warm.machine.cores()

    def test_descriptors_are_given_back(self, one_method):
        """After `shutdown` the process has as many descriptors as before."""
        list(amorsize.map(abs, range(4), **one_method))
        amorsize.shutdown()
        before = psutil.Process().num_fds()

        for _ in range(3):
            list(amorsize.map(abs, range(4), chunksize=1, **one_method))
            amorsize.shutdown()

        assert psutil.Process().num_fds() == before

    @FORKED
    def test_one_that_grew_is_replaced(self, monkeypatch):
        """A worker that has grown beyond the limit makes room for a new one between chunks; no result is lost."""
        monkeypatch.setattr(pool, "MEMORY_GROWTH_BYTES", 40 << 20)
        monkeypatch.setattr("amorsize.child.main._MEMORY_SECONDS", 0.0)  # inherited by fork

        grown = list(amorsize.map(pool_workers.grow, range(24), backend="processes", n_jobs=2, start_method="fork"))

        assert len(grown) == 24
        assert len(set(grown)) >= 4

    @FORKED
    def test_those_without_the_callers_tracker_are_replaced(self, monkeypatch):
        """Once the caller has a tracker of shared memory, workers forked before get no more chunks; nothing is lost."""
        runs = []
        monkeypatch.setattr(warm, "tracker_runs", lambda: bool(runs))

        def items():
            for number in range(40):
                if number == 20:
                    runs.append(True)
                yield number

        options = {"backend": "processes", "n_jobs": 2, "start_method": "fork", "chunksize": 1}
        pids = list(amorsize.map(pool_workers.pid_of, items(), **options))
        again = set(amorsize.map(pool_workers.pid_of, range(20), **options))

        assert len(pids) == 40
        assert not {*pids[:20]} & {*pids[20:], *again}
        assert warm.warm_count() == 2


class TestKinds:
    """Workers that were started for another world are not used."""

    def test_a_changed_environment(self, pids, one_method, monkeypatch):
        """New workers see the new environment."""
        first = pids()
        monkeypatch.setenv("AMORSIZE_TEST_COLOUR", "green")

        assert not pids() & first
        assert set(amorsize.map(pool_workers.environment, ["AMORSIZE_TEST_COLOUR"] * 4, **one_method)) == {"green"}

    def test_a_changed_folder(self, pids, one_method, monkeypatch, tmp_path):
        """New workers start in the new folder."""
        first = pids()
        monkeypatch.chdir(tmp_path)

        assert not pids() & first
        assert set(amorsize.map(pool_workers.folder, range(4), **one_method)) == {str(tmp_path)}

    def test_a_changed_path(self, pids, one_method, monkeypatch, tmp_path):
        """Modules that only the new `sys.path` finds are found by new workers."""
        first = pids()
        (tmp_path / "amorsize_test_newcomer.py").write_text("def double(number): return 2 * number\n")
        monkeypatch.syspath_prepend(tmp_path)
        newcomer = importlib.import_module("amorsize_test_newcomer")

        assert list(amorsize.map(newcomer.double, [4], **one_method)) == [8]
        assert not pids() & first

    @FORKED
    def test_another_start_method(self, pids):
        """Workers started another way are others."""
        assert not pids(start_method="fork") & pids(start_method="spawn")

    @pytest.mark.parametrize("star", [False, True])
    def test_an_edited_module(self, one_method, monkeypatch, tmp_path, star):
        """A module that was edited and reloaded is the new one in workers too."""
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.delitem(sys.modules, "amorsize_test_edited", raising=False)
        path = tmp_path / "amorsize_test_edited.py"
        path.write_text("def answer(*numbers): return 'old'\n")
        monkeypatch.syspath_prepend(tmp_path)
        edited = importlib.import_module("amorsize_test_edited")
        inputs = [range(4)] * (2 if star else 1)
        assert set(amorsize.map(edited.answer, *inputs, **one_method)) == {"old"}

        path.write_text("def answer(*numbers): return 'newer'\n")
        importlib.reload(edited)

        assert set(amorsize.map(edited.answer, *inputs, **one_method)) == {"newer"}

    def test_an_initializer_by_its_arguments(self, pids):
        """Equal arguments mean the same workers, though they were made anew; other ones mean others."""
        first = pids(initializer=len, initargs=(str(1000),))

        assert pids(initializer=len, initargs=(str(1000),)) == first
        assert not pids(initializer=len, initargs=("abc",)) & first


class TestForks:
    """The user's program forks."""

    @pytest.mark.parametrize("method", ["fork", "forkserver"])
    def test_a_forked_child_has_workers_of_its_own(self, method, tmp_path, python):
        """The child leaves its parent's workers alone, maps with its own, and ends at once; the parent's stay."""
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(
                f"""
                import os, sys, time
                import amorsize
                def pid(_): return os.getpid()
                def gated(number):
                    while number and not os.path.exists({str(tmp_path / "gate")!r}):
                        time.sleep(0.01)
                options = dict(backend="processes", n_jobs=2, start_method={method!r}, chunksize=1)
                ours = set(amorsize.map(pid, range(50), **options))
                half = amorsize.map(gated, range(50), **options)  # its results are not there when the child asks
                next(half)
                child = os.fork()
                if child == 0:
                    try:
                        list(half)
                    except amorsize.AmorsizeError as error:
                        print("refused" if "forked" in str(error) else error)
                    theirs = set(amorsize.map(pid, range(50), **options))
                    print("apart" if theirs and not theirs & ours else "mixed", flush=True)
                    sys.exit()
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                open({str(tmp_path / "gate")!r}, "w").close()
                print(len(list(half)))
                print(bool(set(amorsize.map(pid, range(50), **options)) & ours))
                """
            )
        )

        child = python(script)

        assert child.stderr == ""
        assert child.stdout.splitlines() == ["refused", "apart", "0", "49", "True"]

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_a_process_of_the_users_ends_at_once(self, method, tmp_path, python):
        """A `multiprocessing.Process` that mapped does not wait, at its end, for the workers' idle time."""
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(
                f"""
                import multiprocessing, os
                import amorsize
                def work():
                    print(list(amorsize.map(abs, [-1, -2], backend="processes", n_jobs=2, start_method={method!r})))
                if __name__ == "__main__":
                    child = multiprocessing.get_context("fork").Process(target=work)
                    child.start()
                    child.join(20)
                    print(child.exitcode)
                """
            )
        )

        child = python(script)

        assert child.stderr == ""
        assert child.stdout.splitlines() == ["[1, 2]", "0"]

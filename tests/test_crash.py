"""Workers that die: busy, idle, in the middle of a message, for good or once; under every start method."""

from __future__ import annotations

import os
import signal
import textwrap
from collections import Counter
from functools import partial

import pool_workers
import pytest
from pool_workers import Always, Noting, Once, die, die_half_way_through_the_results, leave

import amorsize
from amorsize.backends.processes.handle import all_workers

SQUARES = [number**2 for number in range(1000)]
LARGE = 300_000


def drain(stream):
    """Return the results before an error, and the error."""
    results = []
    try:
        for result in stream:
            results.append(result)  # noqa: PERF402 - what came before the error counts
    except amorsize.AmorsizeError as error:
        return results, error
    return results, None


def large(number):
    return bytes([number]) * LARGE


class TestCulprit:
    """A worker dies while it runs an item."""

    def test_the_error_names_the_item_of_a_long_chunk(self, processes):
        """The item that ran is known, results before the loss come first, and what went with the worker is counted."""
        results, error = drain(amorsize.map(Always(137, die), range(1000), chunksize=1000, **processes))

        assert isinstance(error, amorsize.WorkerCrashError)
        assert error.index == 137
        assert error.exitcode == -signal.SIGKILL
        assert len(results) + error.lost == 137
        assert results == SQUARES[: len(results)]
        assert "item 137" in str(error)
        assert "SIGKILL" in str(error)
        assert "memory" in str(error)
        assert error.free_memory > 0

    def test_the_exit_code_is_told(self, processes):
        """A worker that leaves in the middle of an item is an error too, with its exit code."""
        _, error = drain(amorsize.map(Always(3, leave), range(10), chunksize=1, **processes))

        assert (error.index, error.exitcode) == (3, 3)

    def test_one_retry_makes_up_for_one_death(self, processes, tmp_path):
        """With `retries` an item that kills its worker once has its result, and so have all others."""
        killing = Once(tmp_path, 137, die)

        assert list(amorsize.map(killing, range(1000), chunksize=500, retries=1, **processes)) == SQUARES

    def test_the_culprit_is_tried_so_often_and_no_oftener(self, processes, tmp_path):
        """An item that always kills its worker is started `retries` + 1 times, and then the error says so."""
        killing = Noting(tmp_path, Always(7, die))

        results, error = drain(amorsize.map(killing, range(20), chunksize=5, retries=2, **processes))

        assert results == SQUARES[:7]
        assert (error.index, error.tries) == (7, 3)
        assert pool_workers.notes(tmp_path).count("7") == 3

    def test_returned_in_the_culprits_place(self, processes):
        """With `on_error="return"` the error stands in the culprit's place, and every other item has its result."""
        stream = amorsize.map(Always(137, die), range(1000), chunksize=1000, on_error="return", **processes)
        results = list(stream)

        assert isinstance(results[137], amorsize.WorkerCrashError)
        assert results[:137] + results[138:] == SQUARES[:137] + SQUARES[138:]
        assert [failed.index for failed in stream.failures] == [137]

    def test_the_other_workers_items_run_once(self, processes, tmp_path):
        """Only what a dead worker had is run again: without retries, every item is started once at most."""
        killing = Noting(tmp_path, Always(11, die))

        drain(amorsize.map(killing, range(40), chunksize=1, **processes))

        assert set(Counter(pool_workers.notes(tmp_path)).values()) == {1}

    def test_a_death_does_not_count_against_the_chunks_behind(self, processes):
        """Short chunks that waited behind many culprits all have their results."""
        results = list(amorsize.map(DieAtTens(), range(100), chunksize=1, on_error="return", **processes))

        assert [number for number, result in enumerate(results) if isinstance(result, Exception)] == list(
            range(0, 100, 10)
        )


class DieAtTens:
    """Kills its worker at every tenth item."""

    def __call__(self, number):
        return number if number % 10 else die()


class TestMessages:
    """A worker dies while something is on its way."""

    def test_half_a_result_is_not_a_result(self, processes, tmp_path):
        """A worker that dies half-way through a message is replaced, and its items run again."""
        breaking = Once(tmp_path, 5, die_half_way_through_the_results)

        assert list(amorsize.map(breaking, range(20), chunksize=4, retries=1, **processes)) == SQUARES[:20]

    def test_the_first_lost_item_stands_for_a_lost_message(self, processes, tmp_path):
        """Without retries the error stands at the first item whose result did not arrive."""
        breaking = Once(tmp_path, 5, die_half_way_through_the_results)

        results, error = drain(amorsize.map(breaking, range(20), chunksize=4, **processes))

        assert results == SQUARES[:4]
        assert isinstance(error, amorsize.WorkerCrashError)
        assert error.lost >= 1

    @pytest.mark.parametrize("chunksize", [1, 5])
    def test_a_result_that_kills_is_no_endless_loop(self, processes, chunksize):
        """A result whose pickling kills the worker fails for good in the end; all others have theirs."""
        results = list(
            amorsize.map(
                pool_workers.lethal_result_at_three, range(10), chunksize=chunksize, on_error="return", **processes
            )
        )

        assert isinstance(results[3], amorsize.WorkerCrashError)
        assert results[:3] + results[4:] == [0, 1, 2, 4, 5, 6, 7, 8, 9]

    def test_an_item_that_kills_is_no_endless_loop(self, processes):
        """An item whose rebuilding kills every worker is an error after a few of them."""
        items = [0, pool_workers.LethalToReceive(), 2]

        results, error = drain(amorsize.map(type, items, chunksize=1, **processes))

        assert results == [int]
        assert (error.index, error.exitcode) == (1, 3)

    def test_large_results_survive_the_death_of_their_worker(self, processes, tmp_path):
        """What a worker wrote whole before its death counts."""
        killing = Once(tmp_path, 9, die)

        def work(number):
            killing(number)
            return large(number)

        results = list(amorsize.map(work, range(20), chunksize=1, retries=1, **processes))

        assert results == [large(number) for number in range(20)]


class TestIdle:
    """A worker dies between calls."""

    def test_dead_idle_workers_are_replaced(self, processes):
        """The next call after the death of all idle workers is as right as any."""
        list(amorsize.map(pool_workers.pid_of, range(10), chunksize=1, **processes))
        dead = [worker.process.pid for worker in all_workers()]
        for pid in dead:
            os.kill(pid, signal.SIGKILL)

        pids = set(amorsize.map(pool_workers.pid_of, range(10), chunksize=1, **processes))

        assert pids
        assert not pids & set(dead)

    def test_shutdown_does_not_wait_for_the_dead(self, processes):
        """Releasing workers that have died is no error."""
        list(amorsize.map(pool_workers.pid_of, range(4), **processes))
        for worker in all_workers():
            os.kill(worker.process.pid, signal.SIGKILL)

        amorsize.shutdown()

        assert all_workers() == []

    def test_a_worker_killed_between_results(self, processes):
        """A worker that dies while the caller looks elsewhere does not stop the rest of the call."""
        stream = amorsize.map(pool_workers.pid_of, range(400), chunksize=1, retries=3, **processes)
        pids = [next(stream)]
        os.kill(pids[0], signal.SIGKILL)

        pids += stream

        assert len(pids) == 400


class TestSurroundings:
    """Deaths in programs that do unusual things."""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    def test_a_forked_grandchild_hides_no_death(self, processes, tmp_path):
        """A worker's death is seen although a process that it forked lives on."""
        killing = Once(tmp_path, 2, partial(pool_workers.die_leaving_a_child, tmp_path))
        try:
            assert list(amorsize.map(killing, range(6), chunksize=1, retries=1, **processes)) == SQUARES[:6]
            assert pool_workers.notes(tmp_path) == []
        finally:
            pool_workers.note(tmp_path, "over")

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_a_program_that_ignores_its_childrens_ends(self, method, tmp_path, python):
        """Where the system gives nobody a child's exit code, a death is still an error, and an end is quiet."""
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(
                f"""
                import os, signal
                import amorsize
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                def die(number):
                    if number == 3:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return number
                options = dict(backend="processes", n_jobs=2, start_method={method!r}, chunksize=1)
                try:
                    list(amorsize.map(die, range(9), **options))
                except amorsize.WorkerCrashError as error:
                    print(error.index)
                print(list(amorsize.map(abs, range(3), **options)))
                amorsize.shutdown()
                print("over")
                """
            )
        )

        child = python(script)

        assert child.stderr == ""
        assert child.stdout.splitlines() == ["3", "[0, 1, 2]", "over"]

"""Faults that were seen once, each with the least that shows it."""

from __future__ import annotations

import multiprocessing
import os
import textwrap

import programs
import pytest
import workers

import amorsize
from amorsize.feed import pump as run_module
from amorsize.measure import machine

FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@FORK
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_users_pool_is_chunked_for_its_own_width(monkeypatch):
    """Chunks are cut for the pool's workers, however many cores there are."""
    widths = []
    chunk_length = run_module.chunk_length

    def noting(remaining, n_workers, *rest, **named):
        widths.append(n_workers)
        return chunk_length(remaining, n_workers, *rest, **named)

    monkeypatch.setattr(run_module, "chunk_length", noting)
    with multiprocessing.get_context("fork").Pool(5) as pool:
        stream = amorsize.map(workers.square, range(200), backend=pool)
        results = list(stream)
    pool.join()

    assert results == [number * number for number in range(200)]
    assert set(widths) == {5}
    assert (stream.plan.backend, stream.plan.n_jobs) == ("pool", 5)


def test_what_a_chunk_costs_is_learnt_by_route():
    """A slow standard Pool does not make chunks on our own workers longer."""
    ours = machine.seconds_per_chunk("processes/fork")
    for _ in range(20):
        machine.learn_chunk("pool/fork", 0.1)

    assert machine.seconds_per_chunk("processes/fork") == ours
    assert machine.seconds_per_chunk("pool/fork") > 10 * ours
    assert machine.machine_profile("spawn").seconds_per_chunk == ours
    assert machine.machine_profile("spawn", route="pool/fork").seconds_per_chunk > 10 * ours


class TestOptimize:
    """The advisor heeds what the call would heed."""

    def test_the_initializer_runs_before_the_sample(self):
        """What it sets is there for the sampled items."""
        state = {}

        def work(number):
            return state["ready"] + number

        plan = amorsize.optimize(work, range(10), initializer=state.update, initargs=({"ready": 1},), use_cache=False)

        assert plan.warnings == ()
        assert state == {"ready": 1}

    def test_options_of_a_decorated_function_count(self):
        """As for `map`, they stand below those of the call."""

        @amorsize.parallelize(backend="processes", n_jobs=3, chunksize=7)
        def work(number):
            return number

        plan = amorsize.optimize(work, range(100), use_cache=False)
        again = amorsize.optimize(work, range(100), use_cache=False, n_jobs=2)

        assert (plan.backend, plan.n_jobs, plan.chunksize) == ("processes", 3, 7)
        assert (again.backend, again.n_jobs, again.chunksize) == ("processes", 2, 7)


def test_the_length_is_right_after_a_withdrawal(tmp_path, python):
    """Results that come from the caller again are not counted twice."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import operator, threading, time
            import amorsize

            def work(number):
                time.sleep(0.005)
                return number if number < 50 else threading.Lock()

            if __name__ == "__main__":
                stream = amorsize.map(work, list(range(150)))
                left = [operator.length_hint(stream) for _ in stream]
                print(left[100:] == list(range(49, -1, -1)), left[-1])
            """
        )
    )

    child = python("-W", "ignore", script)

    assert child.stderr == ""
    assert child.stdout == "True 0\n"


@FORK
def test_a_child_of_the_first_item_has_the_usual_switch_interval(tmp_path, python):
    """The thread beside the first item asks for quicker turns; a child that the item forks does not keep them."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            import amorsize

            usual = sys.getswitchinterval()

            def work(number):
                if number == 0:
                    until = time.monotonic() + 10
                    while sys.getswitchinterval() == usual and time.monotonic() < until:
                        sum(range(1000))
                    inside = sys.getswitchinterval()
                    child = os.fork()
                    if child == 0:
                        os._exit(0 if sys.getswitchinterval() == usual else 1)
                    return inside != usual, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                return None

            first = next(amorsize.map(work, [0, 1, 2]))
            until = time.monotonic() + 10  # the thread beside the item ends by itself
            while sys.getswitchinterval() != usual and time.monotonic() < until:
                sum(range(1000))
            print(first, sys.getswitchinterval() == usual)
            """
        )
    )

    child = python("-W", "ignore", script)

    assert child.stdout == "(True, 0) True\n", child.stderr


@FORK
def test_workers_leave_the_callers_shared_memory_alone(tmp_path, python):
    """Workers that were forked before the caller had shared memory attach to it, leave, and it is still there."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import amorsize

            options = {"backend": "processes", "n_jobs": 2, "start_method": "fork"}

            def look(name):
                from multiprocessing.shared_memory import SharedMemory
                segment = SharedMemory(name)
                value = segment.buf[0]
                segment.close()
                return value

            list(amorsize.map(abs, range(10), **options))
            assert "multiprocessing.shared_memory" not in sys.modules
            from multiprocessing.shared_memory import SharedMemory
            for turn in range(2):
                segment = SharedMemory(create=True, size=10)
                segment.buf[0] = 7
                print(set(amorsize.map(look, [segment.name] * 8, **options)))
                amorsize.shutdown()
                again = SharedMemory(segment.name)
                print(again.buf[0])
                again.close()
                segment.close()
                segment.unlink()
            """
        )
    )

    child = python(script)

    assert child.stdout == "{7}\n7\n" * 2
    assert child.stderr == ""


SHARED_MEMORY = {
    "made by the input, during the call": """
        def look(segment):
            time.sleep(0.02)  # long enough for "auto" to have workers before the segment is there
            if segment is None:
                return 0
            value = segment.buf[0]
            segment.close()
            return value

        def items():
            yield from [None] * 20
            from multiprocessing.shared_memory import SharedMemory
            made.append(SharedMemory(create=True, size=10))
            made[0].buf[0] = 7
            for _ in range(20):
                yield SharedMemory(made[0].name)

        made = []
        print(list(MAP(look, items())))
        """,
    "made by items, for the caller": """
        def make(number):
            busy(0.003)
            from multiprocessing import shared_memory
            segment = shared_memory.SharedMemory(create=True, size=10)
            segment.buf[0] = number
            segment.close()
            return segment.name

        names = list(MAP(make, range(40)))
        amorsize.shutdown()
        from multiprocessing.shared_memory import SharedMemory
        made = [SharedMemory(name) for name in names]
        """,
    "made by items that call a helper": """
        put("helper", "def make(number):\\n    from multiprocessing.shared_memory import SharedMemory\\n"
            "    segment = SharedMemory(create=True, size=10)\\n    segment.buf[0] = number\\n"
            "    segment.close()\\n    return segment.name")
        import helper

        def make(number):
            busy(0.003)
            return helper.make(number)

        names = list(MAP(make, range(40)))
        amorsize.shutdown()
        from multiprocessing.shared_memory import SharedMemory
        made = [SharedMemory(name) for name in names]
        """,
}
FORKED_POOL = pytest.param("backend='pool', n_jobs=2, start_method='fork'", id="pool-fork", marks=FORK)
# A tracker's complaints, which come after the end, are then printed as well.
MERGED_OUTPUT = """
        os.dup2(1, 2)
        """
AFTERWARDS = """
        from multiprocessing.shared_memory import SharedMemory
        amorsize.shutdown()
        for segment in made:
            again = SharedMemory(segment.name)
            print(again.buf[0])
            again.close()
            segment.close()
            segment.unlink()
        """


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a segment ends with the last who has it open")
@pytest.mark.parametrize("options", [*programs.choices(), FORKED_POOL])
@pytest.mark.parametrize("name", SHARED_MEMORY)
def test_shared_memory_outlives_the_workers_that_had_it(name, options, tmp_path):
    """Workers have the caller's tracker of shared memory, also where nobody had one when the call began."""
    programs.assert_same(MERGED_OUTPUT + SHARED_MEMORY[name] + AFTERWARDS, options, tmp_path)


def test_the_demo_times_nobody_over_a_cold_disk(monkeypatch, tmp_path, capsys):
    """Every file is read before the first contender begins."""
    from pathlib import Path

    from amorsize.cli import demo

    paths = []
    for name in "abc":
        path = tmp_path / f"{name}.py"
        path.write_text("pass\n")
        paths.append(str(path))
    read = []
    read_bytes = Path.read_bytes

    def noting(path):
        read.append(str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", noting)
    monkeypatch.setattr(demo, "survey", lambda path: read.append("timed") or demo.ModuleFigures(path, 1))
    demo._time_all(paths, 1)

    assert read[: len(paths)] == paths
    assert capsys.readouterr().out

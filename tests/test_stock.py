"""Chunks on a standard Pool: a scripted one here, the real one in the contract's tests."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import threading
from multiprocessing.pool import ThreadPool

import pytest

import amorsize
from amorsize import context
from amorsize.backends import engine, stock
from amorsize.backends.base import Unsendable
from amorsize.backends.engine import Engine
from amorsize.backends.events import Chunk, Lost, Refused, Returned
from amorsize.backends.registry import Job
from amorsize.backends.stock import PoolTasks, open_backend
from amorsize.child import run_chunk, task
from amorsize.errors import SerializationError
from amorsize.transport.serialize import Outgoing

GUARD_SECONDS = 20


NUMBERS = itertools.count(10_000_000)  # beyond those of real processes


class Process:
    """A process of a pool; it lives until it has an exit code."""

    def __init__(self):
        self.exitcode = None
        self.killed = False
        self.pid = next(NUMBERS)

    def is_alive(self):
        return self.exitcode is None

    def kill(self):
        self.killed = True

    def join(self, timeout=None):
        pass


class Pool:
    """Keeps what it is given, and runs it here when the test says so."""

    def __init__(self):
        self._pool = [Process(), Process()]
        self.tasks = []
        self.said = []

    def apply_async(self, function, arguments, *, callback, error_callback):
        self.tasks.append((function, arguments, callback, error_callback))

    def answer(self, at=0):
        function, arguments, callback, _ = self.tasks.pop(at)
        callback(function(*arguments))

    def fail(self, error):
        self.tasks.pop(0)[3](error)

    def terminate(self):
        self.said.append("terminate")

    def close(self):
        self.said.append("close")

    def join(self):
        self.said.append("join")


class LoadedOnce:
    """Can be pickled, and rebuilt as often as the test allows."""

    allowed = 0

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return LoadedOnce.rebuild, (self.value,)

    @staticmethod
    def rebuild(value):
        if not LoadedOnce.allowed:
            raise ValueError("not again")
        LoadedOnce.allowed -= 1
        return LoadedOnce(value)


@pytest.fixture
def pool(monkeypatch):
    """Give a scripted pool; its worker's side may be run in this process."""
    monkeypatch.setattr(context, "worker_process", False)
    monkeypatch.setattr(task, "_stage", task._Stage())
    monkeypatch.setattr(task, "is_here", lambda asked: False)
    return Pool()


def begin(pool, function=abs, *, stop_at_error=False, own=False):
    job = Job(function, Outgoing(), 0, "fork", stop_at_error)
    backend = Engine(job, functools.partial(PoolTasks, job, pool))
    backend._tasks._own = own
    return backend


class TestChunks:
    """Chunks go out, results come in."""

    def test_results_come_back(self, pool):
        """A chunk's results are in order, with its position and the times it took."""
        backend = begin(pool)
        backend.submit(Chunk(10, [-1, -2, -3]), 0.0)
        assert backend.busy()
        pool.answer()

        (done,) = backend.wait()

        assert (done.first, done.values, done.failures) == (10, [1, 2, 3], {})
        assert done.seconds >= 0
        assert done.bytes_out > 0
        assert not backend.busy()

    def test_chunks_end_in_any_order(self, pool):
        """Each answer belongs to its own chunk."""
        backend = begin(pool)
        backend.submit(Chunk(0, [-1]), 0.0)
        backend.submit(Chunk(1, [-2]), 0.0)
        pool.answer(at=1)
        pool.answer()

        assert [(done.first, done.values) for done in backend.wait() + backend.wait()] == [(1, [2]), (0, [1])]

    def test_a_few_chunks_wait_behind_the_running_ones(self, pool):
        """There is room for two chunks a worker; a standard Pool has as many workers as it was made with."""
        backend = begin(pool)
        for first in range(4):
            assert backend.room(None)
            backend.submit(Chunk(first, [first]), 0.0)

        assert not backend.room(0.0)
        backend.resize(3)
        assert not backend.room(0.0)

    def test_an_error_stands_in_its_place(self, pool):
        """Items that raise are failures with their errors and items; the others have their results."""
        backend = begin(pool, int)
        backend.submit(Chunk(5, ["1", "x", "3"]), 0.0)
        pool.answer()

        (done,) = backend.wait()

        assert done.values == [1, None, 3]
        assert list(done.failures) == [6]
        assert type(done.failures[6].error) is ValueError
        assert done.failures[6].item == "x"

    def test_an_error_can_end_a_chunk(self, pool):
        """Where an error ends the call, the items behind it come back unstarted."""
        backend = begin(pool, int, stop_at_error=True)
        backend.submit(Chunk(5, ["1", "x", "3"]), 0.0)
        pool.answer()

        done, returned = backend.wait()

        assert (done.values, list(done.failures), returned) == ([1, None], [6], Returned(Chunk(7, ["3"])))

    def test_an_interrupt_ends_a_chunk(self, pool):
        """`KeyboardInterrupt` in an item is for the caller to decide about; nothing runs after it."""

        def leave(_):
            raise KeyboardInterrupt

        backend = begin(pool, leave)
        backend.submit(Chunk(0, [1, 2]), 0.0)
        pool.answer()

        done, returned = backend.wait()

        assert type(done.failures[0].error) is KeyboardInterrupt
        assert returned == Returned(Chunk(1, [2]))

    def test_a_slice_that_is_over_hands_back_the_rest(self, pool, monkeypatch):
        """An item that outlasts the slice is finished; those behind it come back."""
        ticks = iter([0.0, 0.01, 0.04, 0.04])
        backend = begin(pool)
        backend.submit(Chunk(0, range(-4, 0)), 0.03)
        monkeypatch.setattr(run_chunk, "perf_counter", lambda: next(ticks))
        pool.answer()
        monkeypatch.undo()

        done, returned = backend.wait()

        assert done.values == [4, 3]
        assert (returned.chunk.first, list(returned.chunk.items)) == (2, [-2, -1])
        context.worker_process = False

    def test_an_item_that_cannot_be_sent_is_named(self, pool):
        """The item at fault is told, and nothing of its chunk was sent."""
        backend = begin(pool)

        with pytest.raises(Unsendable) as caught:
            backend.submit(Chunk(7, [1, threading.Lock(), 3]), 0.0)

        assert caught.value.index == 8
        assert not backend.busy()
        assert pool.tasks == []

    def test_an_item_that_cannot_be_rebuilt_is_its_own_error(self, pool):
        """What a worker cannot rebuild fails alone, with an error that says so."""
        LoadedOnce.allowed = 0
        backend = begin(pool, type)
        backend.submit(Chunk(0, [1, LoadedOnce(2), 3]), 0.0)
        pool.answer()

        (done,) = backend.wait()

        assert done.values == [int, None, int]
        assert isinstance(done.failures[1].error, SerializationError)

    def test_a_result_that_cannot_be_sent_is_its_own_error(self, pool):
        """A result that cannot come back fails alone."""
        backend = begin(pool, lambda number: threading.Lock() if number == 1 else number)
        backend.submit(Chunk(0, [0, 1, 2]), 0.0)
        pool.answer()

        (done,) = backend.wait()

        assert done.values == [0, None, 2]
        assert isinstance(done.failures[1].error, SerializationError)

    def test_a_result_that_cannot_be_rebuilt_is_its_own_error(self, pool):
        """What the caller cannot rebuild fails alone."""
        LoadedOnce.allowed = 0
        backend = begin(pool, lambda number: LoadedOnce(number) if number == 1 else number)
        backend.submit(Chunk(0, [0, 1, 2]), 0.0)
        pool.answer()

        (done,) = backend.wait()

        assert done.values == [0, None, 2]
        assert isinstance(done.failures[1].error, SerializationError)

    def test_a_function_that_cannot_be_sent_is_refused_at_once(self, pool):
        """Nothing is started for a function that cannot cross."""
        lock = threading.Lock()

        with pytest.raises(SerializationError, match="cannot be sent to a worker"):
            begin(pool, lambda _: lock)

    def test_a_chunk_that_did_not_start_is_refused(self, pool):
        """An error of the pool itself refuses the chunk whole."""
        backend = begin(pool)
        backend.submit(Chunk(0, [1]), 0.0)
        error = ImportError("no such module there")
        pool.fail(error)

        assert backend.wait() == [Refused(Chunk(0, [1]), error)]

    def test_waiting_ends_with_its_time(self, pool):
        """Without an answer, a limited wait gives nothing."""
        backend = begin(pool)
        backend.submit(Chunk(0, [1]), 0.0)

        assert backend.wait(0.0) == []


    def test_nothing_is_started_for_it(self, monkeypatch):
        """Not even a pool of ours."""
        monkeypatch.setattr(stock, "_pool_for", lambda job: pytest.fail("a pool was started"))
        lock = threading.Lock()

        with pytest.raises(SerializationError, match="cannot be sent to a worker"):
            open_backend(Job(lambda _: lock, Outgoing(), 2, "fork"), None)


class TestDeaths:
    """A standard Pool waits for ever for a worker that died."""

    @pytest.fixture
    def broken(self, pool, monkeypatch):
        """Give a backend with two chunks of two items under way, and one of whose workers has died."""
        monkeypatch.setattr(engine, "_LOOK_SECONDS", 0.001)
        backend = begin(pool, own=True)
        backend.submit(Chunk(0, [-1, -2]), 0.0)
        backend.submit(Chunk(2, [-3, -4]), 0.0)
        self.begin(backend, 0, pool._pool[1])
        pool._pool[1].exitcode = -9
        return backend

    @staticmethod
    def begin(backend, number, process):
        """Have a process begin a task."""
        os.lseek(backend._tasks._notes, number * task.NOTE.size, os.SEEK_SET)
        os.write(backend._tasks._notes, task.NOTE.pack(number, process.pid))

    def test_a_death_is_noticed(self, broken):
        """The chunk that its worker had begun is lost."""
        (lost,) = broken.wait()

        assert lost == Lost(None, Chunk(0, [-1, -2]), None, -9, unknown=True)

    def test_it_need_not_be_the_oldest(self, pool, monkeypatch):
        """The others go on."""
        monkeypatch.setattr(engine, "_LOOK_SECONDS", 0.001)
        backend = begin(pool, own=True)
        for first in range(3):
            backend.submit(Chunk(first, [-first]), 0.0)
        self.begin(backend, 0, pool._pool[0])
        self.begin(backend, 1, pool._pool[1])
        pool._pool[1].exitcode = -9

        assert [event.finished for event in backend.wait()] == [Chunk(1, [-1])]
        pool.answer()
        assert backend.wait()[0].values == [0]

    def test_several_at_once(self, broken, pool):
        """Each has its chunk told."""
        self.begin(broken, 1, pool._pool[0])
        pool._pool[0].exitcode = -11

        assert [(event.finished.first, event.exitcode) for event in broken.wait()] == [(0, -9), (2, -11)]

    def test_a_death_before_anything_began(self, pool, monkeypatch):
        """After a while in which nobody begins the tasks, the oldest is taken for lost."""
        monkeypatch.setattr(engine, "_LOOK_SECONDS", 0.001)
        monkeypatch.setattr(stock, "_UNNOTED_SECONDS", 0.01)
        backend = begin(pool, own=True)
        backend.submit(Chunk(0, [-1]), 0.0)
        pool._pool[1].exitcode = -9

        assert [event.finished for event in backend.wait()] == [Chunk(0, [-1])]

    def test_a_late_answer_is_not_an_error(self, broken, pool):
        """The chunk that was given up may have been with another worker, and its answer still come."""
        broken.wait()
        pool.answer()
        pool.answer()

        assert [event.first for event in broken.wait()] == [2]

    def test_a_late_answer_is_not_taken_for_another_chunks(self, broken, pool):
        """When its items were submitted anew, in smaller chunks, the old answer does not double any of them."""
        (lost,) = broken.wait()
        broken.submit(Chunk(0, lost.finished.items[:1]), 0.0)
        broken.submit(Chunk(1, lost.finished.items[1:]), 0.0)
        for _ in range(4):
            pool.answer()

        events = [broken.wait()[0] for _ in range(3)]
        assert sorted((event.first, event.values) for event in events) == [(0, [1]), (1, [2]), (2, [3, 4])]

    def test_an_ordinary_exit_is_no_death(self, pool, monkeypatch):
        """Workers that a pool replaces in good order cost nothing."""
        monkeypatch.setattr(engine, "_LOOK_SECONDS", 0.001)
        backend = begin(pool)
        backend.submit(Chunk(0, [1]), 0.0)
        pool._pool[0].exitcode = 0
        pool._pool = [Process(), pool._pool[1]]

        assert backend.wait(0.01) == []

    def test_a_broken_pool_that_ends_is_left_to_itself(self, broken, pool):
        """Where `terminate` returns, nothing is killed."""
        broken.wait()
        broken.close(hurry=True)

        assert pool.said == ["terminate", "join"]
        assert not any(process.killed for process in pool._pool)

    def test_a_broken_pool_that_does_not_end_is_killed(self, broken, pool, monkeypatch):
        """The caller does not wait for a `terminate` that waits for a dead worker's lock."""
        monkeypatch.setattr(stock, "_END_SECONDS", 0.01)
        release, ended = threading.Event(), threading.Event()
        pool.terminate = lambda: (release.wait(GUARD_SECONDS), ended.set())
        broken.wait()
        try:
            broken.close(hurry=True)

            assert all(process.killed for process in pool._pool)
        finally:
            release.set()
            assert ended.wait(GUARD_SECONDS)


class TestEnds:
    """Whose pool it is decides what becomes of it."""

    def test_the_users_pool_is_left_as_it_was(self, pool):
        """A pool that was handed in is neither closed nor terminated."""
        backend = begin(pool)
        backend.submit(Chunk(0, [1]), 0.0)
        backend.close(hurry=True)
        backend.close()

        assert pool.said == []

    def test_our_pool_is_drained(self, pool):
        """A pool of ours that has nothing under way ends in good order, once."""
        backend = begin(pool, own=True)
        backend.close()
        backend.close()

        assert pool.said == ["close", "join"]

    @pytest.mark.parametrize("hurry", [False, True])
    def test_our_pool_is_terminated_in_mid_work(self, pool, hurry):
        """Nobody waits for chunks that nobody wants."""
        backend = begin(pool, own=True)
        backend.submit(Chunk(0, [1]), 0.0)
        backend.close(hurry=hurry)
        backend.close()

        assert pool.said == ["terminate", "join"]


def test_a_call_inside_a_pools_worker_runs_there(pool):
    """A worker of a standard Pool knows that it is one."""
    backend = begin(pool, lambda _: context.worker_process)
    backend.submit(Chunk(0, [1]), 0.0)
    pool.answer()

    assert backend.wait()[0].values == [True]


def test_the_function_is_rebuilt_once(pool):
    """A worker keeps the function from chunk to chunk."""
    backend = begin(pool)
    rebuilt = []
    for first in range(3):
        backend.submit(Chunk(first, [first]), 0.0)
        pool.answer()
        rebuilt.extend(kept.function for kept in task._stage._functions.values())

    assert rebuilt == [abs] * 3
    assert len(task._stage._functions) == 1


def test_a_pool_of_threads_is_in_this_process():
    """It is derived from one of processes, and nothing is pickled for it; what threads share is refused."""
    locks = [threading.Lock() for _ in range(20)]
    with ThreadPool(2) as threads:
        assert list(amorsize.map(lambda lock: lock, locks, backend=threads)) == locks
        with pytest.raises(amorsize.UnsupportedError, match="seed="):
            amorsize.map(abs, [-1], backend=threads, seed=1)
        assert threads.apply(abs, (-1,)) == 1
    assert not context.worker_process


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a platform without it")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_stopped_workers_leave_no_thread_behind():
    """Killed while they hold the pool's locks, they would keep the thread that ends it waiting for ever."""
    backend = open_backend(Job(len, Outgoing(), 2, multiprocessing.get_all_start_methods()[0]), None)
    for process in backend._tasks._processes:
        os.kill(process.pid, signal.SIGSTOP)
    for first in range(4):
        backend.submit(Chunk(first, [bytes(1 << 20)]), 0.0)
    backend.close(hurry=True)

    assert [thread.name for thread in threading.enumerate() if thread.name == "amorsize-pool-end"] == []

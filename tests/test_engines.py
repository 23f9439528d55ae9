"""Work on executors of the user's own: what crosses, what is refused, what a death does, and what is left."""

from __future__ import annotations

import contextvars
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import engine_workers as workers
import pytest

import amorsize
from amorsize import context
from amorsize.backends.events import Chunk, Lost
from amorsize.cache import lookup
from amorsize.child import task
from amorsize.feed.feed import Feed
from amorsize.feed.outcome import Outcome

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2, "the-users") as executor:
        yield executor


@pytest.fixture
def processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context(METHOD)) as executor:
        yield executor


class OtherThreads(ThreadPoolExecutor):
    """An executor that amorsize does not know, whose workers are in this process."""


class Answering(Executor):
    """An executor whose worker gives one answer to whatever it is asked."""

    def __init__(self, answer):
        self.answer = answer

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(False if isinstance(function, task.Asking) else self.answer)
        return future


class TestThreads:
    """Workers that are threads of this process share it."""

    @pytest.fixture(params=[ThreadPoolExecutor, OtherThreads])
    def executor(self, request):
        with request.param(2, "the-users") as executor:
            yield executor

    def test_nothing_is_pickled(self, executor):
        """Items and results are the objects themselves, which need not be picklable."""
        locks = [threading.Lock() for _ in range(20)]

        results = list(amorsize.map(lambda lock: lock, locks, backend=executor))

        assert all(result is lock for result, lock in zip(results, locks, strict=True))

    def test_they_run_in_its_threads(self, executor):
        """The executor's own, and none of ours; it stays as it was."""
        names = set(amorsize.map(lambda _: threading.current_thread().name, range(50), backend=executor))

        assert all(name.startswith("the-users") for name in names)
        assert executor.submit(abs, -1).result() == 1
        assert not context.worker_process

    def test_items_have_the_callers_context(self, executor):
        """Each item has a copy of it, so that what one sets reaches neither the others nor the caller."""
        variable.set("caller's")

        def look(number):
            seen = variable.get()
            variable.set(number)
            return seen

        assert set(amorsize.map(look, range(30), backend=executor)) == {"caller's"}
        assert variable.get() == "caller's"

    def test_a_seed_is_refused(self, executor):
        """It sets the state of the whole process, which threads share."""
        with pytest.raises(amorsize.UnsupportedError, match="seed="):
            list(amorsize.map(abs, [1, 2], backend=executor, seed=1))

    def test_iterators_among_items_are_refused(self, executor):
        """They might take from one another; the text says which item."""
        with pytest.raises(amorsize.SerializationError, match="item 1"):
            list(amorsize.map(list, [[1], iter([2])], backend=executor))


def test_n_jobs_is_obeyed():
    """No more items run at once than were asked for, though the executor has more workers."""
    running, most = [], []

    def count(number):
        running.append(number)
        most.append(len(running))
        threading.Event().wait(0.001)
        running.remove(number)

    with ThreadPoolExecutor(8) as executor:
        stream = amorsize.map(count, range(60), backend=executor, n_jobs=2)
        list(stream)

    assert max(most) <= 2
    assert stream.plan.n_jobs == 2


    def test_nothing_begins_after_the_end(self, executor):
        """Not even the rest of a chunk that runs."""
        begun = []

        def note(number):
            begun.append(number)
            time.sleep(0.005)

        stream = amorsize.map(note, range(500), backend=executor, chunksize=200)
        with pytest.raises(TypeError), stream:
            raise TypeError
        list(executor.map(abs, range(4)))  # what runs has ended
        assert begun == []
        stream = amorsize.map(note, range(500), backend=executor, chunksize=5)
        next(stream)
        stream.close()
        executor.submit(abs, 1).result()
        seen = len(begun)
        assert seen < 100
        executor.submit(time.sleep, 0.02).result()
        assert len(begun) <= seen + 2


class Bounded(ThreadPoolExecutor):
    """An executor whose `submit` is interrupted once two tasks have come."""

    def __init__(self):
        super().__init__(1)
        self.tasks = 0

    def submit(self, function, *arguments):
        if not isinstance(function, task.Asking):
            self.tasks += 1
            if self.tasks > 2:
                raise KeyboardInterrupt
        return super().submit(function, *arguments)


def test_an_interrupt_while_a_task_is_submitted_comes_out():
    """As itself."""
    with Bounded() as executor, pytest.raises(KeyboardInterrupt):
        list(amorsize.map(abs, range(100), backend=executor, chunksize=1))


@pytest.mark.parametrize(("n_jobs", "most"), [(1, 1), (3, 3), (-1, 5), (-2, 4), (-9, 1), (9, 5)])
def test_n_jobs_counts_the_executors_workers(n_jobs, most):
    """As it counts the cores elsewhere."""
    with ThreadPoolExecutor(5) as executor:
        stream = amorsize.map(abs, range(10), backend=executor, n_jobs=n_jobs)
        list(stream)

    assert stream.plan.n_jobs == most


class TestProcesses:
    """Workers elsewhere are sent what they need."""

    def test_a_long_function_crosses_once_for_each_worker(self, processes, tmp_path):
        """Its digest goes first, and the function itself where it is asked for."""
        heavy = workers.Heavy(tmp_path, 200_000)

        for _ in range(3):
            assert list(amorsize.map(heavy, range(20), backend=processes, chunksize=1)) == [
                number + 200_000 for number in range(20)
            ]

        assert len({path.name.partition("-")[0] for path in tmp_path.iterdir()}) == len(list(tmp_path.iterdir())) <= 2

    def test_what_has_changed_is_seen(self, processes):
        """A function that is defined anew is another, though its workers go on."""
        for number in range(3):
            assert list(amorsize.map(lambda item, by=number: item + by, [1, 2], backend=processes)) == [
                1 + number,
                2 + number,
            ]

    def test_a_seed_gives_the_serial_numbers(self, processes):
        """Each item has its own stream, wherever it runs."""
        expected = list(amorsize.map(workers.draw, range(40), backend="serial", seed=3))

        assert list(amorsize.map(workers.draw, range(40), backend=processes, seed=3)) == expected

    def test_a_nested_call_runs_in_the_worker(self, processes):
        """Whatever backend it names."""
        assert list(amorsize.map(workers.nested, [1, 2], backend=processes)) == [[1, 1], [2, 2]]

    def test_the_users_own_work_goes_on_as_before(self, processes):
        """A worker that ran ours is no worker of ours afterwards."""
        list(amorsize.map(abs, range(50), backend=processes))

        assert not any(processes.map(is_marked, range(10)))

    def test_a_death_names_the_items(self):
        """The executor is broken then, and what came before is there."""
        with ProcessPoolExecutor(1, multiprocessing.get_context(METHOD)) as executor:
            stream = amorsize.map(workers.DieAt(12), range(40), backend=executor, chunksize=5)

            results = []
            with pytest.raises(amorsize.WorkerCrashError, match="one of the items 10 to") as caught:
                results.extend(stream)

        assert caught.value.among >= 5
        assert results == [number**2 for number in range(10)]

    @pytest.mark.parametrize("options", [{}, {"retries": 1}, {"on_error": "return"}, {"chunksize": 1}])
    def test_a_death_is_one_whatever_was_asked(self, options):
        """A broken executor takes no more work, so nothing can be tried again; results before it come first."""
        with ProcessPoolExecutor(2, multiprocessing.get_context(METHOD)) as executor:
            results = []
            with pytest.raises(amorsize.WorkerCrashError, match=r"running (item|one of the items)") as caught:
                results.extend(amorsize.map(workers.DieAt(7), list(range(20_000)), backend=executor, **options))

        assert results == [number**2 for number in range(len(results))]
        assert caught.value.index >= len(results)

    def test_one_that_is_shut_down_in_the_middle(self):
        """What it had comes back, and then the text says what has become of it."""
        executor = ProcessPoolExecutor(2, multiprocessing.get_context(METHOD))
        stream = amorsize.map(abs, range(100_000), backend=executor, chunksize=10)
        results = [next(stream)]
        executor.shutdown(wait=False)

        with pytest.raises(amorsize.AmorsizeError, match="ProcessPoolExecutor takes no more work"):
            results.extend(stream)
        assert results == list(range(len(results)))

    def test_one_that_was_shut_down_is_named(self):
        """As soon as a result is asked for."""
        executor = ProcessPoolExecutor(1)
        executor.shutdown()

        with pytest.raises(amorsize.AmorsizeError, match="ProcessPoolExecutor takes no more work"):
            list(amorsize.map(abs, [1], backend=executor))


def is_marked(_):
    return context.worker_process or context.in_worker.get()


def test_what_was_measured_is_found_again():
    """By the executor's own route, in a later call and in another process."""
    with ThreadPoolExecutor(2) as executor:
        list(amorsize.map(slow, range(20), backend=executor))

    assert [entry.key.route for entry in lookup.entries()] == ["executor/threadpoolexecutor"]


def slow(number):
    time.sleep(0.002)
    return number


class TestRefusals:
    """What has to be asked of the engine itself is refused, with its name."""

    @pytest.mark.parametrize(
        ("option", "value"), [("timeout", 1.0), ("initializer", print), ("start_method", "spawn")]
    )
    @pytest.mark.parametrize("backend", ["threads", "processes"])
    def test_of_executors(self, request, backend, option, value):
        """At the call, before anything runs."""
        with pytest.raises(amorsize.UnsupportedError, match="PoolExecutor"):
            amorsize.map(abs, [1], backend=request.getfixturevalue(backend), **{option: value})

    @pytest.mark.parametrize("name", ["dask", "ray"])
    @pytest.mark.parametrize(
        ("option", "value"), [("timeout", 1.0), ("initializer", print), ("start_method", "spawn")]
    )
    def test_of_clusters(self, name, option, value):
        """By name, whether or not they are installed."""
        with pytest.raises(amorsize.UnsupportedError, match=name):
            amorsize.map(abs, [1], backend=name, **{option: value})

    @pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
    def test_a_missing_extra_is_named(self, monkeypatch, name, module):
        """In one line, with what to install."""
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

        with pytest.raises(amorsize.UnsupportedError, match=rf"needs {module}.*amorsize\[{name}\]"):
            amorsize.map(abs, [1], backend=name)


class TestVersions:
    """A worker that has something else says so before anything runs there."""

    @pytest.mark.parametrize(
        ("versions", "text"),
        [
            (("0.0.0", sys.version_info[:2]), "amorsize .* and the caller 0.0.0"),
            ((amorsize.__version__, (3, 2)), r"Python 3\..* and the caller 3.2"),
        ],
    )
    def test_other_versions_are_told(self, versions, text):
        """Of amorsize and of Python."""
        kind, said = pickle.loads(pickle.dumps(task.Entry()))(versions, "nothing of this is used")

        assert kind == task.UNFIT
        assert pytest.importorskip("re").search(text, said)

    def test_a_worker_without_amorsize_says_so(self, tmp_path):
        """What is sent first needs none to arrive."""
        file = tmp_path / "entry"
        file.write_bytes(pickle.dumps(task.Entry()))
        code = f"import pickle; print(pickle.load(open({str(file)!r}, 'rb'))(('1', (3, 1))))"

        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        )

        assert child.stdout.startswith("('unfit', 'it has no amorsize;")

    def test_the_caller_gets_a_clear_error(self):
        """Which names the engine, and what to do."""
        executor = Answering((task.UNFIT, "it has amorsize 0.0.1, and the caller 0.0.2"))

        with pytest.raises(amorsize.UnsupportedError, match=r"Answering cannot take part: it has amorsize"):
            list(amorsize.map(abs, [1], backend=executor))


def test_an_item_that_kills_is_found_among_others():
    """Where it is not known which item ran, halves are tried again until the one at fault is alone."""
    feed = Feed(0, ordered=True, outcome=Outcome(0, True, failures := []))
    feed.hand_back(Chunk(0, list(range(16))))
    lost = 0
    while feed.is_pending():
        chunk = feed.from_backlog(16)
        if 11 in chunk.items:
            lost += 1
            feed.lose(Lost(None, chunk, None, None, unknown=True), 0.0)

    assert lost == 5
    assert [failed.index for failed in failures] == [11]


def test_the_stage_waits_for_another_function():
    """Two functions in threads of one worker never have each other's surroundings."""
    stage = task._Stage()
    held = threading.Event()
    order = []
    payloads = {name: _payload(name) for name in ("first", "second")}

    def run(name):
        digest, data = payloads[name]
        stage.enter((name,), digest, data)
        order.append(name)
        if name == "first":
            assert held.wait(20)
        stage.leave()

    first = threading.Thread(target=run, args=("first",))
    first.start()
    while not order:
        pass
    second = threading.Thread(target=run, args=("second",))
    second.start()
    assert order == ["first"]
    held.set()
    first.join(20)
    second.join(20)

    assert order == ["first", "second"]
    assert not context.worker_process


def _payload(name):
    from amorsize.transport.payload import payload_of

    payload = payload_of(int if name == "first" else str)
    return payload.digest, b"".join(payload.parts())

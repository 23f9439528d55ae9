"""Work on real clusters on this machine: workers die and join, versions differ, calls end early; nothing is lost."""

from __future__ import annotations

import itertools
import os
import signal
import time

import engine_workers as workers
import engines
import pytest

import amorsize
from amorsize.child import task

pytestmark = [pytest.mark.engines, pytest.mark.slow, *engines.QUIET]
GUARD_SECONDS = 60
# Makes a process such as if amorsize were not installed.
WITHOUT = """
import sys
class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "amorsize" else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
for name in [name for name in sys.modules if name.partition(".")[0] == "amorsize"]:
    del sys.modules[name]
"""


@pytest.fixture(scope="module")
def cluster():
    with engines.dask_cluster() as client:
        yield client


@pytest.fixture(scope="module")
def ray():
    with engines.ray_cluster() as module:
        yield module


@pytest.fixture(autouse=True)
def noted(isolated):
    """Note at the end which processes the clusters have by then, as they replace those that die."""
    yield
    if engines.current is not None:
        wait_until(lambda: len(engines.current.nthreads()) >= engines.WORKERS)
    engines.note_processes()


@pytest.fixture
def client(cluster):
    return cluster


@pytest.fixture(scope="module", params=["cluster", "ray"])
def either(request):
    """Give the name of each engine in turn, which is running."""
    request.getfixturevalue(request.param)
    return "dask" if request.param == "cluster" else "ray"


def wait_until(condition):
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)  # how often it is looked at


class TestEither:
    """What both engines do."""

    def test_a_seed_gives_the_serial_numbers(self, either):
        """Each item has its own stream, wherever it runs."""
        expected = list(amorsize.map(workers.draw, range(40), backend="serial", seed=3))

        assert list(amorsize.map(workers.draw, range(40), backend=either, seed=3)) == expected

    def test_other_versions_are_refused(self, either, monkeypatch):
        """By the worker, before anything runs there, so also by one that joins late."""
        for module in ("dask", "ray"):
            monkeypatch.setattr(f"amorsize.backends.{module}.versions", lambda: ("0.0.0", task.versions()[1]))

        with pytest.raises(amorsize.UnsupportedError, match=r"the caller 0\.0\.0"):
            list(amorsize.map(abs, [1, 2], backend=either))

    def test_both_workers_are_used(self, either):
        """And the plan tells how many there are."""
        stream = amorsize.map(workers.slow_process_id, range(40), backend=either, chunksize=1)

        assert len(set(stream)) == engines.WORKERS
        assert stream.plan.n_jobs == engines.WORKERS

    def test_a_long_function_crosses_once_for_each_worker(self, either, tmp_path):
        """Not with each task."""
        heavy = workers.Heavy(tmp_path, 3_000_000)

        assert sum(amorsize.map(heavy, range(30), backend=either, chunksize=1)) == sum(range(30)) + 30 * 3_000_000

        assert len({path.name.partition("-")[0] for path in tmp_path.iterdir()}) == len(list(tmp_path.iterdir())) < 30

    def test_large_items_cross(self, either):
        """Each of several megabytes."""
        items = [bytes([number]) * 3_000_000 for number in range(6)]

        assert list(amorsize.map(len, items, backend=either)) == [3_000_000] * 6

    def test_an_item_that_always_kills_is_named(self, either):
        """As a worker that died, after the results before it."""
        stream = amorsize.map(workers.DieAt(5), range(6), backend=either, chunksize=1)
        results = []

        with pytest.raises(amorsize.WorkerCrashError, match="item 5"):
            results.extend(stream)
        assert results == [0, 1, 4, 9, 16]

    def test_a_failure_leaves_nothing_to_do(self, either):
        """The next call is not behind what the last one left."""
        with pytest.raises(ZeroDivisionError):
            list(amorsize.map(workers.fail, itertools.count(), backend=either))

        assert list(amorsize.map(abs, [-1], backend=either)) == [1]


class TestDask:
    """What Dask does in its own way."""

    def test_a_worker_that_dies_loses_nothing(self, client, tmp_path):
        """Dask runs its tasks again by itself."""
        died = workers.DieOnce(tmp_path, 150)

        assert list(amorsize.map(died, range(300), backend=client)) == [number**2 for number in range(300)]
        assert (tmp_path / "died").exists()

    def test_a_worker_killed_from_outside_loses_nothing(self, client):
        """Whatever it had: a task that ran, or results that nobody had fetched."""
        stream = amorsize.map(workers.slow_process_id, range(300), backend=client)
        victim = next(stream)
        os.kill(victim, signal.SIGKILL)

        assert len(list(stream)) == 299

    @pytest.mark.parametrize("size", [10, 3_000_000])
    def test_a_worker_that_dies_loses_no_data(self, client, tmp_path, size):
        """What tasks refer to, a long function or large items, is brought anew."""
        died = workers.DieOnce(tmp_path, 7, carried=200_000)
        items = [workers.Large(number, size) for number in range(12)]

        assert list(amorsize.map(died, items, backend=client, chunksize=1)) == [number**2 for number in range(12)]
        assert (tmp_path / "died").exists()

    def test_workers_in_threads_behind_a_socket_are_in_this_process(self):
        """They are asked, as the address does not tell; the caller's data are left alone."""
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=":0"
            ) as threads,
            distributed.Client(threads, set_as_default=False) as inside,
        ):
            seen = []
            for result in amorsize.map(lambda number: (number, len(seen)), range(100), backend=inside):
                seen.append(result)  # noqa: PERF402 - the function looks at it meanwhile

        assert [number for number, _ in seen] == list(range(100))
        assert seen[-1][1] > 0

    def test_a_client_that_is_closed_in_the_middle(self):
        """The call ends with an error of its own."""
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as other:
            inside = distributed.Client(other, set_as_default=False)
            stream = amorsize.map(workers.slow_process_id, range(1000), backend=inside, chunksize=5)
            next(stream)
            inside.close()

            with pytest.raises(amorsize.AmorsizeError, match=r"takes no more work|was it shut down"):
                list(stream)

    def test_a_worker_that_joins_is_used(self, client):
        """The width is the engine's own, and read again as it changes."""
        stream = amorsize.map(workers.slow_process_id, itertools.count(), backend=client, chunksize=1)
        with stream:
            next(stream)
            client.cluster.scale(engines.WORKERS + 1)
            seen = set()
            end = time.monotonic() + GUARD_SECONDS
            while len(seen) <= engines.WORKERS:
                assert time.monotonic() < end
                seen.add(next(stream))
        client.cluster.scale(engines.WORKERS)
        wait_until(lambda: len(client.nthreads()) == engines.WORKERS)

    def test_closing_cancels_what_has_not_begun(self, client):
        """The scheduler forgets the tasks of a call that nobody reads any more."""
        stream = amorsize.map(workers.slow_process_id, range(1000), backend=client, chunksize=10)
        next(stream)
        stream.close()

        wait_until(lambda: not client.processing() or not any(client.processing().values()))

    def test_a_worker_without_amorsize_says_so(self, tmp_path):
        """Before anything runs there, in one line."""
        distributed = pytest.importorskip("distributed")
        (tmp_path / "without.py").write_text(WITHOUT)
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address=":0", preload=[str(tmp_path / "without.py")]
            ) as others,
            distributed.Client(others, set_as_default=False) as inside,
            pytest.raises(amorsize.UnsupportedError, match="it has no amorsize"),
        ):
            list(amorsize.map(abs, [1, 2], backend=inside))

    def test_an_asynchronous_client_is_refused(self, client):
        """It belongs to an event loop, which our waiting would stop."""
        import asyncio

        import distributed

        async def ask():
            async with distributed.Client(client.scheduler.address, asynchronous=True, set_as_default=False) as other:
                with pytest.raises(amorsize.UnsupportedError, match="asynchronous"):
                    list(amorsize.map(abs, [1], backend=other))

        asyncio.run(ask())

    def test_dasks_own_executor_is_an_executor(self, client):
        """Its workers are asked where they are."""
        executor = client.get_executor()

        assert set(amorsize.map(workers.process_id, range(30), backend=executor)).isdisjoint({os.getpid()})

    def test_workers_in_this_process_are_threads(self):
        """Nothing is pickled for a cluster of threads, and a seed is refused."""
        distributed = pytest.importorskip("distributed")
        with distributed.Client(processes=False, dashboard_address=":0", set_as_default=False) as inside:
            assert set(amorsize.map(workers.process_id, range(30), backend=inside)) == {os.getpid()}
            with pytest.raises(amorsize.UnsupportedError, match="seed="):
                list(amorsize.map(abs, [1], backend=inside, seed=1))

    def test_several_threads_of_a_worker_run_one_call_at_once(self, client):
        """And two calls with different functions in turn, whatever either brings along."""
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(n_workers=1, threads_per_worker=3, dashboard_address=":0") as threads,
            distributed.Client(threads, set_as_default=False) as inside,
        ):
            first = amorsize.map(lambda number: (number, "first"), range(200), backend=inside, chunksize=3)
            second = amorsize.map(lambda number: (number, "second"), range(200), backend=inside, chunksize=3)

            assert list(zip(first, second, strict=True)) == [
                ((number, "first"), (number, "second")) for number in range(200)
            ]


def test_a_cluster_for_the_call_ends_with_it(tmp_path, python):
    """Where there is no client, also in a script without a main guard."""
    pytest.importorskip("distributed")
    script = tmp_path / "script.py"
    script.write_text(
        "import amorsize, psutil\n"
        "def square(number): return number ** 2\n"
        "print(sum(amorsize.map(square, range(100), backend='dask', n_jobs=2)))\n"
        "print(sum(amorsize.map(square, range(10), backend='dask', n_jobs=-1)))\n"
        "left = [one for one in psutil.Process().children() if 'tracker' not in ' '.join(one.cmdline())]\n"
        "print(left)\n"
    )

    child = python(script)

    assert child.stdout.splitlines() == ["328350", "285", "[]"], child.stderr


class TestRay:
    """What Ray does in its own way."""

    def test_a_worker_that_dies_loses_nothing_with_retries(self, ray, tmp_path):
        """Ray itself tries nothing again; `retries=` does."""
        died = workers.DieOnce(tmp_path, 20)

        assert list(amorsize.map(died, range(40), backend="ray", retries=1)) == [number**2 for number in range(40)]
        assert (tmp_path / "died").exists()

    def test_a_worker_killed_from_outside_loses_nothing_with_retries(self, ray):
        """Whatever it had."""
        stream = amorsize.map(workers.slow_process_id, range(200), backend="ray", retries=1)
        os.kill(next(stream), signal.SIGKILL)

        assert len(list(stream)) == 199

    def test_without_retries_a_death_names_the_chunk(self, ray):
        """For it is not known which of its items ran."""
        with pytest.raises(amorsize.WorkerCrashError, match="one of the items 4 to 7"):
            list(amorsize.map(workers.DieAt(6), range(8), backend="ray", chunksize=4))

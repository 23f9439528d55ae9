"""A fresh worker loads the function before it is given items, and the caller goes on meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pool_workers
import pytest

import amorsize
from amorsize.backends.processes import idle
from amorsize.backends.processes import lease as pool
from amorsize.backends.registry import Job
from amorsize.feed.pace import Pace
from amorsize.feed.pump import Pump
from amorsize.feed.source import Source
from amorsize.options import Options
from amorsize.transport.by_value import Outgoing


@pytest.fixture(params=["spawn", "forkserver"])
def opened(request):
    """Give a function that opens two workers for a function."""
    leases = []

    def make(function, n_jobs=2, **given):
        job = Job(function, Outgoing(), n_jobs, request.param, by_name=False)._replace(**given)
        leases.append(pool.open_backend(job))
        return leases[-1]

    yield make
    for one in leases:
        one.close(hurry=True)


@pytest.fixture
def gate(tmp_path):
    """Open the gate at the end, whatever happens, so that no worker waits for it."""
    yield tmp_path / "gate"
    (tmp_path / "gate").touch()


def pumped(backend, function, items, seconds_per_item=1e-4):
    """Return a pump over items, which run in the caller as well."""
    return Pump(backend, Source((items,)), Options(), Pace(seconds_per_item), [], function)


def test_the_caller_does_not_wait(opened, gate, tmp_path):
    """While workers load, the caller runs items; if they are over before, no worker has run any."""
    backend = opened(pool_workers.LoadsWhenTold(tmp_path))
    pump = pumped(backend, lambda _: os.getpid(), list(range(400)))

    assert {pid for piece in pump for pid in piece} == {os.getpid()}
    assert not gate.exists()


def test_workers_take_over_once_they_have_loaded(opened, gate, tmp_path):
    """Items go to a worker only when it has said so."""

    def here(item):
        if item == 50:
            gate.touch()
            while backend.starting():
                pass
        return os.getpid()

    backend = opened(pool_workers.LoadsWhenTold(tmp_path))
    places = [pid for piece in pumped(backend, here, list(range(400))) for pid in piece]

    assert set(places[:51]) == {os.getpid()}
    assert set(places) > {os.getpid()}


def test_workers_that_load_are_kept_for_the_next_call(opened, gate, tmp_path):
    """They go on loading, and the next call finds them."""
    first = opened(pool_workers.LoadsWhenTold(tmp_path))
    workers = {id(worker) for worker in first._workers}
    while len(pool_workers.notes(tmp_path)) < 2:
        first.starting()
    first.close()
    gate.touch()
    again = opened(pool_workers.LoadsWhenTold(tmp_path))

    assert {id(worker) for worker in again._workers} == workers
    loading = {int(line.partition("-")[2]) for line in pool_workers.notes(tmp_path)}
    assert set(run_there(again, 40)) <= loading


def run_there(backend, count):
    """Return where items ran that the caller does not run."""
    pump = Pump(backend, Source((list(range(count)),)), Options(), Pace(1e-4), [], None)
    return [pid for piece in pump for pid in piece]


def test_a_worker_that_never_loads_is_not_waited_for(opened, gate, tmp_path):
    """Where the items are too long to be run meanwhile, chunks wait, and are taken back after a while."""
    assert not gate.exists()
    backend = opened(pool_workers.LoadsWhenTold(tmp_path))
    pump = Pump(
        backend, Source((list(range(6)),)), Options(), Pace(0.05), [], lambda _: os.getpid(), start_seconds=0.02
    )

    assert [pid for piece in pump for pid in piece] == [os.getpid()] * 6


def test_a_large_function_is_loaded_first_by_forked_workers_too(tmp_path):
    """What was forked has the modules, but not the data."""
    if "fork" not in __import__("multiprocessing").get_all_start_methods():
        pytest.skip("nothing is forked here")
    function = pool_workers.Carrying(bytes(3 << 20))
    job = Job(function, Outgoing(), 2, "fork", by_name=False)
    backend = pool.open_backend(job)
    try:
        assert not backend.prompt
        assert not any(worker.takes_chunks for worker in backend._workers)
        assert set(run_there(backend, 20)) == {3 << 20}
    finally:
        backend.close(hurry=True)


def test_idle_workers_are_as_many_as_cores(monkeypatch, processes):
    """However many kinds of them calls have asked for."""
    for n_jobs in (1, 2):
        list(amorsize.map(abs, range(8), **{**processes, "n_jobs": n_jobs}, chunksize=1))
    monkeypatch.setenv("AMORSIZE_TEST_COLOUR", "blue")
    list(amorsize.map(abs, range(8), **{**processes, "n_jobs": 2}, chunksize=1))

    assert idle.warm_count() <= max(2, idle.machine.cores())


def test_only_workers_that_a_call_would_get_are_warm(processes, monkeypatch):
    """Others are not counted: of another start method, environment or initializer."""
    method = processes["start_method"]
    list(amorsize.map(abs, range(8), **processes, chunksize=1))
    others = {"fork", "spawn", "forkserver"} - {method}

    assert idle.warm_count(method) == 2
    assert [idle.warm_count(other) for other in others] == [0, 0]
    assert idle.warm_count(method, Path, ("x",)) == 0
    monkeypatch.setenv("AMORSIZE_TEST_COLOUR", "blue")
    assert idle.warm_count(method) == 0


def test_warm_workers_are_told_how_many_threads_they_may_use(processes, monkeypatch):
    """A call of another width takes them, and they obey its limit."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(idle.machine, "cores", lambda: 4)
    wide, narrow = ({**processes, "n_jobs": n_jobs} for n_jobs in (4, 1))
    list(amorsize.map(abs, range(8), **wide, chunksize=1))
    before = {worker.process.pid for worker in idle.idle_workers()}
    told = set(amorsize.map(pool_workers.thread_variables, range(8), **narrow))
    after = set(amorsize.map(pool_workers.pid_of, range(8), **narrow))

    assert told == {("4", "4")}
    assert after <= before
    assert set(amorsize.map(pool_workers.thread_variables, range(8), **wide, chunksize=1)) == {("1", "1")}

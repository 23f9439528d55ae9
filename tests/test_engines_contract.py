"""What `map` promises, on engines that others have made: executors, a Dask cluster, Ray."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import engines
import pytest
from test_contract import *  # noqa: F403 - every test of the contract, over engines

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
pytestmark = engines.QUIET


@contextlib.contextmanager
def thread_executor():
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(threading.Barrier(2).wait, [None, None]))  # its threads are there from now on
        yield executor


@contextlib.contextmanager
def thread_pool():
    with ThreadPool(2) as pool:
        yield pool


@contextlib.contextmanager
def process_executor():
    with ProcessPoolExecutor(2, multiprocessing.get_context(METHOD)) as executor:
        list(executor.map(abs, range(4)))
        engines.note_processes()
        yield executor
    engines.forget_processes()


MAKERS = [
    thread_executor,
    thread_pool,
    process_executor,
    pytest.param(engines.dask_cluster, marks=pytest.mark.engines),
    pytest.param(engines.ray_cluster, marks=pytest.mark.engines),
]


@pytest.fixture(scope="module", params=MAKERS)
def engine(request):
    """Give each engine in turn, as a user would give it as `backend=`."""
    with request.param() as made:
        yield {engines.ray_cluster: "ray", engines.dask_cluster: "dask"}.get(request.param, made)


@pytest.fixture
def anywhere(engine):
    return {"backend": engine}


@pytest.fixture
def backend(anywhere):
    return anywhere


@pytest.fixture
def processes():
    pytest.skip("what crosses to our own workers is other rows' affair")


@pytest.fixture
def one_method():
    pytest.skip("our own workers are other rows' affair")

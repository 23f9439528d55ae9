"""What an item finds around itself in a worker."""

from __future__ import annotations

import os
import random

import pool_workers
import pytest

import amorsize
from amorsize.measure import machine

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch):
    for variable in THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def meet(processes, tmp_path, function):
    """Return the results of two items that were running at the same time, in two workers."""
    return list(amorsize.map(function, [str(tmp_path)] * 2, chunksize=1, **processes))


def test_nested_calls_run_there(processes):
    """A call inside an item runs in its process, in a thread of the item's too, whatever backend it names."""
    assert list(amorsize.map(pool_workers.nested, range(4), chunksize=1, **processes)) == [True] * 4


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_numerical_libraries_share_the_cores(processes, n_jobs, monkeypatch):
    """Libraries that read the environment get cores // workers threads, at least one."""
    monkeypatch.setattr(machine, "cores", lambda: 4)

    found = set(amorsize.map(pool_workers.thread_variables, range(6), **{**processes, "n_jobs": n_jobs}))

    assert found == {(str(max(1, 4 // n_jobs)),) * 2}


def test_more_workers_than_cores(processes):
    """With more workers than cores each library still has one thread."""
    wide = {**processes, "n_jobs": machine.cores() + 1}

    assert set(amorsize.map(pool_workers.thread_variables, range(6), chunksize=1, **wide)) == {("1", "1")}


def test_a_limit_of_the_users_stands(processes, monkeypatch):
    """A limit that the environment sets is not changed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    assert {omp for omp, _ in amorsize.map(pool_workers.thread_variables, range(4), **processes)} == {"7"}


def test_the_callers_own_environment_is_left_alone(processes):
    """What workers are told does not show in the caller."""
    list(amorsize.map(abs, range(4), **processes))

    assert not set(THREAD_VARIABLES) & set(os.environ)


def test_loaded_libraries_are_told(processes, tmp_path):
    """Libraries that are loaded in the workers, by inheritance or import, obey the same limit."""
    pytest.importorskip("numpy")
    pytest.importorskip("threadpoolctl")

    found = meet(processes, tmp_path, pool_workers.native_limits)

    limit = max(1, machine.cores() // 2)
    assert all(threads <= limit for libraries in found for threads in libraries)


@pytest.mark.filterwarnings("ignore:amorsize.*pass seed=:RuntimeWarning")  # the module seeds, below
def test_random_states_differ(processes, tmp_path):
    """Two workers do not draw the same numbers, and the caller's own state is not touched."""
    state = random.getstate()

    assert len(set(meet(processes, tmp_path, pool_workers.random_after_meeting))) == 2
    assert random.getstate() == state


@pytest.mark.filterwarnings("ignore:amorsize.*pass seed=:RuntimeWarning")
def test_numpys_global_states_differ(processes, tmp_path):
    """NumPy's global state differs in every worker, though a fork copies the caller's."""
    numpy = pytest.importorskip("numpy")
    numpy.random.seed(7)

    assert len(set(meet(processes, tmp_path, pool_workers.numpy_after_meeting))) == 2

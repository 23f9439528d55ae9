"""What every test gets: an empty cache, a clean environment, backends to choose from, and a look at what it left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import amorsize

# A shell that runs the suite in its background has it ignore Ctrl-C, and so would all programs that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["amorsize.testing"]

LEAVE_SECONDS = 10  # for what is on its way out when a test ends; nothing waits so long unless it is stuck
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to
# The standard library keeps these until exit, and `distributed` its one thread for long messages.
LASTING_PROCESSES = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
LASTING_THREADS = ("Dask-Offload",)

VARIABLES = {"AMORSIZE_BACKEND", "AMORSIZE_N_JOBS", "AMORSIZE_START_METHOD", "AMORSIZE_THREAD_SAFE"}
OPTIONS = {
    "auto": {},
    "serial": {"backend": "serial"},
    "threads": {"backend": "threads", "n_jobs": 2},
    "processes-fork": {"backend": "processes", "n_jobs": 2, "start_method": "fork"},
    "processes-spawn": {"backend": "processes", "n_jobs": 2, "start_method": "spawn"},
    "processes-forkserver": {"backend": "processes", "n_jobs": 2, "start_method": "forkserver"},
    "pool": {"backend": "pool", "n_jobs": 2, "start_method": "fork"},
}
# pytest's own watchdog is a thread, and from 3.12 on Python warns of every fork beside one.
FORKED = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def _choices(*names):
    available = multiprocessing.get_all_start_methods()
    for name in names:
        options = OPTIONS[name]
        method = options.get("start_method", available[0])
        marks = [pytest.mark.skipif(method not in available, reason=f"this platform cannot {method}")]
        yield pytest.param(options, id=name, marks=[*marks, FORKED] if method == "fork" else marks)


def pytest_collection_modifyitems(items):
    """Mark what compares whole programs: these take as long as all other tests, and one Python of several runs them."""
    for item in items:
        if item.path.name.startswith("test_same_answer"):
            item.add_marker(pytest.mark.matrix)


@pytest.fixture(params=_choices(*OPTIONS))
def anywhere(request):
    """Give the options of every backend in turn, and of "auto"."""
    return dict(request.param)


@pytest.fixture(params=_choices(*(name for name in OPTIONS if name != "threads")))
def seedable(request):
    """Give the options of every backend that takes a seed, and of "auto"."""
    return dict(request.param)


@pytest.fixture(params=_choices(*(name for name in OPTIONS if name != "auto")))
def backend(request):
    """Give the options of every backend in turn."""
    return dict(request.param)


@pytest.fixture(params=_choices("processes-fork", "processes-spawn", "processes-forkserver"))
def processes(request):
    """Give the options of our own workers, under every start method."""
    return dict(request.param)


@pytest.fixture
def one_method():
    """Give the options of our own workers under one start method, for what does not depend on it."""
    return {"backend": "processes", "n_jobs": 2, "start_method": "spawn" if sys.platform == "win32" else "forkserver"}


@pytest.fixture
def python():
    """Run Python as a child that finds the same amorsize, and return what it printed, as a finished process."""
    environ = {**os.environ, "PYTHONPATH": str(Path(amorsize.__file__).parents[1])}

    def run(*arguments, **given):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ, **given)

    return run


@pytest.fixture(autouse=True)
def isolated(amorsize_cache, monkeypatch):
    """Start each test with nothing measured, nothing configured and no worker, and fail it for what it leaves."""
    for variable in set(os.environ) & VARIABLES:
        monkeypatch.delenv(variable)
    threads = set(threading.enumerate())
    yield
    amorsize.shutdown()
    assert not _threads_left(threads), "threads outlived the test"
    assert not _processes_left(), "processes outlived the test"


@pytest.fixture(autouse=True, scope="session")
def _nothing_shared_left():
    """Fail the session for shared memory that outlived it."""
    before = _shared_memory()
    yield
    assert not _shared_memory() - before


# Processes of clusters that run for all the tests of a module, which notes them here, and ends them.
CLUSTERS: set[int] = set()
CLUSTER_THREADS = ("Dask-", "IO loop", "Profile", "TCP-Executor", "AsyncProcess", "QueueFeeder", "asyncio_", "ray_")


def _threads_left(before):
    # What stands for a thread that `threading` did not start stays listed after its end, and cannot be joined.
    stand_ins = {thread for thread in threading.enumerate() if type(thread).__name__ == "_DummyThread"}
    left = set(threading.enumerate()) - before - stand_ins
    left = {thread for thread in left if not thread.name.startswith(LASTING_THREADS)}
    if CLUSTERS:
        left = {thread for thread in left if not thread.name.startswith(CLUSTER_THREADS)}
    for thread in left:
        thread.join(LEAVE_SECONDS)
    return {thread for thread in left if thread.is_alive()}


def _processes_left():
    children = psutil.Process().children(recursive=not CLUSTERS)
    left = [process for process in children if process.pid not in CLUSTERS and not _lasting(process)]
    return psutil.wait_procs(left, timeout=LEAVE_SECONDS)[1] if left else []


def _lasting(process):
    try:
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # gone since it was listed
        return True
    # A worker of the forkserver is a fork of it, with the same command line; only the server is our own child.
    return process.ppid() == os.getpid() and any(name in command for name in LASTING_PROCESSES)


def _shared_memory():
    """Return the segments of this user that the standard library or we would have named."""
    if not SHARED_MEMORY.is_dir():
        return set()
    return {path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(("psm_", "pym-", "amorsize"))}

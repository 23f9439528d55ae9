"""The engines that tests run on, where they are installed: a Dask cluster and Ray, each once for a whole session."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

import conftest
import psutil
import pytest

WORKERS = 2
# What clusters of others do beside our work is not ours to mend.
QUIET = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::ResourceWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnhandledThreadExceptionWarning"),
]


def note_processes():
    """Note which children belong to clusters: all that there are now."""
    conftest.CLUSTERS.update(process.pid for process in psutil.Process().children())


def forget_processes():
    """Have every process that a test leaves found again, because no cluster is running any more."""
    conftest.CLUSTERS.clear()


# The client of the cluster that is running, if one is.
current = None


@contextlib.contextmanager
def dask_cluster():
    """Give a client of a cluster of two workers on this machine, which is the current client meanwhile."""
    global current
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        )
        client = distributed.Client(cluster)
        note_processes()
    current = client
    try:
        yield client
    finally:
        current = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.close()
            cluster.close()
        forget_processes()


@contextlib.contextmanager
def ray_cluster():
    """Start Ray on this machine, with two workers."""
    ray = pytest.importorskip("ray", reason="there is no build of Ray for this Python, or it is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=40,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
        )
        note_processes()
    try:
        yield ray
    finally:
        ray.shutdown()
        forget_processes()

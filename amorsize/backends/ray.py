"""Runs chunks on Ray: the cluster that the program is connected to, else the one that `ray.init` finds or starts.

A task is never run again by Ray. If its worker dies, the call is told, and `retries=` says whether the items are tried
again; which item was running is not known, so the error names all that the task had.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from functools import partial

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    WorkerCrashedError,
)

from ..child.task import Entry, versions
from .engine import Engine, put_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from .engine import Answers
    from .registry import Job

__all__ = ["RayTasks", "open_backend"]

_DEATHS = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError, LocalRayletDiedError)


def open_backend(job: Job, _target: Any) -> Engine:
    """Return a backend on Ray. If the program has not called `ray.init`, this does, and Ray stays until exit."""
    if not ray.is_initialized():
        # Where the environment has RAY_ADDRESS, this connects to that cluster; else to one on this machine.
        found = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False, "runtime_env": _same_modules()}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **found)
    return Engine(job, RayTasks, crosses=True)


def _same_modules() -> dict[str, Any]:
    """Return what makes workers on this machine find the modules that this program finds."""
    return {"env_vars": {"PYTHONPATH": os.pathsep.join([path or os.getcwd() for path in sys.path])}}


class RayTasks:
    """The tasks of the Ray cluster that this program is connected to."""

    name = "Ray"
    here = False
    one_clock = False
    warm = True
    breaks = False

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._versions = versions()
        run = pickle.loads(pickle.dumps(Entry()))  # what a worker gets of it, which Ray takes, as it is a function
        self._remote: Any = ray.remote(max_retries=0, num_cpus=1)(run)

    @property
    def route(self) -> str:
        """Clusters of one shape share what was learnt: how many nodes, and the cores of all."""
        return f"ray/{len(ray.nodes())}x{self.width()}"

    def width(self) -> int:
        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def submit(self, number: int, task: tuple[Any, ...]) -> Any:
        reference = self._remote.remote(self._versions, *task)
        reference.future().add_done_callback(partial(put_answer, self._answers, number))
        return reference

    def cancel(self, handle: Any) -> bool:
        # Ray 2.60 ends the whole program, by a failed check of its own, if a task that is cancelled ends just then. At
        # most two chunks for each worker are out, and these are short.
        return False

    def is_death(self, error: BaseException) -> bool:
        return isinstance(error, _DEATHS)

    def lost(self, under_way: Collection[int]) -> dict[int, int | None]:
        return {}  # Ray says when a worker has died

    def close(self, *, hurry: bool, idle: bool) -> None:
        return

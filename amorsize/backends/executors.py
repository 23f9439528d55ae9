"""Runs chunks on a `concurrent.futures.Executor` of the user's: of the standard library, of loky, MPI, Dask or others.

Whether its workers share this process is told by its exact type, else by asking one of them: a thread of this process
knows `child.task.origin`, and any other worker, an interpreter in this process too, has another. In this process
nothing is pickled; elsewhere items, results and the function travel as to any worker.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from functools import partial

from ..child.task import Asking, Entry, origin, run_here, run_task, versions
from ..errors import AmorsizeError, let_signals_through
from ..measure import machine
from .engine import Engine, put_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Executor, Future
    from typing import Any

    from .engine import Answers
    from .registry import Job

__all__ = ["ExecutorTasks", "open_backend"]

# Where an executor tells how many workers it has; there is no public way that all have.
_WIDTHS = ("_max_workers", "num_workers", "max_workers")
# The modules of executors whose workers are on this machine, so that they have the same amorsize and clock.
_LOCAL = ("concurrent.futures", "loky")


def open_backend(job: Job, target: Any) -> Engine:
    """Return a backend on the user's executor."""
    return Engine(job, partial(ExecutorTasks, target))


class ExecutorTasks:
    """The tasks of an executor.

    Args:
        executor: the user's executor, which is left as it was found.
        answers: where answers go.
    """

    warm = True
    breaks = True

    def __init__(self, executor: Executor, answers: Answers) -> None:
        kind = type(executor)
        self.name = f"the {kind.__name__}"
        # The name of a cache file has the route, and so no other letters.
        self.route = "executor/" + "".join([one for one in kind.__name__.lower() if one.isascii() and one.isalnum()])
        self._executor = executor
        self._answers = answers
        self.one_clock = kind.__module__.startswith(_LOCAL)
        self.here = kind is ThreadPoolExecutor or (kind.__name__ != "ProcessPoolExecutor" and self._asked())

        self._run: Any = partial(Entry(), versions())
        if self.here:
            self._run = run_here
        elif self.one_clock:
            self._run = run_task

    def _asked(self) -> bool:
        """Ask a worker whether it is in this process."""
        try:
            return bool(self._executor.submit(Asking(), origin()).result())
        except Exception as error:  # whatever the executor raises
            let_signals_through(error)
            raise AmorsizeError(f"{self.name} takes no work: {type(error).__name__}: {error}") from error

    def width(self) -> int:
        for name in _WIDTHS:
            value = getattr(self._executor, name, None)
            if isinstance(value, int) and value > 0:
                return value
        threads = getattr(getattr(self._executor, "_client", None), "nthreads", None)  # Dask's
        return sum(threads().values()) if callable(threads) else machine.cores()

    def submit(self, number: int, task: tuple[Any, ...]) -> Future[Any]:
        future = self._executor.submit(self._run, *task)
        future.add_done_callback(partial(put_answer, self._answers, number))
        return future

    def cancel(self, handle: Future[Any]) -> bool:
        return handle.cancel()

    def is_death(self, error: BaseException) -> bool:
        return isinstance(error, BrokenExecutor)

    def lost(self, under_way: Collection[int]) -> dict[int, int | None]:
        return {}  # an executor says when a worker has died

    def close(self, *, hurry: bool, idle: bool) -> None:
        return  # it is the user's


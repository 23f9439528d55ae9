"""Runs chunks on a Dask cluster: the user's `distributed.Client`, the current one, or a LocalCluster for the call.

Dask runs the task of a worker that was lost again by itself, so an item may begin twice: that is Dask's way, and an
exception to "exactly once" beside `retries=`. Only when Dask has lost one task again and again does it give up, and the
call is told that a worker died. Each task has a key of its own, and is not taken for a pure one, so that Dask never
answers from an earlier result.
"""

from __future__ import annotations

import uuid
from concurrent.futures import CancelledError
from contextlib import nullcontext
from functools import partial

import dask.config
import distributed
from distributed import Client, KilledWorker

from .. import context
from ..child.task import Asking, Entry, origin, run_here, versions
from ..errors import UnsupportedError, let_signals_through
from ..log import debug
from ..measure import machine
from .engine import Engine
from .processes.start import main_hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from .engine import Answers
    from .registry import Job

__all__ = ["DaskTasks", "open_backend"]

_LARGE_BYTES = 1 << 20


def open_backend(job: Job, target: Any) -> Engine:
    """Return a backend on a client: the user's, else the current one, else one of a cluster that the call owns."""
    return Engine(job, partial(DaskTasks, job, target))


class DaskTasks:
    """The tasks of a Dask client.

    Args:
        job: the job, for whose width a cluster is made if there is none.
        client: the user's client; None to find or make one.
        answers: where answers go.

    Raises:
        UnsupportedError: the client belongs to an event loop, which a blocking call would stop; or no cluster can be
            made here.
    """

    name = "the Dask cluster"
    one_clock = False
    warm = True
    breaks = False

    def __init__(self, job: Job, client: Any, answers: Answers) -> None:
        self._answers = answers
        self._cluster: Any = None
        self._client = client or _current() or self._made(job)
        if self._client.asynchronous:
            raise UnsupportedError("backend= is an asynchronous Dask client; give a synchronous one")
        self._prefix = f"amorsize-{uuid.uuid4().hex[:16]}"
        self._threads: dict[str, int] = {}
        try:
            self.here = self._asked()
        except BaseException:
            self.close(hurry=True, idle=True)
            raise
        self._run: Any = run_here if self.here else partial(Entry(), versions())

    def _asked(self) -> bool:
        """Ask a worker, if there is one, whether it is in this process."""
        self.width()
        answers = self._client.run(Asking(), origin(), workers=list(self._threads)[:1], on_error="return")
        return any(answer is True for answer in answers.values())

    def _made(self, job: Job) -> Any:
        if context.in_daemon():
            raise UnsupportedError("backend='dask': a daemon process may not start a LocalCluster; give a client")
        width = machine.workers_asked(job.width or -1)
        with main_hidden("spawn"):
            self._cluster = distributed.LocalCluster(
                n_workers=width, threads_per_worker=1, dashboard_address=":0", silence_logs=50
            )
        return Client(self._cluster, set_as_default=False)

    @property
    def route(self) -> str:
        """Clusters of one shape share what was learnt: how many workers, and the threads of each."""
        threads = self._threads.values()
        return f"dask/{len(threads)}x{max(threads, default=1)}"

    def width(self) -> int:
        self._threads = dict(self._client.nthreads())
        return sum(self._threads.values())

    def submit(self, number: int, task: tuple[Any, ...]) -> Any:
        # Data that are scattered are gone with their worker, and with them the tasks that need them, so large items and
        # functions go with their tasks, of which Dask would warn.
        size = sum([len(part) for part in task if type(part) is bytes])
        quiet = {"distributed.admin.large-graph-warning-threshold": "1TB"}
        with dask.config.set(quiet) if size >= _LARGE_BYTES else nullcontext():
            future = self._client.submit(self._run, *task, key=f"{self._prefix}-{number}", pure=False)
        self._client.loop.add_callback(self._follow, number, future)
        return future

    async def _follow(self, number: int, future: Any) -> None:
        """Wait for a task on the client's loop, and fetch its answer."""
        try:
            answer = await self._client.gather(future, asynchronous=True)
        except BaseException as error:  # this is the loop's thread, and the call waits for an answer
            answer = error if not type(error).__name__.endswith("CancelledError") else CancelledError(str(error))
        self._answers.put((number, answer))

    def cancel(self, handle: Any) -> bool:
        handle.cancel()
        return False  # it may be running, and is not stopped

    def is_death(self, error: BaseException) -> bool:
        return isinstance(error, KilledWorker)

    def lost(self, under_way: Collection[int]) -> dict[int, int | None]:
        return {}  # Dask sees to its workers

    def close(self, *, hurry: bool, idle: bool) -> None:
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        try:
            self._client.close()
            cluster.close()
        except Exception as error:
            let_signals_through(error)
            debug("the LocalCluster of a call did not end in good order: %r", error)


def _current() -> Any:
    try:
        return Client.current()
    except ValueError:  # there is none
        return None

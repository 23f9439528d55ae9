"""Runs chunks on a standard `multiprocessing.Pool`: one made for the call, or the user's own.

A standard Pool waits for ever for a worker that died. This backend looks at the pool's processes while it waits, so
that a dead worker is an error instead. Workers note in a file which task they begin, so it is known which one a dead
worker had, though not which of its items was running.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import tempfile
import threading
from functools import partial
from multiprocessing.pool import ThreadPool
from time import perf_counter

from ..child.initialize import ByValue
from ..child.task import NOTE, NOTES, run_here, run_noted
from ..log import debug
from .base import taken_from
from .engine import Engine
from .processes.start import main_hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from multiprocessing.pool import Pool
    from typing import Any

    from .engine import Answers
    from .registry import Job

__all__ = ["PoolTasks", "open_backend"]

# How long the chunks under way may take to come back when nobody wants them any more: a few time slices.
_DRAIN_SECONDS = 0.5
# How long `Pool.terminate()` may take before the processes are killed.
_END_SECONDS = 0.3
# After a worker has died for no task that is known, tasks that nobody begins for so long are taken for lost with it.
_UNNOTED_SECONDS = 5.0


def open_backend(job: Job, target: Any) -> Engine:
    """Return a backend on the user's Pool, or on one made for the call."""
    return Engine(job, partial(PoolTasks, job, target), crosses=target is None)


class PoolTasks:
    """The tasks of a standard Pool.

    Args:
        job: the job, for whose width and initializer a pool is made if there is none.
        pool: the user's pool, which is left as it was found; None to make a pool for this call.
        answers: where answers go.
    """

    name = "the multiprocessing.Pool"
    one_clock = True
    breaks = False

    def __init__(self, job: Job, pool: Pool | None, answers: Answers) -> None:
        self._answers = answers
        self._own = pool is None
        self.warm = not self._own
        self.route = f"pool/{job.start_method}"
        self._sent = self._heard = 0
        self._unexplained = 0  # how many workers died that had no task, as far as is known
        self._state: tuple[frozenset[int], frozenset[int]] = frozenset(), frozenset()  # the tasks, and those that run
        self._state_since = 0.0
        if pool is None:
            pool = _pool_for(job)
        self._notes, self._notes_name = _notes()
        self._pool = pool
        self.here = isinstance(pool, ThreadPool)
        # There is no public way to see a pool's processes, so the attribute is only read, and it may be missing.
        self._processes = list(getattr(pool, "_pool", ()))

    def width(self) -> int:
        return getattr(self._pool, "_processes", len(self._processes)) or 1

    def submit(self, number: int, task: tuple[Any, ...]) -> None:
        put = partial(self._put, number)
        run, arguments = (run_here, task) if self.here else (run_noted, (self._notes_name, number, *task))
        self._pool.apply_async(run, arguments, callback=put, error_callback=put)
        self._sent += 1

    def _put(self, number: int, answer: Any) -> None:
        self._heard += 1
        self._answers.put((number, answer))

    def cancel(self, handle: Any) -> bool:
        return False  # a standard Pool runs everything it was given

    def is_death(self, error: BaseException) -> bool:
        return False  # of which a standard Pool says nothing

    def lost(self, under_way: Collection[int]) -> dict[int, int | None]:
        if self.here:
            return {}
        current = list(getattr(self._pool, "_pool", ()))
        dead = [process for process in self._processes if process not in current or not process.is_alive()]
        codes = {process.pid: code for process in dead if (code := _exitcode(process))}
        self._processes = current
        begun = {number: pid for number in under_way if (pid := self._begun_by(number)) is not None}
        found: dict[int, int | None] = {number: codes[pid] for number, pid in begun.items() if pid in codes}
        self._unexplained += len(codes) - len(found)
        state, now = (frozenset(under_way), frozenset(begun)), perf_counter()
        if state != self._state:
            self._state, self._state_since = state, now
        elif self._unexplained and under_way and not begun and now - self._state_since > _UNNOTED_SECONDS:
            # A worker may have died when it had taken a task and not begun to run it. As nothing has begun since, so
            # it was.
            self._unexplained -= 1
            found[min(under_way)] = None
        return found

    def _begun_by(self, number: int) -> int | None:
        """Return the number of the process that began a task; None if none has."""
        os.lseek(self._notes, (number % NOTES) * NOTE.size, os.SEEK_SET)
        data = os.read(self._notes, NOTE.size)
        noted, pid = NOTE.unpack(data) if len(data) == NOTE.size else (-1, 0)
        return pid if noted == number else None

    def close(self, *, hurry: bool, idle: bool) -> None:
        try:
            self._end(hurry=hurry, idle=idle)
        finally:
            os.close(self._notes)
            if not self._notes_name.startswith("/proc/"):
                os.unlink(self._notes_name)

    def _end(self, *, hurry: bool, idle: bool) -> None:
        if not self._own:
            return
        if not hurry and (idle or self._drained()):
            self._pool.close()
            self._pool.join()
        else:
            self._force_end()

    def _drained(self) -> bool:
        """Wait for the chunks under way; say whether they all came back."""
        deadline = perf_counter() + _DRAIN_SECONDS
        while self._heard < self._sent:
            try:
                taken_from(self._answers, deadline - perf_counter())
            except queue.Empty:
                return False
        return True

    def _force_end(self) -> None:
        # `terminate()` kills workers that may hold the pool's locks, and then may wait for those locks for ever. The
        # caller must not wait with it, so a thread calls it, and the processes are killed if it does not end.
        ending = threading.Thread(target=self._terminate, name="amorsize-pool-end", daemon=True)
        ending.start()
        ending.join(_END_SECONDS)
        if ending.is_alive():
            debug("the standard Pool does not end by itself: a worker was stopped with one of its locks")
            for process in self._processes:
                process.kill()
                process.join(_END_SECONDS)
            _free_locks(self._pool)
            ending.join(_END_SECONDS)

    def _terminate(self) -> None:
        self._pool.terminate()
        self._pool.join()


def _notes() -> tuple[int, str]:
    """Return the descriptor of a new file, and a name by which other processes find it."""
    file, name = tempfile.mkstemp(prefix="amorsize-")
    own = f"/proc/{os.getpid()}/fd/{file}"
    if os.path.exists(own):  # then the file needs no other name, and goes with this process
        os.unlink(name)
        name = own
    return file, name


def _pool_for(job: Job) -> Pool:
    first = None if job.initializer is None else ByValue(partial(job.initializer, *job.initargs))
    if job.start_method == "fork":
        # Otherwise each worker that comes to use shared memory starts its own tracker, which unlinks the memory
        # when the worker leaves, whoever the memory belongs to.
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    with main_hidden(job.start_method):
        return multiprocessing.get_context(job.start_method).Pool(job.width, first)


def _free_locks(pool: Any) -> None:
    """Free the locks that a pool's dead workers held, for which `terminate` would wait for ever in its thread.

    There is no public way to them; where they are not found, that thread stays, and the program ends all the same.
    """
    for queue_name, lock_name in (("_inqueue", "_rlock"), ("_outqueue", "_wlock")):
        lock = getattr(getattr(pool, queue_name, None), lock_name, None)
        held_here = getattr(getattr(lock, "_semlock", None), "_count", None)
        if lock is None or held_here is None or held_here():
            continue
        lock.acquire(False)  # whether that succeeds or a dead worker has it, it is free afterwards
        lock.release()


def _exitcode(process: Any) -> int | None:
    try:
        code: int | None = process.exitcode
    except ValueError:  # the pool has closed the process object
        return None
    return code

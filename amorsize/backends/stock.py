"""Runs chunks on a standard `multiprocessing.Pool`: one made for the call, or the user's own.

A standard Pool waits for ever for a worker that died. This backend looks at the pool's processes while it waits, so
that a dead worker is an error instead. It cannot know which item was running.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from functools import partial
from itertools import count
from time import perf_counter

from .. import context
from ..child.initialize import ByValue
from ..child.rebuild import Rebuilt, leave, rebuild
from ..child.run_chunk import Packed, run_chunk
from ..log import debug
from ..transport.ambient import set_ambient, snapshot
from ..transport.payload import Outdated, Uncarriable, payload_of, users_classes
from ..transport.serialize import Undumpable, dump_items, load_values
from .base import Start, Unsendable, failures_of
from .events import Chunk, Lost, Refused, Results, Returned
from .processes.start import main_hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.pool import Pool
    from typing import Any

    from .events import Event
    from .registry import Job

__all__ = ["StockPool", "open_backend"]

# How often the pool's processes are looked at while nothing comes back.
_LIVENESS_SECONDS = 0.5
# How long the chunks under way may take to come back when nobody wants them any more: a few time slices.
_DRAIN_SECONDS = 0.5
# How long `Pool.terminate()` may take before the processes are killed.
_END_SECONDS = 0.3
_calls = count(1)
# How many chunks a worker may have: one may wait behind the running one, so that the worker need not wait for the
# caller.
_DEPTH = 2


def open_backend(job: Job, target: Any) -> StockPool:
    """Return a backend on the user's Pool, or on one made for the call."""
    return StockPool(job, target)


class StockPool:
    """A `Backend` on a standard Pool.

    Args:
        job: what the backend is to run.
        pool: the user's pool, which is left as it was found; None to make a pool for this call.

    Raises:
        SerializationError: the function cannot be pickled.
    """

    def __init__(self, job: Job, pool: Pool | None = None) -> None:
        self._payload = payload_of(job.function, initializer=job.initializer)
        self._function = b"".join(self._payload.parts())
        self._outgoing = job.outgoing
        self._kinds: set[type] = set()  # the types of the items so far
        self._call = next(_calls)
        self._stop_at_error = job.stop_at_error
        self._own = pool is None
        if pool is None:
            first = None if job.initializer is None else ByValue(partial(job.initializer, *job.initargs))
            if job.start_method == "fork":
                # Otherwise each worker that comes to use shared memory starts its own tracker, which unlinks the memory
                # when the worker leaves, whoever the memory belongs to.
                from multiprocessing import resource_tracker

                resource_tracker.ensure_running()
            with main_hidden(job.start_method):
                pool = multiprocessing.get_context(job.start_method).Pool(job.width, first)
        self._pool = pool
        self.route = f"pool/{job.start_method}"
        self.prompt = True  # the pool queues what it is given
        self.found: int | None = None
        self.start = Start(warm=not self._own)
        self.width: int = job.width if self._own else getattr(pool, "_processes", job.width)
        self._under_way: dict[int, tuple[Chunk, bytes, float]] = {}
        self._numbers = count()
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        # There is no public way to see a pool's processes, so the attribute is only read, and it may be missing.
        self._processes = list(getattr(pool, "_pool", ()))
        self._closed = False
        self._broken = False

    def resize(self, width: int) -> None:
        return  # a standard Pool keeps its width

    def ask_back(self) -> None:
        return  # a standard Pool runs everything it was given

    def starting(self) -> bool:
        return False  # a standard Pool does not tell whether its workers are starting

    def busy(self) -> bool:
        return bool(self._under_way)

    def room(self, chunk_seconds: float | None) -> int:
        return _DEPTH * self.width - len(self._under_way)

    def submit(self, chunk: Chunk, slice_seconds: float) -> int:
        try:
            envelope = dump_items(chunk.items, self._outgoing)
        except Undumpable as found:
            position, error = found.position, found.error
            raise Unsendable(chunk.first + position, error, chunk.items[position]) from error
        if not envelope.plain and (kinds := users_classes(chunk.items, self._kinds)):
            self._payload = self._payload.with_items_of(kinds)
            self._function = b"".join(self._payload.parts())
        payload = b"".join(envelope.pieces())
        number = next(self._numbers)
        digest = self._payload.digest
        self._under_way[number] = chunk, digest, perf_counter()
        self._pool.apply_async(
            _run_chunk,
            (digest, self._function, payload, slice_seconds, self._stop_at_error, chunk.first, self._call),
            callback=lambda answer: self._answers.put((number, answer)),
            error_callback=lambda error: self._answers.put((number, error)),
        )
        return len(payload)

    def flush(self) -> None:
        return  # `submit` sends each chunk at once

    def wait(self, timeout: float | None = None) -> list[Event]:
        deadline = None if timeout is None else perf_counter() + timeout
        while True:
            left = _LIVENESS_SECONDS if deadline is None else deadline - perf_counter()
            try:
                number, answer = self._answers.get(timeout=max(0.0, min(left, _LIVENESS_SECONDS)))
            except queue.Empty:
                if left <= 0:
                    return []
                lost = self._lost()
                if lost:
                    return lost
                continue
            sent = self._under_way.pop(number, None)
            if sent is not None:  # otherwise the chunk was reported as lost, though the dead worker did not have it
                return self._heard(*sent, answer)

    def close(self, *, hurry: bool = False) -> None:
        if self._closed or (hurry and not self._own):
            return
        self._closed = True
        if not self._own:
            return
        if not hurry and self._drained(_DRAIN_SECONDS):
            self._pool.close()
            self._pool.join()
        else:
            self._force_end()

    def _drained(self, seconds: float) -> bool:
        """Wait for the chunks under way; say whether they all came back."""
        deadline = perf_counter() + seconds
        while self._under_way and not self._broken:
            try:
                number, _ = self._answers.get(timeout=max(0.0, deadline - perf_counter()))
            except queue.Empty:
                return False
            self._under_way.pop(number, None)
        return not self._broken

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

    def _lost(self) -> list[Event]:
        current = list(getattr(self._pool, "_pool", ()))
        dead = [process for process in self._processes if process not in current or not process.is_alive()]
        codes = [code for process in dead if (code := _exitcode(process))]
        self._processes = current
        if not codes or not self._under_way:
            return []
        self._broken = True
        # It is unknown which chunk the dead worker had, so the first one that has not come back is reported as lost.
        chunk, *_ = self._under_way.pop(min(self._under_way))
        rest = Chunk(chunk.first + 1, chunk.items[1:]) if len(chunk.items) > 1 else None
        return [Lost(Chunk(chunk.first, chunk.items[:1]), None, rest, codes[0])]

    def _heard(self, chunk: Chunk, digest: bytes, sent: float, answer: Any) -> list[Event]:
        if isinstance(answer, Outdated) and self._bring_up_to_date(digest, answer):
            return [Returned(chunk)]
        if isinstance(answer, BaseException):
            return [Refused(chunk, answer)]
        worker, (payload, packed_errors, began, seconds, cpu_seconds) = answer
        values = list(load_values(memoryview(payload)))
        failures = failures_of(chunk, packed_errors, chunk.first, values)
        size, after = len(payload), max(0.0, began - sent)
        events: list[Event] = [
            Results(chunk.first, values, failures, seconds, cpu_seconds, size, worker, sent, after)
        ]
        if len(values) < len(chunk.items):
            events.append(Returned(Chunk(chunk.first + len(values), chunk.items[len(values) :])))
        return events

    def _bring_up_to_date(self, digest: bytes, outdated: Outdated) -> bool:
        """Send workers the caller's code and data where theirs differ; say whether that can be done."""
        if digest == self._payload.digest:  # otherwise a newer payload is on its way already
            try:
                self._payload = self._payload.brought_up_to_date(outdated.places, waive_data=True)
            except Uncarriable as problem:
                outdated.__cause__ = problem
                return False
            self._function = b"".join(self._payload.parts())
        return True


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


_functions: dict[bytes, Rebuilt] = {}
_last_call = 0


def _function(digest: bytes, packed: bytes, call: int) -> Rebuilt:
    global _last_call
    rebuilt = _functions.get(digest)
    if rebuilt is None:
        _functions.clear()
        rebuilt = _functions[digest] = rebuild(packed, digest)
    else:
        rebuilt.enter()
    if call != _last_call:
        _last_call = call
        rebuilt.space.begin_call()
    return rebuilt


def _run_chunk(
    digest: bytes, packed: bytes, payload: bytes, slice_seconds: float, stop_at_error: bool, first: int, call: int
) -> tuple[int, Packed]:
    """Run a chunk in a worker; return the number of this process with what the chunk gave."""
    context.worker_process = True
    before = snapshot()
    rebuilt = _function(digest, packed, call)
    try:
        set_ambient(rebuilt.ambient)
        return os.getpid(), run_chunk(rebuilt.function, payload, first, slice_seconds, stop_at_error)
    finally:
        leave()  # the pool may be the user's, who runs other functions in it
        set_ambient(before)

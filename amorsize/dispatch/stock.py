"""Chunks on a standard `multiprocessing.Pool`: one made for the call, or the user's own.

A standard Pool waits for ever for a worker that died. Its processes are looked at while waiting, so that here it is an
error instead; which item was running cannot be known.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
from functools import partial
from itertools import count
from time import perf_counter, process_time

from .. import context
from ..errors import SerializationError
from ..lean import sha256
from ..log import debug
from ..rng import runs_items
from ..seeding import Seeded
from .backend import Chunk, Done, Lost, Refused, Unsendable
from .blame import blame
from .initialize import ByValue, load_function
from .process import main_hidden
from .remote import failures_of, pack_error
from .serialize import Unpicklable, culprit, dump, dump_item, dump_items, dump_values, is_scalars, load_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.pool import Pool
    from typing import Any

__all__ = ["StockPool"]

# How often the pool's processes are looked at while nothing comes back.
_LIVENESS_SECONDS = 0.5
# What the chunks under way get to come back when nobody wants them any more: a few time slices.
_DRAIN_SECONDS = 0.5
# What terminate() gets.
_END_SECONDS = 0.3
# One chunk may wait behind each running one, to hide the caller's turn-round.
_DEPTH = 2


class StockPool:
    """A `Backend` on a standard Pool.

    Args:
        function: takes one item.
        n_jobs: number of workers.
        stop_at_error: whether an error ends a chunk.
        pool: the user's pool, which is left as it was found; None to make one for this call.
        start_method: for a pool made here.
        initializer, initargs: for a pool made here.

    Raises:
        SerializationError: the function cannot be pickled.
    """

    def __init__(
        self,
        function: Callable[[Any], Any] | Seeded,
        *,
        n_jobs: int,
        stop_at_error: bool,
        pool: Pool | None = None,
        start_method: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        try:
            self._function = dump(function)
        except Exception as error:  # user code: anything
            raise SerializationError(f"{function!r} cannot be sent to a worker: {error}{blame(function)}") from error
        self._digest = sha256(self._function).digest()
        self._stop_at_error = stop_at_error
        self._own = pool is None
        if pool is None:
            first = None if initializer is None else ByValue(partial(initializer, *initargs))
            with main_hidden(start_method):
                pool = multiprocessing.get_context(start_method).Pool(n_jobs, first)
        self._pool = pool
        self._n_jobs = n_jobs
        self._under_way: dict[int, Chunk] = {}
        self._numbers = count()
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        # Read only, and missed gracefully: there is no public way to see a pool's processes.
        self._processes = list(getattr(pool, "_pool", ()))
        self.bytes_in = 0
        self._closed = False
        self._broken = False

    def widen(self, n_jobs: int) -> None:
        self._n_jobs = n_jobs  # a standard Pool keeps its width; only the chunks under way may be more

    def any_ready(self) -> bool:
        return True  # a standard Pool does not tell

    def busy(self) -> bool:
        return bool(self._under_way)

    def room(self, chunk_seconds: float | None) -> int:  # noqa: ARG002 - the protocol's
        return _DEPTH * self._n_jobs - len(self._under_way)

    def submit(self, chunk: Chunk, slice_seconds: float) -> None:
        try:
            payload = b"".join(dump_items(chunk.items))
        except Exception:  # user code: anything
            position, error = culprit(chunk.items, pickled=dump_item)
            raise Unsendable(chunk.first + position, error, chunk.items[position]) from error
        number = next(self._numbers)
        self._under_way[number] = chunk
        self.bytes_in += len(payload)
        self._pool.apply_async(
            _run_chunk,
            (self._digest, self._function, payload, slice_seconds, self._stop_at_error, chunk.first),
            callback=lambda answer: self._answers.put((number, answer)),
            error_callback=lambda error: self._answers.put((number, error)),
        )

    def flush(self) -> None:
        return  # what was submitted left at once

    def wait(self, timeout: float | None = None) -> list[Done | Lost | Refused]:
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
            chunk = self._under_way.pop(number, None)
            if chunk is not None:  # else it was given up with a dead worker, though another one had it
                return [self._event(chunk, answer)]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._own:
            return
        if self._drained(_DRAIN_SECONDS):
            self._pool.close()
            self._pool.join()
        else:
            self._force_end()

    def kill(self) -> None:
        if self._own and not self._closed:
            self._closed = True
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
        # terminate() kills workers that may hold the pool's locks, and then may wait for those locks for ever. The
        # caller must not: a thread does it, and the processes go in any case.
        ending = threading.Thread(target=self._terminate, name="amorsize-pool-end", daemon=True)
        ending.start()
        ending.join(_END_SECONDS)
        if ending.is_alive():
            debug("the standard Pool does not end by itself: a worker was stopped with one of its locks")
            for process in self._processes:
                process.kill()

    def _terminate(self) -> None:
        self._pool.terminate()
        self._pool.join()

    def _lost(self) -> list[Done | Lost | Refused]:
        current = list(getattr(self._pool, "_pool", ()))
        dead = [process for process in self._processes if process not in current or not process.is_alive()]
        codes = [code for process in dead if (code := _exitcode(process))]
        self._processes = current
        if not codes or not self._under_way:
            return []
        self._broken = True
        # Which chunk it had is unknown: the first one that has not come back stands for it.
        chunk = self._under_way.pop(min(self._under_way))
        rest = Chunk(chunk.first + 1, chunk.items[1:]) if len(chunk.items) > 1 else None
        return [Lost(Chunk(chunk.first, chunk.items[:1]), None, rest, codes[0])]

    def _event(self, chunk: Chunk, answer: Any) -> Done | Refused:
        if isinstance(answer, BaseException):
            return Refused(chunk, answer)
        payload, packed_errors, seconds, cpu_seconds = answer
        values = list(load_values(memoryview(payload)))
        failures = failures_of(chunk, packed_errors, chunk.first, values, scalars=is_scalars(payload))
        rest = None
        if len(values) < len(chunk.items):
            rest = Chunk(chunk.first + len(values), chunk.items[len(values) :])
        return Done(chunk.first, values, failures, rest, len(values), seconds, cpu_seconds, len(payload))


def _exitcode(process: Any) -> int | None:
    try:
        code: int | None = process.exitcode
    except ValueError:  # closed by its pool
        return None
    return code


_functions: dict[bytes, Callable[[Any], Any]] = {}


@runs_items("streams")
def _run_chunk(
    digest: bytes, packed_function: bytes, payload: bytes, slice_seconds: float, stop_at_error: bool, first: int
) -> tuple[bytes, list[tuple[int, bytes]], float, float]:
    """In a worker: run a chunk and return (results, errors by position, wall seconds, CPU seconds)."""
    context.worker_process = True
    function = _functions.get(digest)
    if function is None:
        _functions.clear()
        function = _functions[digest] = load_function(packed_function)
    offset, streams = 0, None
    if isinstance(function, Seeded):
        streams, function = function.begin(  # noqa: RUF059 - `runs_items` finds it by name
            lambda: first + offset, keep=True, plain=is_scalars(payload)
        )
    items = load_values(memoryview(payload))
    results: list[Any] = []
    errors: list[tuple[int, bytes]] = []
    cpu_began, began = process_time(), perf_counter()
    for offset, item in enumerate(items):
        try:
            if type(item) is Unpicklable:
                raise SerializationError(f"the item could not be rebuilt in a worker: {item.error!r}") from item.error
            results.append(function(item))
        except BaseException as error:  # the caller decides what SystemExit and the like mean
            errors.append((offset, pack_error(error)))
            results.append(None)
            if stop_at_error or not isinstance(error, Exception):
                break
        if slice_seconds and perf_counter() - began > slice_seconds:
            break
    seconds, cpu_seconds = perf_counter() - began, process_time() - cpu_began
    while True:
        try:
            return b"".join(dump_values(results)), errors, seconds, cpu_seconds
        except Exception:  # user code: anything
            offset, cause = culprit(results)
            refusal = SerializationError(f"the result cannot be pickled: {cause}{blame(results[offset])}")
            refusal.__cause__ = cause
            errors.append((offset, pack_error(refusal)))
            results[offset] = None

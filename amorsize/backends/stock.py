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
from ..child.initialize import ByValue
from ..child.rebuild import Rebuilt, leave, rebuild
from ..log import debug
from ..plan.retry import NOT_OF_ITEMS
from ..rng import runs_items
from ..seeding import Seeded
from ..transport.ambient import set_ambient, snapshot
from ..transport.blame import said_of
from ..transport.payload import Outdated, Uncarriable, payload_of, users_classes
from ..transport.remote import UnrebuiltItem, UnsentResult, pack_error
from ..transport.serialize import Outgoing, Undumpable, Unpicklable, dump_items, dump_values, is_scalars, load_values
from .base import Unsendable, failures_of
from .events import Chunk, Done, Lost, Refused
from .processes.start import main_hidden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.pool import Pool
    from typing import Any

    from .events import Event

__all__ = ["StockPool"]

# How often the pool's processes are looked at while nothing comes back.
_LIVENESS_SECONDS = 0.5
# What the chunks under way get to come back when nobody wants them any more: a few time slices.
_DRAIN_SECONDS = 0.5
# What terminate() gets.
_END_SECONDS = 0.3
_calls = count(1)
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

    route = "pool"

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
        self._payload = payload_of(function, initializer=initializer)
        self._function = b"".join(self._payload.parts())
        self.outgoing = Outgoing()
        self._kinds: set[type] = set()  # of the items so far
        self._call = next(_calls)
        self._stop_at_error = stop_at_error
        self._own = pool is None
        if pool is None:
            first = None if initializer is None else ByValue(partial(initializer, *initargs))
            if start_method == "fork":
                # Else each worker that comes to use shared memory has a tracker of its own, which unlinks it when the
                # worker leaves, whoever it belongs to.
                from multiprocessing import resource_tracker

                resource_tracker.ensure_running()
            with main_hidden(start_method):
                pool = multiprocessing.get_context(start_method).Pool(n_jobs, first)
        self._pool = pool
        self._n_jobs = n_jobs
        self._under_way: dict[int, tuple[Chunk, bytes]] = {}
        self._numbers = count()
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        # Read only, and missed gracefully: there is no public way to see a pool's processes.
        self._processes = list(getattr(pool, "_pool", ()))
        self.bytes_in = 0
        self._closed = False
        self._broken = False

    def widen(self, n_jobs: int) -> None:
        self._n_jobs = n_jobs  # a standard Pool keeps its width; only the chunks under way may be more

    def ask_back(self) -> None:
        return  # what a standard Pool was given it runs

    def any_ready(self) -> bool:
        return True  # a standard Pool does not tell

    def busy(self) -> bool:
        return bool(self._under_way)

    def room(self, chunk_seconds: float | None) -> int:  # noqa: ARG002 - the protocol's
        return _DEPTH * self._n_jobs - len(self._under_way)

    def submit(self, chunk: Chunk, slice_seconds: float) -> None:
        try:
            buffers = dump_items(chunk.items, self.outgoing)
        except Undumpable as found:
            position, error = found.position, found.error
            raise Unsendable(chunk.first + position, error, chunk.items[position]) from error
        if not is_scalars(buffers[0]) and (kinds := users_classes(chunk.items, self._kinds)):
            self._payload = self._payload.with_items_of(kinds)
            self._function = b"".join(self._payload.parts())
        payload = b"".join(buffers)
        number = next(self._numbers)
        digest = self._payload.digest
        self._under_way[number] = chunk, digest
        self.bytes_in += len(payload)
        self._pool.apply_async(
            _run_chunk,
            (digest, self._function, payload, slice_seconds, self._stop_at_error, chunk.first, self._call),
            callback=lambda answer: self._answers.put((number, answer)),
            error_callback=lambda error: self._answers.put((number, error)),
        )

    def flush(self) -> None:
        return  # what was submitted left at once

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
            if sent is not None:  # else it was given up with a dead worker, though another one had it
                return [self._event(*sent, answer)]

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

    def _lost(self) -> list[Event]:
        current = list(getattr(self._pool, "_pool", ()))
        dead = [process for process in self._processes if process not in current or not process.is_alive()]
        codes = [code for process in dead if (code := _exitcode(process))]
        self._processes = current
        if not codes or not self._under_way:
            return []
        self._broken = True
        # Which chunk it had is unknown: the first one that has not come back stands for it.
        chunk, _ = self._under_way.pop(min(self._under_way))
        rest = Chunk(chunk.first + 1, chunk.items[1:]) if len(chunk.items) > 1 else None
        return [Lost(Chunk(chunk.first, chunk.items[:1]), None, rest, codes[0])]

    def _event(self, chunk: Chunk, digest: bytes, answer: Any) -> Done | Refused:
        if isinstance(answer, Outdated) and self._bring_up_to_date(digest, answer):
            return Done(chunk.first, [], {}, chunk, 0, 0.0, 0.0, 0)
        if isinstance(answer, BaseException):
            return Refused(chunk, answer)
        payload, packed_errors, seconds, cpu_seconds = answer
        values = list(load_values(memoryview(payload)))
        failures = failures_of(chunk, packed_errors, chunk.first, values)
        rest = None
        if len(values) < len(chunk.items):
            rest = Chunk(chunk.first + len(values), chunk.items[len(values) :])
        return Done(chunk.first, values, failures, rest, len(values), seconds, cpu_seconds, len(payload))


    def _bring_up_to_date(self, digest: bytes, outdated: Outdated) -> bool:
        """See that workers get what they have otherwise than the caller; say whether they will."""
        if digest == self._payload.digest:  # else it is on its way already
            try:
                self._payload = self._payload.brought_up_to_date(outdated.places, waive_data=True)
            except Uncarriable as problem:
                outdated.__cause__ = problem
                return False
            self._function = b"".join(self._payload.parts())
        return True


def _exitcode(process: Any) -> int | None:
    try:
        code: int | None = process.exitcode
    except ValueError:  # closed by its pool
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
) -> tuple[bytes, list[tuple[int, bytes]], float, float]:
    """In a worker: run a chunk and return (results, errors by position, wall seconds, CPU seconds)."""
    context.worker_process = True
    before = snapshot()
    rebuilt = _function(digest, packed, call)
    try:
        set_ambient(rebuilt.ambient)
        return _run_items(rebuilt.function, payload, slice_seconds, stop_at_error, first)
    finally:
        leave()  # the pool may be the user's, who runs other things in it
        set_ambient(before)


@runs_items("streams")
def _run_items(
    function: Callable[[Any], Any] | Seeded, payload: bytes, slice_seconds: float, stop_at_error: bool, first: int
) -> tuple[bytes, list[tuple[int, bytes]], float, float]:
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
                raise UnrebuiltItem(f"the item could not be rebuilt in a worker: {item.error!r}") from item.error
            results.append(function(item))
        except BaseException as error:  # SystemExit of an item is its error like any other
            errors.append((offset, pack_error(error)))
            results.append(None)
            if stop_at_error or isinstance(error, NOT_OF_ITEMS):
                break
        if slice_seconds and perf_counter() - began > slice_seconds:
            break
    seconds, cpu_seconds = perf_counter() - began, process_time() - cpu_began
    while True:
        try:
            return b"".join(dump_values(results)), errors, seconds, cpu_seconds
        except Undumpable as found:  # user code: anything, SystemExit too
            offset, cause = found.position, found.error
            said = said_of(cause, results[offset])
            refusal = UnsentResult(f"the result of item {first + offset} cannot be pickled: {said}")
            refusal.__cause__ = cause
            errors.append((offset, pack_error(refusal)))
            results[offset] = None

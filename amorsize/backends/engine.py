"""Runs chunks as the tasks of an engine: a standard Pool, an executor, a cluster. Each engine is a set of `Tasks`.

What all have in common stands here: a task is a chunk (`child.task`), a few more are submitted than workers run,
results are taken as they come, the function goes once to each worker, and what is not wanted any more is cancelled. A
module for an engine says how a task is submitted, how many workers there are, and by what a dead worker is known.

What a task costs on an engine is learnt from the workers: where one task was waiting while a worker ran another, the
time between the two by the worker's own clock is what the engine took there. To this comes what its threads, such as a
client's or a scheduler's, use in this process. Chunks are made so long that this is little.
"""

from __future__ import annotations

import queue
from collections import deque
from concurrent.futures import CancelledError
from itertools import count
from statistics import median
from threading import get_ident
from time import perf_counter, process_time, thread_time

from ..child.in_thread import context_of_workers, run_in_thread
from ..child.task import MISSING, OUTDATED, RAN, UNFIT, open_calls, origin
from ..errors import AmorsizeError, UnsupportedError, WorkerCrashError, let_signals_through
from ..lean import NamedTuple, Protocol
from ..log import debug
from ..seeding import Seeded
from ..transport.payload import Outdated, Uncarriable, payload_of, users_classes
from ..transport.remote import unpack_error
from ..transport.serialize import load_values
from .base import Start, check_shared, dump_chunk, events_here, failures_of, taken_from, unstarted
from .events import Broken, Chunk, Lost, Refused, Results, Returned
from .where import Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from concurrent.futures import Future
    from typing import Any

    from ..child.run_chunk import Ran
    from .events import Event
    from .registry import Job

    Answers = queue.SimpleQueue[tuple[int, Any]]

__all__ = ["Engine", "Tasks", "put_answer"]

# How often the engine is asked whether a worker died of which it says nothing, and whether its width has changed.
_LOOK_SECONDS = 0.5
# How many tasks a worker may have: one may wait behind the running one, so that the worker need not wait for us.
_DEPTH = 2
# A function of so many bytes goes with every task; a longer one goes where it is asked for. A smaller value means more
# round trips; a larger one means that more bytes are sent again and again.
_SHORT_FUNCTION_BYTES = 16_384
# What a task costs is learnt from so many times between two tasks, because a few say little, and the last ones do.
_LEAST_GAPS, _MOST_GAPS = 8, 100
# How often a task is sent in all, if workers do not have what it needs.
_MOST_TRIES = 5
# So many workers are told apart; where they come and go, the first ones are forgotten.
_MOST_WORKERS = 1000
_calls = count(1)


class Tasks(Protocol):
    """What an engine does with tasks.

    It is made with a queue, into which it puts the number of each task that is over with its answer, or with the error
    that the engine gave instead; it may do so from any thread. A task is the arguments of `child.task.run_task`, or, if
    the workers are here, of `run_here`.

    Attributes:
        name: what a text calls the engine.
        route: the name of the way to the workers, by which costs are learnt.
        here: whether its workers are threads of this very process.
        one_clock: whether the workers are on this machine, and so have its clock.
        warm: whether its workers are running already.
        breaks: whether a worker that dies takes all tasks and the engine with it.
    """

    name: str
    here: bool
    one_clock: bool
    warm: bool
    breaks: bool

    @property
    def route(self) -> str:
        """The name of the way to the workers; it may change with their number."""

    def width(self) -> int:
        """Return how many tasks can run at once now."""

    def submit(self, number: int, task: tuple[Any, ...]) -> Any:
        """Have a worker run a task; return what `cancel` takes. It may raise anything."""

    def cancel(self, handle: Any) -> bool:
        """Cancel a task; say whether it is certain that nothing of it ran or will run."""

    def is_death(self, error: BaseException) -> bool:
        """Say whether the engine's error means that the worker died."""

    def lost(self, under_way: Collection[int]) -> dict[int, int | None]:
        """Return which tasks a dead worker had, with its exit code, where the engine does not say so itself."""

    def close(self, *, hurry: bool, idle: bool) -> None:
        """Release what was made for the call; `idle`: nothing is under way."""


class _UnderWay(NamedTuple):
    chunk: Chunk
    task: tuple[Any, ...]
    handle: Any  # None while it is being submitted
    sent: float
    tries: int


class Engine:
    """A `Backend` on the tasks of an engine.

    Args:
        job: what the backend is to run. Its width is the most that may run at once; 0 and -1 mean all that the engine
            has, -2 all but one.
        make: makes the engine's tasks, with the queue for answers.
        crosses: whether it is known before that the workers are not in this process. Then nothing is started for a
            function that cannot be sent.

    Raises:
        SerializationError: the function cannot be pickled.
        UnsupportedError: the engine's workers cannot run it.
    """

    prompt = True  # the engine queues what it is given
    found: int | None = None

    def __init__(self, job: Job, make: Callable[[Answers], Tasks], *, crosses: bool = False) -> None:
        self._job = job
        if crosses:
            self._pack()
        self._answers: Answers = queue.SimpleQueue()
        self._tasks = tasks = make(self._answers)
        self.start = Start(warm=tasks.warm)
        self._numbers = count()
        self._call = next(_calls)
        self._under_way: dict[int, _UnderWay] = {}
        self._closed = False
        self._stopped: BaseException | None = None  # why the engine takes no more work
        self._lost: range | None = None  # from the first to the last item of workers that died
        self._ready: list[Event] = []
        self._engines_width = 0, 0.0  # and when that was asked
        self._cost = _TaskCost()
        self._others_began = _others_cpu_seconds()
        try:
            if tasks.here:
                self._begin_here()
            elif not crosses:
                self._pack()
        except BaseException:
            tasks.close(hurry=True, idle=True)
            raise

    def _pack(self) -> None:
        self._payload = payload_of(self._job.function, initializer=self._job.initializer)
        self._kinds: set[type] = set()  # the types of the items so far
        self._set_function()

    def _begin_here(self) -> None:
        if isinstance(self._job.function, Seeded):
            text = "sets the random state of this process for each item, which its threads share: leave it out"
            raise UnsupportedError(f"seed= {text}, or use workers in processes (the backend is {self._tasks.name})")
        self._around = context_of_workers()
        self._ran: dict[int, tuple[int, Ran]] = {}  # the thread, and what became of the items
        open_calls[self._call] = self._run_here

    @property
    def route(self) -> str:
        """The name of the way to the workers."""
        return self._tasks.route

    @property
    def width(self) -> int:
        """How many tasks can run at once now, or may."""
        (width, looked_at), now, asked = self._engines_width, perf_counter(), self._job.width
        if now - looked_at > _LOOK_SECONDS:
            width = self._tasks.width()
            self._engines_width = width, now
        if asked:
            width = min(width, asked) if asked > 0 else width + 1 + asked
        return max(1, width)

    @property
    def seconds_per_task(self) -> float | None:
        """What a task costs, by the workers' clocks and the CPU time here; None if too little was seen."""
        gap = self._cost.seconds()
        if gap is None or self._tasks.here:
            return gap
        return gap + max(0.0, _others_cpu_seconds() - self._others_began) / self._cost.tasks

    def resize(self, width: int) -> None:
        return  # an engine has its own width

    def starting(self) -> bool:
        return False  # it queues what it is given, and does not tell

    def busy(self) -> bool:
        return bool(self._under_way or self._ready or self._stopped)

    def room(self, chunk_seconds: float | None) -> int:
        if self._stopped is not None:
            return 0
        width = self.width
        # A task that waits in the engine's queue runs as soon as a worker is free. So where the engine has more workers
        # than the user allows, none may wait there.
        depth = _DEPTH if width >= self._engines_width[0] else 1
        return depth * width - len(self._under_way)

    def submit(self, chunk: Chunk, slice_seconds: float) -> int:
        if self._tasks.here:
            check_shared(chunk)
            self._send(chunk, (slice_seconds,))
            return 0
        envelope = dump_chunk(chunk, self._job.outgoing)
        if not envelope.plain and (kinds := users_classes(chunk.items, self._kinds)):
            self._payload = self._payload.with_items_of(kinds)
            self._set_function()
        payload = b"".join(envelope.pieces())
        self._send(chunk, self._task(payload, slice_seconds, chunk.first))
        return len(payload)

    def _task(self, payload: bytes, slice_seconds: float, first: int) -> tuple[Any, ...]:
        call = (*origin(), self._call)
        stop = self._job.stop_at_error
        return call, self._payload.digest, self._with_each, payload, slice_seconds, stop, first

    def _set_function(self) -> None:
        self._function = b"".join(self._payload.parts())
        self._with_each = self._function if len(self._function) <= _SHORT_FUNCTION_BYTES else None

    def _send(self, chunk: Chunk, task: tuple[Any, ...], tries: int = 1) -> None:
        if self._stopped is not None:
            self._ready.append(Returned(chunk))
            return
        number = next(self._numbers)
        # It is under way before it is submitted, because it may be over before `submit` returns.
        self._under_way[number] = _UnderWay(chunk, task, None, perf_counter(), tries)
        try:
            handle = self._tasks.submit(number, (self._call, number) if self._tasks.here else task)
        except Exception as error:  # whatever the engine raises
            let_signals_through(error)
            del self._under_way[number]
            # What is under way may still come back, so the call is told when nothing is.
            self._stopped = _refused(self._tasks.name, error)
            self._ready.append(Returned(chunk))
            return
        self._under_way[number] = self._under_way[number]._replace(handle=handle)

    def flush(self) -> None:
        return  # `submit` sends each chunk at once

    def ask_back(self) -> None:
        for number, sent in reversed([*self._under_way.items()]):
            if self._cancel(sent):
                del self._under_way[number]
                self._ready.append(Returned(sent.chunk))

    def _cancel(self, sent: _UnderWay) -> bool:
        """Cancel a task, if that can be; say whether it is certain that nothing of it ran or will run."""
        if sent.handle is None:
            return False
        try:
            return self._tasks.cancel(sent.handle)
        except Exception as error:  # whatever the engine raises, where it was shut down for example
            let_signals_through(error)
            debug("%s does not cancel a task: %r", self._tasks.name, error)
            return False

    def wait(self, timeout: float | None = None) -> list[Event]:
        if self._ready:
            events, self._ready = self._ready, []
            return events
        if self._stopped is not None and not self._under_way:
            return [Broken(self._end())]
        deadline = None if timeout is None else perf_counter() + timeout
        while True:
            left = _LOOK_SECONDS if deadline is None else deadline - perf_counter()
            try:
                number, answer = taken_from(self._answers, min(left, _LOOK_SECONDS))
            except queue.Empty:
                if left <= 0:
                    return []
                lost = self._tasks.lost(self._under_way)
                if lost:
                    return [self._lose(self._under_way.pop(number).chunk, code) for number, code in lost.items()]
                continue
            sent = self._under_way.pop(number, None)
            if sent is not None and (events := self._heard(number, sent, answer)):
                return events

    def where(self) -> list[Where]:
        """Say which chunks are under way, and since when; an engine does not tell which item of them runs, or where."""
        now, under_way = perf_counter(), tuple(self._under_way.values())
        if self._closed:
            return []
        return [
            Where(None, chunk.first, now - sent, last=chunk.first + len(chunk.items) - 1)
            for chunk, _, _, sent, _ in under_way
        ]

    def close(self, *, hurry: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        open_calls.pop(self._call, None)
        try:
            for sent in self._under_way.values():
                self._cancel(sent)
        finally:
            self._tasks.close(hurry=hurry, idle=not (self._under_way or self._lost))

    def _lose(self, chunk: Chunk, exitcode: int | None) -> Lost:
        known, end = self._lost or range(chunk.first, chunk.first), chunk.first + len(chunk.items)
        self._lost = range(min(known.start, chunk.first), max(known.stop, end))
        return Lost(None, chunk, None, exitcode, unknown=True)

    def _end(self) -> BaseException:
        """Return the error that ends a call whose engine takes no more work."""
        assert self._stopped is not None
        if self._lost is None:
            return self._stopped
        crash = WorkerCrashError(self._lost.start, None, among=len(self._lost))
        crash.__cause__ = self._stopped
        return crash

    # Threads of this process.

    def _run_here(self, number: int) -> None:
        """Run a task in the thread of the engine's that calls this."""
        sent = self._under_way.get(number)
        if sent is None or self._closed:
            return
        function: Any = self._job.function
        ran = run_in_thread(
            function,
            self._while_wanted(sent.chunk),
            sent.chunk.first,
            self._around.copy(),
            slice_seconds=sent.task[0],
            stop_at_error=self._job.stop_at_error,
        )
        self._ran[number] = get_ident(), ran

    def _while_wanted(self, chunk: Chunk) -> Iterator[Any]:
        """Yield the items of a chunk as long as any item is wanted."""
        for item in chunk.items:
            if self._closed:
                return
            yield item

    # What is heard.

    def _heard(self, number: int, sent: _UnderWay, answer: Any) -> list[Event]:
        chunk = sent.chunk
        if isinstance(answer, BaseException):
            if self._tasks.is_death(answer):
                lost = self._lose(chunk, None)
                if not self._tasks.breaks:
                    return [lost]
                self._stopped = self._stopped or _refused(self._tasks.name, answer)
                return [Returned(chunk)]  # any of the tasks that are lost may be the one at fault
            return [Refused(chunk, self._refusal(chunk, answer))]
        if self._tasks.here:
            thread, ran = self._ran.pop(number)
            return events_here(chunk, ran, self._cost.add(thread, sent.sent, ran.began, ran.seconds), sent.sent)
        kind, content = answer
        if kind == RAN:
            return self._results(sent, *content)
        if kind == MISSING and sent.tries < _MOST_TRIES:
            self._send(chunk, (sent.task[0], self._payload.digest, self._function, *sent.task[3:]), sent.tries + 1)
            return []
        if kind == MISSING:
            return [Refused(chunk, AmorsizeError(f"workers of {self._tasks.name} lose the function again and again"))]
        if kind == OUTDATED:
            digest = sent.task[1]
            outdated = Outdated(digest, content)
            return [Returned(chunk) if self._bring_up_to_date(digest, outdated) else Refused(chunk, outdated)]
        if kind == UNFIT:
            return [Refused(chunk, UnsupportedError(f"a worker of {self._tasks.name} cannot take part: {content}"))]
        return [Refused(chunk, unpack_error(content))]

    def _refusal(self, chunk: Chunk, error: BaseException) -> BaseException:
        if not isinstance(error, CancelledError):
            return error
        last = chunk.first + len(chunk.items) - 1
        refusal = AmorsizeError(f"{self._tasks.name} cancelled items {chunk.first} to {last}; was it shut down?")
        refusal.__cause__ = error
        return refusal

    def _results(self, sent: _UnderWay, worker: Any, packed: Any) -> list[Event]:
        payload, packed_errors, began, seconds, cpu_seconds = packed
        chunk = sent.chunk
        values = list(load_values(memoryview(payload)))
        failures = failures_of(chunk, packed_errors, chunk.first, values)
        number = self._cost.add(worker, sent.sent, began, seconds)
        after = max(0.0, began - sent.sent) if self._tasks.one_clock else None
        size, clocks = len(payload), (seconds, cpu_seconds)
        results = Results(chunk.first, values, failures, *clocks, size, number, sent.sent, after)
        return [results, *unstarted(chunk, len(values))]

    def _bring_up_to_date(self, digest: bytes, outdated: Outdated) -> bool:
        """Send workers the caller's code and data where theirs differ; say whether that can be done."""
        if digest == self._payload.digest:  # otherwise a newer payload is on its way already
            try:
                self._payload = self._payload.brought_up_to_date(outdated.places, waive_data=True)
            except Uncarriable as problem:
                outdated.__cause__ = problem
                return False
            self._set_function()
        return True


def put_answer(answers: Answers, number: int, future: Future[Any]) -> None:
    """Put what a future gave into the queue; for `Future.add_done_callback`."""
    error = CancelledError() if future.cancelled() else future.exception()
    answers.put((number, future.result() if error is None else error))


def _others_cpu_seconds() -> float:
    """Return the CPU seconds that the other threads of this process have used."""
    return process_time() - thread_time()


def _refused(name: str, error: BaseException) -> AmorsizeError:
    """Return the error that tells that an engine takes no more work."""
    refusal = AmorsizeError(f"{name} takes no more work: {type(error).__name__}: {error}")
    refusal.__cause__ = error
    return refusal


class _TaskCost:
    """What a task costs a worker beyond its items, by the time between tasks that were waiting for each other."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._next = count(1)
        self._last: dict[int, tuple[float, float]] = {}  # by worker: when its last task ended there, and was heard of
        self._gaps: deque[float] = deque(maxlen=_MOST_GAPS)
        self.tasks = 0

    def add(self, worker: Any, sent: float, began: float, seconds: float) -> int:
        """Take in a task that was heard of now, and return the number of the worker that ran it."""
        self.tasks += 1
        number = self._numbers.get(worker)
        if number is None:
            if len(self._numbers) >= _MOST_WORKERS:
                self._numbers.clear()
                self._last.clear()
            number = self._numbers[worker] = next(self._next)
        last = self._last.get(number)
        if last is not None and sent < last[1]:
            self._gaps.append(max(0.0, began - last[0]))
        self._last[number] = began + seconds, perf_counter()
        return number

    def seconds(self) -> float | None:
        """Return what a task costs; None if too little was seen."""
        return median(self._gaps) if len(self._gaps) >= _LEAST_GAPS else None

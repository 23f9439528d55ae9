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
from ..errors import AmorsizeError, UnsupportedError, let_signals_through
from ..lean import NamedTuple, Protocol
from ..seeding import Seeded
from ..transport.payload import Outdated, Uncarriable, payload_of, users_classes
from ..transport.remote import unpack_error
from ..transport.serialize import Undumpable, dump_items, load_values
from .base import Start, Unsendable, check_shared, events_here, failures_of, unstarted
from .events import Chunk, Lost, Refused, Results, Returned

TYPE_CHECKING = False
if TYPE_CHECKING:
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
_calls = count(1)


class Tasks(Protocol):
    """What an engine does with tasks.

    It is made with a queue, into which it puts the number of each task that is over with its answer, or with the error
    that the engine gave instead; it may do so from any thread.

    Attributes:
        name: what a text calls the engine.
        route: the name of the way to the workers, by which costs are learnt.
        here: whether its workers are threads of this very process.
        one_clock: whether the workers are on this machine, and so have its clock.
        warm: whether its workers are running already.
    """

    name: str
    here: bool
    one_clock: bool
    warm: bool

    @property
    def route(self) -> str:
        """The name of the way to the workers; it may change with their number."""

    def width(self) -> int:
        """Return how many tasks can run at once now."""

    def submit(self, number: int, task: tuple[Any, ...]) -> Any:
        """Have a worker call `child.task.run_task` with a task; return what `cancel` takes. It may raise anything."""

    def submit_here(self, call: int, number: int) -> Any:
        """Have a thread of this process call `child.task.run_here`."""

    def shared(self, function: bytes) -> Any:
        """Return what stands in a task for a long function, if the engine can bring that to each worker; else None."""

    def cancel(self, handle: Any) -> bool:
        """Cancel a task; say whether it is certain that nothing of it ran or will run."""

    def is_death(self, error: BaseException) -> bool:
        """Say whether the engine's error means that the worker died."""

    def exitcode(self) -> int | None:
        """Return how a worker ended that died since this was last asked, where the engine does not say so."""

    def close(self, *, hurry: bool, idle: bool) -> None:
        """Release what was made for the call; `idle`: nothing is under way."""


class _UnderWay(NamedTuple):
    chunk: Chunk
    task: tuple[Any, ...]
    handle: Any
    sent: float


class Engine:
    """A `Backend` on the tasks of an engine.

    Args:
        job: what the backend is to run. Its width is the most that may run at once; 0 means all that the engine has.
        tasks: the engine.
        answers: the queue that `tasks` was made with.

    Raises:
        SerializationError: the function cannot be pickled.
        UnsupportedError: the engine's workers cannot run it.
    """

    prompt = True  # the engine queues what it is given
    found: int | None = None

    def __init__(self, job: Job, tasks: Tasks, answers: Answers) -> None:
        self._job = job
        self._tasks = tasks
        self._answers = answers
        self.start = Start(warm=tasks.warm)
        self._numbers = count()
        self._call = next(_calls)
        self._under_way: dict[int, _UnderWay] = {}
        self._closed = self._broken = False
        self._ready: list[Event] = []
        self._looked_at = 0.0
        self._engines_width = 0
        self._cost = _TaskCost()
        self._others_began = _others_cpu_seconds()
        if tasks.here:
            if isinstance(job.function, Seeded):
                text = "sets the random state of this process for each item, which its threads share: leave it out"
                raise UnsupportedError(f"seed= {text}, or use workers in processes (the backend is {tasks.name})")
            self._around = context_of_workers()
            self._ran: dict[int, tuple[int, Ran]] = {}  # the thread, and what became of the items
            open_calls[self._call] = self._run_here
        else:
            self._payload = payload_of(job.function, initializer=job.initializer)
            self._kinds: set[type] = set()  # the types of the items so far
            self._set_function()

    @property
    def route(self) -> str:
        """The name of the way to the workers."""
        return self._tasks.route

    @property
    def width(self) -> int:
        """How many tasks can run at once now, or may."""
        now = perf_counter()
        if now - self._looked_at > _LOOK_SECONDS:
            self._engines_width, self._looked_at = self._tasks.width(), now
        width = self._engines_width
        return max(1, min(width, self._job.width) if self._job.width else width)

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
        return bool(self._under_way or self._ready)

    def room(self, chunk_seconds: float | None) -> int:
        width = self.width
        # A task that waits in the engine's queue runs as soon as a worker is free. So where the engine has more workers
        # than the user allows, none may wait there.
        depth = _DEPTH if width >= self._engines_width else 1
        return depth * width - len(self._under_way)

    def submit(self, chunk: Chunk, slice_seconds: float) -> int:
        if self._tasks.here:
            check_shared(chunk)
            self._send(chunk, (slice_seconds,))
            return 0
        try:
            envelope = dump_items(chunk.items, self._job.outgoing)
        except Undumpable as found:
            position, error = found.position, found.error
            raise Unsendable(chunk.first + position, error, chunk.items[position]) from error
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
        short = len(self._function) <= _SHORT_FUNCTION_BYTES
        self._with_each = self._function if short else self._tasks.shared(self._function)

    def _send(self, chunk: Chunk, task: tuple[Any, ...]) -> None:
        number = next(self._numbers)
        # It is under way before it is submitted, because it may be over before `submit` returns.
        self._under_way[number] = _UnderWay(chunk, task, None, perf_counter())
        try:
            if self._tasks.here:
                handle = self._tasks.submit_here(self._call, number)
            else:
                handle = self._tasks.submit(number, task)
        except Exception as error:  # whatever the engine raises
            let_signals_through(error)
            del self._under_way[number]
            text = f"{self._tasks.name} takes no more work: {type(error).__name__}: {error}"
            raise AmorsizeError(text) from error
        self._under_way[number] = self._under_way[number]._replace(handle=handle)

    def flush(self) -> None:
        return  # `submit` sends each chunk at once

    def ask_back(self) -> None:
        for number, sent in reversed([*self._under_way.items()]):
            if self._tasks.cancel(sent.handle):
                del self._under_way[number]
                self._ready.append(Returned(sent.chunk))

    def wait(self, timeout: float | None = None) -> list[Event]:
        if self._ready:
            events, self._ready = self._ready, []
            return events
        deadline = None if timeout is None else perf_counter() + timeout
        while True:
            left = _LOOK_SECONDS if deadline is None else deadline - perf_counter()
            try:
                number, answer = self._answers.get(timeout=max(0.0, min(left, _LOOK_SECONDS)))
            except queue.Empty:
                if left <= 0:
                    return []
                exitcode = self._tasks.exitcode() if self._under_way else None
                if exitcode:
                    # It is unknown which task the dead worker had, so the oldest one is reported as lost.
                    self._broken = True
                    return [_lost(self._under_way.pop(min(self._under_way)).chunk, exitcode)]
                continue
            sent = self._under_way.pop(number, None)
            if sent is not None and (events := self._heard(number, sent, answer)):
                return events

    def close(self, *, hurry: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        open_calls.pop(self._call, None)
        try:
            for sent in self._under_way.values():
                self._tasks.cancel(sent.handle)
        finally:
            self._tasks.close(hurry=hurry, idle=not (self._under_way or self._broken))

    # Threads of this process.

    def _run_here(self, number: int) -> None:
        """Run a task in the thread of the engine's that calls this."""
        sent = self._under_way.get(number)
        if sent is None or self._closed:
            return
        function: Any = self._job.function
        ran = run_in_thread(
            function,
            sent.chunk.items,
            sent.chunk.first,
            self._around.copy(),
            slice_seconds=sent.task[0],
            stop_at_error=self._job.stop_at_error,
        )
        self._ran[number] = get_ident(), ran

    # What is heard.

    def _heard(self, number: int, sent: _UnderWay, answer: Any) -> list[Event]:
        chunk = sent.chunk
        if isinstance(answer, BaseException):
            if self._tasks.is_death(answer):
                return [_lost(chunk, None)]
            return [Refused(chunk, self._refusal(chunk, answer))]
        if self._tasks.here:
            thread, ran = self._ran.pop(number)
            return events_here(chunk, ran, self._cost.add(thread, sent.sent, ran.began, ran.seconds), sent.sent)
        kind, content = answer
        if kind == RAN:
            return self._results(sent, *content)
        if kind == MISSING:
            self._send(chunk, (*sent.task[:2], self._function, *sent.task[3:]))
            return []
        if kind == OUTDATED:
            digest = sent.task[1]
            outdated = Outdated(digest, content)
            return [Returned(chunk) if self._bring_up_to_date(digest, outdated) else Refused(chunk, outdated)]
        if kind == UNFIT:
            text = f"a worker of {self._tasks.name} cannot take part: {content}; install the same in both places"
            return [Refused(chunk, UnsupportedError(text))]
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


def _lost(chunk: Chunk, exitcode: int | None) -> Lost:
    return Lost(None, chunk, None, exitcode, unknown=True)


class _TaskCost:
    """What a task costs a worker beyond its items, by the time between tasks that were waiting for each other."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._last: dict[int, tuple[float, float]] = {}  # by worker: when its last task ended there, and was heard of
        self._gaps: deque[float] = deque(maxlen=_MOST_GAPS)
        self.tasks = 0

    def add(self, worker: Any, sent: float, began: float, seconds: float) -> int:
        """Take in a task that was heard of now, and return the number of the worker that ran it."""
        self.tasks += 1
        number = self._numbers.setdefault(worker, len(self._numbers) + 1)
        last = self._last.get(number)
        if last is not None and sent < last[1]:
            self._gaps.append(max(0.0, began - last[0]))
        self._last[number] = began + seconds, perf_counter()
        return number

    def seconds(self) -> float | None:
        """Return what a task costs; None if too little was seen."""
        return median(self._gaps) if len(self._gaps) >= _LEAST_GAPS else None

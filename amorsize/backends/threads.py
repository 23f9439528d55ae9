"""Runs chunks on threads of this process, for work that waits, or that lets other threads run while it computes.

Nothing is pickled on the way. Each item runs in a copy of the caller's context variables. How many threads run at once
is found from how long items take (`plan.width`), unless the user says how many.

The threads belong to one call, and end with it. They are daemons, and not those of `concurrent.futures`, because a
plain function cannot be stopped: one that still runs when nobody wants its result must hold up neither the caller nor
the exit of the program. Such a thread is named in a warning; it takes no further item.
"""

from __future__ import annotations

import os
import sys
import warnings
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread, get_ident
from time import perf_counter

from ..child.in_thread import context_of_workers, run_in_thread
from ..code.sharing import why_not_shared
from ..errors import InitializerError, items_in_words
from ..lean import NamedTuple
from ..log import debug
from ..measure import platforms
from ..plan.width import WidthControl
from .base import Start, check_shared, events_here, taken_from
from .events import Broken, Chunk, Refused, Returned
from .overload import is_overload
from .where import LOOP, Where, formatted, stack_above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Context
    from typing import Any

    from ..child.run_chunk import Ran
    from .events import Event
    from .registry import Job

__all__ = ["Threads", "open_backend"]

# How long a call that is given up waits for its threads.
_END_SECONDS = 0.4
# Chunks shorter than this also wait behind running ones, so that a thread need not wait for the caller.
_SHORT_CHUNK_SECONDS = 0.005
# Waiting without end is interrupted by Ctrl-C only where the system can; this is how long it takes elsewhere.
_LOOK_SECONDS = 1.0
# So many descriptors are left to the rest of the program, and each thread is taken to open so many.
_SPARE_DESCRIPTORS = 16
_DESCRIPTORS_EACH = 2
_NAME = "amorsize-{}"  # of a thread


def open_backend(job: Job, _target: object | None = None) -> Threads:
    """Return a backend on threads of this call."""
    return Threads(job)


class _Task(NamedTuple):
    """A chunk on its way to a thread."""

    number: int
    chunk: Chunk
    slice_seconds: float
    sent: float


class _Done(NamedTuple):
    """What became of a task: how its items ran, or why none could; and since when its thread could have run it."""

    number: int
    thread: int
    ran: Ran | None
    error: BaseException | None
    due: float = 0.0


class _Shared:
    """What the caller and the threads of one call share; nothing in it refers to the backend.

    Attributes:
        tasks: what is to run; None ends the thread that takes it.
        done: what has run.
        wanted: whether any further item may begin.
        closed: whether no thread is to stay.
        running: for each thread, the position of the item that it runs, and when that began, in `time.perf_counter()`
            seconds.
        idents: for each thread, its `threading.get_ident()`.
    """

    def __init__(self, job: Job) -> None:
        self.tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self.done: SimpleQueue[_Done] = SimpleQueue()
        self.wanted = True
        self.closed = False
        self.running: dict[int, tuple[int, float]] = {}
        self.idents: dict[int, int] = {}
        self._stop_at_error = job.stop_at_error
        self._initializer, self._initargs = job.initializer, job.initargs
        self._function: Any = job.function
        self._context = context_of_workers()

    def work(self, thread: int) -> None:
        """Run tasks until there is none; this is what a thread does."""
        self.idents[thread] = get_ident()
        refused: BaseException | None = None
        own = self._context.copy()
        if self._initializer is not None:
            try:
                own.run(self._initializer, *self._initargs)  # items see the variables that it sets
            except BaseException as error:  # the user's initializer
                refused = InitializerError(f"the initializer failed in a thread: {error!r}")
                refused.__cause__ = error
        free = perf_counter()
        while (task := self.tasks.get()) is not None:
            done = _Done(task.number, thread, None, refused, max(free, task.sent))
            if refused is None:
                try:
                    done = done._replace(ran=self._run(thread, task, own))
                except BaseException as failure:  # it must be told, for the caller waits for it
                    done = done._replace(error=failure)
            self.running.pop(thread, None)
            free = perf_counter()
            self.done.put(done)
            del task, done  # results are not kept while the thread waits
        if self.closed:
            self.tasks.put(None)  # for a thread that nobody has counted, as its start was interrupted

    def _run(self, thread: int, task: _Task, own: Context) -> Ran:
        return run_in_thread(
            self._function,
            self._while_wanted(thread, task.chunk),
            task.chunk.first,
            own,
            slice_seconds=task.slice_seconds,
            stop_at_error=self._stop_at_error,
        )

    def _while_wanted(self, thread: int, chunk: Chunk) -> Iterator[Any]:
        """Yield the items of a chunk as long as any item is wanted."""
        for index, item in enumerate(chunk.items, chunk.first):
            if not self.wanted:
                return
            self.running[thread] = index, perf_counter()
            yield item


class Threads:
    """A `Backend` on threads of this process.

    Args:
        job: what the backend is to run.
    """

    route = "threads"
    prompt = True
    seconds_per_task: float | None = None

    def __init__(self, job: Job) -> None:
        self.start = Start(warm=True)
        self._control = None
        if job.finds_width:
            self._control = WidthControl(job.width, known=job.known_width, serial_seconds=job.alone_seconds)
        self._most = job.width  # which is the width where nothing finds another
        self._job = job
        self._numbers, self._thread_numbers = count(), count(1)
        self._under_way: dict[int, tuple[Chunk, float]] = {}
        self._ready: list[Event] = []
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._shared = _Shared(self._job)
        self._threads: list[Thread] = []
        self._staying = 0  # threads that were not told to end

    @property
    def width(self) -> int:
        """How many threads may run now."""
        return self._most if self._control is None else self._control.width

    @property
    def found(self) -> int | None:
        """The width to begin with the next time; None if the user chose it."""
        return None if self._control is None else self._control.found

    def resize(self, width: int) -> None:
        self._most = width
        if self._control is not None:
            self._control.limit(width)

    def room(self, chunk_seconds: float | None) -> int:
        if os.getpid() != self._pid:
            self._begin_anew()
        waiting = self.width if chunk_seconds is not None and chunk_seconds < _SHORT_CHUNK_SECONDS else 0
        return self.width + waiting - len(self._under_way)

    def submit(self, chunk: Chunk, slice_seconds: float) -> int:
        check_shared(chunk, why_not=None if self._job.by_name else why_not_shared)
        number, now = next(self._numbers), perf_counter()
        self._under_way[number] = chunk, now
        self._shared.tasks.put(_Task(number, chunk, slice_seconds, now))
        self._adjust()
        return 0

    def flush(self) -> None:
        return  # threads take what is submitted at once

    def starting(self) -> bool:
        return False

    def busy(self) -> bool:
        return bool(self._under_way or self._ready)

    def ask_back(self) -> None:
        tasks = self._shared.tasks
        ending = 0
        while True:
            try:
                task = tasks.get_nowait()
            except Empty:
                break
            if task is None:
                ending += 1
            else:
                self._under_way.pop(task.number, None)
                self._ready.append(Returned(task.chunk))
        for _ in range(ending):
            tasks.put(None)

    def wait(self, timeout: float | None = None) -> list[Event]:
        if os.getpid() != self._pid:
            self._begin_anew()
        events, self._ready = self._ready, []
        deadline = None if timeout is None or events else perf_counter() + timeout
        done = self._shared.done
        in_use = min(len(self._under_way), self.width)
        while True:
            try:
                if events or not self._under_way:
                    found = done.get_nowait()
                else:
                    left = _LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, deadline - perf_counter())
                    found = taken_from(done, left)
            except Empty:
                if events or not self._under_way or (deadline is not None and perf_counter() >= deadline):
                    return events
                continue
            events += self._heard(found, in_use)

    def where(self) -> list[Where]:
        if self._closed or os.getpid() != self._pid:
            return []
        now, running, found = perf_counter(), self._shared.running.copy(), []
        for thread, ident in sorted(self._shared.idents.copy().items()):
            if (stack := stack_above(ident, LOOP)) is None:
                continue  # it has ended
            index, began = running.get(thread, (None, now))
            place = Where(_NAME.format(thread), index)
            found.append(place if index is None else place._replace(seconds=now - began, stack=formatted(stack)))
        return found

    def close(self, *, hurry: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        shared = self._shared
        if os.getpid() != self._pid:
            return  # the threads are those of the process that this one was forked from
        given_up = bool(self._under_way)
        shared.wanted, shared.closed = not given_up, True
        for _ in range(self._staying):
            shared.tasks.put(None)
        until = perf_counter() + _END_SECONDS
        for thread in self._threads:
            if thread.ident == get_ident():
                continue  # the call was collected as garbage in it
            thread.join(max(0.0, until - perf_counter()) if given_up else None)
        if running := sorted(shared.running.copy().values()):
            self._warn_of([index for index, _ in running])

    def _warn_of(self, running: list[int]) -> None:
        """Warn of items that go on; a warning that is made an error must not hide what is on its way to the user."""
        in_flight = sys.exc_info()[1]
        text = (
            f"amorsize: {items_in_words(running)} of {self._job.function!r} still run in threads, which cannot be "
            "stopped; nothing waits for them"
        )
        try:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:
            if in_flight is None or isinstance(in_flight, GeneratorExit):
                raise
            debug("%s", text)

    # Threads.

    def _begin_anew(self) -> None:
        """Have the chunks submitted again in a forked process, where this call has no threads."""
        self._ready += [Returned(chunk) for chunk, _ in self._under_way.values()]
        self._under_way.clear()
        self._begin()

    def _adjust(self) -> None:
        """Start threads that are missing, and tell those that are too many to end."""
        while self._staying > self.width:
            self._staying -= 1
            self._shared.tasks.put(None)
        while self._staying < min(self.width, len(self._under_way)):
            number = next(self._thread_numbers)
            thread = Thread(target=self._shared.work, args=(number,), name=_NAME.format(number), daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:  # the system has no thread left
                self._do_with_these(error)
                return
            self._threads.append(thread)
            self._staying += 1

    def _do_with_these(self, error: BaseException) -> None:
        debug("no further thread could be started: %s", error)
        if self._staying:
            self.resize(self._staying)
        else:
            self.ask_back()
            self._ready.append(Broken(error))

    def _spare_descriptors(self) -> None:
        """Do not come near the limit of open files, which each further item may need."""
        assert self._control is not None
        left = platforms.descriptors_left()
        if left is not None:
            more = (left - _SPARE_DESCRIPTORS) // _DESCRIPTORS_EACH
            self._control.limit(max(1, min(self._most, self._control.width + more)))

    # What is heard from threads.

    def _heard(self, found: _Done, in_use: int) -> list[Event]:
        if found.number not in self._under_way:
            return []  # it was given up
        chunk, sent = self._under_way.pop(found.number)
        ran = found.ran
        if ran is None:
            assert found.error is not None
            return [Refused(chunk, found.error)]
        self._learn(ran, found.due, in_use)
        return events_here(chunk, ran, found.thread, sent)

    def _learn(self, ran: Ran, due: float, in_use: int) -> None:
        """Let the width follow what a chunk took, with the time in which its thread waited for the interpreter first.

        Items of pure Python that are shorter than the interpreter's switch interval run from end to end once it is
        their thread's turn, so their own times are the same however many threads take turns.
        """
        control = self._control
        overloaded = any(is_overload(error) for _, error in ran.errors)
        if control is None or not ran.values or (ran.errors and not overloaded):
            return  # how soon an item fails says nothing
        in_use = max(in_use, len(self._shared.running))  # those of a larger width are not done yet
        before, now, ended = control.width, perf_counter(), ran.began + ran.seconds
        seconds = ended - min(due, ran.began)
        control.add(ended, seconds, in_use=in_use, items=len(ran.values), overloaded=overloaded, now=now)
        if control.width > before:
            self._spare_descriptors()
        if control.width != before:
            self._adjust()

"""The loop that runs coroutines, on the event loop of whoever waits for them: it reads items, and keeps tasks going.

It is to coroutine functions what `pump` is to workers, and shares with it the feed, the order of results and the
verdict on failures. Here each item is a task of its own, and how many there are at once is found as for threads
(`plan.width`).

One task of ours, the *driver*, reads the input and starts the others, so that they go on while the user is busy with a
result. It reads no further than the feed's window, so a slow user holds up the input. No task refers to the iterator
that the user has: when that is dropped, the tasks are cancelled.

An item of an input that is not read as it is (see `source`) is fixed as it is read. One that cannot be pickled, such as
a session, is handed on as it is; one that is or holds an iterator, or a view of memory, runs alone.
"""

from __future__ import annotations

import asyncio
import warnings
from contextvars import copy_context
from itertools import count
from time import perf_counter

from .. import context
from ..backends.events import Failure, Results
from ..backends.overload import is_overload
from ..backends.where import Where, entries_of, formatted, stack_from, suspended
from ..errors import ItemTimeoutError, items_in_words, let_signals_through
from ..plan.width import MOST_WIDTH, WidthControl
from ..runners import runs_items
from ..transport.serialize import fixed, rebuilt
from ..transport.values import rough_size
from .feed import Feed
from .order import Piece
from .outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..backends.events import Counts, Observer
    from ..options import Options
    from ..plan.retry import Failed
    from .inputs import Inputs, Taken

__all__ = ["END_SECONDS", "Tasks"]

# How long tasks that were cancelled may take to end.
END_SECONDS = 1.0


class _Exit:
    """Holds the `SystemExit` of an item, which would end the event loop if a task raised it."""

    def __init__(self, error: SystemExit) -> None:
        self.error = error


class _Running:
    """An item that runs.

    Attributes:
        index: its position in the input.
        item: the item.
        began: when it began, in `time.perf_counter()` seconds.
        alone: whether nothing else may be read before it has ended.
        timer: what cancels it when its time is over; None if it has all the time.
        timed_out: whether it was cancelled because its time was over.
        lane: a number that no other item has meanwhile, if somebody looks on.
    """

    __slots__ = ("alone", "began", "index", "item", "lane", "timed_out", "timer")

    def __init__(self, index: int, item: Any, *, alone: bool) -> None:
        self.index = index
        self.item = item
        self.alone = alone
        self.began = perf_counter()
        self.timer: asyncio.TimerHandle | None = None
        self.timed_out = False
        self.lane = 0


class Tasks:
    """Runs the items of one call on the running event loop.

    Args:
        function: takes one item, and returns an awaitable.
        inputs: the input.
        options: the call's options.
        failures: where items that failed for good are listed.
        most: how many items run at once, if the user chose it; None to find out.
        known_width: the width that was found earlier; None if none was.
        progress: counts the items that have ended; None if nobody wants to know.
        observer: is told of every item that has ended, those that run at once being workers; None if nobody looks on.

    Attributes:
        width: how many items may run at once now.
        found: the width to begin with the next time; None if the user chose it.
        loop: the event loop.
        items: number of items that have run and not failed.
        seconds: how long they took in all.
    """

    def __init__(
        self,
        function: Callable[[Any], Awaitable[Any]],
        inputs: Inputs,
        options: Options,
        failures: list[Failed],
        *,
        most: int | None = None,
        known_width: int | None = None,
        progress: Counts | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._function = function
        self._inputs = inputs
        outcome = Outcome(options.retries, options.on_error == "return", failures)
        self._feed = Feed(0, ordered=options.ordered, outcome=outcome, timeout=options.timeout, progress=progress)
        self._fixed_width = most
        self._control: WidthControl | None = None
        if most is None:  # on one loop more of them do not hold each other up
            self._control = WidthControl(MOST_WIDTH, known=known_width, tries_one=False)
        self.loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._context.run(context.in_worker.set, True)
        self._running: dict[Task[Any], _Running] = {}
        self._given_up: dict[Task[Any], int] = {}  # tasks that were cancelled and have not ended, with their items
        self._more = asyncio.Event()  # there is something for the driver to do
        self._ready = asyncio.Event()  # there is something for the user
        self._reading: Task[Taken | None] | None = None  # waits for the next item
        self._asking = False  # whether somebody waits for a result
        self._shows = False  # whether a timer shows what was counted
        self._ended = False  # whether nothing more will be read or run
        self.items, self.seconds = 0, 0.0
        self._observer = observer
        self._in_use = 0  # how many ran when the driver had last started what it could
        self._driver: Task[None] = self._context.copy().run(self.loop.create_task, self._drive())
        self._driver.add_done_callback(self._driven)

    @property
    def width(self) -> int:
        """How many items may run at once now."""
        if self._control is not None:
            return self._control.width
        assert self._fixed_width is not None
        return self._fixed_width

    @property
    def found(self) -> int | None:
        """The width to begin with the next time; None if the user chose it."""
        return None if self._control is None else self._control.found

    async def next(self) -> list[Any] | None:
        """Return the next results, at least one; None if there are no more. Raises what ends the call.

        Being cancelled in here loses nothing.
        """
        order = self._feed.order
        while True:
            piece = order.pop()
            if piece is not None:
                self._more.set()  # there may be room for more
                if piece.error is not None:
                    order.put(order.next, Piece([], piece.error, 0))  # after the values, and for whoever asks again
                    if not piece.values:
                        await self.close()
                        raise piece.error
                if piece.values:
                    return piece.values
                continue
            if self._ended and not self._running:
                return None
            self._ready.clear()
            self._asking = True
            self._more.set()
            try:
                await self._ready.wait()
            finally:
                self._asking = False

    # What the driver does.

    async def _drive(self) -> None:
        """Start tasks as long as there are items and room."""
        feed = self._feed
        while True:
            self._more.clear()
            if feed.failed_at is not None:
                self._cancel_behind(feed.failed_at)
            while self._has_room() and (entry := await self._next_item()) is not None:
                self._start(*entry)
            self._in_use = len(self._running)
            if self._is_over():
                return
            due = feed.next_try_at()
            timer = None if due is None else self.loop.call_later(max(0.0, due - perf_counter()), self._more.set)
            try:
                await self._more.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _has_room(self) -> bool:
        return len(self._running) < self.width and not any(one.alone for one in self._running.values())

    async def _next_item(self) -> tuple[int, Any, bool] | None:
        """Return the next item to run, with its position, and whether it must run alone; None if there is none now."""
        feed, inputs = self._feed, self._inputs
        if feed.has_backlog(perf_counter()):
            index, (item,) = feed.from_backlog(1)
            return index, item, index in inputs.alone
        index, reading = inputs.index, self._reading
        if reading is None:
            if inputs.over or not feed.may_read(index, 1, self.width, lasting=False):
                return None
            # The user may make a list longer as long as he has a result that he has not asked behind.
            handed_out = self._asking and not self._running and feed.order.next == index
            taking = inputs.take(fixed, to_end=handed_out)
            if not inputs.waits:
                return self._taken(index, await taking)
            # An input that lets others wait must not hold up items that are tried again.
            reading = self._reading = self.loop.create_task(taking)
            reading.add_done_callback(lambda _: self._more.set())
        if not reading.done():
            return None
        self._reading = None
        if reading.cancelled():  # the input raised that
            inputs.error, inputs.over = asyncio.CancelledError(), True
            return self._taken(index, None)
        return self._taken(index - 1, reading.result())

    def _taken(self, index: int, found: Taken | None) -> tuple[int, Any, bool] | None:
        if self._inputs.error is not None:
            self._feed.end_at(self._inputs.index, self._inputs.error)
            self._ready.set()
        if found is None:
            return None
        if found.alone:
            self._inputs.alone.add(index)
        return index, *found

    def _start(self, index: int, item: Any, alone: bool) -> None:
        task = self._context.copy().run(self.loop.create_task, self._one(item))
        running = self._running[task] = _Running(index, item, alone=alone)
        if self._observer is not None:
            taken = {one.lane for one in self._running.values()}
            running.lane = next(lane for lane in count(1) if lane not in taken)
        task.add_done_callback(self._done)
        if self._feed.timeout is not None:
            running.timer = self.loop.call_later(self._feed.timeout, self._expire, task)

    @runs_items()
    async def _one(self, item: Any) -> Any:
        try:
            return await self._function(rebuilt(item))
        except SystemExit as error:
            return _Exit(error)

    def _is_over(self) -> bool:
        feed = self._feed
        if self._running or self._reading is not None or feed.is_pending():
            return False
        return self._inputs.over or feed.failed_at is not None

    def _driven(self, driver: Task[None]) -> None:
        error, _ = _outcome_of(driver)
        if self._ended and driver.cancelled():
            error = None  # otherwise the input raised it
        self._ended = True
        if error is not None:
            self._feed.end_at(self._inputs.index, error)
        self._ready.set()

    # What is heard from tasks.

    def _done(self, task: Task[Any]) -> None:
        running = self._running.pop(task, None)
        self._more.set()
        if running is None:  # it was given up, and its error is nobody's any more
            self._given_up.pop(task, None)
            if not task.cancelled():
                task.exception()
            return
        if running.timer is not None:
            running.timer.cancel()
        try:
            error, value = _outcome_of(task)
            if self._observer is not None:
                seconds, failures = perf_counter() - running.began, {}
                if error is not None:
                    failures[running.index] = Failure(error, None)
                told = Results(running.index, [None], failures, seconds, 0.0, 0, running.lane, running.began, 0.0)
                self._observer.heard(told)
            self._take(running, error, value)
            self._count()
        except Exception as failure:  # a callback that fails would leave the user waiting
            let_signals_through(failure)
            self._feed.end_at(running.index, failure)
        finally:
            self._ready.set()

    def _count(self) -> None:
        """Count what has ended, and have it shown in time; what the user's own display raises ends the call."""
        progress = self._feed.progress
        if progress is None:
            return
        try:
            self._feed.count()
        except Exception as error:
            let_signals_through(error)
            self._feed.end_at(self._feed.order.next, error)
            self._ready.set()
        else:
            due = progress.shows_in()
            if due is not None and not self._shows:
                self._shows = True
                self.loop.call_later(due, self._show)

    def _show(self) -> None:
        self._shows = False
        if self._feed.progress is not None and not self._ended:
            self._count()

    def _take(self, running: _Running, error: BaseException | None, value: Any) -> None:
        """Take in what became of an item."""
        if isinstance(error, KeyboardInterrupt):
            self._feed.end_at(running.index, error)  # the loop has raised it already, and must not be kept from ending
        elif running.timed_out and error is not None:
            self._fail_in_time(running, error)
        elif error is None:
            self._learn(running, overloaded=False)
            self.items += 1
            self.seconds += perf_counter() - running.began
            self._feed.order.put(running.index, Piece([value], None, rough_size(value)))
        else:
            overloaded = is_overload(error)
            if overloaded:
                self._learn(running, overloaded=True)
            self._feed.fail(running.index, Failure(error, running.item), perf_counter())

    def _learn(self, running: _Running, *, overloaded: bool) -> None:
        if self._control is not None:
            now = perf_counter()
            # Of several that end at once, each ran beside all of them.
            in_use = max(self._in_use, len(self._running) + 1)
            self._control.add(now, now - running.began, in_use=in_use, overloaded=overloaded)

    def _fail_in_time(self, running: _Running, error: BaseException | None) -> None:
        assert self._feed.timeout is not None
        self._learn(running, overloaded=True)
        timeout = ItemTimeoutError(running.index, self._feed.timeout)
        timeout.__cause__ = error
        self._feed.fail(running.index, Failure(timeout, running.item), perf_counter())

    def _expire(self, task: Task[Any]) -> None:
        """Cancel a task whose time is over; give it up if it does not end."""
        running = self._running.get(task)
        if running is None:
            return
        if not running.timed_out:
            running.timed_out = True
            running.timer = self.loop.call_later(END_SECONDS, self._expire, task)
            task.cancel()
            return
        self._give_up(task)
        self._fail_in_time(running, None)
        self._count()
        self._more.set()
        self._ready.set()

    def _give_up(self, task: Task[Any]) -> None:
        """Expect nothing more of a task, and ask it to end."""
        running = self._running.pop(task)
        self._given_up[task] = running.index
        if running.timer is not None:
            running.timer.cancel()
        task.cancel()

    def _cancel_behind(self, index: int) -> None:
        """Cancel what runs behind the item that ended the call."""
        for task, running in tuple(self._running.items()):
            if running.index > index:
                self._give_up(task)

    def where(self) -> list[Where]:
        """Say where the items are that run now, from any thread."""
        now, running = perf_counter(), tuple(self._running.items())
        return [Where(task.get_name(), one.index, now - one.began, _stack_of(task)) for task, one in running]

    async def close(self) -> None:
        """Cancel everything, and wait for its end, but not for long."""
        pending = self.cancel()
        if pending:
            await asyncio.wait(pending, timeout=END_SECONDS)
        self._warn()

    def cancel(self) -> set[Task[Any]]:
        """Ask all tasks to end; return those that have not done so yet."""
        for task in tuple(self._running):
            self._give_up(task)
        self._ended = True
        ours = [self._driver] if self._reading is None else [self._driver, self._reading]
        for task in ours:
            task.cancel()
        self._ready.set()
        return {task for task in (*ours, *self._given_up) if not task.done()}

    def _warn(self) -> None:
        """Warn of items that go on although they were cancelled."""
        left = sorted(index for task, index in self._given_up.items() if not task.done())
        if left:
            text = f"amorsize: {items_in_words(left)} of {self._function!r} were cancelled and go on"
            warnings.warn(f"{text}; nothing waits for them", RuntimeWarning, stacklevel=2)


def _outcome_of(task: Task[Any]) -> tuple[BaseException | None, Any]:
    """Return the error of a task that has ended, or its value."""
    if task.cancelled():
        return asyncio.CancelledError(), None
    error = task.exception()
    if error is not None:
        return error, None
    value = task.result()
    return (value.error, None) if type(value) is _Exit else (None, value)


def _stack_of(task: Task[Any]) -> str:
    """Return the stack in which a task waits, or in which it runs, if a thread has it now."""
    coroutine: Any = task.get_coro()
    outermost = coroutine.cr_frame
    if outermost is None:
        return ""
    stack = stack_from(lambda frame: frame is outermost) if coroutine.cr_running else None
    return formatted(entries_of(suspended(coroutine)) if stack is None else stack)

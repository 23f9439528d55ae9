"""The work of one call whose function is a coroutine function: on the caller's event loop, or on one of its own.

`amorsize.amap` is iterated on a loop that runs. `amorsize.map` has a loop of its own, which runs only inside `next()`:
tasks stand still while the user is busy with a result. Both are driven by `feed.tasks`, which is loaded, as asyncio is,
when the first result is asked for.
"""

from __future__ import annotations

import sys
from threading import Thread
from time import perf_counter

from ..context import in_worker
from ..errors import UnsupportedError
from ..measure import machine
from ..plan.profile import Limits, WorkProfile
from ..report.tally import tally_for
from .noted import Noted, tell
from .request import name_of
from .waiting import COROUTINES, Widths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from typing import Any

    from ..backends.where import Where
    from ..feed.inputs import Inputs
    from ..feed.tasks import Tasks
    from ..options import Options
    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from ..report.progress import Progress
    from ..report.report import Report
    from .noted import Brief

__all__ = ["Coroutines", "OwnLoop", "in_loop"]


def in_loop() -> bool:
    """Say whether the calling thread is inside a running asyncio event loop."""
    asyncio: Any = sys.modules.get("asyncio")
    return asyncio is not None and hasattr(asyncio, "_get_running_loop") and asyncio._get_running_loop() is not None


class Coroutines:
    """The items of one call of a coroutine function.

    Args:
        function: the user's function, undecorated.
        inputs: the input.
        options: the resolved options.
        star: whether an item is a tuple of arguments.

    Attributes:
        plan: how many run at once, and why; None until the first result was asked for.
        failures: the items that failed for good so far.
    """

    def __init__(
        self, function: Callable[..., Awaitable[Any]], inputs: Inputs, options: Options, *, star: bool = False
    ) -> None:
        self.plan: Plan | None = None
        self.failures: list[Failed] = []
        self._function = function
        self._inputs = inputs
        self._options = options
        self._star = star
        self._tasks: Tasks | None = None
        self._widths = Widths(function, options, COROUTINES)
        self._progress: Progress | None = None
        self._over = False
        self._tally = tally_for(record=options.record)

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends, in the place of what is there."""
        self._tally.last = last

    def noted(self) -> Noted:
        """Return what is known of the call so far."""
        tasks = self._tasks
        items, seconds = (0, 0.0) if tasks is None else (tasks.items, tasks.seconds)
        mean = seconds / items if items else 0.0
        there = WorkProfile(items, mean, seconds_max=mean, cpu_share=0.0, route=COROUTINES) if items else None
        name, wall = name_of(self._function), self._tally.wall_seconds
        over = self._tally.ended_at is not None
        return Noted(name, COROUTINES, over, wall, items, Limits(), plan=self.plan, failed=len(self.failures),
                     tally=self._tally, there=there)  # fmt: skip

    @property
    def report(self) -> Report:
        """What the call did, or has done so far."""
        from .reported import report_of

        return report_of(self.noted())

    async def next(self) -> list[Any] | None:
        """Return the next results, at least one; None if there are no more."""
        if self._over:
            return None
        import asyncio

        tasks = self._tasks
        if tasks is None:
            tasks = self._tasks = self._begin()
        elif tasks.loop is not asyncio.get_running_loop():
            raise UnsupportedError("these results belong to another event loop, the one that asked for them first")
        began = perf_counter()
        try:
            results = await tasks.next()
        except Exception as error:
            self._end(error)
            raise
        finally:
            self._tally.waited(perf_counter() - began, starting=False)
        if results is None:
            self._over = True
            self._learn(tasks)
            self._end()
        return results

    def where(self) -> list[Where]:
        """Say where the items are that run now, from any thread."""
        tasks = self._tasks
        return [] if tasks is None or self._over else tasks.where()

    async def close(self) -> None:
        """Cancel what runs, and wait for its end, but not for long."""
        self._over = True
        try:
            if self._tasks is not None:
                await self._tasks.close()
        finally:
            self._end()

    def drop(self) -> None:
        """Cancel what runs, from any thread."""
        self._over = True
        tasks = self._tasks
        if tasks is not None and not tasks.loop.is_closed():
            tasks.loop.call_soon_threadsafe(tasks.cancel)
        self._end()

    def _end(self, error: BaseException | None = None) -> None:
        self._tally.close(error)
        if self._tasks is not None:
            tell(self._tally, self.noted)
        if self._progress is not None:
            self._progress.close()

    def _begin(self) -> Tasks:
        from ..feed.tasks import Tasks
        from ..report.progress import begin

        self._tally.begin()
        options = self._options
        if options.initializer is not None:
            options.initializer(*options.initargs)
        function: Callable[[Any], Awaitable[Any]] = self._function
        if self._star:
            from functools import partial

            from .caller import apply_star

            function = partial(apply_star, self._function)
        most = machine.workers_asked(options.n_jobs)
        if options.backend == "serial" or in_worker.get():
            most = 1
        known = self._widths.known(self._inputs.remaining()) if most is None else None
        progress = self._progress = begin(options.progress, self._inputs.remaining(), self.failures)
        tasks = Tasks(
            function, self._inputs, options, self.failures, most=most, known_width=known, progress=progress,
            observer=self._tally if options.record else None,
        )  # fmt: skip
        self.plan = self._widths.plan(tasks.width)
        return tasks

    def _learn(self, tasks: Tasks) -> None:
        found = tasks.found
        if found is not None:
            self.plan = self._widths.plan(found)
            self._widths.remember(found, tasks.items, tasks.seconds)


class OwnLoop:
    """The state behind the stream of `amorsize.map` over a coroutine function. To the stream it is as a `Call`.

    Args:
        work: the call's items.

    Attributes:
        begun: whether somebody has asked for a result.
        unused_name: the name to use in a warning if nobody ever asks; None for no warning.
    """

    audit = ()  # coroutines are not audited

    def __init__(self, work: Coroutines) -> None:
        self.begun = False
        self.unused_name: str | None = None
        self._work = work
        self._generator: Any = self._results()

    @property
    def plan(self) -> Plan | None:
        """How many items run at once, and why."""
        return self._work.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good so far."""
        return self._work.failures

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends."""
        self._work.tell_at_end(last)

    def noted(self) -> Noted:
        """Return what is known of the call so far."""
        return self._work.noted()

    def phases(self) -> Generator[Iterable[Any], None, None]:
        """Return the generator of iterables of results."""
        results: Generator[Iterable[Any], None, None] = self._generator
        return results

    def where(self) -> list[Where]:
        """Say where the items are that run now."""
        return self._work.where()

    def length_hint(self) -> Any:
        """Return that it is not known how many results are still to come."""
        return 0 if self._generator.gi_frame is None else NotImplemented

    def close(self, *, dropped: bool = False) -> None:
        """Cancel what is not done."""
        self.unused_name = None
        self._generator.close()

    def _results(self) -> Generator[Iterable[Any], None, None]:
        import asyncio

        self.begun = True
        refuse_in_loop()
        loop = asyncio.new_event_loop()
        try:
            while (results := loop.run_until_complete(self._work.next())) is not None:
                yield results
        finally:
            if in_loop():  # it was dropped there, and two loops cannot run in one thread
                thread = Thread(target=_end, args=(loop, self._work), name="amorsize-loop-end")
                thread.start()
                thread.join()
            else:
                _end(loop, self._work)


def refuse_in_loop() -> None:
    """Refuse to run a loop inside another one.

    Raises:
        UnsupportedError: the calling thread is in a running event loop.
    """
    if in_loop():
        raise UnsupportedError(
            "amorsize.map of a coroutine function would block the event loop that runs here: write "
            "`async for result in amorsize.amap(func, items)`"
        )


def _end(loop: AbstractEventLoop, work: Coroutines) -> None:
    try:
        loop.run_until_complete(work.close())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()

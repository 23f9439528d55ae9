"""The asynchronous iterator that `amorsize.amap` returns.

Coroutine functions run on the event loop of whoever iterates (`coroutines`). A plain function would block that loop, so
the whole of `amorsize.map` runs in a thread beside it: there it stays, or goes to threads or worker processes, as
everywhere. The thread is asked for results, and hands over those of a few milliseconds at a time; so nothing runs far
ahead of the user. It is a daemon, because a plain function cannot be stopped.
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import perf_counter

from ..code.coroutines import is_coroutine_function
from ..errors import UnsupportedError
from ..feed.inputs import Inputs, is_asynchronous
from ..lean import Generic, TypeVar
from ..log import debug
from .coroutines import Coroutines
from .stream import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Any

    from ..backends.where import Where
    from ..options import Options
    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from ..report.report import Report
    from .noted import Brief, Noted
    from .stream import Stream

__all__ = ["AsyncStream", "start_asynchronous"]

R = TypeVar("R")
# Results of so many seconds, or so many results, are handed over together. With smaller values, short items pay for a
# change of threads each; with larger ones, results wait for others.
_TOGETHER_SECONDS = 0.002
_TOGETHER = 1000
# How long a plain function may go on when nobody wants its results any more, before that is told.
_END_SECONDS = 1.0


def start_asynchronous(
    function: Callable[..., Any],
    iterables: tuple[Any, ...],
    options: Options,
    *,
    strict: bool = False,
    star: bool = False,
) -> AsyncStream[Any]:
    """Begin a call: `iter` or `aiter` is called on each iterable, and nothing else happens until a result is asked for.

    Args:
        function: the user's function, undecorated, plain or a coroutine function.
        iterables: one or more, plain or asynchronous.
        options: the resolved options.
        strict: whether iterables of unequal length are an error.
        star: whether each item is a tuple of arguments.

    Raises:
        UnsupportedError: an option asks for what cannot be done here.
        TypeError: an iterable is not iterable.
    """
    if is_coroutine_function(function):
        from ..backends.registry import find_for_coroutines

        find_for_coroutines(options)
        inputs = Inputs(iterables, strict=strict)
        return AsyncStream(Coroutines(function, inputs, options, star=star or len(iterables) > 1))
    return AsyncStream(_Beside(function, iterables, options, strict=strict, star=star))


class AsyncStream(Generic[R]):
    """The results of one call: an asynchronous iterator, in input order unless `ordered=False`.

    `async with` closes it at the end of the block. Made by `amorsize.amap` and by `.map` of decorated coroutine
    functions.
    """

    def __init__(self, work: Coroutines | _Beside) -> None:
        self._work = work
        self._results: deque[R] = deque()
        self._unused_name: str | None = None
        self._closed = False

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None until one was made."""
        return self._work.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good so far, each with its index, its error and its number of tries."""
        return self._work.failures

    @property
    def report(self) -> Report:
        """What the call did, or has done so far, as the `report` of `amorsize.map`'s stream."""
        return self._work.report

    def where(self) -> list[Where]:
        """Say where the items are that run now, as `Stream.where` does; for each coroutine, where it waits."""
        return self._work.where()

    def __aiter__(self) -> AsyncStream[R]:
        return self

    async def __anext__(self) -> R:
        self._unused_name = None
        results = self._results
        while not results:
            if self._closed:
                raise StopAsyncIteration
            _check_loop()
            try:
                found = await self._work.next()
            except StopIteration:  # an item of a plain function raised it, as ends the builtin's iteration
                found = None
            if found is None:
                self._closed = True
            else:
                results.extend(found)
        return results.popleft()

    async def aclose(self) -> None:
        """Cancel what is not done; asking for a result then raises StopAsyncIteration. May be called twice.

        Coroutines are asked to end, and have a second to do so. What goes on after that, as a plain function does that
        runs in a thread, is named in a warning.
        """
        self._unused_name = None
        self._closed = True
        self._results.clear()
        await self._work.close()

    async def __aenter__(self) -> AsyncStream[R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __iter__(self) -> Iterator[R]:
        raise TypeError("these results are asynchronous: write `async for`, or use amorsize.map")

    def __reduce__(self) -> Any:
        raise TypeError("a running map cannot be pickled or copied; make a list of it first")

    def __del__(self) -> None:
        if self._unused_name is not None:
            warnings.warn(
                f"the result of {self._unused_name} was never iterated, so nothing ran", RuntimeWarning, stacklevel=2
            )
        if not self._closed:
            self._work.drop()

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends, in the place of what is there."""
        self._work.tell_at_end(last)

    def warn_if_never_iterated(self, name: str) -> None:
        """Have a warning given if this is dropped without ever being iterated, because nothing of `name` then ran."""
        self._unused_name = name


def _check_loop() -> None:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        raise UnsupportedError(
            "amorsize.amap needs a running asyncio event loop: iterate it with `async for` in a coroutine that "
            "asyncio.run() runs; trio and other loops are not supported"
        )


class _Beside:
    """The items of one call of a plain function, which a thread beside the event loop runs by `amorsize.map`.

    Attributes:
        plan: as for the stream.
        failures: as for the stream.
    """

    def __init__(
        self, function: Callable[..., Any], iterables: tuple[Any, ...], options: Options, *, strict: bool, star: bool
    ) -> None:
        self._function = function
        self._from_loop = [_FromLoop(iterable) for iterable in iterables if is_asynchronous(iterable)]
        asynchronous = iter(self._from_loop)
        plain = tuple(next(asynchronous) if is_asynchronous(iterable) else iterable for iterable in iterables)
        self._abandoned: list[bool] = []
        self._stream: Stream[Any] = start(
            function, plain, options, strict=strict, star=star, abandoned=self._abandoned
        )
        self._shared: _Shared | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._stream.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good so far."""
        return self._stream.failures

    @property
    def report(self) -> Report:
        """What the call did, or has done so far."""
        return self._stream.report

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends."""
        self._stream.tell_at_end(last)

    def where(self) -> list[Where]:
        """Say where the items are that run now."""
        return self._stream.where()

    async def next(self) -> list[Any] | None:
        """Return the next results, at least one; None if there are no more. Being cancelled in here loses nothing."""
        shared = self._shared
        if shared is None:
            shared = self._begin()
        while not shared.batches:
            if shared.over:
                return None
            if not shared.asked:
                shared.asked = True
                shared.requests.put(True)
            shared.heard.clear()
            await shared.heard.wait()
        values, error = shared.batches.popleft()
        if error is not None:
            shared.batches.appendleft(([], error))  # after the values, and for whoever asks again
            if not values:
                await self.close()
                raise error
        return values or None

    def _begin(self) -> _Shared:
        import asyncio

        loop = asyncio.get_running_loop()
        for iterator in self._from_loop:
            iterator.loop = loop
        shared = self._shared = _Shared(loop, asyncio.Event())
        arguments = (copy_context(), shared, self._stream)
        Thread(target=_work_beside, args=arguments, name="amorsize-amap", daemon=True).start()
        return shared

    async def close(self) -> None:
        """Cancel what runs, and wait for its end, but not for long."""
        shared = self._shared
        if shared is None:
            self._stream.close()
            return
        self.drop()
        until = perf_counter() + _END_SECONDS
        import asyncio

        while not shared.ended and (left := until - perf_counter()) > 0:
            shared.heard.clear()
            try:
                await asyncio.wait_for(shared.heard.wait(), left)
            except (TimeoutError, asyncio.TimeoutError):
                break
        if not shared.ended and not shared.told:
            shared.told = True
            text = f"amorsize: an item of {self._function!r} still runs in a thread, and cannot be stopped"
            warnings.warn(f"{text}; nothing waits for it", RuntimeWarning, stacklevel=2)

    def drop(self) -> None:
        """Cancel what runs, from any thread."""
        shared = self._shared
        if shared is None:
            return
        shared.wanted = False
        for iterator in self._from_loop:
            iterator.cancel()
        self._abandoned.append(True)
        shared.requests.put(False)


class _Shared:
    """What the event loop and the thread beside it share.

    Attributes:
        loop: the event loop.
        heard: set when the thread has handed something over.
        requests: True asks for results, False for the end.
        wanted: whether any further result is wanted.
        asked: whether results were asked for and have not come yet.
        batches: results that came, each with the error that came after them, or None.
        over: whether there are no more results.
        ended: whether the thread has ended.
        told: whether a warning said that it has not.
    """

    def __init__(self, loop: AbstractEventLoop, heard: Any) -> None:
        self.loop = loop
        self.heard = heard
        self.requests: SimpleQueue[bool] = SimpleQueue()
        self.wanted = True
        self.asked = self.over = self.ended = self.told = False
        self.batches: deque[tuple[list[Any], BaseException | None]] = deque()

    def hand_over(self, values: list[Any], error: BaseException | None, *, over: bool) -> None:
        """Take in results, on the loop."""
        self.asked = False
        if values or error is not None:
            self.batches.append((values, error))
        self.over = self.over or over
        self.heard.set()

    def end(self) -> None:
        """Take in that the thread has ended, on the loop."""
        self.ended = self.over = True
        self.heard.set()


def _work_beside(context: Any, shared: _Shared, stream: Stream[Any]) -> None:
    """Hand over results as they are asked for; this is what the thread does."""
    try:
        context.run(_serve, shared, stream)
    finally:
        _tell(shared.loop, shared.end)


def _tell(loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop was closed, so nobody listens
        debug("an event loop was closed before %r had told it", callback)


def _serve(shared: _Shared, stream: Stream[Any]) -> None:
    try:
        while shared.requests.get() and shared.wanted:
            values: list[Any] = []
            error: BaseException | None = None
            began, over = perf_counter(), True
            try:
                for value in stream:
                    values.append(value)
                    if len(values) >= _TOGETHER or perf_counter() - began >= _TOGETHER_SECONDS or not shared.wanted:
                        over = False
                        break
            except BaseException as raised:  # the loop raises it where the results are awaited
                error = raised
            _tell(shared.loop, partial(shared.hand_over, values, error, over=over))
            del values, error
            if over:
                return
    finally:
        stream.close()


class _FromLoop:
    """A plain iterator over an asynchronous iterable: a thread asks the event loop for each item, and waits for it."""

    def __init__(self, iterable: Any) -> None:
        self.loop: AbstractEventLoop | None = None
        self._iterator: AsyncIterator[Any] = type(iterable).__aiter__(iterable)
        self._asked: Any = None
        self._cancelled = False

    def __iter__(self) -> _FromLoop:
        return self

    def __next__(self) -> Any:
        import asyncio
        from concurrent.futures import CancelledError

        assert self.loop is not None
        if self._cancelled:
            raise StopIteration
        asked = self._asked = asyncio.run_coroutine_threadsafe(self._next(), self.loop)
        if self._cancelled:
            asked.cancel()
        try:
            found = asked.result()
        except CancelledError:
            if self._cancelled:  # nobody wants the items any more
                raise StopIteration from None
            raise
        if found is _NO_MORE:
            raise StopIteration
        return found

    async def _next(self) -> Any:
        try:
            return await self._iterator.__anext__()
        except StopAsyncIteration:
            return _NO_MORE

    def cancel(self) -> None:
        """Have no more items; a thread that waits for one goes on."""
        self._cancelled = True
        if self._asked is not None:
            self._asked.cancel()


_NO_MORE = object()

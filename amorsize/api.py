"""Which calls does the user make? Each function of the public interface checks its options and starts a stream.

The meaning of every option is written in one place, the docstring of `map`, and its type in `options.GivenOptions`.
"""

from __future__ import annotations

import builtins
import sys

from .call.short import Notes, short_part
from .call.stay import staying
from .call.stream import Stream, start, start_short
from .code.coroutines import is_coroutine_function
from .lean import TypeVar, overload, public
from .lean import map as builtin_map
from .options import any_given, check, resolve, undecorated
from .replaced import means_the_builtin, standing_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from typing import Any

    from typing_extensions import Unpack

    from .call.astream import AsyncStream
    from .options import GivenOptions

__all__ = ["amap", "map", "shutdown", "starmap"]

_T1 = TypeVar("_T1")
_T2 = TypeVar("_T2")
_T3 = TypeVar("_T3")
_T4 = TypeVar("_T4")
_T5 = TypeVar("_T5")
_R = TypeVar("_R")


@overload
def map(
    func: Callable[[_T1], _R],
    iterable: Iterable[_T1],
    /,
    *,
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> Stream[_R]: ...
@overload
def map(
    func: Callable[[_T1, _T2], _R],
    iterable: Iterable[_T1],
    iterable2: Iterable[_T2],
    /,
    *,
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> Stream[_R]: ...
@overload
def map(
    func: Callable[[_T1, _T2, _T3], _R],
    iterable: Iterable[_T1],
    iterable2: Iterable[_T2],
    iterable3: Iterable[_T3],
    /,
    *,
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> Stream[_R]: ...
@overload
def map(
    func: Callable[[_T1, _T2, _T3, _T4], _R],
    iterable: Iterable[_T1],
    iterable2: Iterable[_T2],
    iterable3: Iterable[_T3],
    iterable4: Iterable[_T4],
    /,
    *,
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> Stream[_R]: ...
@overload
def map(
    func: Callable[[_T1, _T2, _T3, _T4, _T5], _R],
    iterable: Iterable[_T1],
    iterable2: Iterable[_T2],
    iterable3: Iterable[_T3],
    iterable4: Iterable[_T4],
    iterable5: Iterable[_T5],
    /,
    *,
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> Stream[_R]: ...
@overload
def map(
    func: Callable[..., _R],
    iterable: Iterable[Any],
    iterable2: Iterable[Any],
    iterable3: Iterable[Any],
    iterable4: Iterable[Any],
    iterable5: Iterable[Any],
    iterable6: Iterable[Any],
    /,
    *iterables: Iterable[Any],
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> Stream[_R]: ...
@public
def map(
    func: Callable[..., Any],
    iterable: Iterable[Any],
    /,
    *iterables: Iterable[Any],
    strict: bool = False,
    **options: Any,
) -> Stream[Any]:
    """Apply `func` to every item, in this process or on workers, whichever is faster, and yield the results in order.

    The plain equivalent is the builtin: `map(func, iterable, *iterables)`. As there, the call itself only makes
    iterators of its inputs; work starts with the first `next()`, and the shortest input ends it.

    Under `backend="auto"` early items may run in this process and later ones in workers. The answers are the builtin's,
    with these limits:

    - What `func` changes (globals, its arguments, files, the process) is not shared: use functions whose result depends
      on their item alone. (Bound methods of containers and files, such as `list.append`, are there for what they
      change, and always run here.)
    - Workers see what `func` reaches by name in your modules (functions, classes, settings, plain data) as it was when
      the call first sent work. Large data changed in place, objects that are neither data nor code, what installed
      packages use among themselves, and context variables may be older there.
    - Items are read ahead of the results that were asked for, a bounded number of them: from a list, tuple, range,
      text, bytes or NumPy array as they are, from anything else one by one, each as it was when it was read. A list
      that grows is read to its end, and a generator that takes from a queue or list of yours stays here; an input that
      needs earlier results in ways that its code does not show must be mapped with `backend="serial"`.

    A backend that you name refuses what "auto" would keep here.

    Args:
        func: called with one item of each iterable. Lambdas, closures, bound methods and partials are fine. A function
            decorated by `parallelize` brings its options along, below those given here.
        iterable: the items; it may be endless.
        *iterables: further arguments of `func`, item by item.
        strict: whether iterables of unequal lengths are a `ValueError`, as for `zip`.
        **options: keyword-only, the same for every call:
            n_jobs: number of workers. None chooses; 1 is serial under "auto"; -1 is all cores, -2 all but one.
            chunksize: items sent to a worker at once. None chooses; a number is exact, the last chunk being shorter.
            backend: "auto"; or "serial", "processes", "pool" (a stock `multiprocessing.Pool` for this call), "threads",
                "dask", "ray", or an executor, Pool or client of your own, which then gets every item.
            start_method: "fork", "spawn" or "forkserver", for new workers. None chooses what is safe here.
            ordered: False yields results as they are done.
            on_error: "raise" ends the iterator with the first exception; "return" puts it in its item's place.
            retries: how often an item that failed, or was lost with its worker, runs again.
            timeout: seconds that one item may run before it fails with `ItemTimeoutError` and its worker is replaced.
                Such work runs on processes from its first item; backends that cannot stop an item refuse it.
            seed: makes random numbers repeat, whatever the backend.
            initializer: called in each worker before its first item, with `initargs`.
            initargs: arguments of `initializer`, a tuple.
            progress: True for a bar, or a callable to be told.
            use_cache: False neither uses nor keeps what was measured.
            journal: the path of a file that keeps each result as it comes, and gives it to later calls of the same
                function with an equal item: after a kill, only what is missing runs.
            record: True keeps when each chunk ran where, for `report.timeline` and `report.trace`.
            audit: a share of the items, such as 0.01, that run a second time, in another process: a warning names a
                function whose answer is then another one, or that changes its argument. All other items run once.
            relay: what items print, log and warn of in worker processes of ours is shown here, through the present
                `sys.stdout`, `sys.stderr`, loggers and filters, before their results; False leaves it to the workers'
                own descriptors, as it always is on other backends.
            thread_safe: False forbids that "auto" runs `func` on threads, which it does where items mostly wait.

    Returns:
        A lazy iterator of results. It has `close()`, works in a `with` block, which closes it, and tells its `plan` and
        its `report`: what it did, where its time went, and what other roads would have taken. Its `where()` tells which
        items run now, since when, and in which Python stack.

    Raises:
        TypeError: an unknown option, an option of the wrong type, or an input that is not iterable.
        ValueError: an option out of range. While iterating: unequal lengths with `strict`.
        UnsupportedError: the backend cannot do what was asked. Nothing ran.
        SerializationError: while iterating, what must go to a worker cannot be pickled.
        InitializerError: while iterating, the initializer failed in a worker.
        WorkerCrashError: while iterating, a worker died, and `retries` did not make up for it.
        ItemTimeoutError: while iterating, an item ran for longer than `timeout`, as often as it was tried.
        Exception: while iterating, whatever `func` or an input raises, in the place of its result. What `func` raised
            has a note with the item's index, which is also its attribute `amorsize_index`.

    Not for functions that are called for their side effects in this process, nor for single calls that are long:
    one item is never split.

    >>> import amorsize
    >>> list(amorsize.map(pow, [2, 3, 4], [5, 2, 3]))
    [32, 9, 64]
    """
    stands: Any = builtins.map
    if stands is not builtin_map:
        asked = {"strict": True, **options} if strict else options
        replaced = stands is map
        coroutines = replaced and is_coroutine_function(func)  # `gather(*map(fetch, urls))` wants them as they are
        if coroutines or means_the_builtin(sys._getframe(1), asked, None if replaced else stands):
            only_strict = {"strict": True} if strict else {}  # CPython 3.14's own option; a wrapper's others are ours
            return builtin_map(func, iterable, *iterables, **only_strict)  # type: ignore[return-value]
    # What rules most calls out is asked first. A decorated function is known by the function inside, so not here.
    if not (options or strict):
        found = staying.found.get(id(func))
        if found is not None and found[0]() is func and not iterables and not any_given():
            # What `get` and `start_short` would do, for most short calls, in as few functions as can be: see there.
            items, notes = iter(iterable), Notes()
            notes.keeps = ()
            notes.asked = func, (iterable,), (items,), False, found[1]
            results = short_part(func, items, found[1], notes)
            stream: Stream[Any] = Stream.from_iterable((results,))
            stream._short = results, notes
            return stream
        if (stay := staying.get(func)) is not None and not any_given():
            return start_short(func, (iterable, *iterables), stay)
    plain, decorated = undecorated(func)
    given = resolve(check(options, "map") if options else options, decorated)
    return start(plain, (iterable, *iterables), given, strict=strict)


if not TYPE_CHECKING:
    map = standing_in(map, Stream)


@public
def starmap(
    func: Callable[..., _R], iterable: Iterable[Iterable[Any]], /, **options: Unpack[GivenOptions]
) -> Stream[_R]:
    """Apply `func` to argument tuples, in this process or on workers, and yield the results in order.

    The plain equivalent is `itertools.starmap(func, iterable)`. All else is as for `amorsize.map`.

    Args:
        func: called as `func(*arguments)` for each item.
        iterable: yields the arguments of each call.
        **options: as for `amorsize.map`.

    Returns:
        A lazy iterator, as from `amorsize.map`.

    Raises:
        TypeError, ValueError, AmorsizeError: as for `amorsize.map`.

    Not for arguments that lie in separate iterables already: `amorsize.map` takes those as they are.

    >>> import amorsize
    >>> list(amorsize.starmap(pow, [(2, 5), (3, 2)]))
    [32, 9]
    """
    if not options and (stay := staying.get(func)) is not None and not any_given():
        return start_short(func, (iterable,), stay, star=True)
    plain, decorated = undecorated(func)
    return start(plain, (iterable,), resolve(check(options, "starmap"), decorated), star=True)


@public
def amap(
    func: Callable[..., Any],
    iterable: Iterable[Any] | AsyncIterable[Any],
    /,
    *iterables: Iterable[Any] | AsyncIterable[Any],
    strict: bool = False,
    **options: Unpack[GivenOptions],
) -> AsyncStream[Any]:
    """Apply `func` to every item and yield the results in order, asynchronously, for `async for`.

    The plain equivalent is `[func(item) async for item in iterable]`, with an `await` before a coroutine function.

    A coroutine function runs on the event loop of whoever iterates, several items at once; how many is found from how
    long they take, up to 32 unless `n_jobs` says how many. A plain function runs as `amorsize.map` would run it, beside
    the loop. Inputs are read a bounded number of items ahead of the results that were asked for; those of a coroutine
    function on the loop, those of a plain one in the thread beside it, save asynchronous ones.

    Use `async with amorsize.amap(...) as results:` around the loop if it may be left early: this closes at once what
    runs, however the block is left. A result that was cancelled while it was awaited is not lost.

    Args:
        func: a function or a coroutine function, called with one item of each iterable.
        iterable: the items, from a plain or an asynchronous iterable.
        *iterables: further arguments of `func`, item by item.
        strict: whether iterables of unequal lengths are a `ValueError`, as for `zip`.
        **options: as for `amorsize.map`. Coroutines have no `seed`, and an item beyond its `timeout` is cancelled.

    Returns:
        An asynchronous iterator of results, with `aclose()`, `failures`, `plan` and `where()`.

    Raises:
        UnsupportedError: an option asks for what cannot be done here; while iterating, no asyncio event loop runs.
        TypeError, ValueError: an option is unknown or unfit, as for `amorsize.map`.
        Exception: while iterating, as for `amorsize.map`. In order, the first error is raised once all results before
            it were handed out, and what lies behind is cancelled.

    Not for code that has no event loop, which `amorsize.map` serves; it takes coroutine functions as well.

    >>> import amorsize, asyncio
    >>> async def double(number):
    ...     await asyncio.sleep(0.001)
    ...     return 2 * number
    >>> async def main():
    ...     return [result async for result in amorsize.amap(double, [1, 2, 3])]
    >>> asyncio.run(main())
    [2, 4, 6]
    """
    from .call.astream import start_asynchronous

    plain, decorated = undecorated(func)
    given = resolve(check(options, "amap") if options else options, decorated)
    return start_asynchronous(plain, (iterable, *iterables), given, strict=strict)


@public
def shutdown() -> None:
    """Release all warm workers now, and wait until they are gone.

    Workers leave by themselves when they were idle for a while, and at exit, so this is for programs that want the
    memory back or are about to fork. Calls that are under way keep their workers. The next call starts new ones.

    >>> import amorsize
    >>> amorsize.shutdown()
    """
    if "amorsize.backends.processes.lease" in sys.modules:  # else no worker was ever started
        from .backends.processes.lease import shutdown as release

        release()

"""A pool for code that asks for one: the methods of `multiprocessing.Pool`, on the optimizer.

A pool has no processes of its own. Each call of a method is what `amorsize.map` does with the pool's options, so work
stays in this process while that is faster, and workers are those that any call would get. What a pool keeps is what its
user said (options, whether it is closed) and the iterators that it has handed out, which `terminate` ends.
"""

from __future__ import annotations

from _weakref import ref

from .call.stream import last_report, start
from .lean import TypeVar, partial, public
from .measure import machine
from .options import check, resolve, undecorated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from .call.noted import Brief, Noted
    from .call.stream import Stream
    from .report.report import Report

__all__ = ["Pool"]

_R = TypeVar("_R")


@public
class Pool:
    """A pool object for code that takes one, such as samplers and optimizers with a `pool=` argument.

    The plain equivalent is `multiprocessing.Pool(n_jobs)`: `map` and `starmap` return lists, `imap` an iterator, errors
    are those of the function. Unlike there, nothing starts before it pays, functions need not be importable, and a
    pool can be pickled with the objects that hold it; inside a worker its calls run there, one after another. Results
    of `imap` and `imap_unordered` are made as they are asked for.

    Args:
        n_jobs: number of workers, as for `amorsize.map`; None lets each call choose.
        initializer: called in each worker before its first item, with `initargs`.
        initargs: arguments of `initializer`, a tuple.
        **options: the other options of `amorsize.map`, for every call of this pool.

    Raises:
        TypeError, ValueError: an option is unknown or unfit, as for `amorsize.map`.

    Not for code that only wants `map`: it can be given the module itself, `pool=amorsize`.

    >>> import amorsize
    >>> with amorsize.Pool() as pool:
    ...     pool.map(abs, [-1, 2]), pool.starmap(pow, [(2, 5)]), sorted(pool.imap_unordered(abs, [-3, 3]))
    ([1, 2], [32], [3, 3])
    """

    def __init__(
        self,
        n_jobs: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        given = dict(options)
        if n_jobs is not None:
            given["n_jobs"] = n_jobs
        if initializer is not None or initargs:
            given |= {"initializer": initializer, "initargs": initargs}
        self._options = dict(check(given, "Pool"))
        self._running = True
        self._streams: list[ref[Stream[Any]]] = []
        self._last: list[Noted | Brief] = []

    @property
    def size(self) -> int:
        """The most workers that a call of this pool has, unless its options say otherwise than the pool's."""
        return machine.workers_asked(resolve(self._options).n_jobs) or machine.cores()

    @property
    def report(self) -> Report | None:
        """What the last call that has ended did, as the `report` of a stream tells it; None if there was none."""
        return last_report(self._last)

    def map(self, func: Callable[..., _R], iterable: Iterable[Any], chunksize: int | None = None) -> list[_R]:
        """Return the list of `func(item)` for every item, in order; an error ends it."""
        return list(self._start(func, iterable, chunksize))

    def starmap(
        self, func: Callable[..., _R], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[_R]:
        """Return the list of `func(*arguments)` for every item, in order; an error ends it."""
        return list(self._start(func, iterable, chunksize, star=True))

    def imap(self, func: Callable[..., _R], iterable: Iterable[Any], chunksize: int | None = None) -> Stream[_R]:
        """Return an iterator of `func(item)` for every item, in order; closing the pool does not end it."""
        return self._handed_out(self._start(func, iterable, chunksize))

    def imap_unordered(
        self, func: Callable[..., _R], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Stream[_R]:
        """Return an iterator of `func(item)` for every item, as they are done; closing the pool does not end it."""
        return self._handed_out(self._start(func, iterable, chunksize, ordered=False))

    def apply(self, func: Callable[..., _R], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> _R:
        """Return `func(*args, **kwds)`."""
        results: list[_R] = [*self._start(partial(func, **kwds) if kwds else func, [tuple(args)], None, star=True)]
        return results[0]

    def close(self) -> None:
        """Take no more work; iterators that were handed out go on."""
        self._running = False

    def terminate(self) -> None:
        """Take no more work, and end the iterators that were handed out."""
        self._running = False
        for known in self._streams:
            if (stream := known()) is not None:
                stream.close()
        self._streams.clear()

    def join(self) -> None:
        """Return, as no method of this pool leaves work behind.

        Raises:
            ValueError: the pool was neither closed nor terminated.
        """
        if self._running:
            raise ValueError("Pool is still running: call close() or terminate() before join()")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.terminate()

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (self._options, self._running)

    def __repr__(self) -> str:
        state = "running" if self._running else "closed"
        told = [f" {name}={value!r}" for name, value in self._options.items()]
        return f"<amorsize.Pool {state}{''.join(told)}>"

    def _check_running(self) -> None:
        if not self._running:
            raise ValueError("Pool not running: it was closed or terminated")

    def _start(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        star: bool = False,
        ordered: bool | None = None,
    ) -> Stream[Any]:
        self._check_running()
        given = dict(self._options)
        if chunksize is not None:
            given["chunksize"] = chunksize
        if ordered is not None:
            given["ordered"] = ordered
        plain, decorated = undecorated(func)
        stream = start(plain, (iterable,), resolve(check(given, "Pool"), decorated), star=star)
        stream.tell_at_end(self._last)
        return stream

    def _handed_out(self, stream: Stream[_R]) -> Stream[_R]:
        self._streams = [known for known in self._streams if known() is not None]
        self._streams.append(ref(stream))
        return stream


def _made_again(options: dict[str, Any], running: bool) -> Pool:
    pool = Pool(**options)
    pool._running = running
    return pool

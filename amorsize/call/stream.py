"""The lazy iterator that a call returns, which costs as little as the builtin's.

`start` returns a `Stream`. It is an `itertools.chain` over phases, each an iterable of results: generators while items
run in the caller, lists of results once they run on workers. So the loop over results is C code, and our own Python
code runs between stretches and chunks, not between items (`benchmarks/overhead.py`).
"""

from __future__ import annotations

from _thread import RLock  # `threading.RLock`, without the import of `threading`
from itertools import chain
from operator import length_hint
from types import GeneratorType

from ..backends.registry import check_input, find
from ..backends.rows import AUTO, SERIAL
from ..feed.source import Source
from ..lean import TypeVar
from ..options import DEFAULTS
from .driver import Call, staying
from .request import Request
from .short import ShortCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Any

    from ..options import Options
    from ..plan.planner import Plan
    from ..plan.retry import Failed

__all__ = ["Stream", "start"]

R = TypeVar("R")


def start(
    function: Callable[..., R],
    iterables: tuple[Iterable[Any], ...],
    options: Options,
    *,
    star: bool = False,
    strict: bool = False,
) -> Stream[R]:
    """Begin a call: `iter` is called on each iterable and nothing else happens until the first `next()`.

    Args:
        function: the user's function, undecorated.
        iterables: one or more; `star` takes one, of argument tuples.
        options: the resolved options.
        star: whether each item is a tuple of arguments.
        strict: whether iterables of unequal length are an error.

    Raises:
        UnsupportedError: an option asks for what does not exist (yet), or cannot be done here.
        TypeError: an iterable is not iterable.
    """
    if options is DEFAULTS and not strict and (stay := staying.get(function)) is not None:
        return _streaming(ShortCall(function, iterables, stay, star=star))
    row = find(function, options)
    source = Source(iterables, strict=strict)
    if row is not AUTO and row is not SERIAL:
        check_input(row, source.worklist_call())
    return _streaming(Call(Request(function, options, row, star or len(iterables) > 1), source))


def _streaming(call: Call | ShortCall) -> Stream[Any]:
    stream: Stream[Any] = Stream.from_iterable(_Phases(call.phases()))  # type: ignore[assignment]  # as its subclass
    stream._call = call
    return stream


class _Phases:
    """The iterator that the chain asks for its next iterable; it serves one thread at a time.

    A chain forgets its present iterable when a second thread brings it another. So as long as the newest iterable has
    something left, every thread that asks gets that one; the threads then share it, each taking its own items.
    """

    __slots__ = ("_lock", "_newest", "_phases")

    def __init__(self, phases: Generator[Iterable[Any], None, None]) -> None:
        self._phases = phases
        self._newest: Iterator[Any] | None = None
        self._lock = RLock()

    def __iter__(self) -> _Phases:
        return self

    def __next__(self) -> Iterator[Any]:
        with self._lock:
            newest = self._newest
            if newest is not None and not _is_spent(newest):
                return newest
            try:
                self._newest = newest = iter(next(self._phases))
            except BaseException:
                # The chain does not ask again after an error, which may come from a signal handler that ran here.
                self._phases.close()
                raise
            return newest


def _is_spent(iterator: Any) -> bool:
    return iterator.gi_frame is None if type(iterator) is GeneratorType else not length_hint(iterator)


class Stream(chain[R]):
    """The results of one call: a lazy iterator, in input order unless `ordered=False`.

    It can be closed, and used in a `with` block, which closes it at the end. Made by `amorsize.map` and its relatives.
    """

    _call: Call | ShortCall

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None until one was made. Cheap or short work never needs one."""
        return self._call.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good so far, each with its index, its error and its number of tries."""
        return self._call.failures

    def close(self) -> None:
        """Cancel what is not done and release the workers; `next()` then raises StopIteration. May be called twice."""
        self._call.close()

    def __enter__(self) -> Stream[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __length_hint__(self) -> int:
        hint: int = self._call.length_hint()
        return hint

    # There must be no `__copy__`, because `itertools.tee` would call it.
    def __reduce__(self) -> Any:
        raise TypeError("a running map cannot be pickled or copied; make a list of it first")

    def warn_if_never_iterated(self, name: str) -> None:
        """Have a warning given if this is dropped without ever being iterated, because nothing of `name` then ran."""
        self._call.unused_name = name

    def __del__(self) -> None:
        call = self.__dict__.get("_call")  # it is missing if `start` was interrupted
        if call is None:
            return
        if call.unused_name is not None and not call.begun:
            import warnings

            warnings.warn(
                f"the result of {call.unused_name} was never iterated, so nothing ran", RuntimeWarning, stacklevel=2
            )
        call.close(dropped=True)

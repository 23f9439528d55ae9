"""The lazy iterator that a call returns, which costs as little as the builtin's.

`start` returns a `Stream`. It is an `itertools.chain` over phases, each an iterable of results: generators while items
run in the caller, lists of results once they run on workers. So the loop over results is C code, and our own Python
code runs between stretches and chunks, not between items (`benchmarks/overhead.py`).
"""

from __future__ import annotations

from itertools import chain

from ..backends.registry import check_input, find, find_for_coroutines
from ..backends.rows import AUTO, SERIAL
from ..code.coroutines import is_coroutine_function
from ..feed.source import Source
from ..lean import TypeVar, map, partial, public
from ..options import DEFAULTS
from .caller import apply_star
from .driver import Call
from .phases import Dropped, Phases
from .request import Request
from .short import Notes, ShortCall, hint_of, short_part
from .stay import staying

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType
    from typing import Any

    from ..backends.where import Where
    from ..options import Options
    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from ..report.report import Report
    from .coroutines import OwnLoop
    from .noted import Brief, Noted
    from .stay import Stay

__all__ = ["Stream", "last_report", "start", "start_short"]

R = TypeVar("R")


def start(
    function: Callable[..., R],
    iterables: tuple[Iterable[Any], ...],
    options: Options,
    *,
    star: bool = False,
    strict: bool = False,
    abandoned: list[bool] | None = None,
) -> Stream[R]:
    """Begin a call: `iter` is called on each iterable and nothing else happens until the first `next()`.

    Args:
        function: the user's function, undecorated.
        iterables: one or more; `star` takes one, of argument tuples.
        options: the resolved options.
        star: whether each item is a tuple of arguments.
        strict: whether iterables of unequal length are an error.
        abandoned: a list to which another thread adds something when nobody wants the results any more.

    Raises:
        UnsupportedError: an option asks for what does not exist (yet), or cannot be done here.
        TypeError: an iterable is not iterable.
    """
    if options is DEFAULTS and not strict and abandoned is None and (stay := staying.get(function)) is not None:
        return start_short(function, iterables, stay, star=star)
    if is_coroutine_function(function):
        return _on_own_loop(function, iterables, options, star=star, strict=strict)
    row = find(function, options)
    star = star or len(iterables) > 1
    recorder: Any = None
    if options.journal is not None:
        from .recorded import Recorder

        recorder = Recorder(options.journal, function, options.seed, star=star)
        function, iterables, star = recorder.function, (recorder.inputs(iterables, strict=strict),), False
    source = Source(iterables, strict=strict and recorder is None)
    if options.audit:
        from .audited import Auditor

        recorder = Auditor(function, options, source, star=star)
        function, options, star = recorder.function, recorder.options, False
    if row is not AUTO and row is not SERIAL:
        check_input(row, source.worklist_call())
    call = Call(Request(function, options, row, star, abandoned, recorder), source)
    stream: Stream[Any] = Stream.from_iterable(Phases(call.phases()))
    stream._call = call
    stream._dropped = Dropped(call)
    return stream


def start_short(
    function: Callable[..., R], iterables: tuple[Iterable[Any], ...], stay: Stay, *, star: bool = False
) -> Stream[R]:
    """Begin a call without options of a function whose calls are known to be short, and to stay.

    All is in one place and in as few Python functions as can be, because each costs a program that makes very many
    short calls half a microsecond: what its own code does in between has displaced it from the processor's caches.
    For the same reason the most usual of these calls are begun by `amorsize.map` itself.

    Args:
        function: the user's function, undecorated.
        iterables: as for `start`.
        stay: what is known of the function.
        star: whether each item is a tuple of arguments.
    """
    run: Any
    items: Iterable[Any]
    if star or len(iterables) > 1:
        iterators = tuple(map(iter, iterables))
        run, items = partial(apply_star, function), iterators[0] if star else zip(*iterators, strict=False)
        star = True
    else:
        items = iter(iterables[0])
        run, iterators = function, (items,)
    notes = Notes()
    notes.keeps = ()
    notes.asked = function, iterables, iterators, star, stay
    results = short_part(run, items, stay, notes)
    stream: Stream[Any] = Stream.from_iterable((results,))
    stream._short = results, notes
    return stream


def _on_own_loop(
    function: Callable[..., Any], iterables: tuple[Iterable[Any], ...], options: Options, *, star: bool, strict: bool
) -> Stream[Any]:
    from ..feed.inputs import Inputs
    from .coroutines import Coroutines, OwnLoop, refuse_in_loop

    find_for_coroutines(options)
    refuse_in_loop()
    work = Coroutines(function, Inputs(iterables, strict=strict), options, star=star or len(iterables) > 1)
    call = OwnLoop(work)
    stream: Stream[Any] = Stream.from_iterable(Phases(call.phases()))
    stream._call = call
    stream._dropped = Dropped(call)
    return stream


def last_report(last: list[Noted | Brief]) -> Report | None:
    """Return the report of the call that was the last to be put into a list; None if none was."""
    if not last:
        return None
    from .noted import Brief, short
    from .reported import report_of

    return report_of(short(last[0]) if isinstance(last[0], Brief) else last[0])


class _CallWhenAsked:
    """Makes the state behind the stream of a short call when somebody asks for it. Others have it from the start."""

    def __get__(self, stream: Any, owner: type) -> ShortCall:
        call = stream._call = ShortCall(*stream._short)
        return call


@public
class Stream(chain[R]):
    """The results of one call: a lazy iterator, in input order unless `ordered=False`.

    It can be closed, and used in a `with` block, which closes it at the end. Made by `amorsize.map` and its relatives.
    """

    _dropped: Dropped
    _short: tuple[Generator[Any, None, None], Notes] | None = None
    if TYPE_CHECKING:
        _call: Call | ShortCall | OwnLoop

        @classmethod
        def from_iterable(cls, iterable: Iterable[Iterable[R]], /) -> Stream[R]:  # type: ignore[override]
            """Return an object of this class, which `chain` does, too, though its type does not say so."""
    else:
        _call = _CallWhenAsked()

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None until one was made. Cheap or short work never needs one."""
        return self._call.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good so far, each with its index, its error and its number of tries."""
        return self._call.failures

    @property
    def report(self) -> Report:
        """What the call did, or has done so far: predicted and measured seconds, where they went, and other roads.

        >>> import amorsize
        >>> stream = amorsize.map(abs, [-1, 2])
        >>> list(stream), stream.report.items, stream.report.backend
        ([1, 2], 2, 'serial')
        """
        from .reported import report_of

        return report_of(self._call.noted())

    def where(self) -> list[Where]:
        """Say for each worker which item it is on, for how many seconds, and in which Python stack.

        It may be asked by another thread, or by a signal handler, while `next()` waits, and between two of these. The
        list is empty before the call has begun, and once it is over. Stacks of our own worker processes are to be had
        on Linux, save while C code keeps the interpreter to itself. Those of threads, of coroutines and of the caller
        are to be had everywhere. Of pools, executors and clusters, chunks are listed,
        with the seconds since they were submitted.

        Not for telling how far a call is, which `progress=` shows.

        >>> import amorsize
        >>> with amorsize.map(abs, [-1, -2, -3], backend="threads", n_jobs=1) as results:
        ...     first = next(results)
        ...     for place in results.where():
        ...         print(place.worker)
        amorsize-1
        >>> results.where()
        []
        """
        return self._call.where()

    def close(self) -> None:
        """Cancel what is not done and release the workers; `next()` then raises StopIteration. May be called twice."""
        self._call.close()

    def __enter__(self) -> Stream[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    __length_hint__ = hint_of  # `list` asks every stream, so there is no function in between

    # There must be no `__copy__`, because `itertools.tee` would call it.
    def __reduce__(self) -> Any:
        raise TypeError("a running map cannot be pickled or copied; make a list of it first")

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends, in the place of what is there."""
        self._call.tell_at_end(last)

    def warn_if_never_iterated(self, name: str) -> None:
        """Have a warning given if this is dropped without ever being iterated, because nothing of `name` then ran."""
        self._call.unused_name = name
        if "_dropped" not in self.__dict__:  # a short call has nothing to close, but now it has something to say
            self._dropped = Dropped(self._call)

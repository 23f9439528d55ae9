"""Calls that are known to be short and to stay run as the builtin would: without a plan, a look-up or a thread.

A call begins here if the last call of its function stayed in the caller and was short (`stay`). The clock is read after
the first item and then after every eighth, or after each item if items are long. Once the call has taken longer than
such calls do, the rest of it goes on in the usual way (`driver`), and so does the next call of the function. So a
function that turns long is noticed after eight items at most, and one that turns short is known to be so after one more
call. Where running workers would have helped, that is added up as for any other call, and asked again now and then.

Functions are told apart by their marks (`code.functions`), because bound methods and lambdas are made anew for each
call.
"""

from __future__ import annotations

from _operator import length_hint
from _thread import RLock  # `threading.RLock`, without the import of `threading`
from time import monotonic, perf_counter

from ..backends.registry import find
from ..errors import add_index, let_signals_through
from ..feed.source import Source
from ..lean import map, partial
from ..measure import machine
from ..options import DEFAULTS
from ..runners import runs_items
from ..state import register
from .caller import apply_star
from .driver import Call, staying
from .noted import Brief, short
from .phases import Dropped, Phases
from .places import in_caller
from .request import Request, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from ..backends.where import Where
    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from .noted import Noted
    from .stay import Stay

__all__ = ["ShortCall"]

# The clock is read after an item whose position has none of these bits: after every eighth item, or after each where
# items are longer than this on average. With more bits, a function that turns long is noticed later; with fewer, the
# clock is read more often, 40 ns each time.
_EIGHTH, _EACH = 7, 0
_LONG_ITEM_SECONDS = 10e-6
# Held while the rest of a call that turned long is made, which happens once. A signal handler may come in between.
_making = RLock()


class ShortCall:
    """The state behind the stream of such a call, and the iterator of its iterables of results.

    To the stream it is the same as a `Call`. Nothing in it refers back to it, so that it is gone when its stream is.

    Args:
        function: the user's function, undecorated.
        iterables: the items, or the arguments of the items.
        stay: what is known of the function.
        star: whether each item is a tuple of arguments.
    """

    __slots__ = (
        "_call", "_dropped", "_function", "_iterables", "_iterators", "_keeps", "_noted", "_rest", "_results", "_star",
        "_stay", "unused_name",
    )  # fmt: skip
    audit = ()  # such a call has no options

    def __init__(
        self,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        stay: Stay,
        *,
        star: bool = False,
    ) -> None:
        self.unused_name: str | None = None
        self._function = function
        self._iterables = iterables
        iterators = (iter(iterables[0]),) if len(iterables) == 1 else tuple(map(iter, iterables))
        self._iterators: tuple[Iterator[Any], ...] = iterators
        self._star = star or len(iterables) > 1
        self._stay = stay
        # When the call began, once it has; and when it ended, how many items had run, and whether it turned out long.
        self._noted: list[Any] = []
        self._keeps: list[tuple[str, list[Noted | Brief]]] = []
        self._results: Any = _short_part(
            partial(apply_star, function) if self._star else function,
            iterators,
            stay.seconds,
            self._noted,
            self._keeps,
        )
        self._rest: Phases | None = None
        self._call: Call | None = None
        self._dropped: Dropped | None = None

    @property
    def begun(self) -> bool:
        """Whether somebody has asked for a result."""
        return bool(self._noted)

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None while the call is short."""
        return None if self._call is None else self._call.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good: none, for the first error ends such a call."""
        return [] if self._call is None else self._call.failures

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends, in the place of what is there."""
        self._keeps.append((name_of(self._function), last))

    def noted(self) -> Noted:
        """Return what is known of the call so far."""
        if self._call is not None:
            return self._call.noted()
        results, noted = self._results, self._noted
        if len(noted) == 1 and (frame := results.gi_frame) is not None:  # it goes on
            done = frame.f_locals["index"] + (0 if results.gi_running else 1)
            return short(Brief(name_of(self._function), noted[0], 0.0, done), function=self._function)
        return short(Brief(name_of(self._function), *noted[:3]), function=self._function)

    def where(self) -> list[Where]:
        """Say where the item is that runs now, if one does."""
        if self._call is not None:
            return self._call.where()
        return in_caller(self._results, -1)

    def length_hint(self) -> Any:
        """Return about how many results are still to come."""
        if self._call is not None:
            return self._call.length_hint()
        if self._results.gi_frame is None:
            return 0
        iterators = self._iterators
        try:
            left = length_hint(iterators[0], -1)
            if len(iterators) > 1:
                left = min([length_hint(iterator, -1) for iterator in iterators])
        except Exception as error:  # the user's; it is only a hint
            let_signals_through(error)
            left = -1
        return NotImplemented if left < 0 else left

    def close(self, *, dropped: bool = False) -> None:
        """Have no more results."""
        self.unused_name = None
        self._results.close()
        self._noted[3:] = []  # otherwise the rest would go on
        if self._call is not None:
            self._call.close(dropped=dropped)
        self._iterables = self._iterators = (iter(()),)

    def __iter__(self) -> ShortCall:
        return self

    def __next__(self) -> Iterator[Any]:
        # A thread that asks while another one has the results gets the same; it then meets a generator that runs.
        results: Iterator[Any] = self._results
        if self._results.gi_frame is not None:
            return results
        if self._rest is None:
            if not (self._noted and self._noted[-1] is True):
                if self._stay.calls:
                    self._count()
                raise StopIteration  # it was short
            with _making:
                if self._rest is None:  # no other thread was faster
                    self._rest = Phases(self._go_on())
        following: Iterator[Any] = next(self._rest)
        return following

    def _go_on(self) -> Generator[Iterable[Any], None, None]:
        """Run the rest in the usual way."""
        staying.discard(self._function)
        source = Source(self._iterables, iterators=self._iterators)
        began_at, ended_at, source.index, _ = self._noted
        call = self._call = Call(Request(self._function, DEFAULTS, find(self._function, DEFAULTS), self._star), source)
        call.goes_on(began_at, ended_at)
        for _, last in self._keeps:
            call.tell_at_end(last)
        self._dropped = Dropped(call)
        return call.phases()

    def _count(self) -> None:
        """Take in that one more call has stayed, and have it asked again after the last of them."""
        stay, now = self._stay, monotonic()
        if stay.missed_seconds > 0.0:
            machine.miss(stay.missed_seconds, now)
        if stay.calls > 1 and now < stay.until:
            staying.put(self._function, stay._replace(calls=stay.calls - 1))
        else:
            staying.discard(self._function)


def _after_fork_in_child() -> None:
    """Make a new lock, because another thread of the parent may have held the old one."""
    global _making
    _making = RLock()


register(after_fork=_after_fork_in_child)


@runs_items()
def _short_part(
    function: Callable[..., Any],
    iterators: tuple[Iterator[Any], ...],
    seconds: float,
    noted: list[Any],
    keeps: list[tuple[str, list[Noted | Brief]]],
) -> Generator[Any, None, None]:
    """Yield results until the input ends, or until this has lasted for `seconds`."""
    mask, index, failed, turned_long = _EIGHTH, -1, False, False
    began = perf_counter()
    noted.append(began)
    try:
        for index, item in enumerate(iterators[0] if len(iterators) == 1 else zip(*iterators, strict=False)):
            try:
                yield function(item)
            except StopIteration:
                failed = True
                return  # raised by the function; the builtin's iteration ends there too
            except Exception as error:
                failed = True
                add_index(error, index)
                raise
            if not index & mask:
                spent = perf_counter() - began
                if spent > seconds:
                    turned_long = True
                    return
                mask = _EACH if spent > (index + 1) * _LONG_ITEM_SECONDS else _EIGHTH
    finally:
        noted += (perf_counter(), index + (0 if failed else 1), turned_long)
        if not turned_long:
            for name, last in keeps:
                last[:] = [Brief(name, *noted[:3])]

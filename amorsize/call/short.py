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
from itertools import chain
from time import monotonic, perf_counter

from ..backends.registry import find
from ..errors import add_index, let_signals_through
from ..feed.source import Source
from ..measure import machine
from ..options import DEFAULTS
from ..runners import runs_items
from .driver import Call
from .noted import Brief, short
from .phases import Dropped, Phases
from .places import in_caller
from .request import Request, name_of
from .stay import staying

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from ..backends.where import Where
    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from .noted import Noted
    from .stay import Stay

__all__ = ["Notes", "ShortCall", "hint_of", "short_part"]

# The clock is read after an item whose position has none of these bits: after every eighth item, or after each where
# items are longer than this on average. With more bits, a function that turns long is noticed later; with fewer, the
# clock is read more often, 40 ns each time. How long they are is asked once some have run: the first one in a while
# takes longer than others do.
_EIGHTH, _EACH = 7, 0
_LONG_ITEM_SECONDS = 10e-6
_SOME_SECONDS = 20e-6


class Notes:
    """What the generator of a short call's results notes, for whoever asks.

    Attributes:
        asked: what the call was asked to do: the user's function, undecorated; the iterables of its items or arguments,
            and their iterators; whether each item is a tuple of arguments; and what is known of the function. (A plain
            tuple, which takes the least time to make.)
        began_at: when it began, in `time.perf_counter()` seconds; 0 if it has not.
        ended_at: when it was over, or turned out not to be short; 0 if it is not.
        items: how many items had run then.
        call: what runs the rest; None as long as the call is short.
        dropped: closes that call when the stream is dropped.
        keeps: the function's name and the lists into which what is known of the call is put at its end.
    """

    asked: tuple[Callable[..., Any], tuple[Iterable[Any], ...], tuple[Iterator[Any], ...], bool, Stay]
    keeps: tuple[tuple[str, list[Noted | Brief]], ...]
    began_at = ended_at = 0.0
    items = 0
    call: Call | None = None
    dropped: Dropped | None = None


class ShortCall:
    """To a stream, the same as a `Call`. Programs make very many short calls, and few of them are asked anything.

    Args:
        results: the generator of the results.
        notes: what it notes.
    """

    audit = ()  # such a call has no options

    def __init__(self, results: Any, notes: Notes) -> None:
        self.unused_name: str | None = None
        self._results = results
        self._notes = notes

    @property
    def begun(self) -> bool:
        """Whether somebody has asked for a result."""
        return self._notes.began_at > 0.0

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None while the call is short."""
        return None if self._notes.call is None else self._notes.call.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good: none, for the first error ends such a call."""
        return [] if self._notes.call is None else self._notes.call.failures

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends, in the place of what is there."""
        self._notes.keeps = (*self._notes.keeps, (name_of(self._notes.asked[0]), last))

    def noted(self) -> Noted:
        """Return what is known of the call so far."""
        results, notes = self._results, self._notes
        if notes.call is not None:
            return notes.call.noted()
        items = notes.items
        if notes.began_at and (frame := results.gi_frame) is not None:  # it goes on
            items = frame.f_locals["index"] + (0 if results.gi_running else 1)
        function = notes.asked[0]
        return short(Brief(name_of(function), notes.began_at, notes.ended_at, items), function=function)

    def where(self) -> list[Where]:
        """Say where the item is that runs now, if one does."""
        call = self._notes.call
        return in_caller(self._results, -1) if call is None else call.where()

    def close(self, *, dropped: bool = False) -> None:
        """Have no more results."""
        self.unused_name = None
        call = self._notes.call
        if call is None:
            self._results.close()
            self._notes.ended_at = self._notes.ended_at or perf_counter()  # it may not have begun
        else:
            call.close(dropped=dropped)  # its results end then, and so do these
        function, _, _, star, stay = self._notes.asked
        self._notes.asked = function, (), (iter(()),), star, stay


def hint_of(stream: Any) -> Any:
    """Return about how many results of a stream are still to come."""
    if stream._short is None:
        return stream._call.length_hint()
    notes: Notes = stream._short[1]
    if notes.call is not None:
        return notes.call.length_hint()
    if notes.ended_at:
        return 0
    iterators = notes.asked[2]
    try:
        left = length_hint(iterators[0], -1)
        if len(iterators) > 1:
            left = min([length_hint(iterator, -1) for iterator in iterators])
    except Exception as error:  # the user's; it is only a hint
        let_signals_through(error)
        left = -1
    return NotImplemented if left < 0 else left


def _rest(notes: Notes) -> Iterator[Any]:
    """Return the results of the rest, which runs in the usual way."""
    function, iterables, iterators, star, _ = notes.asked
    staying.discard(function)
    source = Source(iterables, iterators=iterators)
    source.index = notes.items
    call = notes.call = Call(Request(function, DEFAULTS, find(function, DEFAULTS), star), source)
    call.goes_on(notes.began_at, notes.ended_at)
    for _, last in notes.keeps:
        call.tell_at_end(last)
    notes.dropped = Dropped(call)
    return chain.from_iterable(Phases(call.phases()))


def _count(function: Any, stay: Stay) -> None:
    """Take in that one more call has stayed, and have it asked again after the last of them."""
    now = monotonic()
    if stay.missed_seconds > 0.0:
        machine.miss(stay.missed_seconds, now)
    if stay.calls > 1 and now < stay.until:
        staying.put(function, stay._replace(calls=stay.calls - 1))
    else:
        staying.discard(function)


@runs_items()
def short_part(
    run: Callable[..., Any], items: Iterable[Any], stay: Stay, notes: Notes
) -> Generator[Any, None, None]:
    """Yield the results, in the usual way once this has lasted for longer than short calls do."""
    mask, index, failed, turned_long = _EIGHTH, -1, False, False
    seconds, _, calls, _ = stay
    notes.began_at = began = perf_counter()
    try:
        for index, item in enumerate(items):
            try:
                yield run(item)
            except StopIteration:
                failed = True
                return  # raised by the function; the builtin's iteration ends there too
            except Exception as error:
                failed = True
                add_index(error, index)
                raise
            if not index & mask:
                spent = perf_counter() - began
                if spent > _SOME_SECONDS:
                    if spent > seconds:
                        turned_long = True
                        break
                    mask = _EACH if spent > (index + 1) * _LONG_ITEM_SECONDS else _EIGHTH
    finally:
        notes.ended_at, notes.items = perf_counter(), index + (0 if failed else 1)
        if (calls or notes.keeps) and not turned_long:
            if calls:
                _count(notes.asked[0], stay)
            for name, last in notes.keeps:
                last[:] = [Brief(name, notes.began_at, notes.ended_at, notes.items)]
    if turned_long:
        yield from _rest(notes)

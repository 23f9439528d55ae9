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

from functools import partial
from operator import length_hint
from time import monotonic, perf_counter

from ..backends.registry import find
from ..errors import add_index, let_signals_through
from ..feed.source import Source
from ..lean import map
from ..measure import machine
from ..options import DEFAULTS
from ..rng import runs_items
from .caller import apply_star
from .driver import Call, staying
from .request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from .stay import Stay

__all__ = ["ShortCall"]

# The clock is read after an item whose position has none of these bits: after every eighth item, or after each where
# items are longer than this on average. With more bits, a function that turns long is noticed later; with fewer, the
# clock is read more often, 40 ns each time.
_EIGHTH, _EACH = 7, 0
_LONG_ITEM_SECONDS = 10e-6


class ShortCall:
    """The state behind the stream of such a call; the same to the stream as a `Call`.

    Args:
        function: the user's function, undecorated.
        iterables: the items, or the arguments of the items.
        stay: what is known of the function.
        star: whether each item is a tuple of arguments.
    """

    __slots__ = (
        "_call", "_function", "_generator", "_iterables", "_iterators", "_results", "_star", "_stay", "_taken",
        "begun", "unused_name",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        stay: Stay,
        *,
        star: bool = False,
    ) -> None:
        self.begun = False
        self.unused_name: str | None = None
        self._function = function
        self._iterables = iterables
        self._iterators = (iter(iterables[0]),) if len(iterables) == 1 else tuple(map(iter, iterables))
        self._star = star or len(iterables) > 1
        self._stay = stay
        self._call: Call | None = None
        self._generator: Any = None
        self._results: Any = None
        self._taken: int | None = None  # how many items had run when it turned out not to be short

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None while the call is short."""
        return None if self._call is None else self._call.plan

    @property
    def failures(self) -> list[Failed]:
        """The items that failed for good: none, for the first error ends such a call."""
        return [] if self._call is None else self._call.failures

    def length_hint(self) -> Any:
        """Return about how many results are still to come."""
        if self._generator.gi_frame is None:
            return 0
        if self._call is not None:
            return self._call.length_hint()
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
        if self._generator.gi_frame is None and self._call is None:
            return  # it is over, and all that it held is gone
        if self._results is not None:
            self._results.close()
        self._generator.close()
        if self._call is not None:
            self._call.close(dropped=dropped)
        self._iterables = self._iterators = (iter(()),)

    def phases(self) -> Generator[Iterable[Any], None, None]:
        """Return the generator of iterables of results."""
        self._generator = generator = self._phases()
        return generator

    def _phases(self) -> Generator[Iterable[Any], None, None]:
        self.begun = True
        self._results = self._short_part()
        yield self._results
        if self._taken is None:
            if self._stay.calls:
                self._count()
            return  # it was short
        staying.discard(self._function)
        source = Source(self._iterables, iterators=self._iterators)
        source.index = self._taken
        request = Request(self._function, DEFAULTS, find(self._function, DEFAULTS), self._star)
        self._call = Call(request, source)
        yield from self._call.phases()

    def _count(self) -> None:
        """Take in that one more call has stayed, and have it asked again after the last of them."""
        stay, now = self._stay, monotonic()
        if stay.missed_seconds > 0.0:
            machine.miss(stay.missed_seconds, now)
        if stay.calls > 1 and now < stay.until:
            staying.put(self._function, stay._replace(calls=stay.calls - 1))
        else:
            staying.discard(self._function)

    @runs_items()
    def _short_part(self) -> Generator[Any, None, None]:
        function: Callable[..., Any] = partial(apply_star, self._function) if self._star else self._function
        iterators, seconds = self._iterators, self._stay.seconds
        mask = _EIGHTH
        began = perf_counter()
        for index, item in enumerate(iterators[0] if len(iterators) == 1 else zip(*iterators, strict=False)):
            try:
                yield function(item)
            except StopIteration:
                return  # raised by the function; the builtin's iteration ends there too
            except Exception as error:
                add_index(error, index)
                raise
            if not index & mask:
                spent = perf_counter() - began
                if spent > seconds:
                    self._taken = index + 1
                    return
                mask = _EACH if spent > (index + 1) * _LONG_ITEM_SECONDS else _EIGHTH

"""The inputs of a call whose items run on an event loop: plain iterables, asynchronous ones, or both, item by item."""

from __future__ import annotations

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from ..transport.values import SCALARS, HeldIteratorError, is_plain
from .source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Inputs", "Taken", "is_asynchronous"]


class Taken(NamedTuple):
    """An item, and whether it must run before more is read."""

    item: Any
    alone: bool


class Inputs:
    """What is left of the inputs. Plain ones are left to a `Source`, which knows how far each may be read ahead.

    Args:
        iterables: the call's iterables; `iter` or `aiter` is called on each, and nothing else.
        strict: whether unequal lengths are an error, as for `zip`.

    Attributes:
        index: position of the next item.
        over: whether there are no more items.
        error: what an input raised; the items before it were returned.
        alone: positions of the items that must run before more is read.
        waits: whether taking an item may wait.
    """

    def __init__(self, iterables: tuple[Any, ...], *, strict: bool = False) -> None:
        self.over = False
        self.error: BaseException | None = None
        self.alone: set[int] = set()
        self._index = 0
        self._strict = strict
        self.single = len(iterables) == 1
        self._source: Source | None = None
        self._iterators: list[tuple[Any, bool]] = []  # each with whether it is asynchronous
        self.waits = any(map(is_asynchronous, iterables))
        if self.waits:
            for iterable in iterables:
                asynchronous = is_asynchronous(iterable)
                made = type(iterable).__aiter__(iterable) if asynchronous else iter(iterable)
                self._iterators.append((made, asynchronous))
        else:
            self._source = Source(iterables, strict=strict)

    @property
    def index(self) -> int:
        """Position of the next item."""
        return self._index if self._source is None else self._source.index

    def remaining(self) -> int | None:
        """Return how many items are left, if the input tells; None if it does not."""
        return None if self._source is None else self._source.remaining()

    async def take(self, fix: Callable[[Any], Any], *, to_end: bool) -> Taken | None:
        """Return the next item; None if there is none now, or no more, as `over` then says.

        Args:
            fix: returns what stands for an item that might change; raises if it must run before more is read.
            to_end: whether to ask an input that may be at its end; right only when all results were handed out.
        """
        if self._source is None:
            return await self._take_asynchronous(fix)
        source = self._source
        items = source.take(1, to_end=to_end, fix=fix)
        if source.error is not None:
            self.error, self.over = source.error, True
        if items:
            return Taken(items[0], alone=False)
        if source.unfixed is not None:
            (item, _), source.unfixed = source.unfixed, None
            return Taken(item, alone=True)
        self.over = self.over or not source.held
        return None

    async def _take_asynchronous(self, fix: Callable[[Any], Any]) -> Taken | None:
        values: list[Any] = []
        try:
            for iterator, asynchronous in self._iterators:
                values.append(await iterator.__anext__() if asynchronous else next(iterator))
        except (StopIteration, StopAsyncIteration):
            self.over = True
            if self._strict:
                self.error = await self._unequal(len(values))
            return None
        except Exception as error:  # the user's input
            let_signals_through(error)
            self.error, self.over = error, True
            return None
        self._index += 1
        item = values[0] if self.single else tuple(values)
        if type(item) in SCALARS or is_plain(item):
            return Taken(item, alone=False)
        try:
            return Taken(fix(item), alone=False)
        except HeldIteratorError:
            return Taken(item, alone=True)

    async def _unequal(self, ended: int) -> Exception | None:
        """Return the error of inputs of unequal lengths, of which the one at this place has ended; None if all have."""
        if ended:
            return ValueError(f"argument {ended + 1} is shorter than argument{'s 1-' if ended > 1 else ' '}{ended}")
        for place, (iterator, asynchronous) in enumerate(self._iterators[1:], 2):
            try:
                if asynchronous:
                    await iterator.__anext__()
                else:
                    next(iterator)
            except (StopIteration, StopAsyncIteration):
                continue
            except Exception as error:  # the user's input
                let_signals_through(error)
                return error
            return ValueError(f"argument {place} is longer than argument{'s 1-' if place > 2 else ' '}{place - 1}")
        return None


def is_asynchronous(iterable: object) -> bool:
    """Say whether an object is an asynchronous iterable; one that is both kinds is taken as a plain one."""
    return hasattr(type(iterable), "__aiter__") and not hasattr(type(iterable), "__iter__")

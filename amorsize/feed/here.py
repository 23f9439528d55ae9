"""Runs the items of a call on workers that stay in the caller: short ones while workers start, and unsendable ones."""

from __future__ import annotations

from collections import deque

from ..backends.events import Failure
from ..backends.where import Where, formatted, stack_from
from ..errors import SerializationError, let_signals_through, raised_by, signal_handlers
from ..runners import runs_items
from ..seeding import Seeded
from ..transport.serialize import rebuilt
from .order import Piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..rng import Streams
    from .feed import Feed

__all__ = ["Here"]


class Here:
    """Runs items in the caller, and puts what comes of them into the feed.

    Args:
        function: runs one item.
        feed: the feed of the call.

    Attributes:
        mine: items that only the caller can run, with their positions.
        seconds: CPU seconds that items took in the caller while workers had others.
        holding: number of items in a row that held iterators.
    """

    def __init__(self, function: Callable[[Any], Any] | Seeded, feed: Feed) -> None:
        self.mine: deque[tuple[int, Any]] = deque()
        self.seconds = 0.0
        self.holding = 0
        self.streams: Streams | None = None
        self._index = -1
        self._feed = feed
        self._limits = signal_handlers()
        self._function: Callable[[Any], Any]
        if isinstance(function, Seeded):
            self.streams, self._function = function.begin(lambda: self._index, keep=True)
        else:
            self._function = function

    def where(self) -> list[Where]:
        """Say which item the caller runs now, if it runs one."""
        stack = stack_from(lambda frame: frame.f_code is Here.run.__code__ and frame.f_locals.get("self") is self)
        return [] if stack is None else [Where("caller", self._index, None, formatted(stack))]

    @runs_items("self")
    def run(self, index: int, item: Any, now: Callable[[], float]) -> None:
        """Run one item. `now` returns the time, from which it follows when an item that failed is tried again."""
        try:
            item = rebuilt(item)
        except Exception as error:  # the user's code
            let_signals_through(error)
            refusal = SerializationError(f"item {index} could not be rebuilt: {error!r}")
            refusal.__cause__ = error
            self._feed.give_up(index, refusal, 1)
            return
        self._index = index
        if self.streams is not None:
            self.streams.restart()  # this may be a later try of the same item
        try:
            value = self._function(item)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # the user's function
            if raised_by(self._limits, error):
                raise  # the error is a limit on the whole call, which happened to strike during this item
            self._feed.fail(index, Failure(error, item), now())
        else:
            self._feed.order.put(index, Piece([value], None, 0))

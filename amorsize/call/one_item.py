"""How does one item of a call run in the caller, and as what is it sent to workers?"""

from __future__ import annotations

from ..errors import signal_handlers
from ..lean import partial
from .caller import Attempt, apply_star, attempts, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..feed.source import Source
    from ..plan.retry import Failed
    from ..seeding import Seeded
    from .request import Request

__all__ = ["OneItem"]

_RANGE_ITERATOR = type(iter(range(0)))


class OneItem:
    """Makes the functions that run one item: with its arguments, its random streams, and what its errors do.

    Args:
        request: what was asked for.
        source: the input.
        failures: where items that failed for good are listed.

    Attributes:
        seeded: the function with random streams; None if the call has no seed.
    """

    def __init__(self, request: Request, source: Source, failures: list[Failed]) -> None:
        self.seeded: Seeded | None = None
        self._seeded_here: Callable[[Any], Any] | None = None
        self._request = request
        self._source = source
        self._failures = failures

    def seed(self) -> None:
        """Give the items random streams of their own, if the call has a seed."""
        seed = self._request.options.seed
        if seed is None:
            return
        from ..rng import numbered
        from ..seeding import Seeded

        source = self._source
        scalars = type(source.iterator) is _RANGE_ITERATOR
        iterator, running = numbered(source.iterator, source.index)
        if iterator is not source.iterator:
            source.through(iterator)
        self.seeded = Seeded.of(self.here(), seed)
        source.streams, self._seeded_here = self.seeded.begin(running, keep=True, plain=scalars)

    def here(self) -> Callable[[Any], Any]:
        """Return the function that runs one item in the caller's own serial work."""
        if self._seeded_here is not None:
            return self._seeded_here
        return partial(apply_star, self._request.function) if self._request.star else self._request.function

    def to_send(self) -> Callable[[Any], Any] | Seeded:
        """Return the function that runs one item on a worker, or out of turn in the caller."""
        return self.here() if self.seeded is None else self.seeded

    def attempt(self) -> Attempt | None:
        """Return what runs an item in the caller where errors do not simply end the call; None where they do."""
        options = self._request.options
        if not options.retries and options.on_error == "raise":
            return None
        from ..feed.outcome import Outcome

        outcome = Outcome(options.retries, options.on_error == "return", self._failures)
        return Attempt(self.here(), outcome, self._source.streams, signal_handlers())

    def initialize(self) -> None:
        """Call the initializer in the caller, if there is one."""
        options = self._request.options
        if options.initializer is not None:
            options.initializer(*options.initargs)

    def all_here(self) -> Iterable[Any]:
        """Return the results of serial work that never goes to workers, so that nothing need be measured."""
        self.initialize()
        attempt = self.attempt()
        if attempt is not None:
            return attempts(attempt, self._source)
        seeded = self._seeded_here
        return plain(seeded or self._request.function, self._source, star=self._request.star and seeded is None)

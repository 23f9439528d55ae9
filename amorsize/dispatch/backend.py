"""What a run asks of whatever runs its chunks, and what it hears back."""

from __future__ import annotations

from ..errors import SerializationError
from ..lean import NamedTuple, Protocol
from ..values import HeldIteratorError
from .blame import said_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from .by_value import Outgoing

    Event: TypeAlias = "Done | Lost | Refused | Broken"

__all__ = ["Backend", "Broken", "Chunk", "Done", "Failure", "Lost", "Refused"]
__all__ += ["UnrebuiltItem", "Unsendable", "UnsentResult"]


class Chunk(NamedTuple):
    """Consecutive items on their way to a worker.

    Attributes:
        first: position of the first item in the input.
        items: the items; a `range` stays one.
    """

    first: int
    items: Sequence[Any]


class Failure(NamedTuple):
    """An item that raised, and what is needed to try it again."""

    error: BaseException
    item: Any


class Done(NamedTuple):
    """Some results of a chunk, in order.

    Attributes:
        first: position of the first result.
        values: one a finished item; None where the item failed.
        failures: the items that failed, by position in the input.
        rest: the items that the worker hands back unstarted; None unless this ends the chunk with some left.
        items: number of items that `seconds` speaks of.
        seconds: wall seconds the items took in the worker.
        cpu_seconds: CPU seconds they took.
        bytes_out: pickled size of the results.
    """

    first: int
    values: list[Any]
    failures: dict[int, Failure]
    rest: Chunk | None
    items: int
    seconds: float
    cpu_seconds: float
    bytes_out: int


class Lost(NamedTuple):
    """A worker died with a chunk.

    Attributes:
        running: the item that was running, as a chunk of one; None if none was.
        finished: items that had finished, but whose results had not left the worker; None if there were none.
        rest: items that had not been started; None if there were none.
        exitcode: as `multiprocessing.Process.exitcode`.
        timed_out: whether it was killed because of its item's running time.
    """

    running: Chunk | None
    finished: Chunk | None
    rest: Chunk | None
    exitcode: int | None
    timed_out: bool = False


class Refused(NamedTuple):
    """A chunk did not start: its function, or the worker's initializer, failed. Nothing of it ran."""

    chunk: Chunk | None
    error: BaseException


class Unsendable(SerializationError):
    """An item cannot be pickled; `index` says which. Nothing of its chunk was sent."""

    def __init__(self, index: int, error: BaseException, item: object) -> None:
        self.holds_iterator = isinstance(error, HeldIteratorError)
        # The search for the part at fault would pickle an iterator, too.
        said = str(error) if self.holds_iterator else said_of(error, item)
        super().__init__(f"item {index} cannot be sent to a worker: {said}")
        self.index = index


class UnrebuiltItem(SerializationError):
    """An item could not be rebuilt in a worker, so it never started."""


class UnsentResult(SerializationError):
    """An item ran in a worker, but its result could not be pickled there or not be rebuilt in the caller."""


class Broken(NamedTuple):
    """No worker is left, and no other can be had. What they had has been handed back, or told as lost."""

    error: BaseException


class Backend(Protocol):
    """Runs chunks for one call, and for one thread at a time.

    Attributes:
        route: what costs are learnt for, "processes" or "pool".
        bytes_in: bytes of the chunks that were submitted.
        outgoing: pickles this call's items.
    """

    route: str
    bytes_in: int
    outgoing: Outgoing

    def room(self, chunk_seconds: float | None) -> int:
        """Return how many chunks that are expected to run for `chunk_seconds` may be submitted now; None: unknown."""

    def submit(self, chunk: Chunk, slice_seconds: float) -> None:
        """Take a chunk; it may leave with the next ones. Raises Unsendable when an item of it cannot be pickled."""

    def flush(self) -> None:
        """See that what was submitted is on its way."""

    def wait(self, timeout: float | None = None) -> list[Event]:
        """Block until something happened, or for `timeout` seconds, and return the events."""

    def widen(self, n_jobs: int) -> None:
        """Allow `n_jobs` workers from now on."""

    def ask_back(self) -> None:
        """Have chunks back that have not begun, as far as that can be; they come as events."""

    def any_ready(self) -> bool:
        """Say whether some worker has finished starting. Looks, but does not wait."""

    def busy(self) -> bool:
        """Say whether some chunk is under way."""

    def close(self) -> None:
        """Cancel what is under way and give back what was held. May be called twice."""

    def kill(self) -> None:
        """Close without waiting for items that are running."""

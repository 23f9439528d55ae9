"""The interface between a call and the backend that runs its chunks."""

from __future__ import annotations

from _queue import Empty

from ..errors import SerializationError, add_index
from ..lean import NamedTuple, Protocol, map
from ..transport.blame import said_of
from ..transport.remote import UnsentResult, unpack_error
from ..transport.serialize import Undumpable, Unpicklable, dump_items
from ..transport.values import (
    Fixed,
    HeldIteratorError,
    held_iterator_error,
    holds_iterator,
    is_plain,
    plainly_hold_none,
    rough_size,
)
from .events import Chunk, Failure, Results, Returned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..child.run_chunk import Ran
    from ..transport.by_value import Outgoing
    from ..transport.envelope import Envelope
    from .events import Event
    from .where import Where

__all__ = ["Backend", "Start", "Unsendable", "check_shared", "dump_chunk", "events_here"]
__all__ += ["failures_of", "taken_from", "unstarted"]


class Unsendable(SerializationError):
    """Says that an item cannot be pickled; `index` is its position. Nothing of its chunk was sent."""

    def __init__(self, index: int, error: BaseException, item: object) -> None:
        self.holds_iterator = isinstance(error, HeldIteratorError)
        # If an iterator is at fault, there is no search for the part at fault, because it would pickle the iterator.
        said = str(error) if self.holds_iterator else said_of(error, item)
        super().__init__(f"item {index} cannot be sent to a worker: {said}")
        self.index = index


def dump_chunk(chunk: Chunk, outgoing: Outgoing) -> Envelope:
    """Pickle the items of a chunk.

    Raises:
        Unsendable: one of them cannot be pickled.
    """
    try:
        return dump_items(chunk.items, outgoing)
    except Undumpable as found:
        position, error = found.position, found.error
        raise Unsendable(chunk.first + position, error, chunk.items[position]) from error


class Start(NamedTuple):
    """How the workers of a backend were started.

    Attributes:
        warm: whether all of them could run items when it was opened.
        load_seconds: how long a fresh worker took to load the function; None as long as none has said so.
        ordered_at: when the first of them was ordered, in `time.perf_counter()` seconds; None if that is not known.
    """

    warm: bool = False
    load_seconds: float | None = None
    ordered_at: float | None = None


class Backend(Protocol):
    """Runs chunks for one call, and for one thread at a time.

    Its module has `open_backend(job, target)`, which returns a backend; `target` is the object that the user gave as
    `backend=`, or None.

    Attributes:
        route: the name of the way to the workers, by which costs are learnt.
        start: how its workers were started.
        prompt: whether what is submitted while workers start waits for no more than a few milliseconds.
        found: the width to begin with the next time, if the backend finds out what is best; 1 says that more than one
            worker did not help. None for others.
    """

    route: str
    start: Start
    prompt: bool

    @property
    def width(self) -> int:
        """How many workers the backend has, or may have, now."""

    @property
    def found(self) -> int | None:
        """The width to begin with the next time."""

    @property
    def seconds_per_task(self) -> float | None:
        """What a chunk costs its worker beyond the items, if the backend has seen that; None if not."""

    def room(self, chunk_seconds: float | None) -> int:
        """Return how many chunks may be submitted now.

        Args:
            chunk_seconds: how long each chunk is expected to run; None if that is unknown.
        """

    def submit(self, chunk: Chunk, slice_seconds: float) -> int:
        """Take a chunk, which may be sent together with the next ones; return how many bytes it has.

        Raises:
            Unsendable: an item of the chunk cannot be sent. Nothing of the chunk was taken.
        """

    def flush(self) -> None:
        """Make sure that the chunks submitted so far are on their way."""

    def wait(self, timeout: float | None = None) -> list[Event]:
        """Block until something has happened, but at most for `timeout` seconds, and return the events."""

    def resize(self, width: int) -> None:
        """Allow `width` workers from now on, if the backend can change its width."""

    def ask_back(self) -> None:
        """Ask for the chunks that have not begun, if the backend can return them; they come back as events."""

    def starting(self) -> bool:
        """Say, without waiting, whether all workers are still starting."""

    def busy(self) -> bool:
        """Say whether any chunk is under way."""

    def where(self) -> list[Where]:
        """Say where the workers are. Any thread may ask, also while another one waits, and so may a signal handler."""

    def close(self, *, hurry: bool = False) -> None:
        """Cancel what is under way and release what is held. It may be called twice.

        Args:
            hurry: whether to return without waiting for items that are running.
        """


def failures_of(
    chunk: Chunk, errors: Iterable[tuple[int, bytes]], first: int, values: list[Any]
) -> dict[int, Failure]:
    """Return the failures of some results: errors of the function, and results that could not be rebuilt.

    Args:
        chunk: the chunk that the results belong to.
        errors: packed errors, each with its item's place in the chunk.
        first: position in the input of the first value.
        values: the results; those that could not be rebuilt become None.
    """
    failures: dict[int, Failure] = {}
    for offset, packed in errors:
        index = chunk.first + offset
        failures[index] = Failure(add_index(unpack_error(packed), index), chunk.items[offset])
    for position, value in enumerate(values):
        if type(value) is Unpicklable:
            index = first + position
            error = UnsentResult(f"the result of item {index} could not be rebuilt: {value.error!r}")
            error.__cause__ = value.error
            failures[index] = Failure(error, chunk.items[index - chunk.first])
            values[position] = None
    return failures


def unstarted(chunk: Chunk, started: int) -> list[Event]:
    """Return the event that hands back what of a chunk was not started, if there is any."""
    left = chunk.items[started:]
    return [Returned(Chunk(chunk.first + started, left))] if left else []


def events_here(chunk: Chunk, ran: Ran, worker: int, sent: float) -> list[Event]:
    """Return what is to be told of a chunk that ran in a thread of this process.

    Args:
        chunk: the chunk as it was submitted, at `sent`.
        ran: what became of its items.
        worker: the number of the thread.
        sent: as for `Results`.
    """
    failures: dict[int, Failure] = {}
    for offset, error in ran.errors:
        index = chunk.first + offset
        failures[index] = Failure(add_index(error, index), chunk.items[offset])
    events: list[Event] = []
    if ran.values:
        after = max(0.0, ran.began - sent)
        # The window for results is in bytes, and for most kinds of large results this is how many they have.
        size, clocks = sum(map(rough_size, ran.values)), (ran.seconds, ran.cpu_seconds)
        events.append(Results(chunk.first, ran.values, failures, *clocks, size, worker, sent, after))
    return events + unstarted(chunk, len(ran.values))


def check_shared(chunk: Chunk, why_not: Callable[[object], str | None] | None = None) -> None:
    """Refuse an item that threads must not share: an iterator, or what `why_not` gives a reason for.

    Raises:
        Unsendable: there is one.
    """
    if type(chunk.items) is range or plainly_hold_none(chunk.items):
        return
    for index, item in enumerate(chunk.items, chunk.first):
        if type(item) is Fixed or is_plain(item):
            continue
        if holds_iterator(item):
            raise Unsendable(index, held_iterator_error(item), item)
        if why_not is not None and (reason := why_not(item)):
            raise Unsendable(index, HeldIteratorError(reason), item)


def taken_from(queue: Any, seconds: float) -> Any:
    """Return what comes out of a `SimpleQueue` within some seconds; raises `queue.Empty` if nothing does.

    In CPython 3.10 its own `get` with a timeout may wait for ever, if the time is over before it has begun to wait. It
    does not if it was asked without a timeout just before.
    """
    try:
        return queue.get_nowait()
    except Empty:
        if seconds <= 0:
            raise
    return queue.get(timeout=seconds)

"""The chunks that a backend is given, and the events that it reports."""

from __future__ import annotations

from ..lean import NamedTuple, Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Event: TypeAlias = "Results | Returned | Lost | Refused | Broken | Said"

__all__ = ["Broken", "Chunk", "Counts", "Failure", "Lost", "Observer", "Refused", "Results", "Returned", "Said"]


class Chunk(NamedTuple):
    """Consecutive items on their way to a worker.

    Attributes:
        first: position of the first item in the input.
        items: the items; a `range` stays one.
    """

    first: int
    items: Sequence[Any]


class Failure(NamedTuple):
    """The error that an item raised, and the item, which is needed to try it again."""

    error: BaseException
    item: Any


class Results(NamedTuple):
    """Some results of a chunk, in order. The results of a chunk may come in several parts.

    Attributes:
        first: position of the first result.
        values: one for each finished item; None if the item failed.
        failures: the items that failed, by position in the input.
        seconds: wall seconds the items took in the worker.
        cpu_seconds: CPU seconds they took.
        bytes_out: pickled size of the results.
        worker: a number that only the worker which ran the items has; None if it is not known.
        sent: when the chunk was given to the worker, in `time.perf_counter()` seconds of the caller.
        began: how many seconds after `sent` these items began; None if the worker's clock cannot be compared.
    """

    first: int
    values: list[Any]
    failures: dict[int, Failure]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_out: int = 0
    worker: int | None = None
    sent: float = 0.0
    began: float | None = None


class Returned(NamedTuple):
    """Items that come back because they were not started: the time slice was over, or they were asked back."""

    chunk: Chunk


class Lost(NamedTuple):
    """Says that a worker died while it had a chunk.

    Attributes:
        running: the item that was running, as a chunk of one; None if none was.
        finished: items that had finished, but whose results had not left the worker; None if there were none.
        rest: items that had not been started; None if there were none.
        exitcode: as `multiprocessing.Process.exitcode`.
        timed_out: whether it was killed because its item ran for too long.
        unknown: whether any of the items in `finished` may have been running, as the backend does not know.
    """

    running: Chunk | None
    finished: Chunk | None
    rest: Chunk | None
    exitcode: int | None
    timed_out: bool = False
    unknown: bool = False


class Refused(NamedTuple):
    """Says that nothing of a chunk ran, because its function could not be loaded or the worker's initializer failed."""

    chunk: Chunk | None
    error: BaseException


class Broken(NamedTuple):
    """Says that no worker is left and none can be had. Their chunks came back before, or were reported as lost."""

    error: BaseException


class Said(NamedTuple):
    """What items have written, logged or warned of, before the results that come behind it.

    Attributes:
        worker: the number of their worker, as in `Results`.
        data: the entries, pickled; they are for `feed.voice`.
    """

    worker: int | None
    data: bytes


class Counts(Protocol):
    """Counts the items of a call that have ended, and shows how many now and then."""

    def done(self, items: int) -> None:
        """Take in that so many more items have ended."""

    def shows_in(self) -> float | None:
        """Return in how many seconds what was counted is to be shown; None if all is shown."""

    def show(self) -> None:
        """Show what was counted."""


class Observer(Protocol):
    """Is told what happens to a call's items on workers, by the thread in `next()`. It must not raise."""

    def sent(self, chunk: Chunk, nbytes: int) -> None:
        """Hear that a chunk was given to the backend, and of its pickled size in bytes."""

    def heard(self, event: Event) -> None:
        """Hear of an event, as soon as the backend has reported it."""

    def fed(self, seconds: float) -> None:
        """Hear that the caller has spent so long on reading the input and giving it to the backend."""

    def waited(self, seconds: float, *, starting: bool) -> None:
        """Hear that the caller has waited so long for workers, and whether none had answered when that began."""

    def ran_here(self, first: int, items: int, began: float, seconds: float) -> None:
        """Hear that the caller has run items itself; `began` is in `time.perf_counter()` seconds."""

    def ended(self, error: BaseException | None) -> None:
        """Hear that the work on workers is over, and the error that ended it early; None if none did."""

"""What is sent to whatever runs chunks, and what is heard back."""

from __future__ import annotations

from ..lean import NamedTuple, Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Event: TypeAlias = "Results | Returned | Lost | Refused | Broken"

__all__ = ["Broken", "Chunk", "Failure", "Lost", "Observer", "Refused", "Results", "Returned"]


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


class Results(NamedTuple):
    """Some results of a chunk, in order. A chunk may give them in several parts.

    Attributes:
        first: position of the first result.
        values: one a finished item; None where the item failed.
        failures: the items that failed, by position in the input.
        seconds: wall seconds the items took in the worker.
        cpu_seconds: CPU seconds they took.
        bytes_out: pickled size of the results.
        worker: which one ran them, by a number that only it has; None where that is not known.
        sent: when the chunk was given to the worker, in `time.perf_counter()` seconds of this process.
        began: how many seconds after that these items began; None where the worker's clock cannot be compared.
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
    """Items that were not started come back: the time slice was over, or they were asked back."""

    chunk: Chunk


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


class Broken(NamedTuple):
    """No worker is left, and no other can be had. What they had has been handed back, or told as lost."""

    error: BaseException


class Observer(Protocol):
    """Is told what happens on workers, by the thread in `next()`: for reports and timelines. It must not raise."""

    def chunk(
        self, worker: int | None, first: int, items: int, sent: float, began: float | None, seconds: float, nbytes: int
    ) -> None:
        """Hear of some results of a chunk; the arguments are those of `Results`, and how many items there were."""

    def ended(self, error: BaseException | None) -> None:
        """Hear that the work on workers is over, and what ended it early; None if nothing did."""

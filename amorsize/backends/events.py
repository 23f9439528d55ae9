"""What is sent to whatever runs chunks, and what is heard back."""

from __future__ import annotations

from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    Event: TypeAlias = "Done | Lost | Refused | Broken"

__all__ = ["Broken", "Chunk", "Done", "Failure", "Lost", "Refused"]


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


class Broken(NamedTuple):
    """No worker is left, and no other can be had. What they had has been handed back, or told as lost."""

    error: BaseException

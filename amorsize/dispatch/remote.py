"""An exception on its way from a worker to the caller: its own type where it can travel, a stand-in where it cannot."""

from __future__ import annotations

import pickle

from ..errors import SerializationError, add_index
from .backend import Failure
from .serialize import Unpicklable, dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .backend import Chunk

__all__ = ["RemoteError", "RemoteTraceback", "failures_of", "pack_error", "unpack_error"]


class RemoteTraceback(Exception):
    """The traceback of an error in a worker, as text: the cause of the error that the caller sees."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class RemoteError(Exception):
    """Stands for an error that could not be pickled in the worker, or not be rebuilt here.

    Args:
        type_name: module and qualified name of the original's class.
        text: what the original said.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


def pack_error(error: BaseException) -> bytes:
    """Pickle an error with its traceback; never raises."""
    import traceback  # takes 3 ms, which most workers never need

    kind = type(error)
    type_name = f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception as broken:  # the error's own __str__
        text = f"<its text cannot be made: {type(broken).__name__}>"
    try:
        trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except Exception:  # the error's own __str__ again
        trace = "".join(traceback.format_tb(error.__traceback__)) + type_name
    try:
        data: bytes | None = dump(error)
        # An error that only fails when rebuilt must be known here, where its text is.
        pickle.loads(data)  # type: ignore[arg-type]
    except Exception:  # user code: anything
        data = None
    return pickle.dumps((data, type_name, text, trace))


def unpack_error(packed: bytes | memoryview) -> BaseException:
    """Rebuild an error, the worker's traceback as its cause; a `RemoteError` where it cannot be rebuilt."""
    data, type_name, text, trace = pickle.loads(packed)
    rebuilt: object = None
    if data is not None:
        try:
            rebuilt = pickle.loads(data)
        except Exception:  # user code: anything
            rebuilt = None
    error = rebuilt if isinstance(rebuilt, BaseException) else RemoteError(type_name, text)
    error.__cause__ = RemoteTraceback(trace)
    return error


def failures_of(
    chunk: Chunk, errors: Iterable[tuple[int, bytes]], first: int, values: list[Any], *, scalars: bool
) -> dict[int, Failure]:
    """Return the failures of some results: errors of the function, and results that could not be rebuilt.

    Args:
        chunk: the chunk that the results belong to.
        errors: packed errors, each with its item's place in the chunk.
        first: position in the input of the first value.
        values: the results; those that could not be rebuilt become None.
        scalars: whether they came as scalars, which can always be rebuilt: there may be 100,000, of a microsecond each.
    """
    failures: dict[int, Failure] = {}
    for offset, packed in errors:
        index = chunk.first + offset
        failures[index] = Failure(add_index(unpack_error(packed), index), chunk.items[offset])
    for position, value in enumerate(() if scalars else values):
        if type(value) is Unpicklable:
            index = first + position
            error = SerializationError(f"the result of item {index} could not be rebuilt: {value.error!r}")
            error.__cause__ = value.error
            failures[index] = Failure(error, chunk.items[index - chunk.first])
            values[position] = None
    return failures

"""Where is the item that runs in the caller itself? Nothing is noted between items for that: the stack tells."""

from __future__ import annotations

from ..lean import GeneratorType
from .caller import Serial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from ..backends.where import Where

__all__ = ["in_caller"]


def in_caller(phase: Any, newest: int) -> list[Where]:
    """Say where the thread is that runs items in a call's present phase; return an empty list if no thread does.

    Args:
        phase: the iterable of results that the call handed out last.
        newest: position of the newest item that was read.
    """
    if type(phase) is not GeneratorType or not phase.gi_running:
        return []
    from ..backends.where import Where, formatted, stack_from

    outermost, told = phase.gi_frame, []

    def look(frame: FrameType) -> None:
        index = _index_in(frame)
        if index is not None:
            told.append(index)

    stack = stack_from(lambda frame: frame is outermost, look)
    if stack is None:  # it has ended meanwhile
        return []
    index = told[0] if told else newest
    return [Where("caller", None if index < 0 else index, None, formatted(stack))]


def _index_in(frame: FrameType) -> int | None:
    """Return which item a loop is at, if it is one that nobody else counts for."""
    if frame.f_code is Serial._range_stretch.__code__:  # its range is at the end once the watch has ended it
        number = frame.f_locals.get("number")
        return None if number is None else frame.f_locals["numbers"].index(number)
    index: int | None = frame.f_locals.get("index") if frame.f_code.co_name == "short_part" else None
    return index

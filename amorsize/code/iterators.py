"""Find what an iterator holds, through the garbage collector, so that no item is taken and no user code runs."""

from __future__ import annotations

import gc
import sys
from types import FrameType

from ..lean import map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import GeneratorType
    from typing import Any

__all__ = ["held_by", "holds", "is_wrapper", "parts"]

_WRAPPERS = frozenset({enumerate, zip, map, filter})
_IN_FRAMES = sys.version_info < (3, 11)  # generators hold an object for their frame


def is_wrapper(kind: type) -> bool:
    """Say whether a type's iterators wrap other iterators, as `enumerate` and those of `itertools` do."""
    return kind in _WRAPPERS or kind.__module__ == "itertools"


def holds(iterator: object) -> list[object]:
    """Return what a builtin iterator holds, in order, without its type, which CPython 3.12 and later also refer to."""
    return [part for part in gc.get_referents(iterator) if part is not type(iterator)]


def parts(iterator: object) -> Iterator[object]:
    """Yield what a builtin iterator holds; for a tuple that it holds, yield what is in the tuple."""
    for part in holds(iterator):
        if type(part) is tuple:
            yield from part
        else:
            yield part


def held_by(generator: GeneratorType[Any, Any, Any]) -> list[Any]:
    """Return what a suspended generator's frame holds: its variables, and above them the iterators of its loops."""
    held = gc.get_referents(generator)
    if _IN_FRAMES:
        return [part for frame in held if type(frame) is FrameType for part in gc.get_referents(frame)]
    return held

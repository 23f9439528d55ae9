"""Which functions run the user's? They are marked, so that what looks through a stack knows them by their code."""

from __future__ import annotations

from .lean import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

__all__ = ["holders", "is_runner", "runs_items"]

_F = TypeVar("_F", bound="Callable[..., Any]")
# The code of each, and the name of its local variable that has the items' random streams.
holders: dict[CodeType, str | None] = {}


def runs_items(holder: str | None = None) -> Callable[[_F], _F]:
    """Mark a function that calls the user's function, or a generator function that does.

    Args:
        holder: name of a local variable which, or whose attribute `streams`, is the call's `Streams`, or None for a
            call without a seed. If `holder` itself is None, the function runs no loop over items, and only stands
            between such a loop and the user's function.
    """

    def mark(function: _F) -> _F:
        holders[function.__code__] = holder
        return function

    return mark


def is_runner(code: CodeType) -> bool:
    """Say whether this code was marked by `runs_items`, which means that what it calls is the user's."""
    return code in holders

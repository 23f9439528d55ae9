"""What a call was asked to do, which does not change while the call lasts."""

from __future__ import annotations

from ..errors import let_signals_through
from ..lean import NamedTuple, partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..backends.rows import Row
    from ..options import Options
    from .audited import Auditor
    from .recorded import Recorder

__all__ = ["Request", "name_of"]

_MOST_PARTIALS = 16  # one within the other


class Request(NamedTuple):
    """What one call was asked to do.

    Attributes:
        function: the user's function, undecorated.
        options: the resolved options.
        row: the backend; with `AUTO`, measurements decide.
        star: whether an item is a tuple of arguments.
        abandoned: a list that is no longer empty once another thread has abandoned the call; None if none may.
        recorder: what keeps a journal of the call, or audits it; None if nothing does.
    """

    function: Callable[..., Any]
    options: Options
    row: Row
    star: bool = False
    abandoned: list[bool] | None = None
    recorder: Recorder | Auditor | None = None

    @property
    def name(self) -> str:
        """What the function is called."""
        return name_of(self.function if self.recorder is None else self.recorder.user)


def name_of(function: Any) -> str:
    """Return what a function is called, for a heading; a partial is called as what it holds."""
    for _ in range(_MOST_PARTIALS):
        if type(function) is not partial:
            break
        function = function.func
    try:
        name = function.__qualname__
    except Exception as error:  # objects may answer as they like
        let_signals_through(error)
        name = None
    return name if type(name) is str else type(function).__qualname__

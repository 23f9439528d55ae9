"""How a chunk's items run in a thread of the caller's own process: nothing is pickled, nothing is set around them."""

from __future__ import annotations

from contextvars import copy_context
from time import thread_time

from .. import context
from ..runners import runs_items
from ..transport.remote import UnrebuiltItem
from ..transport.serialize import rebuilt
from ..transport.values import Fixed
from .run_chunk import run_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context
    from typing import Any

    from .run_chunk import Ran

__all__ = ["context_of_workers", "run_in_thread"]


def context_of_workers() -> Context:
    """Return a copy of this thread's context variables, in which a call that an item makes runs serially."""
    copied = copy_context()
    copied.run(context.in_worker.set, True)
    return copied


def run_in_thread(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    first: int,
    around: Context,
    *,
    slice_seconds: float,
    stop_at_error: bool,
) -> Ran:
    """Run items as `run_items` does, each in a copy of the context `around`."""
    new_context = around.copy

    @runs_items()
    def run(item: Any) -> Any:
        if type(item) is Fixed:
            item = _rebuilt(item)
        return new_context().run(function, item)

    return run_items(
        run, items, first, slice_seconds=slice_seconds, stop_at_error=stop_at_error, cpu_clock=thread_time
    )


def _rebuilt(item: Fixed) -> Any:
    try:
        return rebuilt(item)
    except BaseException as error:  # the user's code
        raise UnrebuiltItem(f"the item could not be rebuilt: {error!r}") from error

"""How a worker runs a chunk's items, for every backend whose workers report nothing while a chunk runs.

Workers that amorsize itself starts do more between items: they write down which item runs, send results early and
hand items back. Their loop is `main._Worker._run_items`, which is tuned by hand because it is a large part of what a
short chunk costs. Both loops treat items, errors and results in the same way, which `tests/test_run_chunk.py` checks.
"""

from __future__ import annotations

from time import perf_counter, process_time

from ..lean import NamedTuple
from ..plan.retry import NOT_OF_ITEMS
from ..runners import runs_items
from ..seeding import Seeded
from ..transport.blame import said_of
from ..transport.remote import UnrebuiltItem, UnsentResult, pack_error
from ..transport.serialize import Undumpable, Unpicklable, dump_values, is_scalars, load_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..transport.envelope import Envelope

__all__ = ["Packed", "Ran", "dump_around_culprits", "refusing_unpicklable", "run_chunk", "run_items"]


class Ran(NamedTuple):
    """What became of a chunk's items.

    Attributes:
        values: the results of the items that were started; None where an item failed.
        errors: what items raised, each with its item's place in the chunk.
        began: when the first item began, in `time.perf_counter()` seconds.
        seconds: wall seconds that all items took.
        cpu_seconds: CPU seconds that this process used meanwhile, or this thread if the chunk's backend says so.
    """

    values: list[Any]
    errors: list[tuple[int, BaseException]]
    began: float
    seconds: float
    cpu_seconds: float


class Packed(NamedTuple):
    """What became of a chunk's items, with values and errors pickled for the way back to the caller."""

    payload: bytes
    errors: list[tuple[int, bytes]]
    began: float
    seconds: float
    cpu_seconds: float


@runs_items("streams")
def run_items(
    function: Callable[[Any], Any] | Seeded,
    items: Iterable[Any],
    first: int,
    *,
    slice_seconds: float = 0.0,
    stop_at_error: bool = True,
    plain: bool = False,
    cpu_clock: Callable[[], float] = process_time,
) -> Ran:
    """Run a chunk's items until it ends, an error ends it, or its time is over.

    Args:
        function: the user's function, which takes one item, or a `Seeded`.
        items: the chunk's items; an item that was `Fixed` must be given as `rebuilt` returns it.
        first: position of the first item in the input.
        slice_seconds: no further item is started after so many seconds; 0 means no limit.
        stop_at_error: whether an item that raises is the last one to run.
        plain: whether all items are scalars, or all are tuples of scalars.
        cpu_clock: returns the CPU seconds that count for the items.
    """
    offset, streams = 0, None
    if isinstance(function, Seeded):
        streams, function = function.begin(  # noqa: RUF059 - `runs_items` finds it by name
            lambda: first + offset, keep=True, plain=plain
        )
    values: list[Any] = []
    errors: list[tuple[int, BaseException]] = []
    cpu_began, began = cpu_clock(), perf_counter()
    for offset, item in enumerate(items):
        try:
            values.append(function(item))
        except BaseException as error:  # an item's SystemExit counts as its error, like any other
            errors.append((offset, error))
            values.append(None)
            if stop_at_error or isinstance(error, NOT_OF_ITEMS):
                break
        if slice_seconds and perf_counter() - began > slice_seconds:
            break
    return Ran(values, errors, began, perf_counter() - began, cpu_clock() - cpu_began)


def run_chunk(
    function: Callable[[Any], Any] | Seeded, payload: bytes, first: int, slice_seconds: float, stop_at_error: bool
) -> Packed:
    """Run the items that `dump_items` has pickled, as `run_items` does, and pickle the results and errors."""
    plain = is_scalars(payload)
    if not plain:
        function = refusing_unpicklable(function)
    values, raised, *clocks = run_items(
        function,
        load_values(memoryview(payload)),
        first,
        slice_seconds=slice_seconds,
        stop_at_error=stop_at_error,
        plain=plain,
    )
    errors = [(offset, pack_error(error)) for offset, error in raised]
    envelope, _ = dump_around_culprits(values, errors, first, 0)
    return Packed(b"".join(envelope.pieces()), errors, *clocks)


def refusing_unpicklable(function: Any) -> Any:
    """Return a function, or `Seeded`, that refuses an item which could not be rebuilt, and else calls `function`."""
    if isinstance(function, Seeded):
        return function._replace(function=refusing_unpicklable(function.function))

    @runs_items()
    def run(item: Any) -> Any:
        if type(item) is Unpicklable:
            raise UnrebuiltItem(f"the item could not be rebuilt in a worker: {item.error!r}") from item.error
        return function(item)

    return run


def dump_around_culprits(
    results: list[Any], errors: list[tuple[int, bytes]], first: int, sent: int
) -> tuple[Envelope, bool]:
    """Pickle results; where one cannot be pickled, put None in its place and add an error that says why.

    Args:
        results: the results of consecutive items.
        errors: packed errors, each with its item's place in the chunk; new ones are added to this list.
        first: position of the chunk's first item in the input.
        sent: how many results of the chunk were sent before.

    Returns:
        The envelope of the results, and whether there was a result that could not be pickled.
    """
    unsent = False
    while True:
        try:
            return dump_values(results), unsent
        except Undumpable as found:  # user code may raise anything, even SystemExit
            offset = sent + found.position
            said = said_of(found.error, results[found.position])
            refusal = UnsentResult(f"the result of item {first + offset} cannot be pickled: {said}")
            refusal.__cause__ = found.error
            errors.append((offset, pack_error(refusal)))
            results[found.position] = None
            unsent = True

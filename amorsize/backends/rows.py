"""Which backends there are: a row for each, with what it can do. A new backend is a module and a row.

Data only, and below the options, which must know the names; a row's module is loaded when a call uses it.
"""

from __future__ import annotations

import sys

from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["AUTO", "PROCESSES", "ROWS", "SERIAL", "Can", "Row", "names", "row_of"]


class Can(NamedTuple):
    """What a backend can do.

    Attributes:
        stops_items: whether an item that runs for too long can be stopped, and nobody else's.
        initializes: whether it runs an initializer in each worker.
        crosses: whether items and results leave this process, so that they must be picklable.
        starts_processes: whether it starts child processes, which a daemon process may not.
        width: "cores", as many workers as are asked for or as pay; "own", as many as the object of the user's has.
    """

    stops_items: bool = False
    initializes: bool = True
    crosses: bool = True
    starts_processes: bool = True
    width: str = "cores"


class Row(NamedTuple):
    """One backend.

    Attributes:
        name: what a user calls it.
        module: the module that has its `open`; "" where nothing is opened, None where it is not built yet.
        can: what it can do.
        accepts: says whether an object that a user gave as `backend=` is this one's; None where none is.
        extra: the optional dependencies it needs, by the name of their extra.
    """

    name: str
    module: str | None
    can: Can = Can()
    accepts: Callable[[object], bool] | None = None
    extra: str | None = None


def _is_pool(given: object) -> bool:
    pool: Any = sys.modules.get("multiprocessing.pool")
    # A pool of threads is derived from one of processes; it would make this very process look like a worker.
    return isinstance(given, getattr(pool, "Pool", ())) and not isinstance(given, getattr(pool, "ThreadPool", ()))


AUTO = Row("auto", "")
SERIAL = Row("serial", "", Can(crosses=False, starts_processes=False))
PROCESSES = Row("processes", "amorsize.backends.processes.lease", Can(stops_items=True))
ROWS = [
    AUTO,
    SERIAL,
    Row("threads", None),
    PROCESSES,
    Row("pool", "amorsize.backends.stock"),
    Row("dask", None, extra="dask"),
    Row("ray", None, extra="ray"),
    Row(
        "pool",  # a plan says so of the user's own, too
        "amorsize.backends.stock",
        Can(initializes=False, starts_processes=False, width="own"),
        accepts=_is_pool,
    ),
]


def names() -> tuple[str, ...]:
    """Return what `backend=` may be called; rows of objects have no name that could be given."""
    return tuple([row.name for row in ROWS if row.accepts is None])


def row_of(given: object) -> Row | None:
    """Return the row of what a user gave as `backend=`, a name or an object; None if there is none."""
    named = isinstance(given, str)  # what is no text may compare to anything
    for row in ROWS:
        if row.accepts is None:
            if named and row.name == given:
                return row
        elif not named and row.accepts(given):
            return row
    return None

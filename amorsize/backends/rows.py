"""Lists the backends: there is a row for each, with what it can do. To add a backend, add a module and a row.

This module holds only data, and is imported by the options, which must know the names. A row's module is loaded when a
call uses it.
"""

from __future__ import annotations

import sys

from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["AUTO", "PROCESSES", "ROWS", "SERIAL", "THREADS", "Can", "Row", "names", "row_of"]


class Can(NamedTuple):
    """What a backend can do.

    Attributes:
        stops_items: whether an item that runs for too long can be stopped without stopping anything else.
        initializes: whether it runs an initializer in each worker.
        crosses: whether items and results are sent between processes, so that they must be picklable.
        starts_processes: whether it starts child processes, which a daemon process may not.
        width: "cores" if it has as many workers as are asked for or as pay; "found" if it finds out how many are best;
            "own" if it has as many as there are, of which `n_jobs` uses some.
    """

    stops_items: bool = False
    initializes: bool = True
    crosses: bool = True
    starts_processes: bool = True
    width: str = "cores"


class Row(NamedTuple):
    """One backend.

    Attributes:
        name: what a user calls the backend.
        module: the module that has its `open_backend`; "" if nothing is opened.
        can: what the backend can do.
        accepts: says whether an object that a user gave as `backend=` belongs to this row; None if no object does.
        extra: the name of the extra that it needs, and the module that this brings; None if it needs none.
    """

    name: str
    module: str
    can: Can = Can()
    accepts: Callable[[object], bool] | None = None
    extra: tuple[str, str] | None = None


def _is_pool(given: object) -> bool:
    return isinstance(given, _class_in("multiprocessing.pool", "Pool"))


def _is_thread_pool(given: object) -> bool:
    return isinstance(given, _class_in("multiprocessing.pool", "ThreadPool"))


def _is_executor(given: object) -> bool:
    return isinstance(given, _class_in("concurrent.futures._base", "Executor"))


def _is_thread_executor(given: object) -> bool:
    return type(given) is _class_in("concurrent.futures.thread", "ThreadPoolExecutor")


def _is_dask_client(given: object) -> bool:
    return isinstance(given, _class_in("distributed.client", "Client"))


def _class_in(module: str, name: str) -> Any:
    """Return a class; where its module is not loaded, nothing is of it."""
    return getattr(sys.modules.get(module), name, ())


AUTO = Row("auto", "")
SERIAL = Row("serial", "", Can(crosses=False, starts_processes=False))
PROCESSES = Row("processes", "amorsize.backends.processes.lease", Can(stops_items=True))
THREADS = Row("threads", "amorsize.backends.threads", Can(crosses=False, starts_processes=False, width="found"))
# What others have started, or start: their workers are initialized, and their number is set, where they are made.
_ENGINE = Can(initializes=False, starts_processes=False, width="own")
_HERE = _ENGINE._replace(crosses=False)
ROWS = [
    AUTO,
    SERIAL,
    THREADS,
    PROCESSES,
    Row("pool", "amorsize.backends.stock"),
    Row("dask", "amorsize.backends.dask", _ENGINE, extra=("dask", "distributed")),
    Row("ray", "amorsize.backends.ray", _ENGINE, extra=("ray", "ray")),
    Row("pool", "amorsize.backends.stock", _HERE, accepts=_is_thread_pool),  # which is derived from one of processes
    Row("pool", "amorsize.backends.stock", _ENGINE, accepts=_is_pool),  # a plan says so of the user's own, too
    Row("dask", "amorsize.backends.dask", _ENGINE, accepts=_is_dask_client),
    Row("executor", "amorsize.backends.executors", _HERE, accepts=_is_thread_executor),
    Row("executor", "amorsize.backends.executors", _ENGINE, accepts=_is_executor),
]


def names() -> tuple[str, ...]:
    """Return the names that `backend=` may have; rows for objects have no name that a user could give."""
    return tuple([row.name for row in ROWS if row.accepts is None])


def row_of(given: object) -> Row | None:
    """Return the row of the name or object that a user gave as `backend=`; None if there is none."""
    named = isinstance(given, str)  # an object that is no text may be equal to anything
    for row in ROWS:
        if row.accepts is None:
            if named and row.name == given:
                return row
        elif not named and row.accepts(given):
            return row
    return None

"""The settings that surround a call in its process, such as limits, filters and contexts, in the caller and in workers.

There are two parts. What the *caller* has set (recursion limit, digits of whole numbers, warning filters, decimal
context, error state and print options of NumPy, locale) travels with the function, and is set in the worker while its
items run. What an *item* changed in its worker (these settings, and the folder, the environment, the umask, limits,
signal handlers, timers) is put back before the next call; the items of one call may rely on each other's changes.

Where a setting belongs to a module that the caller has not loaded, its field is None, and a worker uses the module's
default. The caller's folder, environment and `sys.path` are not fields: a call takes no worker that was started with
different ones (`idle.Kind`), because libraries read some of these when they are loaded.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from _locale import LC_ALL, setlocale

from ..errors import let_signals_through
from ..lean import NamedTuple
from ..log import debug
from ..state import register
from .serialize import PROTOCOL, dump_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Ambient = tuple[Any, ...]

__all__ = ["FIELDS", "forget_shown_warnings", "packed_snapshot", "raw_environ", "set_ambient", "snapshot"]

# The default context as the documentation of `decimal` gives it, in the order of `_decimal_settings`.
_STOCK_DECIMAL = (
    28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0, ("DivisionByZero", "InvalidOperation", "Overflow"),
)  # fmt: skip
_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
# These are NumPy's default print options; only an option that differs from its default is carried.
_PRINTING = {
    "edgeitems": 3, "threshold": 1000, "floatmode": "maxprec", "precision": 8, "suppress": False, "linewidth": 75,
    "nanstr": "nan", "infstr": "inf", "sign": "-", "formatter": None, "legacy": False,
}  # fmt: skip
_NUMPY_ERRORS = (("divide", "warn"), ("invalid", "warn"), ("over", "warn"), ("under", "ignore"))


class _Field(NamedTuple):
    """One thing that a caller may have set.

    Attributes:
        write: a function that sets it.
        default: a function that returns the value it has where nobody set it; None where it can always be read.
    """

    write: Callable[[Any], object]
    default: Callable[[], Any] | None = None


def snapshot() -> Ambient:
    """Return what is set in this thread now, in the order of `FIELDS`; it takes two microseconds, ten with NumPy."""
    return (
        sys.getrecursionlimit(),
        _read_digits(),
        tuple(warnings.filters),
        _read_decimal(),
        _read_errors(),
        _read_printing(),
        setlocale(LC_ALL, None),
    )


_packed: list[tuple[Ambient, bytes]] = []  # holds the newest snapshot, if there is one
register(_packed.clear)


def packed_snapshot() -> bytes:
    """Return what is set in this thread now, pickled."""
    now = snapshot()
    if _packed and _packed[0][0] == now:
        return _packed[0][1]
    try:
        # CPython's own filters contain "__main__" as a text, which alone is no reason to load cloudpickle.
        by_name = now[5] in (None, ()) and all(entry[2].__module__ != "__main__" for entry in now[2])
        data = pickle.dumps(now, PROTOCOL) if by_name else dump_function(now)
    except Exception as error:
        let_signals_through(error)
        debug("warning filters and print options are not carried to workers: %r", error)
        data = dump_function((*now[:2], None, *now[3:5], None, *now[6:]))
    _packed[:] = [(now, data)]
    return data


def set_ambient(wanted: Ambient) -> None:
    """Set each field of a snapshot that differs from what is set now."""
    for field, now, value in zip(FIELDS, snapshot(), wanted, strict=True):
        if value is not None and value != now:
            field.write(value)


def raw_environ() -> Any:
    """Return the environment as `os.environ` stores it, because decoding each variable by reading it takes 30 us."""
    return getattr(os.environ, "_data", os.environ)


# Older releases of CPython 3.10 have no such limit.
_read_digits: Callable[[], int | None] = getattr(sys, "get_int_max_str_digits", lambda: None)


def _read_decimal() -> Any:
    decimal = sys.modules.get("decimal")
    getcontext = getattr(decimal, "getcontext", None)  # it is missing while another thread imports the module
    return None if getcontext is None else _decimal_settings(getcontext())


def _decimal_settings(context: Any) -> tuple[Any, ...]:
    # Pickling a context takes its arguments in the order of `_DECIMAL`, then its flags and traps as lists. This is six
    # times as fast as reading the settings one by one.
    *settings, _, traps = context.__reduce__()[1]
    return (*settings, tuple(sorted([trap.__name__ for trap in traps])))


def _write_decimal(settings: tuple[Any, ...]) -> None:
    if "decimal" not in sys.modules and settings == _STOCK_DECIMAL:
        return  # the import would take time and change nothing
    import decimal

    context = decimal.getcontext()
    for name, value in zip(_DECIMAL, settings, strict=False):
        setattr(context, name, value)
    for trap in context.traps:
        context.traps[trap] = trap.__name__ in settings[-1]


def _default_decimal() -> tuple[Any, ...]:
    import decimal

    return _decimal_settings(decimal.DefaultContext)


def _read_errors() -> Any:
    geterr = getattr(sys.modules.get("numpy"), "geterr", None)
    return None if geterr is None else tuple(sorted(geterr().items()))


def _write_errors(settings: tuple[tuple[str, str], ...]) -> None:
    if "numpy" in sys.modules or settings != _NUMPY_ERRORS:
        import numpy as np

        np.seterr(**dict(settings))  # type: ignore[arg-type]  # as `geterr` gave them


def _read_printing() -> Any:
    get = getattr(sys.modules.get("numpy"), "get_printoptions", None)
    if get is None:
        return None
    options = get()
    return tuple([(name, options[name]) for name, usual in _PRINTING.items() if options.get(name, usual) != usual])


def _write_printing(settings: tuple[tuple[str, Any], ...]) -> None:
    if "numpy" in sys.modules or settings:
        import numpy as np

        np.set_printoptions(**{**_PRINTING, **dict(settings)})


def _write_filters(filters: tuple[Any, ...]) -> None:
    # Adding a filter tells the warnings module that its filters have changed; then all of them are replaced.
    warnings.simplefilter("default")
    present: Any = warnings.filters  # a list
    present[:] = filters


def forget_shown_warnings() -> None:
    """Have the warnings that were shown in this process come up again, as after any change of filters."""
    _write_filters(tuple(warnings.filters))


def _write_locale(name: str) -> None:
    setlocale(LC_ALL, name)


FIELDS = (
    _Field(sys.setrecursionlimit),
    _Field(getattr(sys, "set_int_max_str_digits", lambda _: None)),
    _Field(_write_filters),
    _Field(_write_decimal, _default_decimal),
    _Field(_write_errors, lambda: _NUMPY_ERRORS),
    _Field(_write_printing, lambda: ()),
    _Field(_write_locale),
)

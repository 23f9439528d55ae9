"""What surrounds a call in its process: limits, filters, contexts, folder and the like, there and here.

Two parts. What the *caller* has set (recursion limit, digits of whole numbers, warning filters, decimal context, error
state and print options of NumPy, locale) travels with the function, and stands in the worker when its items run. What
an *item* changed in its worker (these, and the folder, the environment, the umask, limits, signal handlers, timers) is
put back before the next call; items of one call may build on one another there.

A field of a module that is not loaded is None in the caller, and the module's default in a worker. Folder, environment
and `sys.path` of the caller are no fields: a worker that was started with others is not taken (`warm.Kind`), because
libraries read some of these when they are loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from _locale import LC_ALL, setlocale
from _signal import getsignal  # type: ignore[import-not-found]  # `signal`'s own makes enumeration members, 1 us each

from ..lean import NamedTuple
from ..log import debug
from .serialize import dump_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Ambient = tuple[Any, ...]

__all__ = ["ProcessState", "packed_snapshot", "raw_environ", "set_ambient", "snapshot"]

_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
# Of these, what differs from NumPy's defaults is carried.
_PRINTING = {
    "edgeitems": 3, "threshold": 1000, "floatmode": "maxprec", "precision": 8, "suppress": False, "linewidth": 75,
    "nanstr": "nan", "infstr": "inf", "sign": "-", "formatter": None, "legacy": False,
}  # fmt: skip
_NUMPY_ERRORS = (("divide", "warn"), ("invalid", "warn"), ("over", "warn"), ("under", "ignore"))


class _Field(NamedTuple):
    """One thing that a caller may have set.

    Attributes:
        read: returns what is set now, None where its module is not loaded.
        write: sets it.
        default: returns what is set where nobody has; None where `read` always tells.
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]
    default: Callable[[], Any] | None = None


def snapshot() -> Ambient:
    """Return what is set in this thread now. Takes a few microseconds."""
    return tuple([field.read() for field in _FIELDS])


_packed: tuple[Ambient, bytes] | None = None


def packed_snapshot() -> bytes:
    """Return what is set in this thread now, pickled."""
    global _packed
    now, known = snapshot(), _packed
    if known is not None and known[0] == now:
        return known[1]
    try:
        data = dump_function(now)
    except Exception as error:
        debug("warning filters and print options are not carried to workers: %r", error)
        data = dump_function((*now[:2], None, *now[3:5], None, *now[6:]))
    _packed = now, data
    return data


def set_ambient(wanted: Ambient) -> None:
    """Set what a snapshot has, where it differs from what is set now."""
    for field, now, value in zip(_FIELDS, snapshot(), wanted, strict=True):
        if value is not None and value != now:
            field.write(value)


class ProcessState:
    """What a worker was like before its first item, to be put back."""

    def __init__(self) -> None:
        self._ambient = snapshot()
        self._folder = _folder()
        self._environ = dict(os.environ)
        self._raw_environ = dict(raw_environ())
        self._path = list(sys.path)
        self._streams = sys.stdout, sys.stderr
        self._handlers = {number: getsignal(number) for number in _SIGNALS}
        self._umask = _umask()
        self._limits = _limits()

    def put_back(self, carried: Ambient) -> bool:
        """Put back what items have changed, and set what the caller has set; say whether that could be done.

        Args:
            carried: the caller's snapshot.
        """
        try:
            self._put_back_process()
            for field, now, here, there in zip(_FIELDS, snapshot(), self._ambient, carried, strict=True):
                wanted = here if there is None else there
                if wanted is None and now is not None and field.default is not None:
                    wanted = field.default()
                if wanted is not None and wanted != now:
                    field.write(wanted)
        except (OSError, ValueError) as error:  # a limit that cannot be raised again, a folder that is gone
            debug("a worker cannot be as it was: %r", error)
            return False
        return True

    def _put_back_process(self) -> None:
        if self._folder is not None and _folder() != self._folder:
            os.chdir(self._folder)
        if raw_environ() != self._raw_environ:
            zone = os.environ.get("TZ")
            os.environ.clear()
            os.environ.update(self._environ)
            if zone != self._environ.get("TZ") and sys.platform != "win32":
                import time

                time.tzset()
        if sys.path != self._path:
            sys.path[:] = self._path
        sys.stdout, sys.stderr = self._streams
        if _umask() != self._umask:
            os.umask(self._umask)
        for number, handler in self._handlers.items():
            if handler is not None and getsignal(number) is not handler:
                signal.signal(number, handler)
        if sys.platform != "win32":
            for timer in _TIMERS:
                if signal.getitimer(timer) != (0.0, 0.0):
                    signal.setitimer(timer, 0.0)
            if _limits() != self._limits:
                import resource

                for kind, limits in self._limits.items():
                    resource.setrlimit(kind, limits)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it is gone
        return None


def raw_environ() -> Any:
    """Return the environment as `os.environ` holds it: reading that one itself decodes each variable, in 30 us."""
    return getattr(os.environ, "_data", os.environ)


def _umask() -> int:
    # It can only be read by setting it, which no other thread here minds.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _limits() -> dict[int, tuple[int, int]]:
    """Return the limits that items can change: none where no item has loaded what changes them."""
    if sys.platform == "win32":
        return {}
    import resource

    return {kind: resource.getrlimit(kind) for kind in _LIMITS}


def _read_decimal() -> Any:
    decimal = sys.modules.get("decimal")
    getcontext = getattr(decimal, "getcontext", None)  # not there while another thread imports it
    return None if getcontext is None else _decimal_settings(getcontext())


def _decimal_settings(context: Any) -> tuple[Any, ...]:
    traps = frozenset([signal.__name__ for signal, trapped in context.traps.items() if trapped])
    return (*[getattr(context, name) for name in _DECIMAL], traps)


def _write_decimal(settings: tuple[Any, ...]) -> None:
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
    # Adding one tells the warnings module that its filters have changed; then all are replaced.
    warnings.simplefilter("default")
    warnings.filters[:] = filters  # type: ignore[index]  # a list


def _write_locale(name: str) -> None:
    setlocale(LC_ALL, name)


_FIELDS = (
    _Field(sys.getrecursionlimit, sys.setrecursionlimit),
    # Older releases of CPython 3.10 have no such limit.
    _Field(
        getattr(sys, "get_int_max_str_digits", lambda: None), getattr(sys, "set_int_max_str_digits", lambda _: None)
    ),
    _Field(lambda: tuple(warnings.filters), _write_filters),
    _Field(_read_decimal, _write_decimal, _default_decimal),
    _Field(_read_errors, _write_errors, lambda: _NUMPY_ERRORS),
    _Field(_read_printing, _write_printing, lambda: ()),
    _Field(lambda: setlocale(LC_ALL, None), _write_locale),
)
# Those that Python code sets; the two that cannot be are left out, and so are real-time signals. CPython 3.10 has a
# number without a name among them.
_SIGNALS = tuple(
    number
    for number in sorted(signal.valid_signals())
    if number < 32 and getattr(number, "name", "") not in {"SIGKILL", "SIGSTOP"}
)
_TIMERS: tuple[Any, ...] = ()
if sys.platform != "win32":
    _TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def _limit_kinds() -> tuple[int, ...]:
    if sys.platform == "win32":
        return ()
    import resource

    return tuple(sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}))


_LIMITS = _limit_kinds()

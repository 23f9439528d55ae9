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
import pickle
import signal
import sys
import warnings
from _locale import LC_ALL, setlocale
from _signal import getsignal  # type: ignore[import-not-found]  # `signal`'s own makes enumeration members, 1 us each

from ..lean import NamedTuple
from ..log import debug
from .serialize import PROTOCOL, dump_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Ambient = tuple[Any, ...]

__all__ = ["ProcessState", "packed_snapshot", "raw_environ", "set_ambient", "snapshot"]

# What the documentation of `decimal` gives for its default context, in the order of `_decimal_settings`.
_STOCK_DECIMAL = (
    28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0, ("DivisionByZero", "InvalidOperation", "Overflow"),
)  # fmt: skip
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
        write: sets it.
        default: returns what is set where nobody has; None where it can always be read.
    """

    write: Callable[[Any], object]
    default: Callable[[], Any] | None = None


def snapshot() -> Ambient:
    """Return what is set in this thread now, in the order of `_FIELDS`. Takes two microseconds, ten with NumPy."""
    return (
        sys.getrecursionlimit(),
        _read_digits(),
        tuple(warnings.filters),
        _read_decimal(),
        _read_errors(),
        _read_printing(),
        setlocale(LC_ALL, None),
    )


_packed: tuple[Ambient, bytes] | None = None


def packed_snapshot() -> bytes:
    """Return what is set in this thread now, pickled."""
    global _packed
    now, known = snapshot(), _packed
    if known is not None and known[0] == now:
        return known[1]
    try:
        # CPython's own filters name "__main__", as a text: that alone is no reason to load cloudpickle.
        by_name = now[5] in (None, ()) and all(entry[2].__module__ != "__main__" for entry in now[2])
        data = pickle.dumps(now, PROTOCOL) if by_name else dump_function(now)
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
    """What a worker was like before its first item, to be put back.

    A worker that has nothing to do looks whether anything has changed (`look`), while nobody waits for it; its next
    call then begins at once. Measured by `benchmarks/against.py`: a warm call takes 30 us less than if each began with
    the look.

    Args:
        before: what a snapshot told before the initializer ran; what that has set stands. None if there was none.
    """

    def __init__(self, before: Ambient | None = None) -> None:
        self._ambient = snapshot()
        self._chosen = tuple([old != now for old, now in zip(before or self._ambient, self._ambient, strict=True)])
        self._folder = _folder()
        self._environ = dict(raw_environ())
        self._path = list(sys.path)
        self._streams = sys.stdout, sys.stderr
        self._handlers = [getsignal(number) for number in _SIGNALS]
        self._umask = _umask()
        self._limits = {kind: resource.getrlimit(kind) for kind in _LIMITS}
        self._settled: tuple[Ambient, Ambient] | None = None  # what was carried last, and what then stood
        self.known = False

    def look(self) -> None:
        """See whether all is as `put_back` and `settle` left it; if so, neither has anything to do until items run."""
        self.known = self._settled is not None and self._is_as_it_was() and snapshot() == self._settled[1]

    def _is_as_it_was(self) -> bool:
        return (
            _folder() == self._folder
            and raw_environ() == self._environ
            and sys.path == self._path
            and sys.stdout is self._streams[0]
            and sys.stderr is self._streams[1]
            and _umask() == self._umask
            and [getsignal(number) for number in _SIGNALS] == self._handlers
            and not any(any(signal.getitimer(timer)) for timer in _TIMERS)
            and self._limits_are_as_they_were()
        )

    def _limits_are_as_they_were(self) -> bool:
        if sys.modules.keys().isdisjoint(_CHANGE_LIMITS):
            return True
        return all(resource.getrlimit(kind) == limits for kind, limits in self._limits.items())

    def put_back(self) -> bool:
        """Put back what items have changed of the process; say whether that could be done."""
        if self.known or self._is_as_it_was():
            return True
        try:
            self._put_back()
        except (OSError, ValueError) as error:  # a limit that cannot be raised again, a folder that is gone
            debug("a worker cannot be as it was: %r", error)
            return False
        return True

    def _put_back(self) -> None:
        if self._folder is not None and _folder() != self._folder:
            os.chdir(self._folder)
        zone = os.environ.get("TZ")
        if raw_environ() != self._environ:
            decode = getattr(os.environ, "decodekey", str), getattr(os.environ, "decodevalue", str)
            os.environ.clear()
            os.environ.update({decode[0](name): decode[1](value) for name, value in self._environ.items()})
        sys.path[:] = self._path
        sys.stdout, sys.stderr = self._streams
        os.umask(self._umask)
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            if handler is not None and getsignal(number) is not handler:
                signal.signal(number, handler)
        if sys.platform == "win32":
            return
        if zone != os.environ.get("TZ"):
            import time

            time.tzset()
        for timer in _TIMERS:
            signal.setitimer(timer, 0.0)
        if not self._limits_are_as_they_were():
            for kind, limits in self._limits.items():
                resource.setrlimit(kind, limits)

    def settle(self, carried: Ambient) -> bool:
        """Set what the caller has set, and elsewhere what was here first; say whether that could be done.

        Args:
            carried: the caller's snapshot.
        """
        if self.known and self._settled is not None and self._settled[0] is carried:
            return True
        try:
            self._settle(carried)
        except (OSError, ValueError) as error:  # a limit below where this stands, a locale that is not here
            debug("a worker cannot be as the caller is: %r", error)
            return False
        self._settled = carried, snapshot()
        return True

    def _settle(self, carried: Ambient) -> None:
        for field, chosen, now, here, there in zip(
            _FIELDS, self._chosen, snapshot(), self._ambient, carried, strict=True
        ):
            wanted = here if there is None or chosen else there
            if wanted is None and now is not None and field.default is not None:
                wanted = field.default()
            if wanted is not None and wanted != now:
                field.write(wanted)


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


# Python code changes limits through one of these.
_CHANGE_LIMITS = frozenset(("_cffi_backend", "ctypes", "psutil", "resource"))


def _resource() -> Any:
    """Return the standard library's `resource`, None on Windows, and leave no trace: that it is loaded tells of users.

    Once, before workers are forked: it takes 0.5 ms.
    """
    if sys.platform == "win32":
        return None
    loaded = "resource" in sys.modules
    import resource

    if not loaded:
        sys.modules.pop("resource", None)
    return resource


resource: Any = _resource()
_LIMITS = tuple({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}) if resource else ()


# Older releases of CPython 3.10 have no such limit.
_read_digits: Callable[[], int | None] = getattr(sys, "get_int_max_str_digits", lambda: None)


def _read_decimal() -> Any:
    decimal = sys.modules.get("decimal")
    getcontext = getattr(decimal, "getcontext", None)  # not there while another thread imports it
    return None if getcontext is None else _decimal_settings(getcontext())


def _decimal_settings(context: Any) -> tuple[Any, ...]:
    # What pickling a context takes: its arguments in the order of `_DECIMAL`, then its flags and traps as lists. Six
    # times as fast as reading them one by one.
    *settings, _, traps = context.__reduce__()[1]
    return (*settings, tuple(sorted([trap.__name__ for trap in traps])))


def _write_decimal(settings: tuple[Any, ...]) -> None:
    if "decimal" not in sys.modules and settings == _STOCK_DECIMAL:
        return  # importing it would only take time
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
    _Field(sys.setrecursionlimit),
    _Field(getattr(sys, "set_int_max_str_digits", lambda _: None)),
    _Field(_write_filters),
    _Field(_write_decimal, _default_decimal),
    _Field(_write_errors, lambda: _NUMPY_ERRORS),
    _Field(_write_printing, lambda: ()),
    _Field(_write_locale),
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

"""Which options does a call have? Options are checked once, and kept in one frozen class.

An option can be given in four places: the call, the decorator, a `with amorsize.config(...)` block, or the environment.
An earlier place in this list wins over a later one. Each place is a plain mapping of what was *given* there; `check`
refuses bad names and values where they are written, and `resolve` folds the mappings into one `Options`.
"""

from __future__ import annotations

import os
from _contextvars import ContextVar

from .backends.rows import names
from .lean import MappingProxyType, NamedTuple, map, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Literal, Protocol, TypedDict

    from typing_extensions import Unpack

    from .journal import Journal

    class _Submits(Protocol):
        """An executor or a client."""

        @property
        def submit(self) -> Callable[..., Any]: ...

    class _Applies(Protocol):
        """A `multiprocessing.pool.Pool`."""

        @property
        def apply_async(self) -> Callable[..., Any]: ...

    class GivenOptions(TypedDict, total=False):
        """The fields of `Options`, each of which may be given or not, for type checkers and completion."""

        n_jobs: int | None
        chunksize: int | None
        backend: Literal["auto", "serial", "threads", "processes", "pool", "dask", "ray"] | _Submits | _Applies
        start_method: Literal["fork", "spawn", "forkserver"] | None
        ordered: bool
        on_error: Literal["raise", "return"]
        retries: int
        timeout: float | None
        seed: int | None
        initializer: Callable[..., object] | None
        initargs: tuple[Any, ...]
        progress: bool | Callable[..., object]
        use_cache: bool
        thread_safe: bool
        journal: str | os.PathLike[str] | Journal | None
        record: bool
        relay: bool
        audit: float


__all__ = ["DEFAULTS", "Options", "check", "config", "resolve"]

START_METHODS = ("fork", "spawn", "forkserver")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Options(NamedTuple):
    """Every option of a call, with its default. `resolve` makes it; `amorsize.map` tells what each option does."""

    n_jobs: int | None = None
    chunksize: int | None = None
    backend: Any = "auto"
    start_method: str | None = None
    ordered: bool = True
    on_error: str = "raise"
    retries: int = 0
    timeout: float | None = None
    seed: int | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    progress: Any = False
    use_cache: bool = True
    thread_safe: bool = True
    journal: Any = None
    record: bool = False
    relay: bool = True
    audit: float = 0.0


def check(given: Mapping[str, Any], caller: str = "amorsize") -> Mapping[str, Any]:
    """Return `given` unchanged if every name is an option and every value is fit for it.

    Args:
        given: options by name, as the user wrote them.
        caller: name of the function that was given them, for the text of an error.

    Raises:
        TypeError: a name is not an option, or a value has the wrong type.
        ValueError: a value has the right type and is out of range.
    """
    for name, value in given.items():
        checker = _CHECKERS.get(name)
        if checker is None:
            raise TypeError(f"{caller}() got an unexpected option {name!r}; options are {', '.join(Options._fields)}")
        checker(name, value)
    if given.get("initargs") and "initializer" in given and given["initializer"] is None:
        raise ValueError("initargs were given without an initializer to take them")
    return given


def resolve(given: Mapping[str, Any] = _EMPTY, decorated: Mapping[str, Any] = _EMPTY) -> Options:
    """Fold the options of call, decorator, `config` and environment into one `Options`; the earlier place wins.

    Args:
        given: the call's options, which `check` has passed.
        decorated: the decorator's options, which `check` has passed.
    """
    if not (given or decorated or any_given()):
        return DEFAULTS
    merged = {**_environment(), **_configured.get()[-1], **decorated, **given}
    if not merged:
        return DEFAULTS
    options = Options(**merged)
    if options.initargs and options.initializer is None:
        raise ValueError("initargs were given without an initializer to take them")
    return options


def any_given() -> bool:
    """Say whether a `config` block or the environment gives any option."""
    # Asking `os.environ` for a variable that is not set costs 0.8 us, and each call needs four, so this asks below it.
    raw: Any = getattr(os.environ, "_data", None)
    if raw is None or _BACKEND in raw or _N_JOBS in raw or _START_METHOD in raw or _THREAD_SAFE in raw:
        return True
    return len(_configured.get()) > 1


def undecorated(function: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the function that workers run, and the options it was decorated with."""
    # The type is asked because a mock has every attribute.
    ask = getattr(type(function), "_amorsize_undecorated", None)
    return (function, _EMPTY) if ask is None else ask(function)


@public
class config:  # noqa: N801 - used as a verb: `with amorsize.config(n_jobs=2):`
    """Defaults for every call inside a `with` block; options of a call or a decorator still win.

    Args:
        **options: any option of `amorsize.map`.

    Raises:
        TypeError, ValueError: as `amorsize.map` raises them.

    >>> import amorsize
    >>> with amorsize.config(backend="serial"):
    ...     list(amorsize.map(abs, [-1, 2]))
    [1, 2]
    """

    def __init__(self, **options: Unpack[GivenOptions]) -> None:
        self._options = check(options, "config")

    def __enter__(self) -> None:
        outer = _configured.get()
        _configured.set((*outer, {**outer[-1], **self._options}))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # No token is kept, because one object may be entered again, inside itself and in several threads at once.
        _configured.set(_configured.get()[:-1])


def _environment() -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    get = os.environ.get
    for name, variable in _VARIABLES:
        text = get(variable)
        if not text:
            continue
        value: Any = text
        if name == "n_jobs":
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"{variable} must be a whole number, not {text!r}") from None
        elif name == "thread_safe":
            value = _TRUTHS.get(text.lower())
            if value is None:
                raise ValueError(f"{variable} must be one of {', '.join(_TRUTHS)}, not {text!r}")
        try:
            _CHECKERS[name](name, value)
        except ValueError as error:
            raise ValueError(f"{variable}: {error}") from None
        found[name] = value
    return found


def _number_of_workers(name: str, value: Any) -> None:
    if value is None:
        return
    _whole(name, value)
    if value == 0:
        raise ValueError("n_jobs must not be 0: None is automatic, 1 is one worker, -1 is all cores")


def _positive_count(name: str, value: Any) -> None:
    if value is None:
        return
    _whole(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, or None for automatic, not {value!r}")


def _count(name: str, value: Any) -> None:
    _whole(name, value)
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}")


def _optional_whole(name: str, value: Any) -> None:
    if value is not None:
        _count(name, value)


def _whole(name: str, value: Any) -> None:
    # To Python a bool is an int, but n_jobs=True is a slip.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__} {value!r}")


def _seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__} {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive, finite number of seconds, not {value!r}")


def _share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a share of the items, such as 0.01, not {type(value).__name__} {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a share of the items from 0 to 1, not {value!r}")


def _truth(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__} {value!r}")


def _one_of(*allowed: str | None) -> Callable[[str, Any], None]:
    def checker(name: str, value: Any) -> None:
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be text, not {type(value).__name__} {value!r}")
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")

    return checker


def _backend(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value not in names():
            raise ValueError(f"backend must be one of {', '.join(map(repr, names()))}, or an object, not {value!r}")
    elif value is None or isinstance(value, (bool, int, float, type)):
        raise TypeError(f"backend must be text, an executor, a Pool or a client, not {type(value).__name__} {value!r}")


def _optional_callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__} {value!r}")


def _arguments(name: str, value: Any) -> None:
    if not isinstance(value, tuple):
        raise TypeError(f"{name} must be a tuple, not {type(value).__name__} {value!r}")


def _journal(name: str, value: Any) -> None:
    if not (value is None or isinstance(value, str) or hasattr(value, "__fspath__") or hasattr(value, "any_function")):
        raise TypeError(f"{name} must be a path or a Journal, not {type(value).__name__} {value!r}")


def _progress(name: str, value: Any) -> None:
    if not isinstance(value, bool) and not callable(value):
        raise TypeError(f"{name} must be True, False or a callable, not {type(value).__name__} {value!r}")


_CHECKERS: dict[str, Callable[[str, Any], None]] = {
    "n_jobs": _number_of_workers,
    "chunksize": _positive_count,
    "backend": _backend,
    "start_method": _one_of(None, *START_METHODS),
    "ordered": _truth,
    "on_error": _one_of("raise", "return"),
    "retries": _count,
    "timeout": _seconds,
    "seed": _optional_whole,
    "initializer": _optional_callable,
    "initargs": _arguments,
    "progress": _progress,
    "use_cache": _truth,
    "thread_safe": _truth,
    "journal": _journal,
    "record": _truth,
    "relay": _truth,
    "audit": _share,
}
_VARIABLES = (
    ("backend", "AMORSIZE_BACKEND"),
    ("n_jobs", "AMORSIZE_N_JOBS"),
    ("start_method", "AMORSIZE_START_METHOD"),
    ("thread_safe", "AMORSIZE_THREAD_SAFE"),
)
_BACKEND, _N_JOBS, _START_METHOD, _THREAD_SAFE = [os.environ.encodekey(variable) for _, variable in _VARIABLES]
_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
DEFAULTS = Options()
# The options of the blocks that are open in this context, outermost first; each includes those of the blocks around it.
_configured: ContextVar[tuple[Mapping[str, Any], ...]] = ContextVar("amorsize_config", default=(_EMPTY,))

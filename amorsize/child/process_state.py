"""The state of a worker's process that items may change, and that the worker restores before the next call."""

from __future__ import annotations

import os
import signal
import sys
from _signal import getsignal  # `signal.getsignal` makes enumeration members, which takes 1 us each

from ..log import debug
from ..transport.ambient import FIELDS, raw_environ, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..transport.ambient import Ambient

__all__ = ["ProcessState"]

# These are the signals that Python code sets. The two that cannot be set are left out, and so are real-time signals. In
# CPython 3.10 one of these numbers has no name.
_SIGNALS = tuple(
    number
    for number in sorted(signal.valid_signals())
    if number < 32 and getattr(number, "name", "") not in {"SIGKILL", "SIGSTOP"}
)
_TIMERS: tuple[Any, ...] = ()
if sys.platform != "win32":
    _TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class ProcessState:
    """The state of a worker before its first item, which is restored before each call.

    While a worker has nothing to do and nobody waits for it, it looks whether anything has changed (`look`), so that
    its next call begins at once. A warm call takes 30 us less than if each call began with that look
    (benchmarks/against.py).

    Args:
        before: the snapshot that was taken before the initializer ran, so that what the initializer has set stays set.
            None if there was no initializer.
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
        self._settled: tuple[Ambient, Ambient] | None = None  # what was carried last, and the snapshot after it was set
        self.known = False

    def look(self) -> None:
        """Note whether all is as `put_back` and `settle` left it; if so, both have nothing to do until items run."""
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
            and not _timers_run()
            and self._limits_are_as_they_were()
        )

    def _limits_are_as_they_were(self) -> bool:
        if sys.modules.keys().isdisjoint(_CHANGE_LIMITS):
            return True
        return all(resource.getrlimit(kind) == limits for kind, limits in self._limits.items())

    def replace_streams(self, old: Sequence[Any], new: Sequence[Any]) -> None:
        """Restore other standard streams from now on, in the place of the old ones; what else stands there stays."""
        out, err = self._streams
        self._streams = new[0] if out is old[0] else out, new[1] if err is old[1] else err

    def take_environment(self) -> None:
        """Take the present environment for the one that is restored from now on."""
        self._environ = dict(raw_environ())

    def put_back(self) -> bool:
        """Restore what items have changed in the process, and say whether that could be done."""
        if self.known or self._is_as_it_was():
            return True
        try:
            self._put_back()
        except (OSError, ValueError) as error:  # for example, a limit cannot be raised again or a folder is gone
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
        """Set what the caller has set, and restore every other field; say whether that could be done.

        Args:
            carried: the caller's snapshot.
        """
        if self.known and self._settled is not None and self._settled[0] is carried:
            return True
        try:
            self._settle(carried)
        except (OSError, ValueError) as error:  # for example, the stack is too deep for a limit, or a locale is missing
            debug("a worker cannot be as the caller is: %r", error)
            return False
        self._settled = carried, snapshot()
        return True

    def _settle(self, carried: Ambient) -> None:
        for field, chosen, now, here, there in zip(
            FIELDS, self._chosen, snapshot(), self._ambient, carried, strict=True
        ):
            wanted = here if there is None or chosen else there
            if wanted is None and now is not None and field.default is not None:
                wanted = field.default()
            if wanted is not None and wanted != now:
                field.write(wanted)


def _timers_run() -> bool:
    if sys.platform == "win32":
        return False
    return any(any(signal.getitimer(timer)) for timer in _TIMERS)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # the folder is gone
        return None


def _umask() -> int:
    # The umask can only be read by setting it, which disturbs no other thread of a worker.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


# Python code changes resource limits through one of these modules.
_CHANGE_LIMITS = frozenset(("_cffi_backend", "ctypes", "psutil", "resource"))


def _resource() -> Any:
    """Return the standard library's `resource`; None on Windows.

    If the module was not loaded before, it is removed from `sys.modules` again, so that finding it there means that
    other code uses it. This is done once, before workers are forked, because it takes 0.5 ms.
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

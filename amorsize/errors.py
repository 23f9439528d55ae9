"""What can go wrong that is ours to name: one class per cause, each under the nearest builtin."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AmorsizeError",
    "InitializerError",
    "ItemTimeoutError",
    "SerializationError",
    "UnseededError",
    "UnsupportedError",
    "WorkerCrashError",
    "add_index",
]


class AmorsizeError(Exception):
    """Base of every error that amorsize itself raises; errors of the user's function are never wrapped in it."""


class UnsupportedError(AmorsizeError, NotImplementedError):
    """An option or backend is known, but cannot do what was asked here. Nothing ran."""


class SerializationError(AmorsizeError, TypeError):
    """A function, an item or a result could not cross to or from a worker. The text names the part at fault."""


class InitializerError(AmorsizeError, RuntimeError):
    """The `initializer` failed in a worker, so no item was run there. The cause is the initializer's own error."""


class UnseededError(AmorsizeError, RuntimeError):
    """`item_rng` was called where no item of a call with `seed=` is running."""


class WorkerCrashError(AmorsizeError, RuntimeError):
    """A worker process died while it held items.

    Args:
        index: position in the input of the item that was running, or of the first lost item if none was.
        exitcode: the process's exit code; negative for a signal, None when it could not be learnt.
        lost: number of finished items whose results had not left the worker.
        tries: how often the item was started in all.
        free_memory: bytes of memory that were free when the death was noticed; None if unknown.
    """

    def __init__(
        self,
        index: int,
        exitcode: int | None,
        *,
        lost: int = 0,
        tries: int = 1,
        free_memory: int | None = None,
    ) -> None:
        super().__init__(index, exitcode)
        self.index = index
        self.exitcode = exitcode
        self.lost = lost
        self.tries = tries
        self.free_memory = free_memory

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__

    def __str__(self) -> str:
        text = f"the worker running item {self.index} died ({_how(self.exitcode)})"
        if self.exitcode == -9:
            text += "; the system kills so when memory runs out"
            if self.free_memory is not None:
                text += f" ({self.free_memory / 1e6:,.0f} MB were free)"
        if self.tries > 1:
            text += f"; it was tried {self.tries} times"
        if self.lost:
            text += f"; {self.lost} finished result{'s' if self.lost > 1 else ''} of the same worker went with it"
        return text


class ItemTimeoutError(AmorsizeError, TimeoutError):
    """An item ran longer than `timeout` seconds; its worker was stopped.

    Args:
        index: position of the item in the input.
        seconds: the limit that it exceeded.
        tries: how often the item was started in all.
    """

    def __init__(self, index: int, seconds: float, *, tries: int = 1) -> None:
        super().__init__(index, seconds)
        self.index = index
        self.seconds = seconds
        self.tries = tries

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__

    def __str__(self) -> str:
        text = f"item {self.index} ran longer than timeout={self.seconds:g} seconds"
        return text + (f"; it was tried {self.tries} times" if self.tries > 1 else "")


def add_index(error: BaseException, index: int) -> BaseException:
    """Write on an item's error which item it is: the attribute `amorsize_index` and, on those not ours, a note."""
    try:
        if not isinstance(error, AmorsizeError) and getattr(error, "amorsize_index", None) != index:
            note = f"amorsize: raised by item {index}"
            if hasattr(error, "add_note"):
                error.add_note(note)
            else:  # CPython 3.10
                error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
        error.amorsize_index = index  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - a class may forbid attributes; the index is a courtesy
        return error
    return error


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return "exit code unknown"
    if exitcode >= 0:
        return f"exit code {exitcode}"
    from signal import Signals

    try:
        return f"signal {Signals(-exitcode).name}"
    except ValueError:
        return f"signal {-exitcode}"

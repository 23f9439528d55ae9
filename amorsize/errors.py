"""What can go wrong that amorsize has to name? There is one class per cause, derived from the nearest builtin."""

from __future__ import annotations

from itertools import pairwise

from . import context
from .lean import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, map, partial, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
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
    "from_signal_handler",
    "items_in_words",
    "let_signals_through",
    "raised_by",
    "signal_handlers",
]


# A text names at most so many items.
_NAMED = 5


@public
class AmorsizeError(Exception):
    """Base of every error that amorsize itself raises; errors of the user's function are never wrapped in it."""


@public
class UnsupportedError(AmorsizeError, NotImplementedError):
    """An option or backend is known, but cannot do what was asked here. Nothing has run."""


@public
class SerializationError(AmorsizeError, TypeError):
    """A function, an item or a result could not cross to or from a worker. The text names the part at fault."""


@public
class InitializerError(AmorsizeError, RuntimeError):
    """The `initializer` failed in a worker, so no item was run there. The cause is the initializer's own error."""


@public
class UnseededError(AmorsizeError, RuntimeError):
    """`item_rng` was called where no item of a call with `seed=` is running."""


@public
class WorkerCrashError(AmorsizeError, RuntimeError):
    """A worker process died while it held items.

    Args:
        index: position in the input of the item that was running, or of the first lost item if none was running.
        exitcode: the process's exit code; negative for a signal, None if it could not be learnt.
        lost: number of finished items whose results had not left the worker.
        among: number of items from `index` on of which one was running, where it is not known which.
        tries: how often the item was started in all.
        free_memory: bytes of memory that were free when the death was noticed; None if unknown.
    """

    def __init__(
        self,
        index: int,
        exitcode: int | None,
        *,
        lost: int = 0,
        among: int = 1,
        tries: int = 1,
        free_memory: int | None = None,
    ) -> None:
        super().__init__(index, exitcode)
        self.index = index
        self.exitcode = exitcode
        self.lost = lost
        self.among = among
        self.tries = tries
        self.free_memory = free_memory

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__

    def __str__(self) -> str:
        item = f"item {self.index}"
        if self.among > 1:
            item = f"one of the items {self.index} to {self.index + self.among - 1}"
        text = f"the worker running {item} died ({_how(self.exitcode)})"
        if self.exitcode == -9:
            text += "; the system kills so when memory runs out"
            if self.free_memory is not None:
                text += f" ({self.free_memory / 1e6:,.0f} MB were free)"
        if self.tries > 1:
            text += f"; it was tried {self.tries} times"
        if self.lost:
            text += f"; {self.lost} finished result{'s' if self.lost > 1 else ''} of the same worker went with it"
        return text


@public
class ItemTimeoutError(AmorsizeError, TimeoutError):
    """An item ran longer than `timeout` seconds, and its worker was stopped.

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
    """Give an item's error the attribute `amorsize_index` and, if it is not an `AmorsizeError`, a note of the index."""
    try:
        if not isinstance(error, AmorsizeError) and getattr(error, "amorsize_index", None) != index:
            note = f"amorsize: raised by item {index}"
            if hasattr(error, "add_note"):
                error.add_note(note)
            else:  # CPython 3.10
                error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
        error.amorsize_index = index  # type: ignore[attr-defined]
    except Exception as refusal:  # noqa: BLE001 - a class may forbid attributes; the index is a courtesy
        let_signals_through(refusal)
    return error


def items_in_words(indexes: Sequence[int]) -> str:
    """Return how a text names a few items.

    >>> items_in_words([3]), items_in_words([1, 2])
    ('item 3', 'items 1, 2')
    """
    named = ", ".join(map(str, indexes[:_NAMED])) + (", ..." if len(indexes) > _NAMED else "")
    return f"item {named}" if len(indexes) == 1 else f"items {named}"


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


# An exception that a signal handler raises, such as an alarm's, appears at whatever line the main thread has reached,
# and that may be a line of amorsize. The exception is the user's. Code here that catches more than the called code
# itself is known to raise therefore asks first whether a signal handler raised it.


def let_signals_through(error: BaseException) -> None:
    """Raise `error` again if a signal handler raised it. Code that is to swallow or translate an error calls this."""
    interrupts = isinstance(error, (KeyboardInterrupt, GeneratorExit)) and not context.worker_process
    if interrupts or from_signal_handler(error):
        raise error


def from_signal_handler(error: BaseException) -> bool:
    """Say whether a signal handler raised `error`, which the traceback shows by a frame of a handler's call.

    Such a frame runs the code of a handler that is installed now, or was given a signal's number and a frame, as
    handlers are. The latter also tells a handler that was replaced since, or whose code cannot be seen.
    """
    if context.worker_process:
        return False  # an alarm that an item left behind is the item's affair, and the worker must survive it
    frames = _frames(error)
    return any(map(_called_by_signal, frames)) or (bool(frames) and raised_by(signal_handlers(), error))


def raised_by(handlers: Collection[CodeType], error: BaseException) -> bool:
    """Say whether `error` was raised while the code of one of these handlers ran."""
    return bool(handlers) and any(frame.f_code in handlers for frame in _frames(error))


def signal_handlers() -> frozenset[CodeType]:
    """Return the code of the signal handlers that are installed now and written in Python, which takes 10 us."""
    # The function of `signal` itself would turn numbers into names, take five times as long, and swallow a ValueError
    # that a handler raises.
    from _signal import NSIG, getsignal

    found = set()
    for number in range(1, NSIG):
        try:
            code = _code_called(getsignal(number))
        except ValueError as error:  # this system has no such signal
            if any(map(_called_by_signal, _frames(error))):
                raise
            continue
        if code is not None:
            found.add(code)
    return frozenset(found)


def _code_called(function: Any) -> CodeType | None:
    """Return the code that runs first when a callable is called; None if that is not Python code."""
    if function is None or type(function) is int or type(function) is BuiltinFunctionType:
        return None
    for _ in range(10):  # without a limit, a callable that leads to itself would never end
        kind = type(function)
        if kind is FunctionType:
            code: CodeType = function.__code__
            return code
        if kind is MethodType:
            function = function.__func__
        elif issubclass(kind, partial):
            function = function.func
        else:
            function = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
    return None


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an error came through, without amorsize's own, beside which most errors have none."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
            frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _called_by_signal(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_argcount < 2 and not code.co_flags & _TAKES_MORE:
        return False
    values = [frame.f_locals.get(name) for name in code.co_varnames[: min(3, code.co_argcount)]]
    if code.co_flags & _TAKES_MORE:
        values.extend(frame.f_locals.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ()))
    # `self` may stand before the two arguments of a handler.
    return any(issubclass(type(number), int) and type(given) is FrameType for number, given in pairwise(values[:3]))


_TAKES_MORE = 0x04  # inspect.CO_VARARGS: the function has a parameter such as `*args`
_OURS = __name__.partition(".")[0] + "."

"""A signal that has this process print where the items of its running calls are, for a program that seems to hang.

Nothing is kept of a call for that: when the signal comes, the streams are looked for among all objects.
"""

from __future__ import annotations

import os

from ..errors import let_signals_through
from ..lean import public
from .stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ..backends.where import Where

__all__ = ["where_on_signal"]

_STDERR = 2  # not `sys.stderr`, which the signal may have interrupted in the middle of a line


@public
def where_on_signal(signum: int | None = None) -> Callable[[], None]:
    """Print to standard error where the items of all running calls are, whenever a signal comes.

    It prints what `Stream.where` tells of each call, and then calls the handler that was there before, if there was
    one. In processes that this one forks, only the latter happens.

    Args:
        signum: the number of the signal; None for SIGUSR1.

    Returns:
        A function that puts the handler back that was there before.

    Raises:
        ValueError: the system has no such signal, or this is not the main thread, in which alone a handler can be set.

    Not for programs whose main thread does not return from C code, because there handlers do not run.

    >>> import amorsize, signal
    >>> undo = amorsize.where_on_signal(signal.SIGINT)
    >>> undo()
    """
    import signal

    from .astream import AsyncStream  # loaded here, and not while the handler runs
    from .coroutines import Coroutines

    number = getattr(signal, "SIGUSR1", None) if signum is None else signum
    if number is None:
        raise ValueError("this system has no SIGUSR1: give the number of another signal")
    pid = os.getpid()

    def handler(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == pid:
            _print(_text(AsyncStream, Coroutines))
        if callable(before):
            before(signum, frame)

    before = signal.signal(number, handler)

    def undo() -> None:
        if signal.getsignal(number) is handler:  # otherwise somebody else has set one since
            signal.signal(number, signal.SIG_DFL if before is None else before)

    return undo


def _text(*asynchronous: type) -> str:
    calls = [places for places in _running(*asynchronous) if places]
    parts = [f"amorsize: {len(calls)} running call{'' if len(calls) == 1 else 's'}"]
    for number, places in enumerate(calls, 1):
        parts += [f"call {number} of {len(calls)}:", *(str(place) for place in places)]
    return "\n".join(parts) + "\n"


def _running(asynchronous: type, of_coroutines: type) -> Iterator[list[Where]]:
    """Yield what each call tells, among them those whose stream is asynchronous and whose work is of coroutines."""
    import gc

    for found in gc.get_objects():
        kind = type(found)
        if kind is Stream:
            begun = hasattr(found, "_call")  # the signal may have come while it was made
        else:
            # Where the function is plain, there is a `Stream` behind it, which is found as well.
            begun = kind is asynchronous and type(getattr(found, "_work", None)) is of_coroutines
        if begun:
            yield found.where()


def _print(text: str) -> None:
    left = text.encode("utf-8", "backslashreplace")
    try:
        while left:
            left = left[os.write(_STDERR, left) :]
    except OSError as error:  # there is no such output
        let_signals_through(error)

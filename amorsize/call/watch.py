"""The thread that ends stretches of short items, so that the clock is looked at now and then during serial work."""

from __future__ import annotations

from _thread import allocate_lock, get_ident

from ..context import others_import
from ..errors import let_signals_through
from ..log import debug
from ..measure.machine import OwnThread
from .preload import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

__all__ = ["STRETCH_SECONDS", "Watch"]

# How long a stretch of short items lasts. A smaller value means more switches to the watching thread, which cost 20 us
# each; a larger one means that a slow item is noticed later.
STRETCH_SECONDS = 0.005
# How long the caller is busy with something else before what workers need is imported.
_BUSY_SECONDS = 0.050


class Watch:
    """Raises a flag every `STRETCH_SECONDS`, in a thread, until the caller no longer lowers it.

    Attributes:
        preloads: whether the thread may import what workers need, once it has nothing else to do.
    """

    def __init__(self) -> None:
        self.preloads = True
        self.flag: list[bool] = []
        self._over = allocate_lock()
        self._turn = allocate_lock()  # held to change `flag` and `_watched`
        self._watched = False
        self._interrupt: Callable[[], object] | None = None
        self._thread: Thread | None = None

    def __enter__(self) -> Watch:  # noqa: PYI034 - typing.Self is newer than CPython 3.10
        self._over.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.release()
        # The thread is not joined if it is this one, as when it collects the call as garbage. One whose start was
        # interrupted before it ran is not joined either; it ends by itself.
        if self._thread is not None and self._thread.ident not in {None, get_ident()}:
            self._thread.join()

    def begin(self, interrupt: Callable[[], object] | None = None) -> None:
        """Lower the flag, and make sure that a thread will raise it again and then call `interrupt`."""
        with self._turn:
            self.flag.clear()
            self._interrupt = interrupt
            if self._watched:
                return
            self._watched = True
        try:
            import threading

            self._thread = threading.Thread(target=self._raise_flags, name="amorsize-watch", daemon=True)
            self._thread.start()
        except Exception as error:  # no thread or file can be had; the stretch then runs to the end of the input
            let_signals_through(error)
            debug("serial work goes unwatched: %s", error)
            self._thread, self._watched = None, False

    def _raise_flags(self) -> None:
        while not self._over.acquire(timeout=STRETCH_SECONDS):
            with self._turn:
                if self.flag:
                    self._watched = False
                    break  # the flag was not lowered since last time, so the caller is busy with something else
                self.flag.append(True)
                if self._interrupt is not None:
                    self._interrupt()
        else:
            self._over.release()
            return
        # If the caller is busy for so long, workers may be needed next; imports beside shorter work would hold it up.
        if self._over.acquire(timeout=_BUSY_SECONDS):
            self._over.release()
        elif self.preloads and not others_import():
            with OwnThread():
                preload()

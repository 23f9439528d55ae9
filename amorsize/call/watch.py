"""The thread that ends stretches of short items, so that serial work is looked at now and then."""

from __future__ import annotations

from _thread import allocate_lock, get_ident

from ..context import others_import
from ..errors import let_signals_through
from ..log import debug
from .preload import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

__all__ = ["STRETCH_SECONDS", "Watch"]

# Shorter: more switches to the watching thread, 20 us each. Longer: a slow item is noticed later.
STRETCH_SECONDS = 0.005


class Watch:
    """Raises a flag every `STRETCH_SECONDS`, from a thread, until nobody lowers it any more.

    Attributes:
        preloads: whether the thread may import, when it has nothing else to do.
    """

    def __init__(self) -> None:
        self.preloads = True
        self.flag: list[bool] = []
        self._over = allocate_lock()
        self._turn = allocate_lock()  # held to lower the flag and see who watches, or to raise it or stop watching
        self._watched = False
        self._interrupt: Callable[[], object] | None = None
        self._thread: Thread | None = None

    def __enter__(self) -> Watch:  # noqa: PYI034 - typing.Self is newer than CPython 3.10
        self._over.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.release()
        # It may be collecting garbage, us; and one that was interrupted before it ran ends by itself when it does.
        if self._thread is not None and self._thread.ident not in {None, get_ident()}:
            self._thread.join()

    def begin(self, interrupt: Callable[[], object] | None = None) -> None:
        """Lower the flag, and see that somebody is there to raise it again, and to call `interrupt` then."""
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
        except Exception as error:  # no thread or no file to be had: the stretch then runs to its end
            let_signals_through(error)
            debug("serial work goes unwatched: %s", error)
            self._thread, self._watched = None, False

    def _raise_flags(self) -> None:
        while not self._over.acquire(timeout=STRETCH_SECONDS):
            with self._turn:
                if self.flag:
                    self._watched = False
                    break  # raised last time and not lowered: the caller is busy, here or elsewhere
                self.flag.append(True)
                if self._interrupt is not None:
                    self._interrupt()
        else:
            self._over.release()
            return
        if self.preloads and not others_import():
            preload()  # if with an item, that was a long one: workers may be next

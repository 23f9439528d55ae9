"""Workers that take over the items behind a first one that turns out long.

Nothing is known of the first item until it has run. So a second thread waits beside it: as long as starting workers
would cost the caller, and no longer. If the item still runs then, the thread starts workers and gives them the
following items; when the item is done, the caller takes the run over where the thread left it. By the ski-rental
argument, waiting for the price of a start before paying it costs at most twice what knowing would have.

An item of pure Python gives the interpreter up only when asked, 5 ms later, and every import and every start asks many
times. So the thread asks for quicker turns while it stands by.

The input must be exactly a list, tuple, range, string or bytes, and only its scalars, and tuples of them, are read
ahead of an item that has not returned: anything else would run code of the user's in this thread.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, start_new_thread
from contextvars import copy_context
from time import perf_counter

from ..context import others_import
from ..errors import from_signal_handler
from ..log import debug
from ..state import register
from .preload import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from types import TracebackType

    from ..feed.pump import Pump

__all__ = ["Headstart"]

# An item that is shorter is not worth anything of this.
_SHORT_SECONDS = 0.010
# Longer: the caller, done with its item, waits up to this long for the thread. Shorter: more wake-ups for nothing.
_STEP_SECONDS = 0.01
# What the thread waits for its turn beside an item of pure Python. Longer: workers start later, by hundreds of turns.
_TURN_SECONDS = 0.0002


class _QuickTurns:
    """While any thread is in a `with` block of it, threads of this process take turns more often."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._users = 0
        self._usual = 0.0

    def forget(self) -> None:
        """In a forked child, where the users of it are the parent's threads."""
        self._lock = allocate_lock()
        if self._users:
            self._users = 0
            sys.setswitchinterval(self._usual)

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual, _TURN_SECONDS))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                sys.setswitchinterval(self._usual)


_quick_turns = _QuickTurns()
register(after_fork=_quick_turns.forget)


class Headstart:
    """Use in a `with` block around the first item; afterwards `pump` is what was begun, or None.

    Most first items are short, so a bare thread waits for the first moments: one of `threading` costs twice as much.

    Args:
        delay_seconds: tells how long the first item may take. Called in the thread, when the item is not short.
        begin: starts workers on the following items and returns the pump. Called in the thread, at most once.
    """

    def __init__(self, delay_seconds: Callable[[], float], begin: Callable[[], Pump]) -> None:
        self.pump: Pump | None = None
        self._begin = begin
        self._delay_seconds = delay_seconds
        self._over = allocate_lock()  # held while the item runs
        self._glances = allocate_lock()  # held while the bare thread lives
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread: Thread | None = None
        self._context = copy_context()
        self._pid = os.getpid()

    def __enter__(self) -> Headstart:  # noqa: PYI034 - typing.Self is newer than CPython 3.10
        self._over.acquire()
        self._glances.acquire()
        try:
            # Before CPython 3.13 the thread that first imports it is taken for the main one.
            import threading  # noqa: F401

            start_new_thread(self._glance, ())
        except Exception as error:
            if from_signal_handler(error):
                self._over.release()  # there may be a thread by now, and nobody else who will end it
                raise
            debug("nothing stands beside the first item: %s", error)
            self._glances.release()
        except BaseException:
            self._over.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self._pid:
            return  # the item forked, and this is the child: the threads are the parent's
        self._over.release()
        try:
            with self._glances:
                thread = self._thread
            if thread is not None:
                thread.join()
        except BaseException:  # a signal handler's: who is still starting workers ends them
            self._abandoned = True
            if self.pump is not None and (self._thread is None or not self._thread.is_alive()):
                self.pump.close()
            raise
        if error is not None and self.pump is not None:
            self.pump.close()
        elif error is None and self._error is not None:
            raise self._error

    def _glance(self) -> None:
        """Wait until the item is over, or not short."""
        began = perf_counter()
        try:
            if self._over.acquire(timeout=_SHORT_SECONDS):
                return
            import threading

            thread = threading.Thread(target=self._stand_by, args=(began,), name="amorsize-headstart", daemon=True)
            thread.start()
            self._thread = thread
        except Exception as error:  # as above
            debug("nothing stands beside the first item: %s", error)
        finally:
            self._glances.release()

    def _stand_by(self, began: float) -> None:
        with _quick_turns:
            # In the caller's context: workers are to have its decimal precision, and NumPy's error state.
            self._context.run(self._begin_when_due, began)

    def _is_over_while_others_import(self) -> bool:
        """Wait while other threads import, and say whether the item ended meanwhile: they may wait for its call."""
        while others_import():
            if self._over.acquire(timeout=_STEP_SECONDS):
                return True
        return False

    def _begin_when_due(self, began: float) -> None:
        if self._is_over_while_others_import():
            return
        # What workers need is imported while waiting: later it would hold them up.
        preload()
        try:
            if self._over.acquire(timeout=max(0.0, self._delay_seconds() - (perf_counter() - began))):
                return
            if self._is_over_while_others_import():
                return
            begun = self._begin()
        except Exception as error:  # only an attempt: the caller goes on and meets the cause itself
            debug("no workers beside the first item: %r", error)
            return
        self.pump = begun
        try:
            while not self._over.acquire(blocking=False):
                begun.step(_STEP_SECONDS)
            if self._abandoned:
                begun.close()
        except (MemoryError, OSError) as error:  # none of the user's: what it was to do comes back to the caller
            debug("no more workers beside the first item: %r", error)
            begun.withdraw(f"standing beside the first item failed: {error!r}")
        except BaseException as error:  # handed to the caller's thread
            begun.close()
            self._error = error

"""The headstart: workers take over the items after the first one while that one still runs, if it turns out long.

Nothing is known of the first item until it has run. So a second thread waits beside it for as long as starting workers
would cost the caller. If the item still runs then, the thread starts workers and gives them the following items; when
the item is done, the caller takes the run over where the thread left it. By the ski-rental argument, waiting for as
long as a start costs before paying for it costs at most twice what it would cost to know the item's time beforehand.

A thread that runs an item of pure Python gives up the interpreter only 5 ms after another thread has asked for it, and
every import and every start of a worker asks many times. So the thread sets a shorter switch interval while it waits.

The input must be exactly a list, tuple, range, string or bytes. Of its items, only scalars and tuples of them are read
ahead of an item that has not returned, because any other item would run code of the user's in this thread.
"""

from __future__ import annotations

import os
import sys
from _contextvars import copy_context
from _thread import allocate_lock, start_new_thread
from time import perf_counter

from ..context import others_import
from ..errors import from_signal_handler
from ..log import debug
from ..measure.machine import OwnThread
from ..state import register
from .preload import glancing, preload, preload_what_decides

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from types import TracebackType

    from ..feed.pump import Pump

__all__ = ["Headstart"]

# A first item that is shorter than this is not worth a headstart.
_SHORT_SECONDS = 0.010
# The bare thread is not waited for beside an item that is shorter than this, with a margin for clocks. With a smaller
# value, more first items wait for it; it must stay below `_SHORT_SECONDS` (400 files in benchmarks/waiting.py).
_SURE_SECONDS = 0.005
# How often the thread looks whether the item is done. A larger value means that the caller, done with its item, waits
# longer for the thread; a smaller one means more wake-ups for nothing.
_STEP_SECONDS = 0.01
# How long the thread waits for its turn beside an item of pure Python. A larger value means that workers start later,
# because a start takes hundreds of turns.
_TURN_SECONDS = 0.0002


class _QuickTurns:
    """Makes threads of this process take turns more often while any thread is in its `with` block."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._users = 0
        self._usual = 0.0

    def forget(self) -> None:
        """Restore the usual interval in a forked child, because the threads that shortened it are the parent's."""
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
    """A `with` block of this is put around the first item; afterwards `pump` is the pump that was begun, or None.

    Most first items are short, so a bare thread waits for the first moments; a `threading.Thread` costs twice as much.

    Args:
        delay_seconds: returns how long the first item may take. It is called in the thread, if the item is not short.
        begin: starts workers on the following items and returns the pump. It is called in the thread, at most once.
    """

    def __init__(self, delay_seconds: Callable[[], float], begin: Callable[[], Pump]) -> None:
        self.pump: Pump | None = None
        self._begin = begin
        self._delay_seconds = delay_seconds
        self._over = allocate_lock()  # held while the item runs
        self._deciding = allocate_lock()  # held by the thread while it decides or begins something
        self._ended = False  # whether the item is over, so that nothing is to be decided or begun any more
        self._glances = allocate_lock()  # held while the bare thread lives
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread: Thread | None = None
        self._context = copy_context()
        self._pid = os.getpid()
        self._began_at = 0.0

    def __enter__(self) -> Headstart:  # noqa: PYI034 - typing.Self is newer than CPython 3.10
        self._over.acquire()
        self._glances.acquire()
        self._began_at = perf_counter()
        try:
            # Before CPython 3.13, the thread that first imports `threading` is taken for the main thread.
            import threading  # noqa: F401

            glancing.add(self._glances)
            start_new_thread(self._glance, ())
        except Exception as error:
            if from_signal_handler(error):
                self._over.release()  # a thread may have started by now, and only this ends it
                raise
            debug("nothing stands beside the first item: %s", error)
            self._glance_ends()
        except BaseException:
            self._over.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self._pid:
            return  # the item forked, and this is the child: the threads belong to the parent
        self._over.release()
        try:
            thread = None
            # Beside a shorter item the bare thread has done nothing, and finds it over. Waiting for it would take as
            # long as the system needs to give it a turn, which is milliseconds on a busy machine.
            if perf_counter() - self._began_at >= _SURE_SECONDS:
                with self._glances:
                    thread = self._thread
            with self._deciding:
                self._ended = True
                if self.pump is None:  # nobody calls these any more, and a thread that lives on keeps no input alive
                    del self._begin, self._delay_seconds
            if thread is not None and self.pump is not None:
                thread.join()  # one that has begun nothing ends by itself, and may still be importing
        except BaseException:  # a signal handler raised it; a thread that is still starting workers will end them
            self._abandoned = True
            if self.pump is not None and (self._thread is None or not self._thread.is_alive()):
                self.pump.close()
            raise
        if error is not None and self.pump is not None:
            self.pump.close()
        elif error is None and self._error is not None:
            raise self._error

    def _glance(self) -> None:
        """Wait until the item is over; if it turns out not to be short, start the thread that stands by."""
        began = perf_counter()
        try:
            if self._over.acquire(timeout=_SHORT_SECONDS):
                return
            import threading

            thread = threading.Thread(target=self._stand_by, args=(began,), name="amorsize-headstart", daemon=True)
            thread.start()
            self._thread = thread
        except Exception as error:  # no thread could be started
            debug("nothing stands beside the first item: %s", error)
        finally:
            self._glance_ends()

    def _glance_ends(self) -> None:
        glancing.discard(self._glances)
        self._glances.release()

    def _stand_by(self, began: float) -> None:
        with OwnThread(), _quick_turns:
            # This runs in the caller's context, because workers must get its decimal precision and NumPy error state.
            self._context.run(self._begin_when_due, began)

    def _is_over_while_others_import(self) -> bool:
        """Wait while other threads import, since they may wait for this call; say whether the item ended meanwhile."""
        while others_import():
            if self._over.acquire(timeout=_STEP_SECONDS):
                return True
        return False

    def _begin_when_due(self, began: float) -> None:
        if self._is_over_while_others_import():
            return
        preload_what_decides()  # the caller need not wait for that if its item ends meanwhile
        try:
            with self._deciding:
                if self._ended:
                    return
                delay = self._delay_seconds()
            if delay > 0.0:
                # What workers need is imported during the wait, because it would hold them up later; but not at once,
                # because that would hold up an item which is not so long, and what comes after it.
                if self._over.acquire(timeout=max(0.0, delay / 2 - (perf_counter() - began))):
                    return
                preload()
            if self._over.acquire(timeout=max(0.0, delay - (perf_counter() - began))):
                return
            if self._is_over_while_others_import():
                return
            with self._deciding:
                if self._ended:
                    return
                begun = self.pump = self._begin()
        except Exception as error:  # this was only an attempt: the caller goes on, and meets the cause itself
            debug("no workers beside the first item: %r", error)
            return
        try:
            while not self._over.acquire(blocking=False):
                begun.step(_STEP_SECONDS)
            if self._abandoned:
                begun.close()
        except (MemoryError, OSError) as error:  # not an error of the user's: the caller takes over the items
            debug("no more workers beside the first item: %r", error)
            begun.withdraw(f"standing beside the first item failed: {error!r}")
        except BaseException as error:  # the caller's thread raises it
            begun.close()
            self._error = error

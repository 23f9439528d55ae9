"""A lock that is never left taken for good, for what amorsize's own threads share with the user's.

A signal handler may raise just before a lock is released; in CPython before 3.11 even at the end of a `with` block. The
user's thread then goes on with the lock, and threads of ours would wait for it for ever. So whoever waits gives up
after some time and goes on without the lock, and a thread that releases this releases all that it holds, so that its
next use makes good for one that was interrupted.
"""

from __future__ import annotations

from _thread import RLock

__all__ = ["Guard"]


class Guard:
    """Keeps threads apart in its `with` blocks, unless one has to wait for too long. Blocks must not be nested.

    Args:
        seconds: how long to wait, which is longer than any block lasts.
    """

    __slots__ = ("_lock", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._lock = RLock()
        self._seconds = seconds

    def acquire(self) -> None:
        """Wait until no other thread is in a block, but not for long."""
        self._lock.acquire(timeout=self._seconds)

    def release(self) -> None:
        """Let other threads in."""
        try:
            while True:
                self._lock.release()
        except RuntimeError:  # this thread holds it no more, or did not get it in time
            pass

    def renew(self) -> None:
        """Forget who is in a block, in a forked child, where those threads do not exist."""
        self._lock = RLock()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

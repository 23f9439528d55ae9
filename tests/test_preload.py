"""The thread that imports what workers need, and who waits for it."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from amorsize.call import preload


class Interrupting:
    """A lock after whose taking a signal handler raises."""

    def __init__(self, lock):
        self.lock = lock

    def acquire(self, **options):
        self.lock.acquire(**options)
        raise KeyboardInterrupt

    def release(self):
        self.lock.release()


def preloads_elsewhere():
    """Say whether another thread can import what workers need."""
    thread = threading.Thread(target=preload.preload, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_an_interrupt_while_it_is_waited_for_locks_nobody_out(monkeypatch):
    """A lock that stayed taken would hold up every later start of workers, and hang their threads."""
    lock = preload._busy
    with monkeypatch.context() as patch:
        patch.setattr(preload, "_busy", Interrupting(lock))
        with pytest.raises(KeyboardInterrupt):
            preload.finish()

    assert preloads_elsewhere()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_an_interrupt_before_a_fork_locks_nobody_out(monkeypatch):
    """Python only reports what is raised there, and forks all the same."""
    lock, reported = preload._busy, []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with monkeypatch.context() as patch:
        patch.setattr(preload, "_busy", Interrupting(lock))
        pid = os.fork()
        if not pid:
            os._exit(0)
    os.waitpid(pid, 0)

    assert [report.exc_type for report in reported] == [KeyboardInterrupt]
    assert preloads_elsewhere()


def test_who_did_not_get_it_in_time_releases_nothing(monkeypatch):
    """The thread that imports keeps its lock."""
    monkeypatch.setattr(preload, "_LONGEST_SECONDS", 0.001)
    held, over = threading.Event(), threading.Event()

    def hold():
        with preload._busy:
            held.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    preload.finish()
    is_taken = not preload._busy.acquire(blocking=False)
    over.set()
    thread.join()

    assert is_taken

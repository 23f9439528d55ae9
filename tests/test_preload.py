"""The thread that imports what workers need, and who waits for it."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from amorsize.call import preload
from amorsize.guard import Guard


def preloads_elsewhere():
    """Say whether another thread can import what workers need."""
    thread = threading.Thread(target=preload.preload, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


class Interrupting:
    """A lock about whose taking or releasing a signal handler raises."""

    def __init__(self, lock, when):
        self.lock = lock
        self.when = when

    def acquire(self, **options):
        got = self.lock.acquire(**options)
        if self.when == "taken":
            raise KeyboardInterrupt
        return got

    def release(self):
        if self.when == "released":
            raise KeyboardInterrupt
        self.lock.release()


@pytest.mark.slow
def test_what_it_loads_is_counted_as_its_own(python):
    """A first item that a thread of ours imports beside has imported nothing."""
    code = (
        "import sys, amorsize; from amorsize.call import preload; before = len(sys.modules); "
        "preload.preload_what_decides(); print(len(sys.modules) - before == preload.loaded() > 0, "
        "'amorsize.cache.lookup' in sys.modules, 'amorsize.feed.pump' in sys.modules)"
    )

    assert python("-c", code).stdout == "True True False\n"


@pytest.mark.parametrize("when", ["taken", "released"])
def test_an_interrupt_while_it_is_waited_for_locks_nobody_out(monkeypatch, when):
    """A lock that stayed taken would hold up every later start of workers, and hang their threads."""
    lock = preload._busy._lock
    with monkeypatch.context() as patch:
        patch.setattr(preload._busy, "_lock", Interrupting(lock, when))
        with pytest.raises(KeyboardInterrupt):
            preload.finish()

    assert preloads_elsewhere()
    preload.finish()  # makes good for what was interrupted
    assert elsewhere(lambda: lock.acquire(blocking=False) and lock.release() is None)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("when", ["taken", "released"])
def test_an_interrupt_about_a_fork_locks_nobody_out(monkeypatch, when):
    """Python only reports what is raised there, and forks all the same."""
    lock, reported = preload._busy._lock, []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with monkeypatch.context() as patch:
        patch.setattr(preload._busy, "_lock", Interrupting(lock, when))
        pid = os.fork()
        if not pid:
            os._exit(0)
    os.waitpid(pid, 0)

    assert [report.exc_type for report in reported] == [KeyboardInterrupt]
    assert preloads_elsewhere()


def test_who_did_not_get_it_in_time_releases_nothing(monkeypatch):
    """The thread that has it keeps it."""
    monkeypatch.setattr(preload, "_busy", Guard(0.001))
    held, over = threading.Event(), threading.Event()

    def hold():
        with preload._busy:
            held.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    preload.finish()
    is_taken = not preload._busy._lock.acquire(blocking=False)
    over.set()
    thread.join()

    assert is_taken


def elsewhere(ask):
    """Return what `ask` returns in another thread."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]

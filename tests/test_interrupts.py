"""Ctrl-C, exits and ends of the caller, with work in flight; each in a program of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pool_workers
import psutil
import pytest

import amorsize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups"),
    pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"]),
]

PRELUDE = """
import os, signal, sys, time
# A program that was started in the background is deaf to Ctrl-C, and so are its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.stdout.reconfigure(line_buffering=True)
import amorsize
sys.path.insert(0, {tests!r})
import pool_workers
long = pool_workers.Long({folder!r})
options = dict(backend="processes", n_jobs=2, start_method={method!r}, chunksize=1)
"""


class Program:
    """A script under way, in a process group of its own."""

    def __init__(self, folder, method, body):
        self.folder = folder
        script = folder / "script.py"
        prelude = PRELUDE.format(tests=str(Path(__file__).parent), folder=str(folder), method=method)
        script.write_text(prelude + textwrap.dedent(body))
        environ = {**os.environ, "PYTHONPATH": str(Path(amorsize.__file__).parents[1])}
        self.process = subprocess.Popen(
            [sys.executable, script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environ,
        )

    def workers(self, count):
        """Return the worker processes, once so many items run."""
        pool_workers.wait_for_notes(self.folder, count)
        return processes(pool_workers.notes(self.folder)[-2:])

    def interrupt(self):
        """Do what Ctrl-C does: a signal to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self):
        """Return what the program printed: (lines, standard error)."""
        out, err = self.process.communicate(timeout=pool_workers.GUARD_SECONDS)
        return out.splitlines(), err


@pytest.fixture
def start(method, tmp_path):
    """Give a function that starts a program, and leave none behind."""
    programs = []

    def run(body):
        programs.append(Program(tmp_path, method, body))
        return programs[-1]

    yield run
    for program in programs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.process.communicate()


def processes(pids):
    """Return the processes that have not ended yet."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


def gone(workers):
    """Return whether processes end; orphans may stay listed as ended for as long as the system likes."""
    end = time.monotonic() + pool_workers.GUARD_SECONDS
    while any(map(_runs, workers)):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)  # how often they are looked at
    return True


def _runs(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_press_is_enough(start):
    """Each interrupt ends its call within half a second though items are long, the next call works, nothing is left."""
    program = start(
        """
        for _ in range(3):
            try:
                list(amorsize.map(long, range(4), **options))
            except KeyboardInterrupt:
                print(time.monotonic(), flush=True)
            print(list(amorsize.map(abs, [-1, -2], **options)))
        amorsize.shutdown()
        import psutil
        helpers = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
        children = [child.cmdline() for child in psutil.Process().children()]
        print([child for child in children if not any(name in " ".join(child) for name in helpers)])
        """
    )
    waited = []
    for count in (2, 4, 6):
        program.workers(count)
        pressed = time.monotonic()
        program.interrupt()
        waited.append(float(program.process.stdout.readline()) - pressed)
        assert program.process.stdout.readline() == "[1, 2]\n"

    lines, err = program.finish()

    assert (lines, err) == (["[]"], "")
    assert min(waited) < 0.5


def test_one_traceback(start):
    """A program that does not catch the interrupt shows one traceback, its own."""
    program = start("list(amorsize.map(long, range(4), **options))")
    workers = program.workers(2)
    program.interrupt()

    lines, err = program.finish()

    assert lines == []
    assert err.count("Traceback") == 1
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert "amorsize-worker" not in err
    assert gone(workers)


def test_programs_that_items_run_hear_the_interrupt(start, method):
    """A program started by an item is interrupted like any other of the group; workers themselves are not."""
    del method
    program = start(
        """
        print(set(amorsize.map(pool_workers.handlers, range(2), **options)))
        """
    )

    assert program.finish() == (["{(True, 'True')}"], "")


def test_a_forgotten_iterator_does_not_delay_the_end(start):
    """A program that ends with long items in flight ends at once and quietly, its workers with it."""
    program = start(
        """
        stream = amorsize.map(long, range(4), **options)
        import threading
        threading.Thread(target=next, args=(stream,), daemon=True).start()
        pool_workers.wait_for_notes(long.folder, 2)
        print("over")
        """
    )
    workers = program.workers(2)

    assert program.finish() == (["over"], "")
    assert gone(workers)


def test_an_error_does_not_wait_for_long_items(start):
    """An item's error ends the program though another item would run for long."""
    program = start(
        """
        def fail(number):
            if number:
                long(number)
            pool_workers.wait_for_notes(long.folder, 1)
            raise LookupError("item 0")
        try:
            list(amorsize.map(fail, range(2), **options))
        except LookupError as error:
            print(error)
        """
    )

    assert program.finish() == (["item 0"], "")


def test_a_closed_iterator_does_not_wait_for_long_items(start):
    """Closing and dropping iterators cancels their long items, and only theirs."""
    program = start(
        """
        def first_quick(number):
            return number if number == 0 else long(number)
        for close in (lambda stream: stream.close(), lambda stream: None):
            stream = amorsize.map(first_quick, range(4), **options)
            print(next(stream))
            close(stream)
            del stream
            print(list(amorsize.map(abs, [-1, -2], **options)))
        """
    )

    assert program.finish() == (["0", "[1, 2]", "0", "[1, 2]"], "")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_leave_with_their_caller(start, how):
    """However the caller ends, its workers notice, in the middle of a long item too."""
    program = start("list(amorsize.map(long, range(4), **options))")
    workers = program.workers(2)

    program.process.send_signal(how)
    _, err = program.finish()

    assert err == ""
    assert gone(workers)


def test_idle_workers_leave_with_their_caller(start, tmp_path):
    """Idle workers notice too."""
    program = start(
        """
        list(amorsize.map(pool_workers.Noting(long.folder, pool_workers.pid_of), range(2), **options))
        from amorsize.backends.processes.start import all_workers

        print(*[worker.process.pid for worker in all_workers()])
        sys.stdout.flush()
        time.sleep(60)
        """
    )
    workers = processes(program.process.stdout.readline().split())

    program.process.kill()

    assert workers
    assert gone(workers)


def test_workers_leave_though_a_forked_child_of_the_caller_stays(start):
    """A process that the user's program forked, and that outlives it, does not keep the workers."""
    program = start(
        """
        stream = amorsize.map(long, range(4), **options)
        import threading
        threading.Thread(target=next, args=(stream,), daemon=True).start()
        pool_workers.wait_for_notes(long.folder, 2)
        import warnings
        warnings.simplefilter("ignore")
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(os.getpid(), 9)
        """
    )
    workers = program.workers(2)
    program.process.wait(pool_workers.GUARD_SECONDS)

    assert gone(workers)

"""What the tests of the worker pool send to workers. Light to import, for fresh interpreters do so."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import amorsize
from amorsize.transport import wire

GUARD_SECONDS = 30  # nothing waits so long unless it is stuck


def note(folder, text):
    """Append a line to a file that all processes share."""
    with open(Path(folder) / "notes", "ab") as file:
        file.write(f"{text}\n".encode())


def notes(folder):
    """Return the lines noted so far."""
    path = Path(folder) / "notes"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def wait_for_notes(folder, count):
    """Return once so many lines are there."""
    end = time.monotonic() + GUARD_SECONDS
    while len(notes(folder)) < count:
        assert time.monotonic() < end, f"only {notes(folder)} of {count}"
        time.sleep(0.002)  # how often the folder is looked at


class Noting:
    """Callable that notes every item it begins, and then does `do(number)`."""

    def __init__(self, folder, do):
        self.folder = str(folder)
        self.do = do

    def __call__(self, number):
        note(self.folder, number)
        return self.do(number)


class Once:
    """Callable that does `do()` at one item, the first time it comes by, and squares the others."""

    def __init__(self, folder, at, do):
        self.folder = str(folder)
        self.at = at
        self.do = do

    def __call__(self, number):
        if number == self.at:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(Path(self.folder) / "done-once", os.O_CREAT | os.O_EXCL))
                self.do()
        return number * number


class Always:
    """Callable that does `do()` at one item, whenever it comes by, and squares the others."""

    def __init__(self, at, do):
        self.at = at
        self.do = do

    def __call__(self, number):
        if number == self.at:
            self.do()
        return number * number


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(GUARD_SECONDS)


def leave():
    os._exit(3)


def die_half_way_through_the_results():
    """Make this worker die when half of its next message is written."""

    def half(sock, kind, buffers):
        message = b"".join(buffers)
        sock.sendall(wire._HEAD.pack(kind, len(message)) + message[: len(message) // 2])
        die()

    wire.send = half


def die_leaving_a_child(folder):
    """Die while a forked child, which inherited all there is to inherit, lives on until something is noted."""
    if os.fork() == 0:
        wait_for_notes(folder, 1)
        os._exit(0)
    die()


class LethalToSend:
    """Kills the process that pickles it."""

    def __reduce__(self):
        die()


class LethalToReceive:
    """Kills the worker that rebuilds it."""

    def __init__(self, parent=None):
        self.parent = parent or os.getpid()

    def __reduce__(self):
        return rebuild_lethally, (self.parent,)


def rebuild_lethally(parent):
    if os.getpid() != parent:
        leave()
    return LethalToReceive(parent)


def lethal_result_at_three(number):
    return LethalToSend() if number == 3 else number


class WaitsForTheRest:
    """Item 0 returns when all others have begun, so nothing may wait behind it."""

    def __init__(self, folder, count):
        self.folder = str(folder)
        self.count = count

    def __call__(self, number):
        if number:
            note(self.folder, number)
        else:
            wait_for_notes(self.folder, self.count - 1)
        return number


def sleep_long(number):
    time.sleep(GUARD_SECONDS * 2)
    return number


class Long:
    """Callable that notes its process and then takes longer than any test."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self, number):
        note(self.folder, os.getpid())
        time.sleep(GUARD_SECONDS * 2)
        return number


class Shipped:
    """Callable that notes each process it is rebuilt in."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self, number):
        return os.getpid()

    def __setstate__(self, state):
        self.__dict__.update(state)
        note(self.folder, os.getpid())


def pid_of(_):
    return os.getpid()


def pid_after_meeting(barrier_folder):
    """Return the process, once two items have begun."""
    note(barrier_folder, os.getpid())
    wait_for_notes(barrier_folder, 2)
    return os.getpid()


def pid_of_another(_):
    return -os.getpid()


_kept = []


def grow(number):
    """Keep 16 MB, touched."""
    _kept.append(bytearray(b"x") * (16 << 20))
    return os.getpid()


def environment(name):
    return os.environ.get(name)


def folder(_):
    return os.getcwd()


_state = []


def set_state(folder, value):
    note(folder, os.getpid())
    _state.append(value)


def get_state(_):
    return list(_state), os.getpid()


def fail_to_initialize(folder):
    note(folder, os.getpid())
    raise LookupError("no model here")


def die_initializing(folder):
    note(folder, os.getpid())
    leave()


class SlowOnlyIn:
    """Initializer that returns at once in the first worker, and in later ones when something more is noted."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self):
        try:
            os.close(os.open(Path(self.folder) / "first", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            wait_for_notes(self.folder, 1)


def refuse_to_be_rebuilt():
    raise LookupError("will not be rebuilt")


class Unrebuildable:
    """Can be pickled, but not be rebuilt."""

    def __call__(self):
        return None

    def __reduce__(self):
        return refuse_to_be_rebuilt, ()


def nested(_):
    """Map inside a worker, in a thread too, by a named backend; return where the items ran."""
    seen = []

    def call():
        seen.extend(amorsize.map(pid_of, range(3), backend="processes", n_jobs=2))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    call()
    return set(seen) == {os.getpid()}


def thread_variables(_):
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")


def native_limits(folder):
    import numpy as np
    from threadpoolctl import threadpool_info

    note(folder, os.getpid())
    wait_for_notes(folder, 2)
    assert np.ones(3).sum() == 3
    return [library["num_threads"] for library in threadpool_info()]


def random_after_meeting(folder):
    note(folder, os.getpid())
    wait_for_notes(folder, 2)
    return random.random()


def numpy_after_meeting(folder):
    import numpy as np

    note(folder, os.getpid())
    wait_for_notes(folder, 2)
    return float(np.random.random())


def handlers(_):
    """Return what an interrupt means here, and in a program started from here."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, run.stdout.strip()


def print_line(number):
    print(f"item {number}")  # noqa: T201 - what the test looks for
    return number


class LoadsWhenTold:
    """Callable whose rebuilding in a worker waits for a file; it says where each item ran."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __getstate__(self):
        return {"folder": self.folder}

    def __setstate__(self, state):
        self.folder = state["folder"]
        note(self.folder, f"loading-{os.getpid()}")
        end = time.monotonic() + GUARD_SECONDS
        while not (Path(self.folder) / "gate").exists():
            assert time.monotonic() < end
            time.sleep(0.002)  # how often the folder is looked at

    def __call__(self, item):
        return os.getpid()


class Carrying:
    """Callable that carries data, and says how much."""

    def __init__(self, data):
        self.data = data

    def __call__(self, _):
        return len(self.data)

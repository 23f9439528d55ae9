"""What the tests of engines send to workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import amorsize


def process_id(_):
    return os.getpid()


def slow_process_id(_):
    time.sleep(0.01)
    return os.getpid()


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


class DieOnce:
    """Callable that kills its worker at one item, the first time it comes by, and squares the others."""

    def __init__(self, folder, at, carried=0):
        self.note = str(Path(folder) / "died")
        self.at = at
        self.carried = os.urandom(carried)

    def __call__(self, item):
        number = getattr(item, "number", item)
        if number == self.at and not os.path.exists(self.note):
            Path(self.note).touch()
            die(number)
        return number**2


class Large:
    """An item of some size."""

    def __init__(self, number, size):
        self.number = number
        self.data = bytes(size)


class DieAt:
    """Callable that kills its worker at one item, always."""

    def __init__(self, at):
        self.at = at

    def __call__(self, number):
        return die(number) if number == self.at else number**2


class Heavy:
    """Callable that carries much, and counts in files how often it is rebuilt."""

    def __init__(self, folder, size):
        self.folder = str(folder)
        self.data = os.urandom(size)

    def __setstate__(self, state):
        self.__dict__.update(state)
        Path(self.folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()

    def __call__(self, number):
        return number + len(self.data)


def draw(_):
    return amorsize.item_rng().random()


def nested(number):
    return list(amorsize.map(abs, [-number, number], backend="processes", n_jobs=2))


def fail(number):
    return 1 // (20 - number)

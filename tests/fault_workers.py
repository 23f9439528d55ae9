"""What goes wrong with an item: at one of four stages, in one of four ways. Light to import, for workers do so."""

from __future__ import annotations

import os
import signal
import sys
import time

BAD = 5  # the item that it happens to
HANG_SECONDS = 1000


def error():
    """Fail as functions do."""
    raise LookupError("on purpose")


def leave():
    """Ask the interpreter to end."""
    sys.exit(3)


def crash():
    """End as if the system had killed the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    """Never come back, in practice."""
    time.sleep(HANG_SECONDS)


FAULTS = {"error": error, "exit": leave, "crash": crash, "hang": hang}


class Squares:
    """A function that is rebuilt with its state, so that a fault may strike there."""

    def __init__(self, stage, fault):
        self.stage = stage
        self.fault = fault

    def __getstate__(self):
        return {"stage": self.stage, "fault": self.fault}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.stage == "load":
            FAULTS[self.fault]()

    def __call__(self, number):
        if number == BAD and self.stage == "run":
            FAULTS[self.fault]()
        if number == BAD and self.stage in ("pickle", "rebuild"):
            return Result(self.stage, self.fault)
        return number * number


class Result:
    """A result that strikes on its way to the caller."""

    def __init__(self, stage, fault):
        self.stage = stage
        self.fault = fault

    def __reduce__(self):
        if self.stage == "pickle":
            FAULTS[self.fault]()
        return strike, (self.fault,)


def strike(fault):
    """Rebuild a result, or not."""
    return FAULTS[fault]()

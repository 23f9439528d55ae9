"""Items that hang until a test lets them go on. Light to import, for fresh interpreters do so."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

GUARD_SECONDS = 10  # nothing waits so long unless it is stuck
HANGS_AT = 3
# Matching it takes so many seconds in C code, which keeps the interpreter to itself, that nobody waits for the end.
ENDLESS = "a" * 40 + "b"


class Hanging:
    """Callable that hangs at one item until the folder has a file named "go"; it notes which items have begun."""

    def __init__(self, folder, at=HANGS_AT):
        self.folder = str(folder)
        self.at = at

    def __call__(self, number):
        (Path(self.folder) / f"begun-{number}").touch()
        if number == self.at or self.at is None:
            self.waits_for_the_gate()
        return number

    def waits_for_the_gate(self):
        end = time.monotonic() + GUARD_SECONDS
        while not (Path(self.folder) / "go").exists():
            assert time.monotonic() < end
            time.sleep(0.002)  # how often the folder is looked at


class Pausing(Hanging):
    """One that hangs where it waits for a signal."""

    def waits_for_the_gate(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        signal.sigwait({signal.SIGUSR2})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})


class Deep(Hanging):
    """One that hangs so deep that the frames below do not fit."""

    def waits_for_the_gate(self, depth=150):
        if depth:
            self.waits_for_the_gate(depth - 1)
        else:
            super().waits_for_the_gate()


class Matching(Hanging):
    """One that hangs in C code, which holds the interpreter, and is ended only by being killed."""

    def waits_for_the_gate(self):
        re.match("(a|a)*$", ENDLESS)


class Closing(Hanging):
    """One that has closed what it did not open, and put a file of its own in the place."""

    def __call__(self, number):
        if number == self.at:
            mine = os.open(Path(self.folder) / "mine", os.O_RDWR | os.O_CREAT)
            for name in os.listdir("/proc/self/fd"):
                path = f"/proc/self/fd/{name}"
                if os.path.exists(path) and not os.stat(path).st_size and "memfd:" in os.readlink(path):
                    os.dup2(mine, int(name))
            os.close(mine)
        return super().__call__(number)


class Stopping(Hanging):
    """One that stops its own process, as a debugger would."""

    def waits_for_the_gate(self):
        os.kill(os.getpid(), signal.SIGSTOP)


def short(number):
    """Be over before anybody can ask."""
    return number + sum(range(20))


class Spinning:
    """Callable that is busy in the interpreter, in ever other frames, until the folder has a file named "go"."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __call__(self, number):
        Path(self.folder, f"begun-{number}").touch()
        end = time.monotonic() + GUARD_SECONDS
        while time.monotonic() < end and not os.path.exists(os.path.join(self.folder, "go")):
            for _ in range(100):
                self.goes_down(40)
        return number

    def goes_down(self, depth):
        return depth and self.goes_down(depth - 1)


class Sorting(Spinning):
    """One that is busy in C code that calls Python."""

    def goes_down(self, depth):
        return self.sorts(depth)

    def sorts(self, depth):
        return sorted(range(depth), key=lambda number: -number), sum(number for number in range(depth))


async def hangs(number):
    """Wait for an hour, in a coroutine that another one awaits, at one item."""
    if number == HANGS_AT:
        await waits_long()
    return number


async def waits_long():
    await asyncio.sleep(3600)


def begun(folder):
    """Return the items that have begun."""
    return {int(path.name.partition("-")[2]) for path in Path(folder).glob("begun-*")}

"""How a worker shows where it is, whatever it does: at a signal the interpreter writes its stack into a file.

No Python code of the worker's runs for that, so it works while C code computes and holds the interpreter. The signal is
one that is ignored by default, so that sending it does no harm if an item has undone this, or has a handler of its own
for it. Its coming restarts system calls as far as the system can; it is only sent when somebody asks.

The file is in memory and nameless; the caller opens it through `/proc` (`backends.processes.stacks`), so that there is
none where that is missing. A program that an item starts gets neither the descriptor nor the handler.
"""

from __future__ import annotations

import faulthandler  # here, so that the workers that a caller forks have it
import os
import signal
import sys
from _signal import getsignal

from ..errors import let_signals_through
from ..log import debug
from ..transport.slots import STACK_FILE, STACK_INODE, small_file

__all__ = ["show_again", "show_stacks"]

_descriptor: int | None = None


def show_stacks(slots: memoryview) -> None:
    """Have this process write its stack into a file at the signal, and tell in the slots which file that is."""
    global _descriptor
    if sys.platform != "linux":
        return
    if getsignal(signal.SIGURG) != signal.SIG_DFL:
        return  # it was forked from a program that uses the signal itself
    try:
        _descriptor = small_file()
        inode = os.fstat(_descriptor).st_ino
        show_again()
    except OSError as error:
        let_signals_through(error)
        debug("this worker cannot show its stack: %r", error)
        return
    slots[STACK_INODE] = inode
    slots[STACK_FILE] = _descriptor + 1


def show_again() -> None:
    """Do so anew, because a handler that stood in between was taken away."""
    if sys.platform != "win32" and _descriptor is not None:
        faulthandler.unregister(signal.SIGURG)  # otherwise it takes its handler to be there still
        # Other threads go on meanwhile, and their stacks could not be read safely.
        faulthandler.register(signal.SIGURG, file=_descriptor, all_threads=False, chain=False)

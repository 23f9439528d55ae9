"""How a worker shows where it is: a thread that waits for the caller's end looks at the main thread when it is asked.

The question is a byte in a pipe, and the answer is written into a nameless file in memory. The caller opens both
through `/proc` (`backends.processes.stacks`), so there is neither where that is missing, and nothing of it goes through
the socket, whose two ends are busy. No signal is sent, for a signal would interrupt what an item waits for; and the
stack is not read by a signal's handler, which may come while the interpreter is building the very frames (CPython 3.11
to 3.13 then crash, as `faulthandler.register` shows). So C code that keeps the interpreter to itself shows no stack.

While the thread looks, the main thread stands still, so that stack and item belong together. A program that an item
starts gets none of the descriptors.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from ..errors import let_signals_through
from ..log import debug
from ..transport.slots import CURSOR, STACK_FILE, STACK_PIPE, small_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["HEAD", "Stacks"]

# The head of an answer: its number, the length of what follows, and a checksum of that. It is written last, and the
# checksum tells whoever reads at that moment that the rest is not all there.
HEAD = "%016x %08x %08x\n"
_MOST_FRAMES = 100  # the innermost ones


class Stacks:
    """What a worker needs to show its stack.

    Args:
        asked: the end of the pipe that is read.
        asks: the end that the caller opens.
        file: the file for the answer.

    Attributes:
        asked: as above.
    """

    def __init__(self, asked: int, asks: int, file: int) -> None:
        self.asked = asked
        self._asks, self._file = asks, file
        self._inodes = [os.fstat(descriptor).st_ino for descriptor in (asks, file)]
        self._main = get_ident()
        self._slots: memoryview | None = None
        self._number = 0

    @classmethod
    def made(cls) -> Stacks | None:
        """Return what the main thread needs, which must call this; None where it cannot be had."""
        if sys.platform != "linux":
            return None
        try:
            return cls(*os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK), small_file())
        except OSError as error:
            let_signals_through(error)
            debug("this worker cannot show its stack: %r", error)
            return None

    def tell(self, slots: memoryview) -> None:
        """Tell the caller by which descriptors it can ask."""
        self._slots = slots
        for at, descriptor, inode in zip((STACK_PIPE, STACK_FILE), (self._asks, self._file), self._inodes, strict=True):
            slots[at + 1] = inode
            slots[at] = descriptor + 1

    def show(self) -> bool:
        """Answer what was asked, while the main thread stands still; return False if its descriptors are gone."""
        try:
            if [os.fstat(descriptor).st_ino for descriptor in (self.asked, self._file)] != self._inodes:
                return False
            os.read(self.asked, 4096)
            self._write(self._answer())
        except OSError as error:
            let_signals_through(error)
            return False
        return True

    def _answer(self) -> bytes:
        lines: list[str] = []
        frame: FrameType | None = sys._current_frames().get(self._main)
        while frame is not None and len(lines) < _MOST_FRAMES:
            code = frame.f_code
            lines.append(f"{code.co_filename}\t{frame.f_lineno or 0}\t{code.co_name}")
            frame = frame.f_back
        del frame  # so that nothing that it refers to lives longer
        cursor = -1 if self._slots is None else self._slots[CURSOR]
        return "\n".join([str(cursor), *reversed(lines)]).encode("utf-8", "surrogatepass")

    def _write(self, answer: bytes) -> None:
        if sys.platform == "win32":
            return  # there nothing is ever made
        from zlib import crc32

        self._number += 1
        head = (HEAD % (self._number, len(answer), crc32(answer))).encode()
        os.pwrite(self._file, answer, len(head))
        os.pwrite(self._file, head, 0)

"""What items say in a worker, and how it reaches the caller: lines they print, log records, warnings.

While a call that relays runs, `streams` stand in for `sys.stdout` and `sys.stderr`, and `records` takes what is logged
and warned of. All of it comes here as entries, in the order in which it happened, and leaves in `wire.SAID` messages:

- before each message with results, so that what an item said is with the caller before its result is;
- when `MOST_CHARACTERS` wait: whoever writes then waits until they are sent, so that memory stays bounded, and a caller
  that is slow to read slows the item, as a slow terminal would;
- at once, if nothing was sent for `FLUSH_SECONDS`, or if the stream was flushed, so that it is not lost with an item
  that ends the process;
- `FLUSH_SECONDS` later otherwise, however long the item still runs.

**Lines leave whole.** Each thread of an item builds its own, and a line that is not at its end waits until it is, until
the item is over (the caller then sees it without an end, and what the next item writes behind it, as with the builtin)
or until it is very long.

**A thread sends while an item runs.** A signal handler of the item's that raises may interrupt the main thread at any
point of a message, and half a message would be the end of this worker. The main thread sends only between items. Both
take turns by a lock, which the main thread never holds while an item runs. All else is appended to and taken from
deques, so there is no lock that a forked child could find taken, or a signal handler could wait for in vain.

A process that an item forks writes to its own descriptors. So does what is written while a function is loaded, since
importing its modules would print in each worker again what it has printed in the caller.
"""

from __future__ import annotations

import os
import pickle
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from time import monotonic_ns, perf_counter

from ..transport import wire
from ..transport.ambient import forget_shown_warnings
from ..transport.relay import ERR, OUT, Told
from ..transport.slots import CURSOR, STARTED
from .records import Records
from .streams import StandIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any

    from .process_state import ProcessState

__all__ = ["FLUSH_SECONDS", "MOST_CHARACTERS", "Relay"]

# How long a line may wait while its item runs. A smaller value means more messages from items that print much; a larger
# one means that lines come later, and that more of them are lost with a worker that dies.
FLUSH_SECONDS = 0.010
# So much waits at most. A smaller value means more messages; a larger one more memory, and longer pauses in the caller.
MOST_CHARACTERS = 1 << 16
# A log record or a warning counts as so many characters.
_ENTRY_CHARACTERS = 1 << 9
# So many threads' lines are remembered; a thread that writes just as they are forgotten may lose a part of one.
_MOST_LINES = 100


class Relay:
    """A worker's way to say something to the caller.

    Args:
        sock: the worker's end of the socket.
        slots: the integers shared with the caller, which tell the running item.

    Attributes:
        on: whether what is said goes to the caller; otherwise it goes where this process would write it.
    """

    def __init__(self, sock: socket.socket, slots: memoryview) -> None:
        self.on = False
        self._told = b""
        self._sock = sock
        self._slots = slots
        self._main = get_ident()
        self._real = sys.stdout, sys.stderr
        self._stand_ins: tuple[StandIn, StandIn] | None = None
        self._records = Records(self)
        self._entries: deque[tuple[Any, ...]] = deque()
        self._size = 0  # characters in the entries; threads that add to it at once may make it a little wrong
        self._lines: dict[tuple[int, int], _Line] = {}  # by thread and kind
        self._turn = allocate_lock()  # held by whoever sends
        self._wake = allocate_lock()  # released to wake the thread that sends
        self._sender = 0  # the thread that is sending
        self._awake = self._has_thread = False
        self._waiting: deque[Any] = deque()  # locks that are released after the next message
        self._send_at = 0.0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_to_parent)

    # What the caller tells.

    def change(self, told: bytes, state: ProcessState | None = None) -> None:
        """Begin or end to relay, as the caller says.

        Args:
            told: what the caller tells, pickled; empty if nothing is relayed from now on.
            state: has the standard streams that are restored before each call; None if there is no such yet.
        """
        if told == self._told:
            return
        if self._told:
            self.end_items()
        self._told, self.on = told, bool(told)
        if not told:
            self._records.end()
            self._swap(self._stand_ins, self._real, state)
            return
        out, err, levels = Told._make(pickle.loads(told))
        if self._stand_ins is None:
            self._stand_ins = StandIn(self, OUT, self._real[0]), StandIn(self, ERR, self._real[1])
        self._stand_ins[0].look(out)
        self._stand_ins[1].look(err)
        self._swap(self._real, self._stand_ins, state)
        self._records.begin(levels)

    @staticmethod
    def _swap(old: Sequence[Any] | None, new: Sequence[Any] | None, state: ProcessState | None) -> None:
        """Put new standard streams where the old ones are; a stream that the user's code has put there stays."""
        if old is None or new is None:
            return
        if sys.stdout is old[0]:
            sys.stdout = new[0]
        if sys.stderr is old[1]:
            sys.stderr = new[1]
        if state is not None:
            state.replace_streams(old, new)

    def before_loading(self) -> None:
        """Leave alone what is written until `after_loading`, while a function is rebuilt."""
        self.on = False
        self._records.before_loading()

    def after_loading(self) -> None:
        """Relay again, if the call does."""
        self.on = bool(self._told)
        self._records.after_loading()

    def begin_call(self) -> None:
        """Have each warning come up again, because the caller decides whether it was shown before."""
        if self._records.warned:
            self._records.warned = False
            forget_shown_warnings()

    # What items say.

    def index(self) -> int | None:
        """Return the position of the running item; None if none is running."""
        cursor: int = self._slots[CURSOR]
        return cursor if cursor >= 0 else None

    def write(self, kind: int, text: str) -> None:
        """Take what was written to a stream."""
        key = (get_ident(), kind)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        cursor = self._slots[CURSOR]
        if line.parts and line.cursor != cursor:
            self._end_line(kind, line)
        line.cursor = cursor
        length = len(text)
        end = text.rfind("\n") + 1 or text.rfind("\r") + 1  # what overwrites a line ends it, too
        if end:
            line.parts.append(text if end == length else text[:end])
            self._end_line(kind, line)
        if end < length:
            line.parts.append(text[end:])
            line.size += length - end
            if line.size > MOST_CHARACTERS:
                self._end_line(kind, line)
                end = length
        if end:
            self._send_soon()

    def _end_line(self, kind: int, line: _Line) -> None:
        parts, line.parts, line.size = line.parts, [], 0
        text = "".join(parts)
        self._size += len(text)
        self._entries.append((kind, text))

    def say(self, entry: tuple[Any, ...]) -> None:
        """Take a log record or a warning."""
        self._size += _ENTRY_CHARACTERS
        self._entries.append(entry)
        self._send_soon()

    def flush(self) -> None:
        """Send the lines that are whole, because the item asks for it; between items this is left to `end_items`."""
        if self._entries and self.on and self._slots[CURSOR] >= 0:
            self._send_now()

    def end_items(self) -> None:
        """Send all that was said, as no item is running."""
        if not (self._lines or self._entries):
            return
        for (_, kind), line in list(self._lines.items()):
            if line.parts:
                self._end_line(kind, line)
        if len(self._lines) > _MOST_LINES:
            self._lines.clear()  # most are of threads that have ended
        if self._entries:
            self._send()

    # How it leaves.

    def send_results(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send a message with results, while the thread does not send."""
        with self._turn:
            self._sender = get_ident()
            try:
                wire.send(self._sock, wire.RESULTS, buffers)
            finally:
                self._sender = 0

    def _send_soon(self) -> None:
        if self._size >= MOST_CHARACTERS or perf_counter() >= self._send_at:
            self._send_now()
        elif not self._awake:
            self._awake = True
            self._wake_thread()

    def _send_now(self) -> None:
        """Have the thread send, and wait for that; the item's time does not run meanwhile."""
        if self._sender == get_ident():
            return  # a destructor, or a signal handler, writes while this thread sends: that goes with the next message
        over = allocate_lock()
        over.acquire()
        self._waiting.append(over)
        if not self._wake_thread():
            return
        started = self._slots[STARTED] if get_ident() == self._main else 0
        if started <= 0:
            over.acquire()
            return
        began = monotonic_ns()
        self._slots[STARTED] = 0
        try:
            over.acquire()
        finally:
            self._slots[STARTED] = started + monotonic_ns() - began

    def _wake_thread(self) -> bool:
        """Wake the thread, and start it first if need be; say whether there is one."""
        if not self._has_thread:
            self._wake.acquire(blocking=False)
            try:
                start_new_thread(self._send_when_woken, ())
            except RuntimeError:  # what is said waits until the item is over
                self._waiting.clear()
                return False
            self._has_thread = True
        try:
            self._wake.release()
        except RuntimeError:
            pass  # it is awake
        return True

    def _send_when_woken(self) -> None:
        while True:
            self._wake.acquire()
            if not self._waiting:
                self._wake.acquire(timeout=FLUSH_SECONDS)  # somebody may be in a hurry meanwhile
            self._awake = False
            waiting = len(self._waiting)
            self._send()
            for _ in range(waiting):
                self._waiting.popleft().release()

    def _send(self) -> None:
        with self._turn:
            self._sender = get_ident()
            try:
                self._size = 0
                said = self._taken()
                if said:
                    wire.send(self._sock, wire.SAID, [pickle.dumps(said)])
                    self._send_at = perf_counter() + FLUSH_SECONDS
            except OSError:
                pass  # the caller is gone, and this process is about to end
            finally:
                self._sender = 0

    def _taken(self) -> list[tuple[Any, ...]]:
        """Take out what waits, with the texts for one stream that follow each other joined."""
        said: list[tuple[Any, ...]] = []
        texts: list[str] = []
        present: int | None = None
        for _ in range(len(self._entries)):
            entry = self._entries.popleft()
            kind = entry[0]
            if kind != present and texts:
                said.append((present, "".join(texts)))
                texts.clear()
            present = kind
            if kind in (OUT, ERR):
                texts.append(entry[1])
            else:
                said.append(entry)
        if texts:
            said.append((present, "".join(texts)))
        return said

    def _leave_to_parent(self) -> None:
        """In a process that an item forked: what was said so far is the parent's to send."""
        self.on = False
        self._told = b""
        self._entries.clear()
        self._lines.clear()


class _Line:
    """A line that is not at its end yet.

    Attributes:
        parts: what was written of it.
        size: how many characters these are.
        cursor: which item wrote it.
    """

    __slots__ = ("cursor", "parts", "size")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.cursor = -1

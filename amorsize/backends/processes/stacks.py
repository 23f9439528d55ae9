"""Where are the workers of a lease? Their slots tell, and a signal has each write down its stack (`child.stacks`).

Nothing here touches a socket, a lock or the state of a lease, so it may be asked from any thread, and from a signal
handler while the caller waits. A worker that has died or been stopped, or that uses the signal itself, has no stack.
"""

from __future__ import annotations

import os
import signal
import sys
from time import perf_counter, sleep

from ...errors import let_signals_through
from ...lean import NamedTuple
from ..where import Where, above, formatted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..where import Entry
    from .handle import Worker

__all__ = ["where_are"]

# How long workers may take to write their stacks. A smaller value means no stack where the machine is busy; a larger
# one means that whoever asks waits for a worker that hangs in the system.
_STACK_SECONDS = 0.1
# A worker that has taken the signal and written nothing after so long has another handler for it.
_SILENT_SECONDS = 0.01
_ASK_SECONDS = 0.0002
# A file of stacks that takes more memory is emptied. Until then it is left as it is, for somebody else may be reading.
_MOST_BYTES = 65_536
_SIGNAL: int = getattr(signal, "SIGURG", 0)
_LOOP = os.path.join("child", "main.py"), "_run_chunk"
_FRAME = r'(?m)^  File "(.*)", line (\d+|\?\?\?) in (.*)$'
_HEAD = "Stack (most recent call first):"


class _Asked(NamedTuple):
    """A worker that was sent the signal: its process, its file, and how long the file was before."""

    pid: int
    file: int
    length: int
    since: float


class _Signals(NamedTuple):
    """The state of a process: a letter, and whether the signal waits, is held back or being handled, has a handler."""

    state: str
    waits: bool
    blocked: bool
    caught: bool


def where_are(workers: Sequence[Worker]) -> list[Where]:
    """Say where workers are."""
    positions = {worker: worker.position() for worker in workers}
    stacks = _stacks([worker for worker, position in positions.items() if position is not None])
    found = []
    for worker, position in positions.items():
        index, seconds = position or (None, None)
        found.append(Where(_pid(worker), index, seconds, stacks.get(worker, "")))
    return found


def _pid(worker: Worker) -> int | None:
    try:
        pid: int | None = worker.process.pid
    except ValueError:  # another thread has released it
        return None
    return pid


def _stacks(workers: list[Worker]) -> dict[Worker, str]:
    """Return the stacks of workers, as far as they can be had."""
    stacks: dict[Worker, str] = {}
    if sys.platform != "linux":
        return stacks
    files: list[int] = []
    try:
        asked = {}
        for worker in workers:
            if (found := _ask(worker, files)) is not None:
                asked[worker] = found
        until = perf_counter() + _STACK_SECONDS
        while asked:
            late = perf_counter() > until
            for worker, one in tuple(asked.items()):
                if _is_done(one) or late:
                    del asked[worker]
                    stacks[worker] = _read(one)
            if asked:
                sleep(_ASK_SECONDS)
    finally:
        for file in files:
            os.close(file)
    return stacks


def _ask(worker: Worker, files: list[int]) -> _Asked | None:
    """Send the signal to a worker, if it would write its stack then; open its file, and add it to `files`."""
    pid, (descriptor, inode) = _pid(worker), worker.stack_file()
    if sys.platform != "linux" or pid is None or descriptor is None:
        return None
    path = f"/proc/{pid}/fd/{descriptor}"
    try:
        # An item may have closed it, and then the number may be another file's, or the process may be another one.
        if os.stat(path).st_ino != inode:
            return None
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        files.append(file)
        now = _signals(pid)
        if now.blocked or now.waits or not now.caught or now.state in "TtZX":
            return None
        status = os.fstat(file)
        length = status.st_size
        if status.st_blocks * 512 > _MOST_BYTES:
            # The worker goes on writing where it is, so the file stays as long; but nothing is kept of what is empty.
            os.ftruncate(file, 0)
            os.ftruncate(file, length)
        os.kill(pid, _SIGNAL)
    except OSError as error:  # it has ended
        let_signals_through(error)
        return None
    return _Asked(pid, file, length, perf_counter())


def _signals(pid: int) -> _Signals:
    """Return the state of a process's main thread, which handles the signal unless it holds it back.

    The system writes all this at one moment: while the handler runs, the signal is held back.
    """
    with open(f"/proc/{pid}/status", encoding="latin-1") as status:
        lines = dict(line.split(":", 1) for line in status if ":" in line)
    bit = 1 << (_SIGNAL - 1)

    def has(*names: str) -> bool:
        return any(int(lines[name], 16) & bit for name in names)

    return _Signals(lines["State"].split()[0], has("SigPnd", "ShdPnd"), has("SigBlk"), has("SigCgt"))


def _is_done(one: _Asked) -> bool:
    """Say whether a worker has written its stack to the end, or will not write one."""
    # This is read first: what was written by now came from a handler that has returned if none runs afterwards.
    length = os.fstat(one.file).st_size
    try:
        now = _signals(one.pid)
    except (OSError, KeyError) as error:  # it has ended
        if isinstance(error, OSError):
            let_signals_through(error)
        return True
    if now.state in "TtZX":
        return True
    silent = perf_counter() - one.since > _SILENT_SECONDS
    return not (now.waits or now.blocked) and (length != one.length or silent)


def _read(one: _Asked) -> str:
    """Return the newest stack that is in a worker's file, if it was written since the worker was asked."""
    import re

    length = os.fstat(one.file).st_size
    os.lseek(one.file, one.length, os.SEEK_SET)
    text = os.read(one.file, max(0, length - one.length)).decode("ascii", "replace")
    frames: list[Entry] = [
        (path, None if line == "???" else int(line), name)
        for path, line, name in re.findall(_FRAME, text.rpartition(_HEAD)[2])
    ]
    return formatted(above(frames[::-1], _LOOP), ours=True)

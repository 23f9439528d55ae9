"""Where are the workers of a lease? Their slots tell, and a thread in each writes down its stack (`child.stacks`).

Nothing here touches a socket, a lock or the state of a lease, so it may be asked from any thread, and from a signal
handler while the caller waits. A worker that has died or been stopped, or whose item keeps the interpreter to itself,
has no stack.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter, sleep

from ...child.stacks import HEAD
from ...errors import let_signals_through
from ...lean import NamedTuple
from ..where import Where, above, formatted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..where import Entry
    from .handle import Worker

__all__ = ["where_are"]

# How long workers may take to write their stacks. A smaller value means no stack where the machine is busy, or where a
# container has used up its share of processors and stands still for the rest of a tenth of a second; a larger one means
# that whoever asks waits for a worker that hangs in the system, or in C code that lets nobody in.
_STACK_SECONDS = 0.25
_ASK_SECONDS = 0.0002
_LOOP = f"child{os.sep}main.py", "_run_chunk"
_HEAD_BYTES = len(HEAD % (0, 0, 0))


class _Asked(NamedTuple):
    """A worker that was asked: its file, and the number of the answer that was there before."""

    file: int
    before: int


class _Shown(NamedTuple):
    """What a worker has answered."""

    item: int | None
    stack: str


def where_are(workers: Sequence[Worker]) -> list[Where]:
    """Say where workers are."""
    positions = {worker: worker.position() for worker in workers}
    shown = _shown([worker for worker, position in positions.items() if position is not None])
    found = []
    for worker, position in positions.items():
        index, seconds = position or (None, None)
        stack = ""
        if (answer := shown.get(worker)) is not None and answer.item is not None:
            # It tells of the item whose stack it is, which may have begun since.
            seconds = seconds if answer.item == index else 0.0
            index, stack = answer
        found.append(Where(_pid(worker), index, seconds, stack))
    return found


def _pid(worker: Worker) -> int | None:
    try:
        pid: int | None = worker.process.pid
    except ValueError:  # another thread has released it
        return None
    return pid


def _shown(workers: list[Worker]) -> dict[Worker, _Shown]:
    """Return the items and stacks of workers, as far as they can be had."""
    shown: dict[Worker, _Shown] = {}
    files: list[int] = []
    try:
        asked = {}
        for worker in workers:
            if (found := _ask(worker, files)) is not None:
                asked[worker] = found
        until = perf_counter() + _STACK_SECONDS
        while asked and perf_counter() < until:
            for worker, one in tuple(asked.items()):
                number, answer = _read(one.file)
                if number > one.before:
                    del asked[worker]
                    shown[worker] = _parsed(answer)
            if asked:
                sleep(_ASK_SECONDS)
    finally:
        for file in files:
            os.close(file)
    return shown


def _ask(worker: Worker, files: list[int]) -> _Asked | None:
    """Ask a worker for its stack; open its file, and add it to `files`. Return None if it has no answer to give."""
    pid = _pid(worker)
    if sys.platform != "linux" or pid is None:
        return None
    opened: list[int] = []
    try:
        for descriptor, inode in worker.stack_files():
            path = f"/proc/{pid}/fd/{descriptor}"
            # An item may have closed it, and then the number may be another file's, or the process may be another one.
            if os.stat(path).st_ino != inode:
                return None
            files.append(os.open(path, (os.O_RDONLY if opened else os.O_WRONLY) | os.O_CLOEXEC | os.O_NONBLOCK))
            opened.append(files[-1])
        if len(opened) < 2:
            return None
        pipe, file = opened
        before, _ = _read(file)
        os.write(pipe, b"?")
    except OSError as error:  # it has ended, or was stopped and has been asked very often
        let_signals_through(error)
        return None
    return _Asked(file, before)


def _read(file: int) -> tuple[int, bytes]:
    """Return the number of the answer that is in a worker's file, and the answer; 0 if none is, or not all of it."""
    if sys.platform == "win32":
        return 0, b""  # there nothing is ever asked
    from zlib import crc32

    content = os.pread(file, 1 << 20, 0)
    head, answer = content[:_HEAD_BYTES], content[_HEAD_BYTES:]
    if not head.endswith(b"\n"):  # it is written last, and the first time there is nothing in its place before
        return 0, b""
    number, length, checksum = (int(part, 16) for part in head.split())
    answer = answer[:length]
    return (number, answer) if len(answer) == length and crc32(answer) == checksum else (0, b"")


def _parsed(answer: bytes) -> _Shown:
    cursor, *lines = answer.decode("utf-8", "surrogatepass").split("\n")
    entries: list[Entry] = []
    for line in lines:
        path, _, rest = line.partition("\t")
        number, _, name = rest.partition("\t")
        entries.append((path, int(number) if number.isdigit() else None, name))
    index = int(cursor)
    return _Shown(index if index >= 0 else None, formatted(above(entries, _LOOP), ours=True))

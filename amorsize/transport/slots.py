"""What the caller and one worker share: a few integers that both write without a lock, and memory for large data.

Each slot has one writer, and a reader that needs only the newest whole value; a lock is not needed, because an aligned
64-bit write is never seen in part. Where there is a `memory.Store`, the slots are in its first page. A forked worker
inherits all this; any other gets the descriptor of an unlinked file through its socket. In both cases nothing is left
behind, however the caller or the worker ends.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys

from ..errors import let_signals_through
from ..lean import NamedTuple
from ..log import debug
from .memory import Store, create_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BEGAN", "CALL_CANCELLED", "CHUNK_NUMBER", "CURSOR", "SLOTS_BYTES", "STACK_FILE", "STACK_FILE_INODE"]
__all__ += ["STACK_PIPE", "STACK_PIPE_INODE", "STARTED"]
__all__ += ["TAKEN_BACK", "Inherited", "Shared", "create_shared", "inherited_shared", "open_shared", "small_file"]

# The worker writes the position of the running item, or -1 - end if no item runs and all before `end` are finished.
CURSOR = 0
# The worker writes how many chunks it has begun; the cursor belongs to the newest of them.
CHUNK_NUMBER = 1
# The caller writes the number of a call whose chunks it does not want any more.
CALL_CANCELLED = 2
# The caller writes the number of a chunk; the worker must not begin chunks up to that one that it has not yet begun.
TAKEN_BACK = 3
# In a call with deadlines the worker writes when the running item began, in nanoseconds of `time.monotonic`. While it
# rebuilds a chunk's function and items, it writes when that began, negated. While it does neither, the slot is 0.
STARTED = 4
# The worker writes when it began to load a chunk, to run its items, or to run those behind results that it has sent, in
# nanoseconds of `time.monotonic`, and 0 when the chunk is done. Results are sent every few milliseconds, so an item
# that runs for longer began hardly later than this; a look at the clock for each item would cost short ones much.
BEGAN = 5
# The worker writes by which descriptors, plus one, it has the pipe through which it is asked for its stack and the file
# for the answer, and their inodes (`child.stacks`).
STACK_PIPE, STACK_PIPE_INODE = 6, 7
STACK_FILE, STACK_FILE_INODE = 8, 9
SLOTS_BYTES = 80


class Shared(NamedTuple):
    """One side's view of what both share.

    Attributes:
        slots: the integers.
        store: memory for large data; None where there can be none.
    """

    slots: memoryview
    store: Store | None

    def close(self) -> None:
        """Release what this process holds of it."""
        self.slots.release()
        if self.store is not None:
            self.store.close()


class Inherited(NamedTuple):
    """What a forked worker makes its view of: the descriptor of a file or, if there is none, the slots themselves."""

    descriptor: int | None
    slots: memoryview


def inherited_shared(free_memory: Callable[[], int | None]) -> tuple[Shared, Inherited]:
    """Make the caller's view, and what the child that it forks next makes its own of.

    Args:
        free_memory: returns how many bytes of memory are free; None if that is unknown.
    """
    store = _new_store(free_memory)
    if store is None:
        slots = memoryview(mmap.mmap(-1, SLOTS_BYTES)).cast("q")
        return Shared(slots, None), Inherited(None, slots)
    shared = _of_store(store)
    return shared, Inherited(store.descriptor, shared.slots)


def create_shared(sock: socket.socket, free_memory: Callable[[], int | None]) -> Shared:
    """Make the caller's view as `inherited_shared` does, and send what `open_shared` needs to the other end."""
    if sys.platform == "win32":
        name = f"amorsize-{os.getpid()}-{os.urandom(8).hex()}"
        shared = mmap.mmap(-1, SLOTS_BYTES, tagname=name)
        sock.sendall(name.encode().ljust(SLOTS_BYTES))
        return Shared(memoryview(shared).cast("q"), None)
    store = _new_store(free_memory)
    if store is not None:
        try:
            socket.send_fds(sock, [b"m"], [store.descriptor])
        except BaseException:
            store.close()
            raise
        return _of_store(store)
    descriptor = small_file()
    try:
        # The bytes are written, not only reserved, so that a full disk raises here and not a bus error later.
        os.write(descriptor, bytes(SLOTS_BYTES))
        shared = mmap.mmap(descriptor, SLOTS_BYTES)
        socket.send_fds(sock, [b"s"], [descriptor])
    finally:
        os.close(descriptor)
    return Shared(memoryview(shared).cast("q"), None)


def _new_store(free_memory: Callable[[], int | None]) -> Store | None:
    descriptor = None
    try:
        descriptor = create_file()
        return None if descriptor is None else Store(descriptor, is_caller=True, free_memory=free_memory)
    except BaseException as error:
        if descriptor is not None:
            os.close(descriptor)
        let_signals_through(error)
        if not isinstance(error, OSError):
            raise
        debug("workers get large data through their sockets: %r", error)
        return None


def small_file() -> int:
    """Return the descriptor of a new file without a name, in memory where that can be."""
    if sys.platform == "linux":
        try:
            return os.memfd_create("amorsize")
        except (AttributeError, OSError) as error:  # the system has no such call, or forbids it
            let_signals_through(error)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def open_shared(
    sock: socket.socket, inherited: Inherited | None, free_memory: Callable[[], int | None]
) -> Shared:
    """Make the worker's view of what `create_shared` or `inherited_shared` made."""
    if inherited is not None:
        if inherited.descriptor is None:
            return Shared(inherited.slots, None)
        return _of_store(Store(os.dup(inherited.descriptor), is_caller=False, free_memory=free_memory))
    if sys.platform == "win32":
        name = b""
        while len(name) < SLOTS_BYTES:
            piece = sock.recv(SLOTS_BYTES - len(name))
            if not piece:
                raise EOFError("the caller is gone")
            name += piece
        return Shared(memoryview(mmap.mmap(-1, SLOTS_BYTES, tagname=name.decode().strip())).cast("q"), None)
    data, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
    if not data:
        raise EOFError("the caller is gone")
    if data == b"m":
        return _of_store(Store(descriptors[0], is_caller=False, free_memory=free_memory))
    try:
        return Shared(memoryview(mmap.mmap(descriptors[0], SLOTS_BYTES)).cast("q"), None)
    finally:
        os.close(descriptors[0])


def _of_store(store: Store) -> Shared:
    return Shared(memoryview(store.header)[:SLOTS_BYTES].cast("q"), store)

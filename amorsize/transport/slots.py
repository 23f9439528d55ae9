"""A few integers that the caller and one worker share, and write without a lock.

Each slot has one writer, and a reader that needs only the newest whole value; a lock is not needed, because an aligned
64-bit write is never seen in part. A forked worker inherits the memory. For any other worker the memory is an unlinked
file whose descriptor is sent through the worker's socket. In both cases nothing is left behind, however the caller or
the worker ends.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys

__all__ = ["CALL_CANCELLED", "CHUNK_NUMBER", "CURSOR", "SLOTS_BYTES", "STARTED", "TAKEN_BACK"]
__all__ += ["create_inherited_slots", "create_slots", "open_slots"]

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
SLOTS_BYTES = 64


def create_inherited_slots() -> memoryview:
    """Make one view that both the caller and the child that it forks next use."""
    return memoryview(mmap.mmap(-1, SLOTS_BYTES)).cast("q")


def create_slots(sock: socket.socket) -> memoryview:
    """Make the caller's view, and send what `open_slots` needs to the other end of `sock`."""
    if sys.platform == "win32":
        name = f"amorsize-{os.getpid()}-{os.urandom(8).hex()}"
        shared = mmap.mmap(-1, SLOTS_BYTES, tagname=name)
        sock.sendall(name.encode().ljust(SLOTS_BYTES))
        return memoryview(shared).cast("q")
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("amorsize")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        # The bytes are written, not only reserved, so that a full disk raises here and not a bus error later.
        os.write(descriptor, bytes(SLOTS_BYTES))
        shared = mmap.mmap(descriptor, SLOTS_BYTES)
        socket.send_fds(sock, [b"s"], [descriptor])
    finally:
        os.close(descriptor)
    return memoryview(shared).cast("q")


def open_slots(sock: socket.socket) -> memoryview:
    """Make the worker's view of what `create_slots` made."""
    if sys.platform == "win32":
        name = b""
        while len(name) < SLOTS_BYTES:
            piece = sock.recv(SLOTS_BYTES - len(name))
            if not piece:
                raise EOFError("the caller is gone")
            name += piece
        return memoryview(mmap.mmap(-1, SLOTS_BYTES, tagname=name.decode().strip())).cast("q")
    data, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
    if not data:
        raise EOFError("the caller is gone")
    try:
        return memoryview(mmap.mmap(descriptors[0], SLOTS_BYTES)).cast("q")
    finally:
        os.close(descriptors[0])

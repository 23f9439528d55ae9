"""A few integers shared by the caller and one worker, written without a lock.

Each slot has one writer, and a reader that needs no more than the newest whole value: aligned 64-bit writes are whole.
A forked worker inherits the memory. For others it is an unlinked file whose descriptor crosses the worker's socket.
Either way nothing is left behind however either side ends.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys

__all__ = ["CALL_CANCELLED", "CHUNK_NUMBER", "CURSOR", "SLOTS_BYTES", "STARTED", "TAKEN_BACK"]
__all__ += ["create_inherited_slots", "create_slots", "open_slots"]

# Written by the worker: position of the running item, or -1 - end when none runs and all before `end` are finished.
CURSOR = 0
# Written by the worker: how many chunks it has begun. The cursor speaks of that chunk.
CHUNK_NUMBER = 1
# Written by the caller: chunks of this call are not wanted any more.
CALL_CANCELLED = 2
# Written by the caller: chunks up to this one that the worker has not begun are not to be begun.
TAKEN_BACK = 3
# Written by the worker in a call with deadlines, nanoseconds of `time.monotonic`: when the running item began, negated
# when a chunk's function and items began to be rebuilt; 0 while neither goes on.
STARTED = 4
SLOTS_BYTES = 64


def create_inherited_slots() -> memoryview:
    """Make one view for the caller and for the child that is forked next."""
    return memoryview(mmap.mmap(-1, SLOTS_BYTES)).cast("q")


def create_slots(sock: socket.socket) -> memoryview:
    """Make the caller's view, and send the other end of `sock` what `open_slots` needs."""
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
        # Written, not only sized: on a full disk this fails here, and not with a bus error later.
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

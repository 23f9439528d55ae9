"""The messages between the caller and one worker: their layout, and the two ways to read and write them.

Every message is a fixed head (kind, length) and a body. The caller never blocks on a socket: it writes what fits and
reads what is there (`Outbox`, `Inbox`), so a worker that is stuck in a write cannot stop it. The worker blocks
(`receive`, `send`), for it has nothing else to do.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

__all__ = ["CHUNK", "EXIT", "FUNCTION", "FUNCTIONS_KEPT", "READY", "REFUSED", "RESULTS"]
__all__ += ["ChunkHead", "Inbox", "Outbox", "ResultsHead", "receive", "send"]

FUNCTION, CHUNK, EXIT, READY, RESULTS, REFUSED = range(6)
# Both sides drop the oldest function beyond this many, so the caller knows what a worker still has.
FUNCTIONS_KEPT = 32

_HEAD = Struct("<BQ")
# Buffers below this are joined before they are written: a copy costs less than a call.
_JOIN_BYTES = 1 << 16


class ChunkHead(NamedTuple):
    """What precedes a chunk's items.

    Attributes:
        call: number of the call; the worker drops the rest of a chunk whose call is cancelled.
        first: position of the first item in the input.
        count: number of items.
        slice_seconds: after this long the worker hands back the items it has not started; 0 never.
        stop_at_error: whether an error ends the chunk.
        function: digest of the function, 16 bytes.
    """

    call: int
    first: int
    count: int
    slice_seconds: float
    stop_at_error: bool
    function: bytes


class ResultsHead(NamedTuple):
    """What precedes some results of a chunk.

    Attributes:
        call: number of the call.
        first: position of the first result in the input.
        count: number of results.
        unstarted: number of items of the chunk that will not be run by this worker; only the last message counts.
        last: whether this ends the chunk.
        seconds: wall seconds the items took.
        cpu_seconds: CPU seconds the items took.
        memory: resident bytes of the worker; 0 if not read.
        errors: length of the pickled errors that follow the head, before the results.
    """

    call: int
    first: int
    count: int
    unstarted: int
    last: bool
    seconds: float
    cpu_seconds: float
    memory: int
    errors: int


# Seconds from the caller's order to start the worker until it could take a chunk.
READY_BODY = Struct("<d")
CHUNK_HEAD = Struct("<QQQd?16s")
RESULTS_HEAD = Struct("<QQQQ?ddQQ")


def head(kind: int, buffers: Sequence[bytes]) -> bytes:
    """Return the head of a message whose body is `buffers`."""
    return _HEAD.pack(kind, sum(map(len, buffers)))


def send(sock: socket.socket, kind: int, buffers: Sequence[bytes]) -> None:
    """Write one message and block until it is written."""
    for buffer in _joined(head(kind, buffers), buffers):
        sock.sendall(buffer)


def receive(sock: socket.socket) -> tuple[int, memoryview]:
    """Read one message, blocking. Raises EOFError when the other end is closed."""
    kind, length = _HEAD.unpack(_exactly(sock, _HEAD.size))
    return kind, _exactly(sock, length)


def _exactly(sock: socket.socket, length: int) -> memoryview:
    view = memoryview(bytearray(length))
    at = 0
    while at < length:
        got = sock.recv_into(view[at:])
        if not got:
            raise EOFError("the other end is closed")
        at += got
    return view


def _joined(first: bytes, buffers: Sequence[bytes]) -> Iterator[bytes]:
    small = [first]
    for buffer in buffers:
        if len(buffer) < _JOIN_BYTES:
            small.append(buffer)
            continue
        yield b"".join(small)
        small = []
        yield buffer
    if small:
        yield b"".join(small)


class Outbox:
    """Bytes on their way to a worker that may not be reading."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting: deque[memoryview] = deque()

    def put(self, kind: int, buffers: Sequence[bytes]) -> None:
        """Add one message and write as much as fits now. Raises OSError when the worker is gone."""
        self._waiting.extend(map(memoryview, _joined(head(kind, buffers), buffers)))
        self.flush()

    def flush(self) -> None:
        """Write what fits now. Raises OSError when the worker is gone."""
        waiting = self._waiting
        while waiting:
            try:
                sent = self._sock.send(waiting[0])
            except BlockingIOError:
                return
            if sent < len(waiting[0]):
                waiting[0] = waiting[0][sent:]
            else:
                waiting.popleft()

    def __bool__(self) -> bool:
        return bool(self._waiting)


class Inbox:
    """Bytes from a worker, as whole messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._head = bytearray()
        self._body: memoryview | None = None
        self._kind = 0
        self._at = 0

    def messages(self) -> Iterator[tuple[int, memoryview]]:
        """Yield the messages that have arrived whole. Raises EOFError when the worker is gone."""
        while True:
            if self._body is None:
                if not self._read_heads():
                    return
            elif self._at < len(self._body):
                got = self._receive(self._body[self._at :])
                if not got:
                    return
                self._at += got
            if self._body is not None and self._at == len(self._body):
                body, self._body = self._body, None
                yield self._kind, body

    def _read_heads(self) -> bool:
        piece = bytearray(_HEAD.size - len(self._head))
        got = self._receive(memoryview(piece))
        self._head += piece[:got]
        if len(self._head) < _HEAD.size:
            return False
        self._kind, length = _HEAD.unpack(self._head)
        self._head.clear()
        self._body, self._at = memoryview(bytearray(length)), 0
        return True

    def _receive(self, view: memoryview) -> int:
        try:
            got = self._sock.recv_into(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise EOFError("the worker is gone") from error
        if not got:
            raise EOFError("the worker is gone")
        return got

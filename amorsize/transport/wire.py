"""The messages between the caller and one worker: their layout, and how both sides read and write them.

Every message is a fixed head (kind, length) and a body. The caller never blocks on a socket: it writes what fits and
reads what is there (`Outbox`, `Inbox`), so a worker that is stuck in a write cannot stop it. The worker blocks in
`send`, and in `Inbox.read` only after it was told that there is something to read. Small messages that wait together
are written by one call and read by one call: with them, calls to the system are most of the cost.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from time import perf_counter

from ..errors import let_signals_through
from ..lean import NamedTuple, map

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

__all__ = ["CHUNK", "EXIT", "FUNCTION", "READY", "REFUSED", "RESULTS"]
__all__ += ["CHUNK_HEAD", "READY_BODY", "RESULTS_HEAD"]
__all__ += ["ChunkHead", "Inbox", "KeptFunctions", "Outbox", "ResultsHead", "send"]

FUNCTION, CHUNK, EXIT, READY, RESULTS, REFUSED = range(6)

_HEAD = Struct("<BQ")
# Buffers below this are joined before they are written: a copy costs less than a call.
_JOIN_BYTES = 1 << 16
# What is read at once. A longer body gets a buffer of its own, so that it is not copied.
_READ_BYTES = 1 << 15


class ChunkHead(NamedTuple):
    """What precedes a chunk's items.

    Attributes:
        call: number of the call; the worker drops the rest of a chunk whose call is cancelled.
        first: position of the first item in the input.
        count: number of items.
        slice_seconds: after this long the worker hands back the items it has not started; 0 never.
        stop_at_error: whether an error ends the chunk.
        timed: whether the caller watches each item's running time; then each result leaves before the next item begins.
        function: digest of the function, 16 bytes.
    """

    call: int
    first: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here
    slice_seconds: float
    stop_at_error: bool
    timed: bool
    function: bytes


class ResultsHead(NamedTuple):
    """What precedes some results of a chunk.

    Attributes:
        first: position of the first result in the input.
        count: number of results.
        unstarted: number of items of the chunk that will not be run by this worker; only the last message counts.
        last: whether this ends the chunk.
        began: when the first of these items began, in `time.perf_counter()` seconds, which all processes share.
        seconds: wall seconds the items took.
        cpu_seconds: CPU seconds the items took.
        memory: resident bytes of the worker; 0 if not read.
        errors: length of the pickled errors that follow the head, before the results.
    """

    first: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here
    unstarted: int
    last: bool
    began: float
    seconds: float
    cpu_seconds: float
    memory: int
    errors: int


CHUNK_HEAD = Struct("<qqQd??16s")
RESULTS_HEAD = Struct("<qQQ?dddQQ")
# Seconds from the order to start a worker until it was ready.
READY_BODY = Struct("<d")


def send(sock: socket.socket, kind: int, buffers: Sequence[bytes | memoryview]) -> None:
    """Write one message and block until it is written."""
    size = sum(map(len, buffers))
    small: list[bytes | memoryview] = [_HEAD.pack(kind, size)]
    if size < _JOIN_BYTES:
        sock.sendall(b"".join((small[0], *buffers)))
        return
    for buffer in buffers:
        if len(buffer) < _JOIN_BYTES:
            small.append(buffer)
            continue
        sock.sendall(b"".join(small))
        small.clear()
        sock.sendall(buffer)
    if small:
        sock.sendall(b"".join(small))


class Outbox:
    """Messages on their way to a worker that may not be reading."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting: deque[bytes | memoryview] = deque()

    def put(self, kind: int, buffers: Sequence[bytes | memoryview]) -> None:
        """Add one message; nothing is written before `flush`."""
        size = sum(map(len, buffers))
        if size < _JOIN_BYTES:
            self._waiting.append(b"".join((_HEAD.pack(kind, size), *buffers)))
        else:
            self._waiting.append(_HEAD.pack(kind, size))
            self._waiting.extend(buffers)

    def flush(self) -> None:
        """Write what fits now. Raises OSError when the worker is gone."""
        waiting = self._waiting
        while waiting:
            piece = self._joined() if len(waiting) > 1 else waiting[0]
            try:
                sent = self._sock.send(piece)
            except BlockingIOError:
                return
            if sent == len(piece):
                waiting.popleft()
            else:
                waiting[0] = memoryview(piece)[sent:]

    def _joined(self) -> bytes | memoryview:
        """Make one piece of the small ones in front, and return the first piece."""
        waiting = self._waiting
        room, small = _JOIN_BYTES, 0
        for piece in waiting:
            room -= len(piece)
            if room < 0:
                break
            small += 1
        if small > 1:
            waiting.appendleft(b"".join([waiting.popleft() for _ in range(small)]))
        return waiting[0]

    def __bool__(self) -> bool:
        return bool(self._waiting)


class Inbox:
    """Bytes from the other side, as whole messages.

    Attributes:
        body_began: `time.perf_counter()` when the newest long body began to come.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.body_began = 0.0
        self._sock = sock
        self._ahead = memoryview(bytearray(_READ_BYTES))
        self._start = self._stop = 0
        self._body: memoryview | None = None
        self._kind = 0
        self._at = 0

    def read(self) -> bool:
        """Read once what is there; say whether anything was. Raises EOFError when the other end is closed."""
        if self._body is not None:
            free = self._body[self._at :]
        else:
            if self._start:
                left = self._stop - self._start
                if left:
                    self._ahead[:left] = self._ahead[self._start : self._stop]
                self._start, self._stop = 0, left
            free = self._ahead[self._stop :]
        try:
            got = self._sock.recv_into(free)
        except BlockingIOError:
            return False
        except OSError as error:
            let_signals_through(error)
            raise EOFError("the other end is gone") from error
        if not got:
            raise EOFError("the other end is closed")
        if self._body is not None:
            self._at += got
        else:
            self._stop += got
        return True

    def messages(self) -> Iterator[tuple[int, memoryview]]:
        """Yield what has been read whole: kind and body. A body is valid until the next one is asked for."""
        if self._body is not None:
            if self._at < len(self._body):
                return
            body, self._body = self._body, None
            yield self._kind, body
            del body
        ahead = self._ahead
        while self._stop - self._start >= _HEAD.size:
            kind, length = _HEAD.unpack_from(ahead, self._start)
            begin = self._start + _HEAD.size
            if begin + length <= self._stop:
                self._start = begin + length
                yield kind, ahead[begin : begin + length]
                continue
            if _HEAD.size + length > len(ahead):
                self._kind, self._at = kind, self._stop - begin
                self.body_began = perf_counter()
                self._body = memoryview(bytearray(length))
                self._body[: self._at] = ahead[begin : self._stop]
                self._start = self._stop = 0
            return


class KeptFunctions:
    """Which functions a worker keeps. Both sides keep this account, so that the caller knows what to send again.

    Bounded in number and in bytes, for a function may be bound to large data; the newest is kept whatever its size.
    """

    # Fewer: a program that maps several functions in turn sends them again. More: memory in every worker.
    MOST = 32
    MOST_BYTES = 64 << 20

    def __init__(self) -> None:
        self._sizes: dict[bytes, int] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._sizes

    def add(self, digest: bytes, size: int) -> list[bytes]:
        """Take in a function, and return which others are to be dropped for it."""
        dropped = []
        while self._sizes and (len(self._sizes) >= self.MOST or sum(self._sizes.values()) + size > self.MOST_BYTES):
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            dropped.append(oldest)
        self._sizes[digest] = size
        return dropped

"""The messages between the caller and one worker: their layout, and how both sides read and write them.

Every message is a fixed head (kind, length) and a body. The caller never blocks on a socket: it writes what fits and
reads what is there (`Outbox`, `Inbox`), so a worker that is stuck in a write cannot stop the caller. The worker blocks
in `send`; it calls `Inbox.read` only when it knows that there is something to read. Small messages that wait together
are written by one system call and read by one, because system calls are most of what small messages cost.
"""

from __future__ import annotations

from _struct import Struct
from collections import deque
from time import perf_counter

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from .memory import Crossed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

__all__ = ["CHUNK", "EXIT", "FUNCTION", "READY", "REFUSED", "RELAY", "RESULTS", "SAID", "SHARED_FUNCTION"]
__all__ += ["CHUNK_HEAD", "READY_BODY", "RESULTS_HEAD"]
__all__ += ["ChunkHead", "Inbox", "KeptFunctions", "Outbox", "ResultsHead", "lasting", "send"]

# RELAY tells a worker what `relay.what_to_tell` has made, or nothing; SAID brings what items have said since.
FUNCTION, SHARED_FUNCTION, CHUNK, EXIT, READY, RESULTS, REFUSED, RELAY, SAID = range(9)

_HEAD = Struct("<BQ")
# Buffers smaller than this are joined before they are written, because a copy costs less than a system call.
_JOIN_BYTES = 1 << 16
# So much is read at once. A body that is longer gets a buffer of its own, so that it is not copied.
_READ_BYTES = 1 << 15


class ChunkHead(NamedTuple):
    """What precedes a chunk's items.

    Attributes:
        call: number of the call; the worker drops the rest of a chunk whose call is cancelled.
        first: position of the first item in the input.
        count: number of items.
        slice_seconds: the worker hands back the items that it has not started after this time; 0 means never.
        stop_at_error: whether an error ends the chunk.
        timed: whether the caller watches each item's running time; then each result leaves before the next item begins.
        threads: how many threads numerical libraries may use.
        function: digest of the function's payload, 16 bytes.
    """

    call: int
    first: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody needs here
    slice_seconds: float
    stop_at_error: bool
    timed: bool
    threads: int
    function: bytes


class ResultsHead(NamedTuple):
    """What precedes some results of a chunk.

    Attributes:
        first: position of the first result in the input.
        count: number of results.
        unstarted: number of items that this worker will not run; it is valid in a chunk's last message only.
        last: whether this is the chunk's last message.
        began: when the first of these items began, in `time.perf_counter()` seconds, a clock that all processes share.
        seconds: wall seconds that the items took.
        cpu_seconds: CPU seconds that the items took.
        memory: resident bytes of the worker; 0 if they were not read.
        errors: length in bytes of the pickled errors, which stand between the head and the results.
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


CHUNK_HEAD = Struct("<qqQd??H16s")
RESULTS_HEAD = Struct("<qQQ?dddQQ")
# This body holds the seconds from the order to start a worker until the worker was ready.
READY_BODY = Struct("<d")


def send(sock: socket.socket, kind: int, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
    """Write one message and block until it is written."""
    size = sum(map(len, buffers))
    small: list[bytes | bytearray | memoryview] = [_HEAD.pack(kind, size)]
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
    """Messages on their way to a worker that may not be reading now.

    Attributes:
        told: what the worker was told last about what is to be relayed.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.told = b""
        self._crossed = Crossed()
        self._sock = sock
        self._waiting: deque[bytes | bytearray | memoryview] = deque()

    def put(self, kind: int, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Add one message; nothing is written before `flush`."""
        size = sum(map(len, buffers))
        if size < _JOIN_BYTES:
            self._waiting.append(b"".join((_HEAD.pack(kind, size), *buffers)))
        else:
            self._waiting.append(_HEAD.pack(kind, size))
            self._waiting.extend(buffers)

    def tell(self, relay: bytes) -> None:
        """Add a message about what is to be relayed, unless the worker was told the same before."""
        if relay != self.told:
            self.told = relay
            self.put(RELAY, [relay])

    def flush(self) -> None:
        """Write as much as the socket takes now; raises OSError if the worker is gone."""
        waiting = self._waiting
        while waiting:
            piece = self._joined() if len(waiting) > 1 else waiting[0]
            began = perf_counter() if len(piece) >= _JOIN_BYTES else 0.0
            try:
                sent = self._sock.send(piece)
            except BlockingIOError:
                return
            if began and sent >= _JOIN_BYTES:
                self._crossed = self._crossed.more(sent, perf_counter() - began)
            if sent == len(piece):
                waiting.popleft()
            else:
                waiting[0] = memoryview(piece)[sent:]

    def _joined(self) -> bytes | bytearray | memoryview:
        """Join the small pieces in front into one, and return the first piece."""
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

    def crossed_lately(self) -> Crossed:
        """Return what was written in large pieces since this was last asked, and how long the system took for it."""
        crossed, self._crossed = self._crossed, Crossed()
        return crossed

    def nbytes(self) -> int:
        """Return how many bytes wait."""
        return sum(map(len, self._waiting))

    def __bool__(self) -> bool:
        return bool(self._waiting)


class Inbox:
    """Reads bytes from the other side, and gives them out as whole messages.

    Attributes:
        body_began: `time.perf_counter()` when the newest long body began to arrive.
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
        """Read what is there, once, and say whether there was anything; raises EOFError if the other end is closed."""
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
        """Yield the kind and body of each message that was read whole; a body is valid until the next is asked for."""
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


def lasting(body: memoryview) -> memoryview:
    """Return a body that stays valid after the next message is asked for; one that has a buffer of its own does."""
    return body if _HEAD.size + len(body) > _READ_BYTES else memoryview(bytes(body))


class KeptFunctions:
    """The functions that a worker keeps; both sides keep this list, so that the caller knows which to send again.

    It is bounded in number and in bytes, because a function may be bound to large data; the newest function is kept
    whatever its size.
    """

    # With smaller values a program that maps several functions in turn sends them again; with larger ones every worker
    # uses more memory.
    MOST = 32
    MOST_BYTES = 64 << 20

    def __init__(self) -> None:
        self._sizes: dict[bytes, int] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._sizes

    def add(self, digest: bytes, size: int) -> list[bytes]:
        """Add a function, and return the digests of those that are dropped to make room for it."""
        dropped = []
        while self._sizes and (len(self._sizes) >= self.MOST or sum(self._sizes.values()) + size > self.MOST_BYTES):
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            dropped.append(oldest)
        self._sizes[digest] = size
        return dropped

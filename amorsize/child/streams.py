"""What stands for `sys.stdout` and `sys.stderr` in a worker whose output is relayed.

A stand-in answers what a program asks of a standard stream as the caller's stream would (`encoding`, `isatty`), and
`fileno` gives the descriptor of this process, for programs that an item starts. It is never closed: what an item does
to it must not reach the next item. An object that has kept it, such as a log handler, writes on through it when the
call is over; while nothing is relayed, all goes to the stream that it stands for.
"""

from __future__ import annotations

import codecs
import io

from ..transport.relay import ERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..transport.relay import Looks
    from .said import Relay

__all__ = ["StandIn"]


class StandIn(io.TextIOBase):
    """Stands for a standard stream.

    Args:
        relay: takes what is written.
        kind: which stream this is.
        real: the stream that this process would write to; None if it has none.
    """

    encoding = "utf-8"
    errors = "strict"
    mode = "w"
    newlines = None
    line_buffering = True
    write_through = False

    def __init__(self, relay: Relay, kind: int, real: Any) -> None:
        self._isatty = False
        self.name = "<stderr>" if kind == ERR else "<stdout>"
        self.buffer = _Bytes(self)
        self._relay = relay
        self._kind = kind
        self._real = real

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._relay.on:
            self._relay.write(self._kind, text)
        elif self._real is not None:
            self._real.write(text)
        return len(text)

    def flush(self) -> None:
        if self._relay.on:
            self._relay.flush()
        elif self._real is not None:
            self._real.flush()

    def close(self) -> None:
        """Do nothing but flush."""
        self.flush()

    def fileno(self) -> int:
        try:
            descriptor: int = self._real.fileno()
        except (AttributeError, OSError, ValueError):  # it was the caller's, and has none
            return 2 if self._kind == ERR else 1
        return descriptor

    def isatty(self) -> bool:
        return self._isatty

    def writable(self) -> bool:
        return True

    def look(self, looks: Looks) -> None:
        """Look as the caller's stream does."""
        self.encoding, self._isatty = looks
        self.errors = "backslashreplace" if self._kind == ERR else "strict"

    def reconfigure(self, *, encoding: str | None = None, **_: object) -> None:
        """Take another encoding; the other settings of a stream are the caller's."""
        if encoding is not None:
            self.encoding = encoding

    def detach(self) -> Any:
        """Return what takes bytes; this stream goes on."""
        return self.buffer


class _Bytes(io.BufferedIOBase):
    """Takes bytes for a stand-in; text in which the caller's stream then shows them."""

    def __init__(self, stream: StandIn) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._stream.write(self._decode(bytes(view)))
        return view.nbytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Do nothing but flush, because a wrapper that is dropped closes what it wraps."""
        self.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

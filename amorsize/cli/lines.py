"""How are lines read and results written in a pipe? Live input is answered line by line, and fast input in blocks.

Lines are read in blocks as they come. Before the reader waits for more of them, what was written so far is flushed, so
that whoever types, or feeds us slowly, sees the answer to each line. Results are flushed one by one until many have
come quickly one after another; only then are some held, and more the longer that lasts.
"""

from __future__ import annotations

import codecs
import os
import select
from operator import length_hint
from time import perf_counter

from ..errors import let_signals_through
from ..lean import map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Lines", "NobodyReadsError", "Output"]

_BLOCK_BYTES = 1 << 16
# Results that come sooner than this one after another come quickly.
_QUICK_SECONDS = 0.0002
# Each time that those which were held came quickly, one more is held, and this share of them more; at most so many.
# With larger numbers, results wait behind an item that suddenly takes long; with smaller ones, there are more writes.
_QUICK_EACH = 8
_MOST_HELD = 4096


class NobodyReadsError(Exception):
    """Whoever read the results has closed the pipe."""


class Lines:
    """The lines of a file or a pipe, without their ends; bytes that are no UTF-8 come out again as they went in.

    Args:
        descriptor: of the open file.
        before_waiting: is called before more has to be waited for.
    """

    def __init__(self, descriptor: int, before_waiting: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._before_waiting = before_waiting
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._begun: list[str] = []  # the parts of a line whose end has not come
        self._whole: Iterator[str] = iter(())  # the lines that were read and not taken
        self._ended = False

    def amorsize_would_wait(self) -> bool:
        """Say whether no whole line is there now, so that workers' results are waited for meanwhile (`feed.source`)."""
        while not (self._ended or length_hint(self._whole)) and _has_more(self._descriptor):
            self._read()
        return not (self._ended or length_hint(self._whole))

    def __iter__(self) -> Iterator[str]:
        while True:
            yield from self._whole
            if length_hint(self._whole):
                continue
            if self._ended:
                return
            if not _has_more(self._descriptor):
                self._before_waiting()
            self._read()

    def _read(self) -> None:
        data = os.read(self._descriptor, _BLOCK_BYTES)
        text = self._decoder.decode(data, not data)
        first, *others = text.split("\n")
        self._begun.append(first)
        if others:
            lines = ["".join(self._begun), *others[:-1]]
            self._begun = [others[-1]]
        else:
            lines = []
        if not data:
            self._ended = True
            lines += filter(None, ["".join(self._begun)])
        if "\r" in text or any(line.endswith("\r") for line in lines[:1]):
            lines = [line.removesuffix("\r") for line in lines]
        # A tuple, as a list might be one that grows while it is read.
        self._whole = iter(tuple(lines))


def _has_more(descriptor: int) -> bool:
    """Say whether something can be read at once, be it the end; where that cannot be asked, it is taken for no."""
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError) as error:  # Windows asks this of sockets only, and others not of large numbers
        let_signals_through(error)
        return False


class Output:
    """Writes results, one a line.

    Args:
        descriptor: where to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held: list[str] = []
        self._hold = 0  # how many may be held now
        self._written_at = 0.0

    def write(self, line: str) -> None:
        """Take a line, which is written now or soon. Raises as `flush` does."""
        held = self._held
        held.append(line)
        if len(held) > self._hold:
            now = perf_counter()
            quick = now - self._written_at < _QUICK_SECONDS * len(held)
            self._written_at = now
            self._hold = min(_MOST_HELD, self._hold + 1 + self._hold // _QUICK_EACH) if quick else 0
            self.flush()

    def flush(self) -> None:
        """Write all lines so far.

        Raises:
            NobodyReadsError: the pipe was closed.
            OSError: they cannot be written.
        """
        if not self._held:
            return
        held, self._held = self._held, []
        view = memoryview(b"\n".join([*map(_encoded, held), b""]))
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except BrokenPipeError:
            raise NobodyReadsError from None


def _encoded(line: str) -> bytes:
    try:
        return line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it has halves of pairs that are no bytes of the input
        return line.encode("utf-8", "backslashreplace")

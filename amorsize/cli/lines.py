"""How are lines read and results written in a pipe? Live input is answered line by line, and fast input in blocks.

Lines are read in blocks as they come. Before the reader waits for more of them, what was written so far is flushed, so
that whoever types, or feeds us slowly, sees the answer to each line. Results that come slowly are flushed each, too.
"""

from __future__ import annotations

import codecs
import os
import select
from operator import length_hint
from time import perf_counter

from ..errors import let_signals_through

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Lines", "Output"]

_BLOCK_BYTES = 1 << 16
# Results are written together if they come sooner than this one after another. A smaller value means more writes; a
# larger one means that results are seen later.
_TOGETHER_SECONDS = 0.001
_TOGETHER = 5000


class Lines:
    """The lines of a file or a pipe, without their ends; bytes that are no UTF-8 come out again as they went in.

    Args:
        descriptor: of the open file.
        before_waiting: is called before more has to be waited for.
    """

    def __init__(self, descriptor: int, before_waiting: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._before_waiting = before_waiting
        self._read: Iterator[str] = iter(())  # the lines that were read and not taken

    def amorsize_would_wait(self) -> bool:
        """Say whether nothing can be read now, so that workers' results are waited for meanwhile (`feed.source`)."""
        return not (length_hint(self._read) or _has_more(self._descriptor))

    def __iter__(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        begun: list[str] = []  # the parts of a line whose end has not come
        while True:
            if not _has_more(self._descriptor):
                self._before_waiting()
            data = os.read(self._descriptor, _BLOCK_BYTES)
            first, *others = decoder.decode(data, not data).split("\n")
            begun.append(first)
            if others:
                last = others.pop()
                self._read = iter(["".join(begun), *others])
                begun = [last]
                yield from self._read
            if not data:
                if rest := "".join(begun):
                    yield rest
                return


def _has_more(descriptor: int) -> bool:
    """Say whether something can be read at once, be it the end; where that cannot be asked, it is taken for no."""
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except OSError as error:  # Windows asks this of sockets only
        let_signals_through(error)
        return False


class Output:
    """Writes results, one a line.

    Args:
        descriptor: where to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: list[str] = []
        self._flushed_at = 0.0

    def write(self, line: str) -> None:
        """Take a line, which is written now or soon."""
        self._waiting.append(line)
        if len(self._waiting) >= _TOGETHER or perf_counter() - self._flushed_at >= _TOGETHER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write all lines so far. Raises `BrokenPipeError` where nobody reads any more."""
        if self._waiting:
            text = "\n".join(self._waiting) + "\n"
            self._waiting.clear()
            view = memoryview(text.encode("utf-8", "surrogateescape"))
            while view:
                view = view[os.write(self._descriptor, view) :]
        self._flushed_at = perf_counter()

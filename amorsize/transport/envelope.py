"""What items and results are in while they cross: one form for every way, a socket, a pipe or shared memory."""

from __future__ import annotations

from ..lean import NamedTuple, hash_of, map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PARTS", "WHOLE", "Envelope"]

# The first byte says which of two forms it is.
WHOLE = b"W"
PARTS = b"P"


class Envelope(NamedTuple):
    """Some values, pickled.

    Attributes:
        head: the form; in parts, their number and lengths follow.
        parts: one pickle of all values where none can fail to be rebuilt, else one a value.
        buffers: memory that the pickles refer to and do not hold, by its order in them. Empty where they hold all.
    """

    head: bytes
    parts: Sequence[bytes]
    buffers: Sequence[bytes | memoryview] = ()

    @property
    def plain(self) -> bool:
        """Whether these are scalars, or tuples of scalars, and nothing else."""
        return self.head == WHOLE

    def pieces(self) -> list[bytes | memoryview]:
        """Return what is to be written, in order."""
        return [self.head, *self.parts, *self.buffers]

    def nbytes(self) -> int:
        """Return how many bytes that are."""
        return len(self.head) + sum(map(len, self.parts)) + sum(map(len, self.buffers))

    def digest(self) -> bytes:
        """Return 16 bytes that stand for the content, whatever way it crosses."""
        digest: bytes = hash_of(self.pieces()).digest()
        return digest[:16]

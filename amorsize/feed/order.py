"""Holds results on their way to the user: in the items' order, or in the order in which they are done."""

from __future__ import annotations

from collections import deque

from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["AsDone", "InOrder", "Piece"]

# Results up to this size are handed on together. With a larger value, results that the user has finished with are kept
# for longer.
_JOINED_BYTES = 1 << 14


class Piece(NamedTuple):
    """Consecutive results, and the error that comes after them and ends the call; None if the call goes on."""

    values: list[Any]
    error: BaseException | None
    bytes_out: int


class InOrder:
    """Holds results until all before them are there.

    Args:
        first: position of the first item.
        taken: keeps results that have come, and returns them as the user gets them; None if nobody keeps any.

    Attributes:
        next: position of the next result to be handed out.
        bytes_waiting: pickled size of the results that wait.
        placed: number of results that have come.
    """

    def __init__(self, first: int, taken: Callable[[Piece], Piece] | None = None) -> None:
        self._taken = taken
        self.next = first
        self.bytes_waiting = 0
        self.placed = self._counted = 0
        self._pieces: dict[int, Piece] = {}

    def put(self, index: int, piece: Piece) -> None:
        """Take the results from position `index` on."""
        if self._taken is not None:
            piece = self._taken(piece)
        self._pieces[index] = piece
        self.bytes_waiting += piece.bytes_out
        self.placed += len(piece.values)

    def newly_placed(self) -> int:
        """Return how many results have come since this was asked last."""
        before, self._counted = self._counted, self.placed
        return self.placed - before

    def ready(self) -> bool:
        """Say whether results can be handed out."""
        return self.next in self._pieces

    def pop(self) -> Piece | None:
        """Return the next results. Those of short chunks come together, because each piece costs time on its way."""
        piece = self._take(self.next)
        if piece is None:
            return None
        values, error, bytes_out = piece
        at = self.next + len(values)
        while error is None and bytes_out < _JOINED_BYTES:
            piece = self._take(at, most_bytes=_JOINED_BYTES)
            if piece is None:
                break
            values += piece.values
            at += len(piece.values)
            error = piece.error
            bytes_out += piece.bytes_out
        self.next = at
        self.bytes_waiting -= bytes_out
        return Piece(values, error, bytes_out)

    def _take(self, index: int, most_bytes: float = float("inf")) -> Piece | None:
        piece = self._pieces.get(index)
        if piece is None or piece.bytes_out >= most_bytes:
            return None
        del self._pieces[index]
        return piece


class AsDone(InOrder):
    """Holds results until they are asked for. `next` counts those handed out, from the first item's position on."""

    def __init__(self, first: int, taken: Callable[[Piece], Piece] | None = None) -> None:
        super().__init__(first, taken)
        self._done: deque[Piece] = deque()

    def put(self, index: int, piece: Piece) -> None:
        if self._taken is not None:
            piece = self._taken(piece)
        self._done.append(piece)
        self.bytes_waiting += piece.bytes_out
        self.placed += len(piece.values)

    def ready(self) -> bool:
        return bool(self._done)

    def _take(self, index: int, most_bytes: float = float("inf")) -> Piece | None:
        if not self._done or self._done[0].bytes_out >= most_bytes:
            return None
        return self._done.popleft()

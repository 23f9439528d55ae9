"""What a chunk costs the caller, learnt from calls of many short ones."""

from __future__ import annotations

from ..measure import machine

__all__ = ["ChunkCost"]

# Fewer chunks say little of what one costs; larger ones say more of their items, or of their bytes.
_CHUNKS_LEARNT_FROM = 32
_SMALL_CHUNK_ITEMS = 8
_SMALL_CHUNK_BYTES = 10_000


class ChunkCost:
    """Adds up what a run's chunks were and took.

    Attributes:
        chunks: number of chunks submitted.
        items: number of items that came back.
        nbytes: pickled size of chunks and results.
        seconds: the caller's CPU seconds for this run.
    """

    def __init__(self) -> None:
        self.chunks = self.items = self.nbytes = 0
        self.seconds = 0.0

    def learn(self, route: str, elsewhere_seconds: float) -> None:
        """Take in what a chunk cost the caller, if these tell it; `elsewhere_seconds` of it went to items."""
        small = self.items <= self.chunks * _SMALL_CHUNK_ITEMS and self.nbytes <= self.chunks * _SMALL_CHUNK_BYTES
        if self.chunks >= _CHUNKS_LEARNT_FROM and small:
            machine.learn_chunk(route, (self.seconds - elsewhere_seconds) / self.chunks)

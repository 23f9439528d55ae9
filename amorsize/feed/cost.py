"""What a chunk costs, learnt from the caller's time in calls of many short ones, or from what a backend has seen."""

from __future__ import annotations

from ..measure import machine

__all__ = ["ChunkCost"]

# A run teaches the cost of a chunk only if it had at least this many chunks, because fewer say little, and only if the
# chunks were small, because the cost of larger ones is mostly that of their items or bytes.
_CHUNKS_LEARNT_FROM = 32
_SMALL_CHUNK_ITEMS = 8
_SMALL_CHUNK_BYTES = 10_000


class ChunkCost:
    """Adds up how many chunks a run had, what was in them, and what they cost the caller.

    Attributes:
        chunks: number of chunks submitted.
        items: number of items that came back.
        nbytes: pickled size of chunks and results.
        seconds: the caller's CPU seconds for this run.
    """

    def __init__(self) -> None:
        self.chunks = self.items = self.nbytes = 0
        self.seconds = 0.0

    def learn(self, route: str, elsewhere_seconds: float, seconds_per_task: float | None = None) -> None:
        """Learn what a chunk costs, if this run's chunks can tell.

        Args:
            route: the route that the cost is learnt for.
            elsewhere_seconds: the part of `seconds` that items took in the caller, which is no cost of chunks.
            seconds_per_task: what a chunk costs the workers, if the backend has seen that.
        """
        if seconds_per_task is not None:
            machine.learn_chunk(route, seconds_per_task)
            return
        small = self.items <= self.chunks * _SMALL_CHUNK_ITEMS and self.nbytes <= self.chunks * _SMALL_CHUNK_BYTES
        if self.chunks >= _CHUNKS_LEARNT_FROM and small:
            machine.learn_chunk(route, (self.seconds - elsewhere_seconds) / self.chunks)

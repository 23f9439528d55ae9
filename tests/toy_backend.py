"""A backend in one module: chunks run in order, in the process and thread that waits for them."""

from __future__ import annotations

from collections import deque

from amorsize import context
from amorsize.backends.base import Start
from amorsize.backends.events import Chunk, Failure, Results, Returned
from amorsize.backends.rows import Can, Row
from amorsize.child.run_chunk import run_items
from amorsize.errors import add_index
from amorsize.transport.serialize import rebuilt

ROW = Row("toy", __name__, Can(crosses=False, starts_processes=False))


def open_backend(job, target=None):
    return InTurn(job)


class InTurn:
    """Runs the oldest chunk whenever somebody waits."""

    route = "toy"
    prompt = True
    seconds_per_task = None
    found = None
    start = Start(warm=True)

    def __init__(self, job):
        self.width = job.width
        self._job = job
        if job.initializer is not None:
            job.initializer(*job.initargs)
        self._chunks = deque()
        self._returned = []

    def room(self, chunk_seconds):
        return 2 * self.width - len(self._chunks)

    def submit(self, chunk, slice_seconds):
        self._chunks.append((chunk, slice_seconds))
        return 0

    def flush(self):
        pass

    def wait(self, timeout=None):
        if self._returned or not self._chunks:
            returned, self._returned = self._returned, []
            return returned
        chunk, slice_seconds = self._chunks.popleft()
        token = context.in_worker.set(True)
        try:
            ran = run_items(
                self._job.function,
                map(rebuilt, chunk.items),
                chunk.first,
                slice_seconds=slice_seconds,
                stop_at_error=self._job.stop_at_error,
            )
        finally:
            context.in_worker.reset(token)
        failures = {}
        for offset, error in ran.errors:
            index = chunk.first + offset
            failures[index] = Failure(add_index(error, index), chunk.items[offset])
        events = [Results(chunk.first, ran.values, failures, ran.seconds, ran.cpu_seconds)]
        left = chunk.items[len(ran.values) :]
        return [*events, Returned(Chunk(chunk.first + len(ran.values), left))] if left else events

    def resize(self, width):
        self.width = width

    def ask_back(self):
        self._returned += [Returned(chunk) for chunk, _ in self._chunks]
        self._chunks.clear()

    def starting(self):
        return False

    def busy(self):
        return bool(self._chunks or self._returned)

    def where(self):
        return []

    def close(self, *, hurry=False):
        self._chunks.clear()

"""A backend that says what a test wants it to say."""

from __future__ import annotations

from amorsize.backends.base import Start, Unsendable
from amorsize.backends.events import Chunk, Failure, Lost, Refused, Results, Returned
from amorsize.errors import SerializationError


def _flat(events):
    for event in events if isinstance(events, list) else [events]:
        if isinstance(event, list):
            yield from event
        else:
            yield event


class FakeBackend:
    """Runs nothing. Each `wait` asks the next line of the script for events; without a script, the oldest chunk ends.

    A line is called with this backend and returns an event, or a list of them.
    """

    route = "fake"
    prompt = True
    found = None
    seconds_per_task = None
    start = Start(warm=True)

    def __init__(self, *script, room=4, width=2):
        self.script = list(script)
        self.chunks = []  # under way, oldest first
        self.submitted = []  # (first, length, slice)
        self.limit = room
        self.is_starting = False
        self.width = width
        self.said = []  # "close", "hurry", and widths

    def room(self, chunk_seconds):
        return len(self.chunks) < self.limit

    def submit(self, chunk, slice_seconds):
        for index, item in enumerate(chunk.items, chunk.first):
            if item == "unsendable":
                raise Unsendable(index, TypeError("no such thing"), None)
        self.submitted.append((chunk.first, len(chunk.items), slice_seconds))
        self.chunks.append(chunk)
        return 0

    def flush(self):
        pass

    def wait(self, timeout=None):
        assert self.chunks, "waited for nothing"
        line = self.script.pop(0) if self.script else FakeBackend.done
        events = line(self)
        return list(_flat(events))

    def resize(self, width):
        self.width = width
        self.said.append(width)

    def ask_back(self):
        self.said.append("ask back")

    def starting(self):
        return self.is_starting

    def busy(self):
        return bool(self.chunks)

    def where(self):
        return []

    def close(self, *, hurry=False):
        self.said.append("hurry" if hurry else "close")

    @property
    def lengths(self):
        """First position and length of each chunk that was submitted."""
        return [(first, length) for first, length, _ in self.submitted]

    def done(self, at=0, *, failing=None, keep=None, seconds=0.0, bytes_out=0):
        """End a chunk, the `at`th under way, with each item as its result but those of the indexes in `failing`.

        Only `keep` items were started; the others come back.
        """
        chunk = self.chunks.pop(at)
        count = len(chunk.items) if keep is None else keep
        failures, values = {}, list(chunk.items[:count])
        for index, error in (failing or {}).items():
            failures[index] = Failure(error, chunk.items[index - chunk.first])
            values[index - chunk.first] = None
        events = [Results(chunk.first, values, failures, seconds, seconds, bytes_out)] if count else []
        if count < len(chunk.items):
            events.append(Returned(Chunk(chunk.first + count, chunk.items[count:])))
        return events

    def lost(self, at=0, *, running=None, finished=0, exitcode=-9):
        """Let the worker of a chunk die with it: some items finished, perhaps one running, the rest not started."""
        chunk = self.chunks.pop(at)
        begun = finished + (running is not None)

        def part(start, stop):
            return Chunk(chunk.first + start, chunk.items[start:stop]) if start < stop else None

        return Lost(part(finished, begun), part(0, finished), part(begun, len(chunk.items)), exitcode)

    def refused(self, at=0, *, error=None):
        return Refused(self.chunks.pop(at), error or SerializationError("the function is unknown there"))

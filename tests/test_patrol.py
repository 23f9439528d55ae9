"""Who looks after the workers of a call: when chunks are taken back."""

from __future__ import annotations

import pytest

from amorsize.backends.events import Chunk
from amorsize.backends.processes.handle import Flight
from amorsize.backends.processes.patrol import TAKE_BACK_SECONDS, Patrol


class Outbox:
    """A message on its way, of which so many bytes are left each time it is asked."""

    def __init__(self, *left):
        self.left = list(left)

    def nbytes(self):
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


class Worker:
    """A worker that has these chunks, of which it has begun some."""

    def __init__(self, n_chunks, begun=0, *, outbox=None):
        self.flights = [Flight(Chunk(number, [number]), number + 1, b"") for number in range(n_chunks)]
        self.begun = begun
        self.outbox = outbox
        self.takes_chunks = True

    def n_under_way(self):
        return sum(not flight.taken_back for flight in self.flights)

    def has_begun(self, flight):
        return flight.number <= self.begun

    def ask_back(self):
        pass

    def take_back(self):
        taken = [flight for flight in self.flights if not flight.taken_back and not self.has_begun(flight)]
        for flight in taken:
            flight.taken_back = True
        return [flight.chunk for flight in taken]


def taken_in_the_end(worker, seconds=10 * TAKE_BACK_SECONDS):
    """Return what is taken back from a worker while another one has nothing to do."""
    patrol, taken, now = Patrol([worker, Worker(0)], None, 0.0), [], 0.0
    while now < seconds:
        taken += patrol.look(now).taken_back
        now += TAKE_BACK_SECONDS
    return [chunk.first for chunk in taken]


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        (Worker(2, begun=1), [1]),
        (Worker(2, begun=1, outbox=Outbox(9)), [1]),
        (Worker(1, begun=1), []),
        (Worker(1), [0]),
        (Worker(1, outbox=Outbox(9, 8, 7, 6)), []),
    ],
    ids=["behind another", "behind another, and not sent yet", "begun", "not begun", "on its way"],
)
def test_what_is_taken_back(worker, expected):
    """Chunks that wait behind another one; one that is still on its way would only begin it anew elsewhere."""
    assert taken_in_the_end(worker) == expected


def test_what_does_not_go_on_is_taken_back():
    """A worker that reads nothing, because it hangs, does not keep what another could do."""
    assert taken_in_the_end(Worker(1, outbox=Outbox(9, 8, 7, 7)), seconds=3.0) == [0]


def test_what_goes_on_is_not():
    """However long it takes."""
    assert taken_in_the_end(Worker(1, outbox=Outbox(*range(10_000, 0, -1))), seconds=3.0) == []

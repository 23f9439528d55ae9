"""Who looks after the workers of a call: when chunks are taken back."""

from __future__ import annotations

import pytest

from amorsize.backends.events import Chunk
from amorsize.backends.processes.handle import Flight
from amorsize.backends.processes.patrol import TAKE_BACK_SECONDS, Patrol


class Worker:
    """A worker that has these chunks, of which it has begun some."""

    def __init__(self, n_chunks, begun=0, *, outbox=()):
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


def taken_in_the_end(worker):
    """Return what is taken back from a worker while another one has nothing to do."""
    patrol, taken = Patrol([worker, Worker(0)], None, 0.0), []
    for step in range(6):
        taken += patrol.look(step * TAKE_BACK_SECONDS).taken_back
    return [chunk.first for chunk in taken]


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        (Worker(2, begun=1), [1]),
        (Worker(2, begun=1, outbox=[b"the second"]), [1]),
        (Worker(1, begun=1), []),
        (Worker(1), [0]),
        (Worker(1, outbox=[b"most of it"]), []),
    ],
    ids=["behind another", "behind another, and not sent yet", "begun", "not begun", "on its way"],
)
def test_what_is_taken_back(worker, expected):
    """Chunks that wait behind another one; one that is still on its way would only begin it anew elsewhere."""
    assert taken_in_the_end(worker) == expected

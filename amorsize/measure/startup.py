"""What do starting a worker, sending a chunk and sending bytes cost here? Learnt from real ones, never from a test run.

Until something was learnt the documented defaults stand. An observation moves the estimate half of its distance on the
scale of ratios, so that costs which differ by orders of magnitude are learnt in a few steps from above and below alike;
one observation counts for at most ten times the estimate, because a stalled machine would otherwise deter from starting
workers at all, and then nothing would ever correct it.
"""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["Costs", "StartCost"]

SLOW_OBSERVATION = 10.0  # the most that one observation counts for, as a multiple of the estimate
LEAST_BYTES_OBSERVED = 100_000  # below this, a transfer's time is its fixed cost and says nothing of bandwidth


class StartCost(NamedTuple):
    """Seconds that starting workers costs.

    Attributes:
        first: until the first worker answers, when none is running.
        following: further seconds for each worker after the first.
    """

    first: float
    following: float


# Pool(2) started and two trivial items mapped, CPython 3.11, two cores, quiet; too low starts workers for nothing,
# too high keeps work serial that would gain.
DEFAULT_STARTS = {
    "fork": StartCost(0.011, 0.003),
    "spawn": StartCost(0.080, 0.040),
    "forkserver": StartCost(0.154, 0.006),
}
RUNNING_FORKSERVER = StartCost(0.011, 0.006)
# Savings missed longer ago do not count: workers that start now leave after as long without work. Longer: workers start
# for calls too rare to find them. Shorter: calls that could share workers each go without.
MISSED_FOR_SECONDS = 60.0
DEFAULT_CHUNK_SECONDS = 20e-6
DEFAULT_BYTES_PER_SECOND = 1e9


class Costs:
    """The costs learnt so far, each on its route: what was seen on one never prices another.

    A route is a backend as costs know it, such as "processes/fork" or "pool/spawn"; its last part says how workers are
    started, and so which defaults stand until something was seen. Threads may share one: a lost update loses one
    observation.

    >>> costs = Costs()
    >>> costs.start("processes/fork").first
    0.011
    >>> costs.learn_start("processes/fork", 0.044)
    >>> round(costs.start("processes/fork").first, 3), costs.start("pool/fork").first
    (0.022, 0.011)
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know no more than the defaults."""
        self._chunk_seconds: dict[str, float] = {}
        self._bytes_per_second: dict[str, float] = {}
        self._starts: dict[str, StartCost] = {}
        self._missed_seconds = 0.0
        self._missed_at = 0.0

    def miss(self, seconds: float, now: float) -> None:
        """Take in that a call without workers would have been so much shorter, had they run already.

        No such call repays a start, and all of them together may. By the ski-rental argument, workers that start once
        the savings missed equal their price cost at most twice what knowing the calls to come would have.
        """
        self._missed_seconds = self.missed(now) + seconds
        self._missed_at = now

    def missed(self, now: float) -> float:
        """Return the seconds that calls have missed lately, since workers were started the last time."""
        return self._missed_seconds if now - self._missed_at < MISSED_FOR_SECONDS else 0.0

    def forget_missed(self) -> None:
        """Begin to count anew what calls miss."""
        self._missed_seconds = 0.0

    def start(self, route: str) -> StartCost:
        """Return what starting workers on a route is expected to cost now."""
        # A route that does not say how its workers are started is taken for one of fresh interpreters.
        return self._starts.get(route) or DEFAULT_STARTS.get(route.rpartition("/")[2], DEFAULT_STARTS["spawn"])

    def learn_start(self, route: str, first_seconds: float) -> None:
        """Take in that the first worker answered `first_seconds` after its start began."""
        self.forget_missed()
        known = self.start(route)
        if known is DEFAULT_STARTS["forkserver"]:
            # That was the server's own start too, which happens once: what it took says nothing of the next worker.
            self._starts[route] = RUNNING_FORKSERVER
            return
        first = _nearer(known.first, first_seconds)
        self._starts[route] = StartCost(first, known.following * first / known.first)

    def chunk_seconds(self, route: str) -> float:
        """Return what one chunk's way to a warm worker and back costs on a route."""
        return self._chunk_seconds.get(route, DEFAULT_CHUNK_SECONDS)

    def learn_chunk(self, route: str, seconds: float) -> None:
        """Take in that one chunk's way to a warm worker and back, without its items' time, took `seconds`."""
        self._chunk_seconds[route] = _nearer(self.chunk_seconds(route), seconds)

    def bytes_per_second(self, route: str) -> float:
        """Return how fast bytes cross on a route."""
        return self._bytes_per_second.get(route, DEFAULT_BYTES_PER_SECOND)

    def learn_bandwidth(self, route: str, nbytes: int, seconds: float) -> None:
        """Take in that `nbytes` crossed on a route in `seconds`. Small transfers are ignored."""
        if nbytes >= LEAST_BYTES_OBSERVED and seconds > 0:
            known = self.bytes_per_second(route)
            self._bytes_per_second[route] = nbytes / _nearer(nbytes / known, seconds)


def _nearer(known: float, seen: float) -> float:
    if not seen > 0:  # a clock that stood still, or no number at all
        return known
    seen = max(known / SLOW_OBSERVATION, min(seen, known * SLOW_OBSERVATION))
    return float((known * seen) ** 0.5)

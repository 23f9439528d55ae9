"""What do starting a worker, sending a chunk and sending bytes cost here? Real ones teach it; there are no test runs.

The documented defaults stand until something was learnt. An observation moves the estimate half of the distance between
them, on the scale of ratios, so that a cost which is wrong by orders of magnitude is learnt in a few steps, from above
and from below alike. One observation counts for at most ten times the estimate: a cost seen on a stalled machine would
otherwise keep workers from being started at all, and then nothing would ever correct it.
"""

from __future__ import annotations

from ..lean import NamedTuple
from ..plan.profile import Bandwidth

__all__ = ["Costs", "StartCost"]

SLOW_OBSERVATION = 10.0  # the most that one observation counts for, as a multiple of the estimate
LEAST_BYTES_OBSERVED = 100_000  # the time of a smaller transfer is its fixed cost and says nothing of bandwidth


class StartCost(NamedTuple):
    """What starting workers costs.

    Attributes:
        first: seconds until the first worker answers, when none is running.
        following: further seconds for each worker after the first.
    """

    first: float
    following: float


# Measured by starting a Pool(2) and mapping two trivial items, on CPython 3.11 and a quiet machine with two cores.
# Smaller values start workers for nothing; larger ones keep work in the caller that would gain from workers.
DEFAULT_STARTS = {
    "fork": StartCost(0.011, 0.003),
    "spawn": StartCost(0.080, 0.040),
    "forkserver": StartCost(0.154, 0.006),
}
# What it takes to import what workers need, as long as nobody has (the first rows of benchmarks/regret.py). With a
# smaller value, a first call moves for a gain that the imports take away; with a larger one, it moves later.
IMPORT_SECONDS = 0.020
RUNNING_FORKSERVER = StartCost(0.011, 0.006)
# Savings missed longer ago than this do not count, because workers that start now leave after as long without work. A
# larger value means that workers start for calls too rare to find them still running; a smaller one means that calls
# which could share workers each go without.
MISSED_FOR_SECONDS = 60.0
DEFAULT_CHUNK_SECONDS = 20e-6
# What a task costs on engines, by the first part of the route, until their workers tell. Those of Dask and Ray are what
# an item costs in a map of one task an item (benchmarks/engines.py), an executor's is that of a warm standard Pool.
DEFAULT_TASK_SECONDS = {"executor": 80e-6, "dask": 1.5e-3, "ray": 0.8e-3}
DEFAULT_BYTES_PER_SECOND = 1e9
# Memory that was not used before is reserved at a third of this, and copied to at four times as much, once it was
# (benchmarks/transport.py).
DEFAULT_SHARED_BYTES_PER_SECOND = 4e9
# A warm call in a bare process (benchmarks/against.py). In a busy one it is several times as much, which is learnt.
DEFAULT_CALL_SECONDS = 300e-6
# A module of an installed package, with its part of what the package loads: 1.1 to 1.8 ms for NumPy, SciPy, pandas,
# scikit-learn, emcee, zeus, dynesty, DEAP. With a smaller value, workers start for programs of short calls that never
# regain what loading takes from the caller (benchmarks/clients.py); with a larger one, a first call moves later.
DEFAULT_MODULE_SECONDS = 1.4e-3
LEAST_MODULES_OBSERVED = 20  # the time of fewer is that of rebuilding the function and says nothing of modules
# What is learnt, by the names that the cache keeps it by. Two names: to the workers, and back.
START, SERVED_START = "seconds_first_start", "seconds_first_start_served"
CHUNK, MODULE = "seconds_per_chunk", "seconds_per_module"
PIPE = "bytes_per_second_in", "bytes_per_second_out"
SHARED = "shared_bytes_per_second_in", "shared_bytes_per_second_out"
CALL, PREDICTION_ERROR = "seconds_per_call", "prediction_error"
# What another process has learnt is not believed if it differs from the default by a larger factor. With a smaller one,
# slow machines begin anew in each process; with a larger one, a damaged figure may keep work from workers for a week.
MOST_FACTOR = 100.0
LASTING = frozenset({START, SERVED_START, CHUNK, MODULE, *PIPE, *SHARED})
# The defaults of what lasts and is the same on all routes.
_DEFAULTS = {
    SERVED_START: RUNNING_FORKSERVER.first,
    MODULE: DEFAULT_MODULE_SECONDS,
    **dict.fromkeys(PIPE, DEFAULT_BYTES_PER_SECOND),
    **dict.fromkeys(SHARED, DEFAULT_SHARED_BYTES_PER_SECOND),
}
DEFAULT_PREDICTION_ERROR = 0.05
MOST_PREDICTION_ERROR = 1.0
# The weight of the newest error. With a larger value one odd call keeps the next ones in the caller.
NEWEST_SHARE = 0.1


class Costs:
    """The costs learnt so far, each on its route: what was seen on one route never prices another.

    A route names a backend for the purpose of costs, such as "processes/fork" or "pool/spawn". Its last part says how
    workers are started, and so which defaults stand until something was seen. Threads may share one object: where two
    update a cost at once, one observation is lost.

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
        """Forget everything learnt, so that only the defaults are known."""
        self._known: dict[tuple[str, str], float] = {}
        self._missed_seconds = 0.0
        self._missed_at = 0.0

    def lasting(self) -> dict[str, dict[str, float]]:
        """Return what was learnt that other processes of this machine may start from: routes, names, and values.

        What a call costs, and how wrong predictions are, depend on what else a process does, and are left out. So is
        what starting a fork server takes: of a long start, the part beyond what is known counts as loading, so the
        shortest start that any process has ever seen would count for all.
        """
        found: dict[str, dict[str, float]] = {}
        for (name, route), value in self._known.copy().items():
            if name in LASTING and not (name == START and route.endswith("/forkserver")):
                found.setdefault(route, {})[name] = value
        return found

    def take_over(self, lasting: dict[str, dict[str, float]]) -> None:
        """Begin with what another process has learnt, where nothing was learnt here, unless it cannot be true."""
        for route, values in lasting.items():
            for name in LASTING & values.keys():
                default = _default(name, route)
                if default / MOST_FACTOR <= values[name] <= default * MOST_FACTOR:
                    self._known.setdefault((name, route), values[name])

    def miss(self, seconds: float, now: float) -> None:
        """Take in that a call without workers would have been `seconds` shorter if workers had been running already.

        No such call repays a start by itself, but several together may. By the ski-rental argument, starting workers
        once the savings missed equal the price of the start costs at most twice what a choice made in knowledge of the
        calls to come would have cost.
        """
        self._missed_seconds = self.missed(now) + seconds
        self._missed_at = now

    def missed(self, now: float) -> float:
        """Return the seconds that calls have missed lately, counted since workers were last started."""
        return self._missed_seconds if now - self._missed_at < MISSED_FOR_SECONDS else 0.0

    def forget_missed(self) -> None:
        """Begin to count anew what calls miss."""
        self._missed_seconds = 0.0

    def start(self, route: str, *, served: bool = False) -> StartCost:
        """Return what starting workers on a route is expected to cost; `served`: their fork server runs already."""
        default = RUNNING_FORKSERVER if served else _default_start(route)
        first = self._known.get((SERVED_START if served else START, route))
        return default if first is None else StartCost(first, default.following * first / default.first)

    def learn_start(self, route: str, first_seconds: float, *, served: bool = False) -> float:
        """Take in that the first worker answered `first_seconds` after its start began; `served` as for `start`.

        Returns:
            The seconds that it took longer than the start of a fork server does: so long, modules were loaded. 0 where
            no server was started.
        """
        self.forget_missed()
        known = self.start(route, served=served).first
        loading = 0.0
        if not served and route.endswith("/forkserver"):
            loading = max(0.0, first_seconds - known)
            first_seconds -= loading
        self._known[SERVED_START if served else START, route] = _nearer(known, first_seconds)
        return loading

    def chunk_seconds(self, route: str) -> float:
        """Return the seconds that one chunk's way to a warm worker and back costs on a route."""
        known = self._known.get((CHUNK, route))
        return _default(CHUNK, route) if known is None else known

    def learn_chunk(self, route: str, seconds: float) -> None:
        """Take in that one chunk's way to a warm worker and back took `seconds`, its items' running time excluded."""
        self._known[CHUNK, route] = _nearer(self.chunk_seconds(route), seconds)

    def call_seconds(self, route: str) -> float:
        """Return the fixed cost of a call on warm workers on a route."""
        return self._known.get((CALL, route), DEFAULT_CALL_SECONDS)

    def learn_call(self, route: str, seconds: float) -> None:
        """Take in that a call on warm workers took `seconds` more than its items on them."""
        self._known[CALL, route] = _nearer(self.call_seconds(route), seconds)

    def load_seconds(self, route: str, modules: int) -> float:
        """Return how long a fresh worker on a route takes to load a function that never was on one, and its modules."""
        return modules * self._known.get((MODULE, route), DEFAULT_MODULE_SECONDS)

    def learn_load(self, route: str, seconds: float, modules: int) -> None:
        """Take in that a fresh worker took `seconds` to load a function and the modules it needs."""
        if modules >= LEAST_MODULES_OBSERVED:
            self._known[MODULE, route] = _nearer(self.load_seconds(route, 1), seconds / modules)

    def prediction_error(self, route: str) -> float:
        """Return by what share predictions for workers on a route were wrong lately, on average."""
        return self._known.get((PREDICTION_ERROR, route), DEFAULT_PREDICTION_ERROR)

    def learn_prediction(self, route: str, predicted_seconds: float, seconds: float) -> None:
        """Take in that a call on workers took `seconds`, for which `predicted_seconds` were predicted."""
        if predicted_seconds > 0.0:
            error = min(MOST_PREDICTION_ERROR, abs(seconds / predicted_seconds - 1.0))
            known = self.prediction_error(route)
            self._known[PREDICTION_ERROR, route] = known + NEWEST_SHARE * (error - known)

    def bandwidth(self, route: str, *, shared: bool = False) -> Bandwidth:
        """Return how fast bytes cross on a route, by its messages or in `shared` memory."""
        default = DEFAULT_SHARED_BYTES_PER_SECOND if shared else DEFAULT_BYTES_PER_SECOND
        names = SHARED if shared else PIPE
        return Bandwidth(self._known.get((names[0], route), default), self._known.get((names[1], route), default))

    def learn_bandwidth(self, route: str, nbytes: int, seconds: float, *, shared: bool = False, out: bool) -> None:
        """Take in that `nbytes` crossed on a route in `seconds`; `out`: back from workers. Few bytes are ignored."""
        if nbytes >= LEAST_BYTES_OBSERVED and seconds > 0:
            known = self.bandwidth(route, shared=shared)[out]
            name = (SHARED if shared else PIPE)[out]
            self._known[name, route] = nbytes / _nearer(nbytes / known, seconds)

    def learn_copying(self, route: str, nbytes: int, seconds: float) -> None:
        """Take in how long the caller took to copy `nbytes`, for as long as no results have come in shared memory.

        Copying them is all that the caller does for such results, and machines differ much in what new memory costs.
        """
        place = SHARED[1], route
        if place not in self._known and nbytes >= LEAST_BYTES_OBSERVED and seconds > 0:
            slowest = DEFAULT_SHARED_BYTES_PER_SECOND / SLOW_OBSERVATION
            self._known[place] = max(slowest, min(nbytes / seconds, SLOW_OBSERVATION * DEFAULT_SHARED_BYTES_PER_SECOND))


def _default_start(route: str) -> StartCost:
    # A route that does not say how its workers are started is taken for one of fresh interpreters.
    return DEFAULT_STARTS.get(route.rpartition("/")[2], DEFAULT_STARTS["spawn"])


def _default(name: str, route: str) -> float:
    if name == START:
        return _default_start(route).first
    if name == CHUNK:
        return DEFAULT_TASK_SECONDS.get(route.partition("/")[0], DEFAULT_CHUNK_SECONDS)
    return _DEFAULTS[name]


def _nearer(known: float, seen: float) -> float:
    if not seen > 0:  # the clock stood still, or `seen` is NaN
        return known
    seen = max(known / SLOW_OBSERVATION, min(seen, known * SLOW_OBSERVATION))
    return float((known * seen) ** 0.5)

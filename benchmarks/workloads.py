"""What the benchmarks run: worker functions, and inputs whose items take a known time.

Work for a processor is a fixed number of turns of a loop, not a wait for a clock: two workers on one core then take
twice as long, as real work does. How many turns a second holds is measured once by the process that compares
(`turns_per_second`) and told to every contender, so that all run the same loop. Only the probes sleep.

A turn is a checksum, short enough that the interpreter is not given up. An empty loop would not do: it waits for its
own counters in memory, and some processors take 14, 16, 17, 18 or 19 cycles a turn for it, for seconds at a time, as
the last switch between processes left them. Contenders that switch at different moments then differ by up to 30% on
equal work. `python benchmarks/workloads.py` shows both.
"""

from __future__ import annotations

import importlib.util
import random
import statistics
import time
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection

__all__ = ["PROBES", "WORKLOADS", "Workload", "noop", "spin", "turns_per_second"]

BLOB_BYTES = 200_000
WAITED = 2  # workers that the probes' lower bounds are for
WIDE = 8  # and those of the heavy-tailed one
_PAGE = bytes(3_000)


def noop(item: object) -> object:
    """Do nothing."""
    return item


def spin(turns: int) -> int:
    """Keep a processor busy for so many turns."""
    for _ in repeat(None, turns):
        crc32(_PAGE)
    return turns


def empty_spin(turns: int) -> int:
    """Turn an empty loop, which is no measure; see above."""
    for _ in repeat(None, turns):
        pass
    return turns


def nap(seconds: float) -> float:
    """Sleep, or return at once for no seconds."""
    if seconds:
        time.sleep(seconds)
    return seconds


def checksum(blob: bytes) -> int:
    """Read a large input once, which takes far less than sending it."""
    return crc32(blob)


def spin_on(work: tuple[int, bytes]) -> int:
    """Take a large input, and keep a processor busy."""
    turns, blob = work
    return spin(turns) + len(blob)


def inflate(turns: int) -> bytes:
    """Keep a processor busy, and return a large result, whose memory is written to."""
    spin(turns)
    return b"x" * BLOB_BYTES


def turns_per_second() -> float:
    """Return how many turns of `spin` a second of processor time holds: the quickest of some tries."""
    turns = 2_000
    return turns / min(_cpu_seconds(spin, turns) for _ in range(200))


def _cpu_seconds(loop: Callable[[int], int], turns: int) -> float:
    began = time.process_time()
    loop(turns)
    return time.process_time() - began


class Workload(NamedTuple):
    """A function and its input.

    Attributes:
        name: what the tables call it.
        function: takes one item; importable, so that every contender can send it.
        n_items: how many items there are.
        make: given turns a second, returns the input: what is iterated once, or many times.
        anew: whether each call needs an input of its own, as a generator does.
        n_jobs: workers a contender is given; None for one a core.
        seconds: item times where they are known by themselves, as naps are; None else.
        busy: whether the process has NumPy loaded, other threads, and a pool of its own, as programs of scientists do.
    """

    name: str
    function: Callable[..., object]
    n_items: int
    make: Callable[[float], Iterable[object]]
    anew: bool = False
    n_jobs: int | None = None
    seconds: tuple[float, ...] | None = None
    busy: bool = False

    @property
    def least_seconds(self) -> float:
        """No schedule is done sooner, were all times known: the even share, or the longest item."""
        times, n_jobs = self.seconds or (), self.n_jobs or 1
        return max(sum(times) / n_jobs, *times)

    @property
    def greedy_seconds(self) -> float:
        """What handing items out one by one, in order and for nothing, would take: all that can be done unknowing."""
        ends = [0.0] * (self.n_jobs or 1)
        for seconds in self.seconds or ():
            ends[ends.index(min(ends))] += seconds
        return max(ends)


def even(name: str, n_items: int, seconds: float) -> Workload:
    """Return a workload of equal items."""
    return Workload(name, spin, n_items, lambda turns: [round(turns * seconds)] * n_items)


def uneven(name: str, seconds: list[float]) -> Workload:
    """Return a workload of items of these times."""
    return Workload(name, spin, len(seconds), lambda turns: [round(turns * each) for each in seconds])


def blobs(count: int) -> list[bytes]:
    """Return large items, each an object of its own."""
    return [bytes([number % 256]) * BLOB_BYTES for number in range(count)]


def probe(name: str, seconds: list[float], n_jobs: int = WAITED) -> Workload:
    """Return a workload of naps."""
    return Workload(name, nap, len(seconds), lambda _: seconds, n_jobs=n_jobs, seconds=tuple(seconds))


def busily(workload: Workload) -> Workload:
    """Return a workload for a process that has NumPy, other threads and another pool."""
    return workload._replace(name=f"{workload.name}, busy", busy=True)


def arrays(count: int, megabytes: int) -> list[Any]:
    """Return arrays, each an object of its own."""
    import numpy as np

    return [np.full(megabytes * 125_000, float(number)) for number in range(count)]


def on_arrays(name: str, n_items: int, seconds: float, megabytes: int = 2) -> Workload:
    """Return a workload of equal items, each with an array."""

    def items(turns: int) -> list[Any]:
        return [(round(turns * seconds), one) for one in arrays(n_items, megabytes)]

    return Workload(name, look_at, n_items, items)


def make_array(turns: int) -> Any:
    """Keep a processor busy, and return an array of 4 MB."""
    import numpy as np

    spin(turns)
    return np.full(500_000, float(turns))


def look_at(work: tuple[int, Any]) -> float:
    """Take an array, and keep a processor busy."""
    turns, array = work
    spin(turns)
    return float(array[0])


def pareto(count: int, mean: float, shape: float, seed: int) -> list[float]:
    """Return the same heavy-tailed times on every call."""
    chance = random.Random(seed)  # noqa: S311 - item times are no secret
    times = [chance.paretovariate(shape) for _ in range(count)]
    return [each * mean * count / sum(times) for each in times]


def with_giant(at: int) -> list[float]:
    """Return 400 items of 3 ms, and one of 0.6 s at place `at`."""
    times = [0.003] * 400
    times.insert(at, 0.6)
    return times


_CHANCE = random.Random(1)  # noqa: S311 - item times are no secret
_ANY_ORDER = [_CHANCE.uniform(0, 2e-3) for _ in range(600)]
_NAPS = [_CHANCE.uniform(0, 8e-3) for _ in range(400)]

# The long ones first: the others share what they leave of the time.
WORKLOADS = (
    even("4 items of 1 s", 4, 1.0),
    even("1 ms x 2,000", 2_000, 1e-3),
    even("50 ms x 20", 20, 50e-3),
    even("100 us x 10,000", 10_000, 100e-6),
    even("10 us x 100,000", 100_000, 10e-6),
    probe("probe B / 4 (naps)", [0.075] * 10 + [1e-3] * 500),
    probe("probe A / 4 (naps)", [0.0] * 20_000 + [0.025] * 40),
    Workload("generator of 1 ms x 600", spin, 600, lambda turns: (round(turns * 1e-3) for _ in range(600)), anew=True),
    uneven("ascending to 2 ms x 600", sorted(_ANY_ORDER)),
    uneven("descending from 2 ms x 600", sorted(_ANY_ORDER, reverse=True)),
    uneven("heavy-tailed x 500", pareto(500, 1e-3, 1.5, seed=3)),
    Workload("200 kB in, 2 ms x 200", spin_on, 200, lambda turns: [(round(turns * 2e-3), b) for b in blobs(200)]),
    Workload("200 kB out, 2 ms x 200", inflate, 200, lambda turns: [round(turns * 2e-3)] * 200),
    Workload("200 kB in x 200", checksum, 200, lambda _: blobs(200)),
    Workload("200 kB out x 200", inflate, 200, lambda _: [0] * 200),
    Workload("no-op x 1,000,000", noop, 1_000_000, lambda _: range(1_000_000)),
    even("1 us x 100,000", 100_000, 1e-6),
    even("3 items of 2 ms", 3, 2e-3),
    Workload("no-op x 100", noop, 100, lambda _: range(100)),
    even("6 of 0.1 ms", 6, 100e-6),
    even("40 of 40 us", 40, 40e-6),
    even("64 of 0.1 ms", 64, 100e-6),
)
if importlib.util.find_spec("numpy") is not None:
    WORKLOADS += (
        busily(even("1 ms x 300", 300, 1e-3)),
        busily(even("10 ms x 40", 40, 10e-3)),
        busily(even("12 of 0.1 ms", 12, 100e-6)),
        busily(on_arrays("2 MB in, 3 ms x 40", 40, 3e-3)),
        busily(on_arrays("2 MB in, 0.1 ms x 40", 40, 100e-6)),
        busily(on_arrays("8 MB in, 20 ms x 24", 24, 20e-3, megabytes=8)),
        busily(Workload("4 MB out, 10 ms x 40", make_array, 40, lambda turns: [round(turns * 10e-3)] * 40)),
    )

PROBES = (
    probe("A: 20,000 free, then 40 of 0.1 s", [0.0] * 20_000 + [0.1] * 40),
    probe("B: 10 of 0.3 s, then 2,000 of 1 ms", [0.3] * 10 + [1e-3] * 2_000),
    probe("heavy-tailed x 400", pareto(400, 0.02, 1.5, seed=3), n_jobs=WIDE),
    probe("heavy-tailed, free x 20,000 first", [0.0] * 20_000 + pareto(400, 0.02, 1.5, seed=4), n_jobs=WIDE),
    probe("one giant first", with_giant(0)),
    probe("one giant in the middle", with_giant(200)),
    probe("one giant last", with_giant(400)),
    probe("ascending to 8 ms x 400", sorted(_NAPS)),
    probe("descending from 8 ms x 400", sorted(_NAPS, reverse=True)),
)


def main() -> None:
    """Show how steady each loop is while this process and another one wake each other."""
    from multiprocessing import Pipe, Process

    for loop, turns in ((spin, 1_000), (empty_spin, 200_000)) * 3:
        here, there = Pipe()
        with there:
            Process(target=_echo, args=(there,), daemon=True).start()
        medians = []
        _cpu_seconds(loop, 100 * turns)
        for _ in range(40):
            here.send(None)
            here.recv()
            medians.append(statistics.median(_cpu_seconds(loop, turns) for _ in range(50)))
        here.close()
        spread = max(medians) / min(medians)
        print(f"{loop.__name__:<12}{min(medians) * 1e6:8.1f} to {max(medians) * 1e6:8.1f} us: {spread:.2f}")


def _echo(pipe: Connection) -> None:
    while pipe.poll(None):
        try:
            pipe.send(pipe.recv())
        except EOFError:
            return


if __name__ == "__main__":
    main()

"""How near does the chunk schedule come to the best known schedules? Simulated, so that 256 workers fit on any machine.

Run `python benchmarks/schedule.py`: it prints the table and writes it to benchmarks/results/schedule.txt. It set the
constants of amorsize/plan/schedule.py.

The simulated machine is the one of amorsize.backends: workers ask one caller for chunks, the caller serves them one
after another and spends `CHUNK_SECONDS_FIXED` on each, and the worker waits meanwhile. Only our schedule is told
anything of time: it begins knowing nothing of the items and learns from the chunks that return. Only its workers hand
back what they have not started when their slice is over; a piece handed back is sent again like any chunk, and costs
as much.
"""

from __future__ import annotations

import random
import sys
from bisect import bisect_left
from collections import deque
from heapq import heappop, heappush
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # a checkout need not be installed

from amorsize.plan.schedule import SLICE_SECONDS, chunk_length, smoothed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESULTS = Path(__file__).parent / "results" / "schedule.txt"
WORKERS = (2, 4, 8, 16, 64, 256)
# Fewer: with 256 workers all the rest drowns in the caller serving each of them once (8 ms).
ITEMS_PER_WORKER = 1000
MEAN_SECONDS = 1e-3
# As MachineProfile.seconds_per_chunk assumes before a chunk was measured.
CHUNK_SECONDS_FIXED = 30e-6
SEEDS = (1, 2, 3)
TARGET = 1.02


class Schedule:
    """Chunk lengths by a rule; the base of the contenders. `length` is asked once a chunk."""

    slice_seconds = inf

    def __init__(self, n_items: int, n_workers: int) -> None:
        self.n_items = n_items
        self.n_workers = n_workers

    def length(self, remaining: int) -> int:
        """Return the length of the next chunk; it is cut to what remains."""
        raise NotImplementedError

    def learn(self, chunk_items: int, chunk_seconds: float) -> None:
        """Take note of a returned chunk; the classical schedules do not."""


class Amorsize(Schedule):
    """Ours: amorsize.plan.schedule, with the estimate learnt from nothing."""

    slice_seconds = SLICE_SECONDS
    first_guess = inf

    def __init__(self, n_items: int, n_workers: int) -> None:
        super().__init__(n_items, n_workers)
        self.seconds_per_item = self.first_guess

    def length(self, remaining: int) -> int:
        return chunk_length(remaining, self.n_workers, self.seconds_per_item, seconds_per_chunk=CHUNK_SECONDS_FIXED)

    def learn(self, chunk_items: int, chunk_seconds: float) -> None:
        self.seconds_per_item = smoothed(self.seconds_per_item, chunk_items, chunk_seconds)


class Static(Schedule):
    """One chunk a worker."""

    def length(self, remaining: int) -> int:
        return -(-self.n_items // self.n_workers)


class OneByOne(Schedule):
    """One item a chunk."""

    def length(self, remaining: int) -> int:
        return 1


class Guided(Schedule):
    """Polychronopoulos & Kuck 1987: an even part of what remains."""

    def length(self, remaining: int) -> int:
        return -(-remaining // self.n_workers)


class Factoring(Schedule):
    """Hummel, Schonberg & Flynn 1992: rounds of equal chunks, each round half of what remains."""

    def __init__(self, n_items: int, n_workers: int) -> None:
        super().__init__(n_items, n_workers)
        self.left_in_round = 0
        self.round_length = 0

    def length(self, remaining: int) -> int:
        if self.left_in_round == 0:
            self.left_in_round = self.n_workers
            self.round_length = -(-remaining // (2 * self.n_workers))
        self.left_in_round -= 1
        return self.round_length


class Trapezoid(Schedule):
    """Tzen & Ni 1993: from n / (2 * workers) down to 1 in equal steps."""

    def __init__(self, n_items: int, n_workers: int) -> None:
        super().__init__(n_items, n_workers)
        first = max(1, n_items // (2 * n_workers))
        chunks = -(-2 * n_items // (first + 1))
        self.step = (first - 1) / max(1, chunks - 1)
        self.next_length = float(first)

    def length(self, remaining: int) -> int:
        length = max(1, int(self.next_length))
        self.next_length -= self.step
        return length


SCHEDULES = (Amorsize, Static, OneByOne, Guided, Factoring, Trapezoid)


class Run(NamedTuple):
    """The end of a simulated run: its length in seconds, and how many chunks were sent."""

    seconds: float
    chunks: int


def simulate(
    times: Sequence[float], n_workers: int, schedule: Schedule, chunk_seconds: float = CHUNK_SECONDS_FIXED
) -> Run:
    """Run items of the given `times` on simulated workers.

    Args:
        times: each item's running time in seconds, in input order.
        n_workers: workers that take chunks.
        schedule: gives chunk lengths, and is told of each returned chunk.
        chunk_seconds: the caller's time for one chunk, in which the worker waits.
    """
    until = [0.0, *accumulate(times)]  # until[i]: seconds of all items before item i
    handed_back: list[tuple[int, int]] = []
    next_item = chunks = 0
    remaining = len(times)
    now = end = 0.0  # the caller's clock; when the last chunk came back
    idle = deque(range(n_workers))
    running: list[tuple[float, int, int, int, int]] = []  # (end, worker, first item, first item not run, stop)
    while running or remaining:
        if not (remaining and idle):
            now = max(now, running[0][0])
        while running and running[0][0] <= now:
            end, worker, start, ran_to, stop = heappop(running)
            schedule.learn(ran_to - start, until[ran_to] - until[start])
            if ran_to < stop:
                heappush(handed_back, (ran_to, stop))
                remaining += stop - ran_to
            idle.append(worker)
        if not (remaining and idle):
            continue
        length = min(schedule.length(remaining), remaining)
        if handed_back:
            start, stop = heappop(handed_back)
            if stop - start > length:
                heappush(handed_back, (start + length, stop))
                stop = start + length
        else:
            start, stop = next_item, min(len(times), next_item + length)
            next_item = stop
        remaining -= stop - start
        now += chunk_seconds
        chunks += 1
        ran_to = stop
        if until[stop] - until[start] > schedule.slice_seconds:
            ran_to = min(stop, bisect_left(until, until[start] + schedule.slice_seconds, start + 1, stop + 1))
        heappush(running, (now + until[ran_to] - until[start], idle.popleft(), start, ran_to, stop))
    return Run(end, chunks)


def shapes(n_workers: int, seed: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the name and the item times of each row, the same number of items for each worker."""
    chance = random.Random(seed)  # noqa: S311 - item times are no secret
    n_items = ITEMS_PER_WORKER * n_workers
    exponential = [chance.expovariate(1 / MEAN_SECONDS) for _ in range(n_items)]
    yield "constant", [MEAN_SECONDS] * n_items
    yield "exponential", exponential
    yield "Pareto", [MEAN_SECONDS / 3 * chance.paretovariate(1.5) for _ in range(n_items)]
    yield "ascending", sorted(exponential)
    yield "descending", sorted(exponential, reverse=True)
    yield "bimodal", [MEAN_SECONDS * (9.1 if chance.random() < 0.1 else 0.1) for _ in range(n_items)]
    yield "probe A", [50e-9] * (10_000 * n_workers) + [0.1] * (20 * n_workers)
    yield "probe B", [0.3] * (5 * n_workers) + [1e-3] * (1_000 * n_workers)


FIXED_SHAPES = ("constant", "probe A", "probe B")  # the same for every seed


def table(workers: Sequence[int], report: Callable[[str], None]) -> bool:
    """Report one row for each number of workers and shape; return whether every row meets the target."""
    names = [schedule.__name__ for schedule in SCHEDULES]
    columns = "".join(f"{name:>10}" for name in names)
    report(f"{'workers':>7}  {'items':12}{columns}{'best/bound':>12}{'chunks':>8}")
    missed = 0
    for n_workers in workers:
        seconds: dict[str, list[float]] = {}
        bounds: dict[str, float] = {}
        chunks: dict[str, int] = {}
        for seed in SEEDS:
            for shape, times in shapes(n_workers, seed):
                if shape in FIXED_SHAPES and seed != SEEDS[0]:
                    continue
                runs = [simulate(times, n_workers, make(len(times), n_workers)) for make in SCHEDULES]
                totals = seconds.setdefault(shape, [0.0] * len(runs))
                seconds[shape] = [total + run.seconds for total, run in zip(totals, runs, strict=True)]
                longest = max(times)
                bounds[shape] = bounds.get(shape, 0.0) + max(sum(times) / n_workers, longest)
                chunks[shape] = runs[0].chunks // n_workers
        for shape, totals in seconds.items():
            best = min(totals)
            missed += totals[0] > TARGET * best
            report(
                f"{n_workers:>7}  {shape:12}"
                + "".join(f"{total / best:10.3f}" for total in totals)
                + f"{best / bounds[shape]:12.3f}{chunks[shape]:8}"
                + ("" if totals[0] <= TARGET * best else "  over the target")
            )
    report("")
    report(f"rows where Amorsize is more than {TARGET - 1:.0%} over the best: {missed}")
    return not missed


def main() -> int:
    """Print the table and keep it."""
    lines: list[str] = []

    def report(line: str) -> None:
        print(line, flush=True)
        lines.append(line + "\n")

    report("Simulated running time of chunk schedules, as a ratio to the best of the row (benchmarks/schedule.py).")
    report(f"{ITEMS_PER_WORKER} items a worker, {MEAN_SECONDS * 1e3:g} ms on average; mean over {len(SEEDS)} seeds.")
    report("Probe A: 10,000 items of 50 ns a worker, then 20 of 0.1 s. Probe B: 5 of 0.3 s, then 1,000 of 1 ms.")
    report(f"A chunk costs the caller {CHUNK_SECONDS_FIXED * 1e6:g} us. Amorsize starts knowing nothing of the items.")
    report("best/bound: the best over max(sum / workers, longest item). chunks: those of Amorsize, a worker.")
    report("")
    met = table(WORKERS, report)
    RESULTS.write_text("".join(lines), encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""What do our workers cost beside the standard Pool's: a chunk, a call on warm workers, a cold start?

Run `python benchmarks/pool.py`: it prints the table and writes it to benchmarks/results/pool.txt. Both run in this one
process, turn by turn, with two workers and the same start method. Times are the least of their repetitions; a share is
ours over its, the median over the rounds, so that a slow moment of the machine hits both.

- chunk: seconds an item of `map(operator.neg, range(N), chunksize=1)` on warm workers.
- call: `map` of two items in two chunks on warm workers: the fixed cost of a call.
- cold: from no workers to the results of two items. The standard Pool's time does not count ending it. Under spawn it
  imports this script in every worker, which is what it does to every program; ours never does.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from operator import neg
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))  # a checkout need not be installed

import amorsize

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.pool import Pool

    Pairs = list[tuple[float, float]]

RESULTS = Path(__file__).parent / "results" / "pool.txt"
N_JOBS = 2
CHUNKS = 5_000
ROUNDS = 25
CALLS_PER_ROUND = 40
COLD_ROUNDS = 40
MOST_CHUNK_SHARE = 0.8  # of the standard Pool's
MOST_CALL_SECONDS = 0.5e-3


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    began = perf_counter()
    action()
    return perf_counter() - began


def ours(items: int, start_method: str) -> list[int]:
    """Map so many items in chunks of one."""
    return list(
        amorsize.map(
            neg, range(items), backend="processes", n_jobs=N_JOBS, chunksize=1, start_method=start_method
        )
    )


def warm(pool: Pool, start_method: str) -> tuple[Pairs, Pairs]:
    """Return the seconds of (our chunk, its chunk), and of (our call, its call), round by round."""
    chunks, calls = [], []
    ours(100, start_method)
    pool.map(neg, range(100), 1)
    for _ in range(ROUNDS):
        our_chunk = seconds(lambda: ours(CHUNKS, start_method)) / CHUNKS
        chunks.append((our_chunk, seconds(lambda: pool.map(neg, range(CHUNKS), 1)) / CHUNKS))
        for _ in range(CALLS_PER_ROUND):
            our_call = seconds(lambda: ours(2, start_method))
            calls.append((our_call, seconds(lambda: pool.map(neg, range(2), 1))))
    return chunks, calls


def cold(start_method: str) -> Pairs:
    """Return the seconds of (our start, its start), round by round."""
    context = multiprocessing.get_context(start_method)
    starts = []
    for _ in range(COLD_ROUNDS):
        amorsize.shutdown()
        our_start = seconds(lambda: ours(2, start_method))
        began = perf_counter()
        with context.Pool(N_JOBS) as pool:
            pool.map(neg, range(2), 1)
            starts.append((our_start, perf_counter() - began))
        pool.join()
    amorsize.shutdown()
    return starts


def least(pairs: Pairs) -> tuple[float, float]:
    """Return the least of ours and of its."""
    return min(our for our, _ in pairs), min(its for _, its in pairs)


def share(pairs: Pairs) -> float:
    """Return the median of ours over its."""
    return median(our / its for our, its in pairs)


def line(start_method: str) -> str:
    """Measure one start method; return its line of the table."""
    starts = cold(start_method)
    with multiprocessing.get_context(start_method).Pool(N_JOBS) as pool:
        chunks, calls = warm(pool, start_method)
    pool.join()
    amorsize.shutdown()
    (our_chunk, its_chunk), (our_call, its_call), (our_start, its_start) = map(least, (chunks, calls, starts))
    held = share(chunks) <= MOST_CHUNK_SHARE and our_call <= MOST_CALL_SECONDS and share(starts) <= 1
    return (
        f"{start_method:<11} {our_chunk * 1e6:>6.1f} {its_chunk * 1e6:>6.1f} {share(chunks):>6.2f}   "
        f"{our_call * 1e3:>7.3f} {its_call * 1e3:>7.3f}   "
        f"{our_start * 1e3:>7.1f} {its_start * 1e3:>7.1f} {share(starts):>6.2f}   "
        f"{'held' if held else 'MISSED'}"
    )


def main() -> None:
    """Print the table and keep it."""
    lines = [
        f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores, {N_JOBS} workers; {ROUNDS} and {COLD_ROUNDS} turns",
        "               a chunk, us            a warm call, ms     a cold start, ms",
        "method        ours   Pool  share      ours    Pool      ours    Pool  share",
        f"({'':11} share <= {MOST_CHUNK_SHARE}, call <= {MOST_CALL_SECONDS * 1e3:g} ms, share <= 1)",
    ]
    print(*lines, sep="\n")
    for start_method in ("fork", "spawn", "forkserver"):
        lines.append(line(start_method))
        print(lines[-1])
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What do failing items cost the others, and what does being ready for failures cost where none comes?

    python benchmarks/faults.py [--items 10000] [--cheap-items 1000000] [--rounds 7]

First a call of items of 1 ms of which 1% raise, three kill their worker and three never end, with `timeout=1`,
`retries=1` and `on_error="return"`, beside the same call undisturbed. Every failing item fails each time it is tried.
The promise is 1.25 times the undisturbed call, and the deadlines: each hanging item holds a worker for a second, twice.

Then what `on_error`, `retries` and `seed` cost a million cheap items that none of them concerns, under "auto", in turns
with the plain call, which is also measured against itself. The promise is at most 5%.

Last, an estimate by random numbers with `seed=7`, in many ways that must not matter.

The table goes to benchmarks/results/faults.txt.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # a checkout need not be installed

import amorsize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "faults.txt"
WORKERS = 2
ITEM_SECONDS = 0.001
TIMEOUT_SECONDS = 1.0
MOST_TIMES = 1.25
MOST_SHARE = 0.05
DARTS = 2_000
WAYS: dict[str, dict[str, Any]] = {
    "serial": {"backend": "serial"},
    **{
        f"{method}, {workers} worker{'s' if workers > 1 else ''}, chunks of {chunksize}": {
            "backend": "processes",
            "start_method": method,
            "n_jobs": workers,
            "chunksize": chunksize,
        }
        for method in ("fork", "spawn", "forkserver")
        for workers in (1, 2, 5)
        for chunksize in (1, 100)
    },
    "pool, 2 workers": {"backend": "pool", "n_jobs": 2},
    "auto": {},
}


class Work:
    """Items that wait a millisecond; some of them fail.

    Args:
        bad: what happens to which items; empty for undisturbed work.
    """

    def __init__(self, bad: dict[int, str]) -> None:
        self.bad = bad

    def __call__(self, number: int) -> int:
        time.sleep(ITEM_SECONDS)
        fault = self.bad.get(number)
        if fault == "raise":
            raise ValueError(number)
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "hang":
            time.sleep(1000)
        return number * number


def bad_items(n_items: int) -> dict[int, str]:
    """Return 1% that raise, three that crash and three that hang, spread over the input."""
    bad = dict.fromkeys(range(50, n_items, 100), "raise")
    for part in range(3):
        bad[(2 * part + 1) * n_items // 6 + 7] = "crash"
        bad[(2 * part + 1) * n_items // 6 + 21] = "hang"
    return bad


def disturbed(n_items: int) -> Iterator[str]:
    """Measure the call with failing items beside the call without; check every result."""
    bad = bad_items(n_items)
    options: dict[str, Any] = {"retries": 1, "on_error": "return", "timeout": TIMEOUT_SECONDS, "n_jobs": WORKERS}
    seconds = {}
    for name, work in (("undisturbed", Work({})), ("disturbed", Work(bad)), ("undisturbed again", Work({}))):
        began = time.perf_counter()
        stream = amorsize.map(work, range(n_items), **options)
        results = list(stream)
        seconds[name] = time.perf_counter() - began
        wrong = sum(result != number * number for number, result in enumerate(results) if number not in work.bad)
        kinds = Counter(type(failed.error).__name__ for failed in stream.failures)
        right = {failed.index for failed in stream.failures} == set(work.bad)
        tries = sorted({failed.tries for failed in stream.failures})
        yield f"{name:<20}{seconds[name]:7.2f} s, {len(results):,} results, {wrong} of good items wrong"
        if work.bad:
            which = "the bad items" if right else "NOT THE BAD ITEMS"
            yield f"{'':<20}{len(stream.failures)} failures, {which}, tried {tries} times: {dict(kinds)}"
    base = min(seconds["undisturbed"], seconds["undisturbed again"])
    deadlines = 2 * TIMEOUT_SECONDS * sum(fault == "hang" for fault in bad.values())
    limit = MOST_TIMES * base + deadlines
    times = (seconds["disturbed"] - deadlines / WORKERS) / base
    yield f"at most {MOST_TIMES} x {base:.2f} s + {deadlines:g} s of deadlines = {limit:.2f} s: " + (
        "held" if seconds["disturbed"] <= limit else "MISSED"
    )
    yield f"with the deadlines shared by {WORKERS} workers taken off: {times:.2f} times the undisturbed call"


def cheap(number: int) -> int:
    """Do little."""
    return number * number + (number >> 1) % 7


def readiness(n_items: int, rounds: int) -> Iterator[str]:
    """Measure what options cost that nothing asks for."""
    numbers = list(range(n_items))
    ways: dict[str, dict[str, Any]] = {
        "no option": {},
        "no option, again": {},
        'on_error="return"': {"on_error": "return"},
        "retries=2": {"retries": 2},
        "seed=7": {"seed": 7},
    }
    inputs: dict[str, Callable[[], Any]] = {
        "a range": lambda: range(n_items),
        "a list": lambda: numbers,
        "a generator": lambda: (number for number in numbers),
    }
    yield f"{n_items:,} cheap items, {rounds} turns; the median of each turn's share   " + "".join(
        f"{name:>13}" for name in inputs
    )
    shares: dict[str, list[str]] = {name: [] for name in ways}
    for make in inputs.values():
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, options in ways.items():
                began = time.perf_counter()
                for _ in amorsize.map(cheap, make(), **options):
                    pass
                times[name].append(time.perf_counter() - began)
        for name, taken in times.items():
            share = median(its / bare for its, bare in zip(taken, times["no option"], strict=True)) - 1
            shares[name].append(f"{min(taken) / n_items * 1e9:10.0f} ns" if name == "no option" else f"{share:+13.1%}")
    for name, columns in shares.items():
        yield f"  {name:<62}" + "".join(columns) + (f"   (at most {MOST_SHARE:.0%})" if "=" in name else "")


def estimate(darts: int) -> tuple[float, float]:
    """Return two estimates of pi, from the item's own generator and from the global one."""
    import random

    own = amorsize.item_rng()
    inside = sum(own.random() ** 2 + own.random() ** 2 < 1 for _ in range(darts))
    other = sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(darts))  # noqa: S311 - for science
    return 4 * inside / darts, 4 * other / darts


def repeatable() -> Iterator[str]:
    """Run the same estimate in every way."""
    expected = None
    others = 0
    for name, options in WAYS.items():
        found = list(amorsize.map(estimate, [DARTS] * 60, seed=7, **options))
        expected = expected or found
        if found != expected:
            others += 1
            yield f"  {name}: OTHERS"
        amorsize.shutdown()
    distinct = len(set(expected or ()))
    yield f"an estimate of 60 items with seed=7, in {len(WAYS)} ways: {others} differ; {distinct} of the items distinct"


def main() -> None:
    """Print the tables and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--cheap-items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    lines = [f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; {arguments.items:,} items of 1 ms"]
    print(lines[0], flush=True)
    for part in (disturbed(arguments.items), readiness(arguments.cheap_items, arguments.rounds), repeatable()):
        for line in part:
            lines.append(line)
            print(line, flush=True)
        lines.append("")
        print()
    if (arguments.items, arguments.cheap_items) == (10_000, 1_000_000):
        RESULTS.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What does it cost to see what a call does? Each way of looking on and off, in turn, and what a line costs.

    python benchmarks/seeing.py [rounds]

200,000 items of about 10 us on two workers, and calls of 50 items on warm workers, with `relay=`, `record=`,
`progress=` and `audit=` and without. `relay=` is on unless it is forbidden, so it must cost nothing where items say
nothing. Figures are ratios of the least times, and beside each stands that of the same thing against itself. The
counters of a report are always on, so they are timed by themselves: all that they are told for one chunk. What a line
costs is what an item takes that prints one, over one that does not; that of the builtin is printed to the same kind of
stream. Written to benchmarks/results/seeing.txt.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))  # a checkout need not be installed

import amorsize
from amorsize.backends.events import Chunk, Results
from amorsize.report.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "seeing.txt"
ROUNDS = 7
WORKERS = {"backend": "processes", "n_jobs": 2}
MANY, FEW, LINES = 200_000, 50, 20_000
MOST_RATIO = 1.02  # promised of relaying for items that say nothing
MOST_COUNTERS_SECONDS = 2e-6
WAYS = {
    "relay": ({"relay": False}, {"relay": True}),
    "record": ({}, {"record": True}),
    "progress, a callable": ({}, {"progress": min}),
    "audit=0.01": ({}, {"audit": 0.01}),
}

logger = logging.getLogger("seeing")


def silent(number: int) -> int:
    """Take about 10 us, and say nothing."""
    return sum(range(400)) + number


def prints(number: int) -> int:
    """Do the same, and print a line."""
    print("an item is done:", number)
    return sum(range(400)) + number


def logs(number: int) -> int:
    """Do the same, and log a line."""
    logger.info("an item is done: %d", number)
    return sum(range(400)) + number


def seconds_of(act: Callable[[], object]) -> float:
    """Return how long it takes, with all that is shown kept in memory."""
    with contextlib.redirect_stdout(io.StringIO()):
        began = perf_counter()
        act()
        return perf_counter() - began


def least(acts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each, taken in turns, the first one being twice in each turn."""
    found = dict.fromkeys(acts, float("inf"))
    for turn in range(rounds + 1):
        for name in list(acts)[:: 1 if turn % 2 else -1]:
            seconds = seconds_of(acts[name])
            if turn:  # the first turn warms all up
                found[name] = min(found[name], seconds)
    return found


def mapped(function: Callable[[int], int], items: int, *, times: int = 1, **options: object) -> Callable[[], None]:
    """Return what maps a function over so many items, so many times."""

    def act() -> None:
        for _ in range(times):
            for _ in amorsize.map(function, range(items), **options):
                pass

    return act


def counters_seconds() -> float:
    """Return what the counters of a report cost for a chunk, over nothing."""
    tally, chunk = Tally(), Chunk(0, range(8))
    results = Results(0, [None] * 8, {}, 0.001, 0.001, 100, worker=1, sent=1.0, began=0.1)

    def count() -> None:
        for _ in range(10_000):
            tally.sent(chunk, 100)
            tally.fed(0.1)
            tally.waited(0.1, starting=False)
            tally.heard(results)

    def nothing() -> None:
        for _ in range(10_000):
            pass

    took = least({"nothing": nothing, "count": count}, ROUNDS)
    return (took["count"] - took["nothing"]) / 10_000


def rows(rounds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    each = counters_seconds()
    missed = "  MISSED" if each > MOST_COUNTERS_SECONDS else ""
    yield f"{'the counters of a report, a chunk':<48}{1e6 * each:>8.2f} us{missed}"
    for way, (off, on) in WAYS.items():
        for title, items, times, where in (
            ("200,000 items of 10 us", MANY, 1, WORKERS),
            ("200 calls of 50 items", FEW, 200, WORKERS),
            ("100,000 items of 10 us, serial", MANY // 2, 1, {"backend": "serial"}),
        ):
            if (way, where) == ("relay", {"backend": "serial"}) or (way[:5] == "audit" and times > 1):
                continue  # nothing is relayed there; and an audited call starts a worker
            acts = {
                "off": mapped(silent, items, times=times, **where, **off),
                "on": mapped(silent, items, times=times, **where, **on),
                "off again": mapped(silent, items, times=times, **where, **off),
            }
            took = least(acts, rounds)
            ratio, itself = took["on"] / took["off"], took["off again"] / took["off"]
            missed = "  MISSED" if way == "relay" and ratio > MOST_RATIO * max(1.0, itself) else ""
            yield f"{way + ', ' + title:<48}{ratio:>8.3f}   (itself {itself:.3f}){missed}"
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for title, function in (("printed", prints), ("logged", logs)):
        acts = {
            "silent": mapped(silent, LINES, **WORKERS),
            "said": mapped(function, LINES, **WORKERS),
            "silent here": lambda: list(map(silent, range(LINES))),
            "said here": lambda function=function: list(map(function, range(LINES))),
        }
        took = least(acts, rounds)
        each = (took["said"] - took["silent"]) / LINES
        here = (took["said here"] - took["silent here"]) / LINES
        yield f"{'a line that is ' + title:<48}{1e6 * each:>8.1f} us (builtin {1e6 * here:.1f} us)"
    logger.removeHandler(handler)


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AMORSIZE_CACHE_DIR"] = cache
        lines = [f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores, {rounds} rounds"]
        for line in rows(rounds):
            print(line, flush=True)
            lines.append(line)
        amorsize.shutdown()
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

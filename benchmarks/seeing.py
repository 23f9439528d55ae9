"""What does it cost to see what a call does? Each way of looking on and off, in turn, and what a line costs.

    python benchmarks/seeing.py [rounds]

`relay=` is on unless it is forbidden, so it must cost nothing where items say nothing: 200,000 items of about 10 us on
two workers, and calls of 50 items on warm workers. Figures are ratios of the least times, and beside each stands that
of the same thing against itself. What a line costs is what an item takes that prints one, over one that does not; that
of the builtin is printed to the same kind of stream. Written to benchmarks/results/seeing.txt.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "seeing.txt"
ROUNDS = 7
WORKERS = {"backend": "processes", "n_jobs": 2}
MANY, FEW, LINES = 200_000, 50, 20_000
MOST_RATIO = 1.02  # promised for items that say nothing

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


def mapped(function: Callable[[int], int], items: int, *, relay: bool, times: int = 1) -> Callable[[], None]:
    """Return what maps a function over so many items, so many times."""

    def act() -> None:
        for _ in range(times):
            for _ in amorsize.map(function, range(items), relay=relay, **WORKERS):
                pass

    return act


def rows(rounds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    for title, items, times in (("200,000 items of 10 us", MANY, 1), ("200 calls of 50 items", FEW, 200)):
        acts = {
            "off": mapped(silent, items, relay=False, times=times),
            "on": mapped(silent, items, relay=True, times=times),
            "off again": mapped(silent, items, relay=False, times=times),
        }
        took = least(acts, rounds)
        ratio, itself = took["on"] / took["off"], took["off again"] / took["off"]
        missed = "  MISSED" if ratio > MOST_RATIO * max(1.0, itself) else ""
        yield f"{'relay, ' + title:<40}{ratio:>8.3f}   (itself {itself:.3f}){missed}"
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for title, function in (("printed", prints), ("logged", logs)):
        acts = {
            "silent": mapped(silent, LINES, relay=True),
            "said": mapped(function, LINES, relay=True),
            "silent here": lambda: list(map(silent, range(LINES))),
            "said here": lambda function=function: list(map(function, range(LINES))),
        }
        took = least(acts, rounds)
        each = (took["said"] - took["silent"]) / LINES
        here = (took["said here"] - took["silent here"]) / LINES
        yield f"{'a line that is ' + title:<40}{1e6 * each:>8.1f} us (builtin {1e6 * here:.1f} us)"
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

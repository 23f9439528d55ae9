"""Times `amorsize map` over lines against a loop written by hand, and what a journal costs.

A million lines through `str.upper`, from a file and through a pipe, in turns; then 2,000 items of 1 ms with a journal
and without one, one after another in the caller; then items of half a microsecond from a generator, over the builtin.

    python benchmarks/lines.py [--turns 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
LINES = 1_000_000
ITEMS, ITEM_SECONDS = 2_000, 0.001
BY_HAND = """
import sys
for line in sys.stdin:
    print(line.rstrip("\\n").upper())
"""
JOURNAL = """
import os, sys, time
import amorsize
def work(number):
    until = time.perf_counter() + {seconds}
    while time.perf_counter() < until:
        pass
    return number
options = dict(backend="serial", **(dict(journal=sys.argv[1]) if len(sys.argv) > 1 else dict()))
list(amorsize.map(work, range(10), backend="serial"))
began = time.perf_counter()
assert list(amorsize.map(work, range({items}), **options)) == list(range({items}))
print(time.perf_counter() - began)
"""


GENERATOR = """
import time
import amorsize
def work(line):
    total = 0
    for turn in range(20):
        total += turn
    return total
def lines():
    for number in range({lines}):
        yield "line"
for mapped in (map, amorsize.map):
    began = time.perf_counter()
    for _ in mapped(work, lines()):
        pass
    print(time.perf_counter() - began)
"""


def seconds_of(command: list[str], lines: Path, *, piped: bool) -> float:
    """Return how long a command takes that reads these lines."""
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    began = time.perf_counter()
    if piped:
        with subprocess.Popen(["cat", str(lines)], stdout=subprocess.PIPE) as source:  # noqa: S607 - wherever it is
            subprocess.run(command, stdin=source.stdout, stdout=subprocess.DEVNULL, check=True, env=environ)
    else:
        with lines.open("rb") as source:
            subprocess.run(command, stdin=source, stdout=subprocess.DEVNULL, check=True, env=environ)
    return time.perf_counter() - began


def said_by(script: str, *arguments: str) -> list[float]:
    """Return the numbers that a script prints."""
    command = [sys.executable, "-c", script, *arguments]
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    child = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    return [float(line) for line in child.stdout.split()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    print(f"CPython {sys.version.split()[0]}, medians of {turns} turns, seconds, the start of Python included")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AMORSIZE_CACHE_DIR"] = str(Path(folder, "cache"))
        lines = Path(folder, "lines")
        lines.write_text("".join(f"line number {number}\n" for number in range(LINES)), encoding="ascii")
        hand = [sys.executable, "-c", BY_HAND]
        ours = [sys.executable, "-m", "amorsize", "map", "builtins:str.upper"]
        for piped in (False, True):
            found = [(seconds_of(hand, lines, piped=piped), seconds_of(ours, lines, piped=piped)) for _ in range(turns)]
            by_hand, by_us = (statistics.median(each) for each in zip(*found, strict=True))
            where = "a pipe" if piped else "a file"
            print(f"{LINES:,} lines from {where}: by hand {by_hand:.2f}, ours {by_us:.2f}: {by_us / by_hand:.2f}")
        script = JOURNAL.format(seconds=ITEM_SECONDS, items=ITEMS)
        plain, kept = [], []
        for turn in range(turns):
            for times, arguments in ((plain, []), (kept, [str(Path(folder, f"journal-{turn}"))])):
                times.extend(said_by(script, *arguments))
        cost = statistics.median(kept) / statistics.median(plain) - 1
        print(
            f"{ITEMS:,} items of 1 ms: {statistics.median(plain):.3f} without a journal, "
            f"{statistics.median(kept):.3f} with one: {cost:.1%} more"
        )
        script = GENERATOR.format(lines=LINES)
        ratios = [ours / builtin for builtin, ours in (said_by(script) for _ in range(turns))]
        print(f"{LINES:,} items of 0.5 us from a generator, over the builtin: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()

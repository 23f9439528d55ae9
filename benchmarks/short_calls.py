"""Is a call that is over in no time slower than the builtin, in the processes that users have?

    python benchmarks/short_calls.py [--calls 60]

Each row is one call made again and again, after 40 calls that nobody times: 50 no-ops, 200 items of 8 us, and so on, as
a function, a bound method, a partial and a fresh lambda, in a bare process and in one with NumPy and other threads.
Items' times are counted in turns of a plain loop, so that machines compare. The builtin and ours take turns; the median
of ours may be 1.10 of the builtin's and 200 turns more. Each cell is a process of its own. Written to
benchmarks/results/short_calls.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = HERE / "results" / "short_calls.txt"
BEFORE = 40  # calls that nobody times
MOST_RATIO = 1.10
MOST_TURNS = 200
TURNS = 200_000
# Number of items, microseconds of each, bytes of each result.
CALLS = {
    "50 no-ops": (50, 0.0, 0),
    "200 of 8 us": (200, 8.0, 0),
    "6 of 0.1 ms": (6, 100.0, 0),
    "12 of 0.1 ms": (12, 100.0, 0),
    "64 of 0.1 ms": (64, 100.0, 0),
    "40 of 40 us": (40, 40.0, 0),
    "3 of 0.4 ms": (3, 400.0, 0),
    "10 results of 200 kB": (10, 20.0, 200_000),
}
SHAPES = ("function", "method", "partial", "lambda")
PLACES = ("bare", "numpy and threads")


def seconds_per_turn() -> float:
    """Return the seconds of one turn of a plain loop: the least of seven."""

    def loop() -> int:
        total = 0
        for number in range(TURNS):
            total += number
        return total

    times = []
    for _ in range(7):
        began = perf_counter()
        loop()
        times.append(perf_counter() - began)
    return min(times) / TURNS


def work(turns: int, nbytes: int, item: int) -> Any:
    """Turn a plain loop, and return what was asked for."""
    total = item
    for number in range(turns):
        total += number
    return bytes(nbytes) if nbytes else total


def noop(item: int) -> int:
    """Do nothing."""
    return item


class Model:
    """Has a method that is made anew whenever it is asked for."""

    def __init__(self, turns: int, nbytes: int) -> None:
        self.turns = turns
        self.nbytes = nbytes
        self.inner = work

    def evaluate(self, item: int) -> Any:
        """Do the work."""
        return self.inner(self.turns, self.nbytes, item)

    def nothing(self, item: int) -> int:
        """Do nothing."""
        return item


def made(shape: str, turns: int, nbytes: int) -> Callable[[], Callable[[int], Any]]:
    """Return what makes the function of one call."""
    model = Model(turns, nbytes)
    if shape == "function":

        def function(item: int) -> Any:
            return work(turns, nbytes, item)

        return lambda: function if turns or nbytes else noop
    if shape == "method":
        return lambda: model.evaluate if turns or nbytes else model.nothing
    if shape == "partial":
        return lambda: partial(work, turns, nbytes)
    return lambda: lambda item: work(turns, nbytes, item)


def cell(call: str, shape: str, place: str, calls: int) -> None:
    """Measure one cell and print it."""
    ended = threading.Event()
    if place != "bare":
        import numpy as np

        np.ones((300, 300)) @ np.ones((300, 300))
        for _ in range(3):
            threading.Thread(target=ended.wait, daemon=True).start()
    import amorsize

    turn = seconds_per_turn()
    number, microseconds, nbytes = CALLS[call]
    make = made(shape, round(microseconds * 1e-6 / turn), nbytes)
    items = list(range(number))
    taken: dict[Any, list[float]] = {map: [], amorsize.map: []}
    on_workers = 0
    for count in range(BEFORE + calls):
        for mapping, times in taken.items():
            function = make()
            began = perf_counter()
            stream = mapping(function, items)
            list(stream)
            seconds = perf_counter() - began
            if count >= BEFORE:
                times.append(seconds)
                plan = getattr(stream, "plan", None)
                on_workers += plan is not None and plan.backend == "processes"
    ended.set()
    builtin, ours = (statistics.median(times) for times in taken.values())
    print(json.dumps({"builtin": builtin, "ours": ours, "turn": turn, "on_workers": on_workers / calls}))


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", nargs=3)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--only", choices=list(CALLS), action="append")
    given = parser.parse_args()
    if given.cell:
        cell(*given.cell, given.calls)
        return
    limit = f"at most {MOST_RATIO:.2f} of the builtin and {MOST_TURNS} turns"
    lines = [
        f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; medians of {given.calls} calls; {limit}",
        f"{'':<22}{'':<10}{'':<18} {'builtin, us':>11} {'ours':>9} {'ratio':>6} {'turns over':>10} {'on workers':>10}",
    ]
    print(*lines, sep="\n", flush=True)
    held = 0
    for call in given.only or CALLS:
        for shape in SHAPES:
            for place in PLACES:
                lines.append(row(call, shape, place, given.calls))
                held += "held" in lines[-1]
                print(lines[-1], flush=True)
    lines.append(f"{held} of {len(lines) - 2} held")
    print(lines[-1])
    if not given.only:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(call: str, shape: str, place: str, calls: int) -> str:
    """Measure a cell in a process of its own, and return its line of the table."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--calls", str(calls), "--cell", call, shape, place]
        environ = {**os.environ, "AMORSIZE_CACHE_DIR": cache}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    builtin, ours, turn = found["builtin"], found["ours"], found["turn"]
    over = (ours - MOST_RATIO * builtin) / turn
    said = "held" if over <= MOST_TURNS else "MISSED"
    return (
        f"{call:<22}{shape:<10}{place:<18} {1e6 * builtin:>11.1f} {1e6 * ours:>9.1f} {ours / builtin:>6.2f} "
        f"{max(0.0, over):>10.0f} {found['on_workers']:>10.0%} {said}"
    )


if __name__ == "__main__":
    main()

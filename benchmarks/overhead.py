"""What does `amorsize.map` cost where it can gain nothing, and what does `optimize` cost beside the items it samples?

Run `python benchmarks/overhead.py`, for about a minute: it prints its figures beside what was promised, and writes them
to benchmarks/results/overhead.txt. amorsize/call/caller.py and amorsize/call/stream.py cite it.

The two sides of a comparison take turns, so that a slow moment hits both; the builtin is compared with itself too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

from machine_facts import facts  # noqa: E402
from workloads import blobs, checksum, noop, spin, turns_per_second  # noqa: E402

import amorsize  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Way = Callable[[Callable[[int], object], Iterable[int]], Iterable[object]]

RESULTS = HERE / "results" / "overhead.txt"
SMALL = 100
SMALL_TURNS = 3_000
MANY = 1_000_000
MANY_TURNS = 9
TRIVIAL = 100_000
LOOK_EVERY = 10_000
PROCESSES = 5  # for each row of `optimize`
SMALL_MICROSECONDS = 30.0
MANY_RATIO = 1.15
DECISION_MILLISECONDS = 5.0


def plain_loop(function: Callable[[int], object], items: Iterable[int]) -> Iterator[object]:
    """Do what `map` does, in Python."""
    for item in items:
        yield function(item)


class Times(NamedTuple):
    """Least and median seconds of a call."""

    least: float
    median: float


def take_turns(ways: dict[str, Way], items: Iterable[int], turns: int) -> dict[str, Times]:
    """Time `list(way(noop, items))` for each of the ways, one after another, so often."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = time.perf_counter()
            list(way(noop, items))
            taken[name].append(time.perf_counter() - began)
    return {name: Times(min(seconds), statistics.median(seconds)) for name, seconds in taken.items()}


def no_process() -> Iterator[str]:
    """Look for children while trivial items run; the first of all, so that nothing is warm."""
    yield f"Processes started for {TRIVIAL:,} no-ops, looked for every {LOOK_EVERY:,} results (at most 0)"
    for name, items in (("a range", range(TRIVIAL)), ("a generator", (item for item in range(TRIVIAL)))):
        seen = 0
        for result in amorsize.map(noop, items):
            if result % LOOK_EVERY == LOOK_EVERY - 1:  # type: ignore[operator]  # the items are numbers
                seen = max(seen, children())
        yield f"  {name:<30}{seen:>10}"


def children() -> int:
    """Return how many children this process has."""
    import psutil

    return len(psutil.Process().children(recursive=True))


def small_calls() -> Iterator[str]:
    """Time short calls with a function that is known, as the callers of a hot loop do."""
    for _ in range(20):
        list(amorsize.map(noop, range(MANY // 10)))  # now it is known
    ways: dict[str, Way] = {"builtin": map, "the builtin again": map, "amorsize": amorsize.map}
    title = f"list(map(no-op, range({SMALL}))), microseconds a call, {SMALL_TURNS:,} turns"
    yield f"{title:<62}{'least':>10}{'median':>10}"
    times = take_turns(ways, range(SMALL), SMALL_TURNS)
    for name, (least, median) in times.items():
        yield f"  {name:<60}{least * 1e6:>10.1f}{median * 1e6:>10.1f}"
    over = [(ours - theirs) * 1e6 for ours, theirs in zip(times["amorsize"], times["builtin"], strict=True)]
    yield f"  {f'over the builtin (at most {SMALL_MICROSECONDS:g})':<60}{over[0]:>10.1f}{over[1]:>10.1f}"


def many_calls() -> Iterator[str]:
    """Time a million no-ops, as ratios to the builtin."""
    ways: dict[str, Way] = {
        "builtin": map,
        "the builtin again": map,
        "a plain generator loop": plain_loop,
        f"amorsize (at most {MANY_RATIO:g})": amorsize.map,
        "amorsize, backend='serial'": lambda function, items: amorsize.map(function, items, backend="serial"),
    }
    for name, items in (("a range", range(MANY)), ("a list", list(range(MANY)))):
        title = f"{MANY:,} no-ops over {name}, {MANY_TURNS} turns"
        yield f"{title:<58}{'least ms':>10}{'ratio':>8}{'median ms':>11}{'ratio':>8}"
        times = take_turns(ways, items, MANY_TURNS)
        base = times["builtin"]
        for way, (least, median) in times.items():
            ratios = least / base.least, median / base.median
            yield f"  {way:<56}{least * 1e3:>10.1f}{ratios[0]:>8.3f}{median * 1e3:>11.1f}{ratios[1]:>8.3f}"


# A child imports first what a decision loads on demand, and times its first decision then. The function adds up its own
# time, so what is left is what `optimize` adds.
DECISION = """
import importlib, json, sys, time
path, name, turns, modules = json.loads(sys.argv[1])
sys.path[:0] = path
import amorsize, overhead
known = set(sys.modules)
for module in modules:
    importlib.import_module(module)
function, items = overhead.decisions(turns)[name]
own, clock = [0.0], time.perf_counter
def work(item):
    began = clock()
    result = function(item)
    own[0] += clock() - began
    return result
began = clock()
amorsize.optimize(work, items)
took = clock() - began
print(json.dumps([took, own[0], sorted(set(sys.modules) - known)]))
"""


def decisions(turns: float) -> dict[str, tuple[Callable[[object], object], list[object]]]:
    """Return the functions and inputs that `optimize` is asked about."""
    return {
        "no-op x 10,000": (noop, list(range(10_000))),
        "10 us x 10,000": (spin, [round(turns * 10e-6)] * 10_000),
        "1 ms x 1,000": (spin, [round(turns * 1e-3)] * 1_000),
        "50 ms x 20": (spin, [round(turns * 50e-3)] * 20),
        "200 kB x 100": (checksum, blobs(100)),
    }


def first_decisions() -> Iterator[str]:
    """Time the first `optimize` of a process, without the sampled items' own time and without imports."""
    turns = turns_per_second()
    yield f"optimize, first of a process: ms beyond the items' own, imports apart (at most {DECISION_MILLISECONDS:g})"
    yield f"  {'':<30}{'least':>10}{'median':>10}{'own time':>10}{'with imports':>14}"
    for name in decisions(turns):
        with_imports, own, modules = decision(name, turns, [])
        beyond = [decision(name, turns, modules) for _ in range(PROCESSES)]
        least, median = (collect(took for took, _, _ in beyond) * 1e3 for collect in (min, statistics.median))
        yield f"  {name:<30}{least:>10.2f}{median:>10.2f}{own * 1e3:>10.1f}{with_imports * 1e3:>14.1f}"


def decision(name: str, turns: float, modules: list[str]) -> tuple[float, float, list[str]]:
    """Let a fresh process decide; return the seconds beyond the items' own, those, and the modules it loaded."""
    told = json.dumps([[str(HERE.parent), str(HERE)], name, turns, modules])
    with tempfile.TemporaryDirectory() as cache:
        environ = {**os.environ, "AMORSIZE_CACHE_DIR": cache}
        command = [sys.executable, "-c", DECISION, told]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout
    took, own, loaded = json.loads(answer)
    return took - own, own, loaded


def main() -> None:
    """Print every figure, and write them to the results."""
    lines = ["Overhead (benchmarks/overhead.py).", *facts(), ""]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AMORSIZE_CACHE_DIR"] = cache
        for part in (no_process, small_calls, many_calls, first_decisions):
            lines += [*part(), ""]
    text = "\n".join(line.rstrip() for line in lines[:-1]) + "\n"
    print(text, end="")
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

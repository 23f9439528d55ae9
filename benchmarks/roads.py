"""How good are a report's estimates of the roads that a call has not taken?

For each workload of `regret.py`, a process of its own lets amorsize choose, a few times, and asks the last call's
report. Then it runs the same items on every road by name, in turns, and takes medians. Where the call stayed in a
process without workers, further such processes run it on their first ones. An estimate is off by `estimate / run - 1`.
Roads that no report tells, because the call was over before anything was measured, are left out and counted. Threads of
items that compute are told under the supposition that items hold the interpreter.

    python benchmarks/roads.py [--only NAME] [--turns 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

from machine_facts import facts, usable_cores  # noqa: E402
from workloads import WORKLOADS, Workload, turns_per_second  # noqa: E402

RESULTS = HERE / "results" / "roads.txt"
ROADS = ("serial", "processes", "threads")
CALLS = 3  # the first of them starts workers, and the cache is filled
TOLD, NINE_IN_TEN = 0.2, 0.4


def measure(workload: Workload, turns: float, repeats: int) -> dict[str, Any]:
    """Return what the report told of each road, and what it took."""
    import amorsize

    items = None if workload.anew else workload.make(turns)

    def run(**options: Any) -> tuple[float, Any]:
        given = workload.make(turns) if items is None else items
        began = time.perf_counter()
        stream = amorsize.map(workload.function, given, **options)
        for _ in stream:
            pass
        return time.perf_counter() - began, stream

    for _ in range(CALLS):
        _, stream = run()
    told = stream.report
    forced: dict[str, list[float]] = {road: [] for road in ROADS}
    n_jobs = max(2, usable_cores())
    for _ in range(repeats + 1):
        for road in ROADS:
            if road == "processes" and told.backend == "serial":
                continue  # the call had no workers, so it is run where there are none, either
            seconds, _ = run(backend=road, **({"n_jobs": n_jobs} if road == "processes" else {}))
            forced[road].append(seconds)
    took = {road: statistics.median(seconds[1:]) for road, seconds in forced.items() if seconds}  # the first warms up
    return {
        "taken": told.backend,
        "told": {road.backend: road.seconds for road in told.roads},
        "took": took,
        "regret": told.regret,
    }


def first_workers(workload: Workload, turns: float) -> float:
    """Return what the items take on workers in a process that has not had any, after the same calls as in `measure`."""
    import amorsize

    items = None if workload.anew else workload.make(turns)
    for _ in range(CALLS):
        list(amorsize.map(workload.function, workload.make(turns) if items is None else items))
    given = workload.make(turns) if items is None else items
    began = time.perf_counter()
    for _ in amorsize.map(workload.function, given, backend="processes", n_jobs=max(2, usable_cores())):
        pass
    return time.perf_counter() - began


def in_child(name: str, *words: str) -> Any:
    """Return what this script prints of one workload, in a process with a cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        environ = {**os.environ, "AMORSIZE_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--one", name, *words]
        child = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if child.returncode:
        sys.exit(child.stderr)
    return json.loads(child.stdout)


def line(name: str, found: dict[str, Any]) -> tuple[str, list[float]]:
    """Return a row, and by how much each road not taken was off."""
    cells, errors = [], []
    for road in ROADS:
        took, told = found["took"][road], found["told"].get(road)
        if told is None:
            cells.append(f"{'-':>9} {took * 1e3:9.2f} {'':>6}")
            continue
        off = told / took - 1
        if road != found["taken"]:
            errors.append(off)
        cells.append(f"{told * 1e3:9.2f} {took * 1e3:9.2f} {'taken' if road == found['taken'] else f'{off:+.0%}':>6}")
    return f"{name:<27}{'  '.join(cells)}", errors


def main() -> None:
    """Run all workloads, and keep what a full run has shown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], help="part of a workload's name; may be repeated")
    parser.add_argument("--turns", type=int, default=3, help="how often each road is run (default %(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--speed", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--first-workers", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    by_name = {workload.name: workload for workload in WORKLOADS if not workload.busy}
    if arguments.first_workers:
        print(json.dumps(first_workers(by_name[arguments.one], arguments.speed)))
        return
    if arguments.one:
        print(json.dumps(measure(by_name[arguments.one], arguments.speed, arguments.turns)))
        return
    chosen = [name for name in by_name if not arguments.only or any(part in name for part in arguments.only)]
    speed = turns_per_second()
    lines = [*facts(), "milliseconds on each road: estimated, run by name, and by how much the estimate was off"]
    lines.append(f"{'':<27}" + "  ".join(f"{road:>26}" for road in ROADS))
    rows, all_errors, silent = [], [], 0
    for name in chosen:
        found = in_child(name, "--speed", repr(speed), "--turns", str(arguments.turns))
        if "processes" not in found["took"]:
            runs = [in_child(name, "--speed", repr(speed), "--first-workers") for _ in range(arguments.turns)]
            found["took"]["processes"] = statistics.median(runs)
        text, errors = line(name, found)
        print(text, flush=True)
        lines.append(text)
        if errors:
            rows.append(max(map(abs, errors)))
            all_errors += map(abs, errors)
        else:
            silent += 1
    if all_errors:
        share = sum(error <= NINE_IN_TEN for error in all_errors) / len(all_errors)
        within = sum(row <= NINE_IN_TEN for row in rows)
        median = statistics.median(all_errors)
        text = f"{len(all_errors)} roads not taken: median error {median:.0%} (at most {TOLD:.0%})"
        lines.append(f"{text}, {share:.0%} of them within {NINE_IN_TEN:.0%}")
        text = f"{len(rows)} rows: {within} with all such roads within {NINE_IN_TEN:.0%} (nine in ten wanted)"
        lines.append(f"{text}; {silent} rows were over before anything was measured")
    text = "\n".join(lines) + "\n"
    print(text)
    if not arguments.only:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

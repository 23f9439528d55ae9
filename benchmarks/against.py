"""Is this tree slower than another one? Both run in turn, in processes that stay, on the same machine at the same time.

    git worktree add /tmp/other v0.1.0 && python benchmarks/against.py /tmp/other [--rounds 15] [--only "a warm call"]

Three processes take turns in random order: one of this tree, one of the other tree, and a second one of this tree,
which gives the A/A floor: what differs between two processes of one tree is noise. Each runs every case once a round;
the table shows the least seconds of each, and the median over the rounds of the ratios.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from functools import partial
from operator import neg
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "against.txt"
ROUNDS = 15
# Settings, helpers and classes that `named` reaches: what a function of a small program may.
SCALE, OFFSET, NAMES, LIMIT = 2, 1.5, ("a", "b"), 10


class Point:
    """Something with a few methods."""

    unit = "cm"

    def __init__(self, x: float) -> None:
        self.x = x

    def scaled(self) -> float:
        """Return the number scaled."""
        return self.x * SCALE


def helper(number: float) -> float:
    """Return the number, moved."""
    return number + OFFSET


def named(number: int) -> float:
    """Reach some names of this module and of others."""
    return Point(helper(number)).scaled() + len(NAMES) + min(LIMIT, number) + os.path.altsep.__class__.__sizeof__(0)


def nothing(number: int) -> int:
    """Return the number."""
    return number


def microsecond(number: int) -> int:
    """Take about a microsecond."""
    return sum(range(number % 7 + 20))


def repeated(times: int, action: Callable[[], object]) -> float:
    """Return the seconds of one of so many actions."""
    began = perf_counter()
    for _ in range(times):
        action()
    return (perf_counter() - began) / times


def drain(function: Callable[[int], object], items: object, **options: object) -> None:
    """Map and take the results."""
    import amorsize

    for _ in amorsize.map(function, items, **options):  # type: ignore[arg-type]  # any iterable
        pass


def cases() -> dict[str, Callable[[], float]]:
    """Return what is measured: each gives seconds."""
    found: dict[str, Callable[[], float]] = {}
    for method in ("fork", "forkserver"):
        options = {"backend": "processes", "n_jobs": 2, "start_method": method}
        for name, function in (("", neg), (", ten names", named)):
            call = partial(drain, function, range(2), chunksize=1, **options)
            found[f"a warm call, {method}{name}"] = partial(repeated, 60, call)
        chunks = partial(drain, neg, range(5_000), chunksize=1, **options)
        found[f"5,000 chunks, {method}"] = partial(repeated, 1, chunks)
    objects = [[number] for number in range(20_000)]
    found["20,000 lists there and back"] = partial(
        repeated, 1, partial(drain, nothing, objects, backend="processes", n_jobs=2)
    )
    found["a generator of 20,000 lists"] = partial(
        repeated, 1, lambda: drain(nothing, (item for item in objects), backend="processes", n_jobs=2)
    )
    found["100 no-ops"] = partial(repeated, 200, partial(drain, nothing, range(100)))
    found["300,000 no-ops, range"] = partial(repeated, 1, partial(drain, nothing, range(300_000)))
    found["300,000 no-ops, list"] = partial(repeated, 1, partial(drain, nothing, list(range(300_000))))
    found["300,000 no-ops, generator"] = partial(repeated, 1, lambda: drain(nothing, iter(range(300_000))))
    found["100,000 items of 1 us"] = partial(repeated, 1, partial(drain, microsecond, range(100_000)))
    return found


def serve() -> None:
    """Measure the cases that are asked for on standard input, until that ends."""
    known = cases()
    for line in sys.stdin:
        print(known[line.strip()](), flush=True)


def start(tree: Path) -> subprocess.Popen[str]:
    """Start a process that measures a tree."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(HERE)])}
    environ.pop("AMORSIZE_CACHE_DIR", None)
    code = f"import sys; sys.path[:1] = [{str(tree)!r}]; import against, amorsize; against.serve()"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, cwd=tree
    )


def ask(process: subprocess.Popen[str], name: str) -> float:
    """Have a process measure one case."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(name + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of the tree to compare with")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    given = parser.parse_args()
    processes = {
        "this": start(HERE.parent),
        "other": start(given.other.resolve()),
        "again": start(HERE.parent),
    }
    lines = [
        f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; {given.rounds} rounds; this tree over the other",
        f"{'':<38} {'this, us':>11} {'other, us':>11} {'ratio':>7} {'A/A':>7}",
    ]
    print(*lines, sep="\n")
    for name in cases():
        if not name.startswith(given.only):
            continue
        times: dict[str, list[float]] = {key: [] for key in processes}
        for process in processes.values():
            ask(process, name)  # so that workers run, and all is known
        for _ in range(given.rounds):
            for key in random.sample(list(processes), 3):
                times[key].append(ask(processes[key], name))
        ratio = median(this / other for this, other in zip(times["this"], times["other"], strict=True))
        floor = median(again / this for this, again in zip(times["this"], times["again"], strict=True))
        least = [min(times[key]) * 1e6 for key in ("this", "other")]
        lines.append(f"{name:<38} {least[0]:>11,.1f} {least[1]:>11,.1f} {ratio:>7.3f} {floor:>7.3f}")
        print(lines[-1], flush=True)
    for process in processes.values():
        process.communicate()
    if not given.only:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

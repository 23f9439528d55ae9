"""Who spends how many turns of a plain loop on a call? The budget of each part, as in CONTRIBUTING.md, and its cost.

    python benchmarks/turns.py

A turn is one turn of `for i in range(200_000): s += i` in a function, the least of seven: 30 to 60 ns. Each figure is
the least of seven repeats, after the part has run before. Written to benchmarks/results/turns.txt.
"""

from __future__ import annotations

import os
import sys
import tempfile
import timeit
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = HERE / "results" / "turns.txt"


def noop(item: int) -> int:
    """Do nothing."""
    return item


def some(item: int) -> int:
    """Do something that takes about 0.1 ms."""
    total = item
    for number in range(3_000):
        total += number
    return total


def seconds_of(act: Callable[[], object], number: int) -> float:
    """Return the least seconds of one time."""
    return min(timeit.repeat(act, number=number, repeat=7)) / number


def parts() -> Iterator[tuple[str, int, float]]:
    """Yield each part, its budget in turns, and the seconds it takes."""
    import amorsize
    from amorsize.backends.registry import Job, find, open_backend
    from amorsize.backends.rows import PROCESSES
    from amorsize.cache import lookup
    from amorsize.call.policy import Policy
    from amorsize.call.request import Request
    from amorsize.call.waiting import system_of
    from amorsize.feed.source import Source
    from amorsize.options import DEFAULTS
    from amorsize.plan.profile import WorkProfile
    from amorsize.transport.by_value import Outgoing

    items, many = list(range(50)), list(range(2_000))
    for _ in range(3):
        list(amorsize.map(noop, items))
    begun = seconds_of(lambda: amorsize.map(noop, items), 5_000)
    yield "options and stream of a short call", 120, begun
    empty = seconds_of(lambda: list(amorsize.map(noop, [])), 5_000)
    yield "its first and last look", 120, empty - begun
    ours = seconds_of(lambda: list(amorsize.map(noop, many)), 50)
    each = (ours - empty - seconds_of(lambda: list(map(noop, many)), 50)) / len(many)
    yield "watching, for each item of a short call", 3, each

    request = Request(some, DEFAULTS, find(some, DEFAULTS))
    policy = Policy(request, Source((many,)))
    system = system_of(DEFAULTS)
    profile = WorkProfile(2_000, 100e-6, bytes_in=10.0, bytes_out=10.0)
    lookup.store(some, len(many), profile, None, system)

    def priced() -> object:
        policy = Policy(request, Source((many,)))
        policy.look_up()
        return policy.before_first()

    yield "looking up and pricing a function that goes", 5_000, seconds_of(priced, 500)
    lookup.store(some, len(many), profile._replace(seconds_per_item=1e-6), None, system)
    yield "looking up and pricing a function that stays", 2_500, seconds_of(priced, 500)
    yield "keeping what was measured", 1_500, seconds_of(
        lambda: lookup.store(some, len(many), profile, None, system, on_disk=False), 500
    )

    job = Job(some, Outgoing(), 2, policy.starting.method())

    def opened() -> None:
        open_backend(PROCESSES, job, None).close()

    opened()
    yield "taking two warm workers, and giving them back", 4_000, seconds_of(opened, 50)
    list(amorsize.map(some, items, backend="processes"))
    data = list(range(1_000))
    amorsize.optimize(noop, data)
    yield "a cache hit of `optimize`", 300, seconds_of(lambda: amorsize.optimize(noop, data), 1_000)
    amorsize.shutdown()


def seconds_per_turn() -> float:
    """Return the seconds of one turn."""

    def loop() -> int:
        total = 0
        for number in range(200_000):
            total += number
        return total

    return min(timeit.repeat(loop, number=1, repeat=7)) / 200_000


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AMORSIZE_CACHE_DIR"] = cache
        turn = seconds_per_turn()
        lines = [
            f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; a turn took {1e9 * turn:.0f} ns",
            f"{'':<50}{'at most':>8}{'turns':>8}",
        ]
        for name, budget, seconds in parts():
            turns = seconds / turn
            lines.append(f"{name:<50}{budget:>8,}{turns:>8,.0f}{'' if turns <= budget else '  MISSED'}")
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

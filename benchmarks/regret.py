"""How much does `amorsize.map` lose to the best hand-tuned choice, workload by workload?

Run `python benchmarks/regret.py` on a quiet machine: it takes about 7 minutes, prints the tables, and writes them to
benchmarks/results/regret.txt. It prices what amorsize/plan/escalate.py and amorsize/plan/model.py decide.

Each contender has a process of its own (`contenders.py`). Its first call there is cold, the following ones are warm, so
one such session gives both tables. "First" counts what a first call has to start: pools, workers, and modules loaded on
demand. It does not count importing the contender's own library, for any of them: a program pays that once at its top,
however many maps it has, and counting it would flatter us (the line under the table says what it is). Leaving a pool is
counted for nobody.

Sessions interleave: within a round every contender runs once, in random order. A pilot session finds who is near the
best; the others are shown with the pilot's figure, marked ~, and the rest of the time belongs to those who matter. The
pilot's figures of those count for nothing, so that all have as many samples.

Regret is (ours - 50 us) / best contender, once from minima and once from medians. The best of several is a little
better than it deserves, by luck; A/A is what that luck makes of equals: the pilot's best contender, run a second time
in processes of its own, put in our place.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from contenders import PACKAGES, Host, contestants  # noqa: E402
from machine_facts import facts  # noqa: E402
from workloads import WORKLOADS, Workload, turns_per_second  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RESULTS = Path(__file__).parent / "results" / "regret.txt"
FORGIVEN_SECONDS = 50e-6
MINUTES = 6.5
NEAR = 1.3  # contenders within this of the pilot's best stay
HOPELESS = 3.0  # and those this far behind after one call are not called again
PATIENCE_SECONDS = 0.3  # unless they took no longer than this
SESSIONS = (2, 12)  # least and most, the pilot apart
CALLS = (2, 20)  # least and most later calls in a session
CALLS_SECONDS = 0.8  # what the best one's later calls in a session should take
OURS, KNOWN = "amorsize", "known"
COLUMNS = ("builtin", "pool", "executor", *PACKAGES)
TARGETS = {"first": (1.15, 1.6), "later": (1.02, 1.15)}  # median and worst
TITLES = {
    "first": "FIRST CALL in a fresh process, nothing known; `known`: our regret where an earlier process left a profile",
    "later": "LATER CALLS, every pool warm",
}

Statistic = "Callable[[list[float]], float]"


class Samples:
    """Seconds by contender, of first and of later calls."""

    def __init__(self) -> None:
        self.first: dict[str, list[float]] = {}
        self.later: dict[str, list[float]] = {}
        self.imports: dict[str, list[float]] = {}

    def best(self, table: str) -> str:
        """Return the quickest contender, ourselves apart."""
        series: dict[str, list[float]] = getattr(self, table)
        return min((spec for spec in series if spec in self.imports and spec != OURS), key=lambda spec: min(series[spec]))


class Race:
    """The sessions of one workload.

    Args:
        workload: what is run.
        tables: "first", "later" or both.
        turns: turns of `workloads.spin` in a second.
        folder: where caches may lie.
    """

    def __init__(self, workload: Workload, tables: tuple[str, ...], turns: float, folder: str) -> None:
        self.workload = workload
        self.pilot, self.samples = Samples(), Samples()
        self._tables = tables
        self._turns = turns
        self._folder = folder
        self._remembered = tempfile.mkdtemp(dir=folder)
        self._chance = random.Random(1)  # noqa: S311 - the order of calls is no secret

    def run(self, seconds: float, sessions: int | None) -> None:
        """Run the pilot, and then as many sessions as fit into the time."""
        began = time.perf_counter()
        self._session(self.pilot, {spec: spec for spec in (*contestants(self.workload), OURS)}, 2, self._remembered)
        entries = self._kept()
        best = min(min(self.pilot.later.values(), key=min))
        calls = min(max(int(CALLS_SECONDS / best), CALLS[0]), CALLS[1]) if "later" in self._tables else 0
        least, most = (sessions, sessions) if sessions is not None else SESSIONS
        took = 0.0
        for done in range(most):
            left = seconds - (time.perf_counter() - began)
            if done >= least and took > left:
                return
            started = time.perf_counter()
            self._session(self.samples, entries, calls, None)
            took = time.perf_counter() - started

    def _kept(self) -> dict[str, str]:
        """Return who takes part after the pilot, each with the contender that it is."""
        entries = {OURS: OURS}
        if "first" in self._tables:
            entries[KNOWN] = OURS
        for table in self._tables:
            pilot: dict[str, list[float]] = getattr(self.pilot, table)
            best = self.pilot.best(table)
            entries |= {spec: spec for spec in pilot if min(pilot[spec]) <= NEAR * min(pilot[best])}
            entries[f"A/A {table}"] = best
        return entries

    def _session(self, samples: Samples, entries: Mapping[str, str], calls: int, cache: str | None) -> None:
        hosts: dict[str, Host] = {}
        try:
            for label, spec in entries.items():
                folder = self._remembered if label == KNOWN else cache or tempfile.mkdtemp(dir=self._folder)
                hosts[label] = Host(self.workload, spec, self._turns, folder)
                samples.imports.setdefault(label, []).append(hosts[label].import_seconds)
            for label in self._shuffled(hosts):
                samples.first.setdefault(label, []).append(hosts[label].call())
            limit = max(PATIENCE_SECONDS, HOPELESS * min(map(min, samples.first.values())))
            for label in self._shuffled(hosts):
                if label in (KNOWN, "A/A first") or (samples is self.pilot and samples.first[label][0] > limit):
                    samples.later.setdefault(label, samples.first[label])
                    hosts.pop(label).close()
            for _ in range(calls):
                for label in self._shuffled(hosts):
                    samples.later.setdefault(label, []).append(hosts[label].call())
        finally:
            for host in hosts.values():
                host.close()

    def _shuffled(self, hosts: Mapping[str, Host]) -> list[str]:
        return self._chance.sample(sorted(hosts), len(hosts))


class Row(NamedTuple):
    """One workload's line in a table: regrets from minima and from medians."""

    text: str
    ours: tuple[float, float]
    known: tuple[float, float]
    floor: tuple[float, float]


def row(race: Race, table: str) -> Row:
    """Put a race's samples into a line."""
    samples: dict[str, list[float]] = getattr(race.samples, table)
    pilot: dict[str, list[float]] = getattr(race.pilot, table)
    rivals = [spec for spec in samples if spec in pilot and spec != OURS]

    def regret(label: str) -> tuple[float, float]:
        if label not in samples:
            return (float("nan"),) * 2
        least, middle = (
            max(0.0, statistic(samples[label]) - FORGIVEN_SECONDS) / min(statistic(samples[spec]) for spec in rivals)
            for statistic in (min, statistics.median)
        )
        return least, middle

    text = f"{race.workload.name:<27}"
    for column in COLUMNS:
        kept = [min(samples[spec]) for spec in rivals if spec.partition("/")[0] == column]
        dropped = [min(pilot[spec]) for spec in pilot if spec.partition("/")[0] == column]
        text += f"{milliseconds(min(kept)) if kept else milliseconds(min(dropped)) + '~' if dropped else 'absent':>10}"
    ours, known, floor = regret(OURS), regret(KNOWN), regret(f"A/A {table}")
    text += f"{milliseconds(min(samples[OURS])):>10}{pair(ours)}"
    text += pair(known) if table == "first" else ""
    best = min(rivals, key=lambda spec: min(samples[spec]))
    return Row(f"{text}{pair(floor)}{len(samples[OURS]):>4}  {best}", ours, known, floor)


def pair(regrets: tuple[float, float]) -> str:
    """Print two regrets."""
    return f"{regrets[0]:>9.3f}{regrets[1]:>7.3f}"


def milliseconds(seconds: float) -> str:
    """Print a time with three digits or so."""
    number = seconds * 1e3
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 4}f}"


def table_of(races: Iterable[Race], table: str) -> list[str]:
    """Return the lines of a table, with what they come to."""
    known = f"{'known':>9}{'':>7}" if table == "first" else ""
    rows = [row(race, table) for race in races]
    lines = [
        TITLES[table],
        f"{'least milliseconds':<27}"
        + "".join(f"{name:>10}" for name in (*COLUMNS, OURS))
        + f"{'regret':>9}{'':>7}{known}{'A/A':>9}{'':>7}{'n':>4}  best",
        " " * (27 + 10 * (len(COLUMNS) + 1)) + f"{'minima':>9}{'median':>7}" * (3 if known else 2),
        *(one.text for one in rows),
    ]
    for name, summary, wanted in (("median", statistics.median, TARGETS[table][0]), ("worst", max, TARGETS[table][1])):
        columns = (one.ours, one.known, one.floor) if table == "first" else (one.ours, one.floor)  # noqa: F821
        del columns
        kinds = ("ours", "known", "floor") if table == "first" else ("ours", "floor")
        figures = [tuple(summary([getattr(one, kind)[place] for one in rows]) for place in (0, 1)) for kind in kinds]
        lines.append(
            f"{name + f' of {len(rows)}, ours at most {wanted:g}':<{27 + 10 * (len(COLUMNS) + 1)}}"
            + "".join(pair(figure) for figure in figures)
        )
    return lines

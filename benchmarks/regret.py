"""How much does `amorsize.map` lose to the best hand-tuned choice, workload by workload?

Run `python benchmarks/regret.py` on a quiet machine: it takes about 10 minutes, prints the tables, and writes them to
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
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from contenders import PACKAGES, Host, contestants
from machine_facts import facts
from workloads import WORKLOADS, Workload, turns_per_second

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Series = dict[str, list[float]]  # seconds by contender

RESULTS = Path(__file__).parent / "results" / "regret.txt"
FORGIVEN_SECONDS = 50e-6
MINUTES = 6.5
NEAR = 1.2  # contenders within this of the pilot's best stay
HOPELESS = 2.0  # those this far behind after one call are not called again
PATIENCE_SECONDS = 0.3  # unless that call took less than this
SESSIONS = (2, 12)  # least and most, the pilot apart
CALLS = (1, 20)  # least and most later calls in a session
CALLS_SECONDS = 0.8  # what the best one's later calls in a session should take
OURS, KNOWN, TWIN = "amorsize", "known", "A/A "
COLUMNS = ("builtin", "pool", "executor", *PACKAGES)
TARGETS = {"first": (1.15, 1.6), "later": (1.02, 1.15)}  # median and worst
TITLES = {
    "first": "FIRST CALL in a fresh process, nothing known; known: where an earlier process left a profile",
    "later": "LATER CALLS, every pool warm",
}
NAME_WIDTH = 27
LEFT_WIDTH = NAME_WIDTH + 10 * (len(COLUMNS) + 1)


class Race:
    """The sessions of one workload.

    Args:
        workload: what is run.
        tables: "first", "later" or both.
        turns: turns of `workloads.spin` in a second.
        folder: where caches may lie.

    Attributes:
        pilot: the pilot's seconds, by table and contender.
        samples: all later sessions' seconds.
        imports: what importing a contender's library took.
        predictions: seconds predicted when our calls moved to workers, and what they took.
    """

    def __init__(self, workload: Workload, tables: Sequence[str], turns: float, folder: str) -> None:
        self.workload = workload
        self.pilot: dict[str, Series] = {table: defaultdict(list) for table in TITLES}
        self.samples: dict[str, Series] = {table: defaultdict(list) for table in TITLES}
        self.imports: Series = defaultdict(list)
        self.predictions: list[tuple[float, float]] = []
        self._tables = tables
        self._turns = turns
        self._folder = folder
        self._remembered = tempfile.mkdtemp(dir=folder)
        self._chance = random.Random(1)  # noqa: S311 - the order of calls is no secret

    def run(self, seconds: float, sessions: int | None) -> None:
        """Run the pilot, and then `sessions`, or as many as fit into the time."""
        until = time.perf_counter() + seconds
        later = "later" in self._tables
        everyone = {spec: spec for spec in (*contestants(self.workload), OURS)}
        self._session(self.pilot, everyone, int(later))
        entries = self._kept()
        best = min(map(min, self.pilot[self._tables[-1]].values()))
        calls = min(max(int(CALLS_SECONDS / best), CALLS[0]), CALLS[1]) * later
        least, most = SESSIONS if sessions is None else (sessions, sessions)
        took = 0.0
        for done in range(most):
            started = time.perf_counter()
            if done >= least and started + took > until:
                return
            self._session(self.samples, entries, calls)
            took = time.perf_counter() - started

    def _kept(self) -> dict[str, str]:
        """Return who takes part after the pilot, each with the contender that it is."""
        entries = {OURS: OURS}
        if "first" in self._tables:
            entries[KNOWN] = OURS
        for table in self._tables:
            rivals = {spec: min(seconds) for spec, seconds in self.pilot[table].items() if spec != OURS}
            best = min(rivals, key=lambda spec: rivals[spec])
            entries |= {spec: spec for spec in rivals if rivals[spec] <= NEAR * rivals[best]}
            entries[TWIN + table] = best
        return entries

    def _session(self, samples: dict[str, Series], entries: Mapping[str, str], calls: int) -> None:
        """Start a process for each of `entries`, call each once, and then the warm ones `calls` times."""
        first, later, is_pilot = samples["first"], samples["later"], samples is self.pilot
        hosts: dict[str, Host] = {}
        try:
            for label, spec in entries.items():
                # The pilot leaves what `known` will know.
                knows = is_pilot or label == KNOWN
                cache = self._remembered if knows else tempfile.mkdtemp(dir=self._folder)
                hosts[label] = Host(self.workload, spec, self._turns, cache)
            for label, spec in entries.items():
                self.imports[spec.partition("/")[0]].append(hosts[label].ready())
            for label in self._shuffled(hosts):
                first[label].append(hosts[label].call())
            limit = max(PATIENCE_SECONDS, HOPELESS * min(map(min, first.values())))
            for label in entries:
                if is_pilot and first[label][0] > limit:
                    later[label] = first[label]
                    hosts.pop(label).close()
                elif label in {KNOWN, TWIN + "first"}:
                    hosts.pop(label).close()
            for _ in range(calls):
                for label in self._shuffled(hosts):
                    later[label].append(hosts[label].call())
        finally:
            for host in hosts.values():
                host.end()
            for label, host in hosts.items():
                noted = host.close()
                if label in {OURS, KNOWN} and not is_pilot:
                    self.predictions += noted

    def _shuffled(self, hosts: Mapping[str, Host]) -> list[str]:
        return self._chance.sample(sorted(hosts), len(hosts))


class Row(NamedTuple):
    """One workload's line in a table, and its regrets: each from minima and from medians."""

    text: str
    regrets: list[tuple[float, float]]


def row(race: Race, table: str) -> Row:
    """Put a race's samples into a line."""
    samples, pilot = race.samples[table], race.pilot[table]
    rivals = [spec for spec in samples if spec in pilot and spec != OURS]

    def regret(label: str, statistic: Callable[[list[float]], float]) -> float:
        best = min(statistic(samples[spec]) for spec in rivals)
        return max(0.0, statistic(samples[label]) - FORGIVEN_SECONDS) / best

    def least(column: str) -> str:
        kept = [min(samples[spec]) for spec in rivals if spec.partition("/")[0] == column]
        dropped = [min(pilot[spec]) for spec in pilot if spec.partition("/")[0] == column]
        return milliseconds(min(kept)) if kept else milliseconds(min(dropped)) + "~" if dropped else "absent"

    times = "".join(f"{least(column):>10}" for column in COLUMNS) + f"{milliseconds(min(samples[OURS])):>10}"
    regrets = [(regret(label, min), regret(label, statistics.median)) for label in labels(table)]
    best = min(rivals, key=lambda spec: min(samples[spec]))
    text = f"{race.workload.name:<{NAME_WIDTH}}{times}{''.join(map(pair, regrets))}{len(samples[OURS]):>5}  {best}"
    return Row(text, regrets)


def labels(table: str) -> tuple[str, ...]:
    """Return whose regrets a table tells."""
    return (OURS, KNOWN, TWIN + table) if table == "first" else (OURS, TWIN + table)


def pair(regrets: tuple[float, float]) -> str:
    """Print two regrets."""
    return f"{regrets[0]:>9.3f}{regrets[1]:>8.3f}"


def milliseconds(seconds: float) -> str:
    """Print a time with three digits or so."""
    number = seconds * 1e3
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 4}f}"


def summary(rows: Sequence[Row], table: str) -> Iterable[str]:
    """Yield what the rows of a table come to, beside what was promised."""
    for name, collect, most in zip(("median", "worst"), (statistics.median, max), TARGETS[table], strict=True):
        figures = [
            (collect(pair[0] for pair in column), collect(pair[1] for pair in column))
            for column in zip(*(one.regrets for one in rows), strict=True)
        ]
        text = f"{name} of {len(rows)} rows (ours at most {most:g})"
        yield f"{text:<{LEFT_WIDTH}}{''.join(map(pair, figures))}"


def report(races: Sequence[Race], table: str) -> Iterable[str]:
    """Yield the lines of a table."""
    rows = [row(race, table) for race in races]
    columns = "".join(f"{name:>10}" for name in (*COLUMNS, OURS))
    kinds = ("regret", "known", "A/A") if table == "first" else ("regret", "A/A")
    yield TITLES[table]
    regrets = "".join(f"{kind:>17}" for kind in kinds)
    yield f"{'least milliseconds':<{NAME_WIDTH}}{columns}{regrets}{'n':>5}  best"
    yield " " * LEFT_WIDTH + f"{'minima':>9}{'medians':>8}" * len(kinds)
    yield from (one.text for one in rows)
    yield from summary(rows, table)
    yield ""


def imports(races: Sequence[Race]) -> str:
    """Return what importing each library took, which no table counts."""
    names = dict.fromkeys(name for race in races for name in race.imports)
    least = {name: min(seconds for race in races for seconds in race.imports.get(name, ())) for name in names}
    told = ", ".join(f"{name} {least[name] * 1e3:.1f}" for name in names if name != "builtin")
    return f"Imports, not counted, least milliseconds in a process that runs benchmarks/contenders.py: {told}"


def predictions(races: Sequence[Race]) -> str:
    """Return how far predictions were off."""
    errors = sorted(abs(took / told - 1) for race in races for told, took in race.predictions)
    if not errors:
        return "No call moved to workers by a prediction."
    median, most = errors[len(errors) // 2], errors[int(0.9 * len(errors))]
    return (
        f"Predictions of {len(errors)} calls that moved: median error {median:.0%} (at most 15%), "
        f"nine in ten within {most:.0%} (at most 40%)"
    )


def main() -> None:
    """Run the races, print the tables, and keep those of a full run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="sessions after the pilot; default: what fits into the time")
    parser.add_argument("--only", action="append", default=[], help="part of a workload's name; may be repeated")
    parser.add_argument("--first", dest="tables", action="append_const", const="first", help="first calls only")
    parser.add_argument("--later", dest="tables", action="append_const", const="later", help="later calls only")
    parser.add_argument("--quick", action="store_true", help="one session after the pilot: does it work?")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="about how long to take (default %(default)s)")
    arguments = parser.parse_args()
    tables = [table for table in TITLES if table in (arguments.tables or TITLES)]
    chosen = [one for one in WORKLOADS if not arguments.only or any(part in one.name for part in arguments.only)]
    if not chosen:
        parser.error(f"no such workload; there are: {', '.join(one.name for one in WORKLOADS)}")
    rounds = 1 if arguments.quick and arguments.rounds is None else arguments.rounds
    began, heading = time.perf_counter(), facts("joblib", "mpire")
    turns, races = turns_per_second(), []
    with tempfile.TemporaryDirectory() as folder:
        for place, workload in enumerate(chosen):
            left = began + 60 * arguments.minutes - time.perf_counter()
            races.append(Race(workload, tables, turns, folder))
            races[-1].run(left / (len(chosen) - place), rounds)
            for table in tables:
                print(f"{table:6}{row(races[-1], table).text}", flush=True)
    lines = [
        "Regret: (ours - 50 us) / best contender, from minima and from medians (benchmarks/regret.py).",
        *heading,
        f"{turns / 1e6:.0f} million turns a second; {(time.perf_counter() - began) / 60:.1f} minutes",
        "pool: the best chunk size of a grid, as `best` names it; ~: left out after the pilot; n: our samples",
        "A/A: the best contender against itself, the floor of what this machine can tell apart",
        "",
        *(line for table in tables for line in report(races, table)),
        imports(races),
        predictions(races),
    ]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    print(f"\n{text}")
    if not (arguments.only or arguments.tables or arguments.quick):
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

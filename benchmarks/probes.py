"""How near to the ideal does a map come when items are as unlike as in practice? Items nap, so cores do not matter.

Run `python benchmarks/probes.py` on a quiet machine, for about 5 minutes: it prints the table and writes it to
benchmarks/results/probes.txt. It shows, on real workers, what benchmarks/schedule.py simulates.

Each time is told as a ratio to the lower bound, max(sum / workers, longest item), which no schedule beats even if it
knows every time beforehand. `greedy` is the same ratio for handing items out singly, in order, for nothing: what one
can do that does not know (a giant at the end cannot be foreseen). Naps last some 60 us longer than they are told, which
the bound does not know; in probe B that is 2%.

"first" is the first call of a fresh process (see contenders.py), "later" the least of the calls after it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from contenders import CONTENDERS, Host
from machine_facts import facts
from workloads import PROBES, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable

RESULTS = Path(__file__).parent / "results" / "probes.txt"
ROUNDS = 3  # processes for each of ours; others get one
LATER_CALLS = 2
OURS = {"amorsize": "auto", "processes": "processes"}  # a contender, and what the table calls it
OTHERS = ("pool", "imap", "joblib")
TARGETS = {"A:": 1.10, "B:": 1.10, "heavy": 1.20}  # by the beginning of a probe's name


def measure(workload: Workload, spec: str, rounds: int) -> tuple[float, float]:
    """Return the median first and the median later call, as ratios to the lower bound."""
    first, later = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            host = Host(workload, spec, 1.0, tempfile.mkdtemp(dir=folder))
            host.ready()
            first.append(host.call())
            later += [host.call() for _ in range(LATER_CALLS if rounds > 1 else 1)]
            host.close()
    return statistics.median(first) / workload.least_seconds, statistics.median(later) / workload.least_seconds


def table(workloads: Iterable[Workload], rounds: int, *, peers: bool) -> Iterable[str]:
    """Yield a line for each probe."""
    others = [spec for spec in OTHERS if peers and CONTENDERS[spec].present]
    names = [*OURS.values(), *others]
    yield f"{'':<34}{'workers':>8}{'bound s':>9}{'greedy':>8}" + "".join(f"{name:>14}" for name in names)
    yield " " * 59 + f"{'first':>7}{'later':>7}" * len(names)
    for workload in workloads:
        ratios = {spec: measure(workload, spec, rounds) for spec in OURS}
        ratios |= {spec: measure(workload, spec, 1) for spec in others}
        bound, greedy = workload.least_seconds, workload.greedy_seconds
        line = f"{workload.name:<34}{workload.n_jobs or 0:>8}{bound:>9.3f}{greedy / bound:>8.3f}"
        line += "".join(f"{first:>7.3f}{later:>7.3f}" for first, later in ratios.values())
        target = next((most for start, most in TARGETS.items() if workload.name.startswith(start)), None)
        if target is not None:
            worst = max(max(ratios[spec]) for spec in OURS)
            line += f"  at most {target:.2f}: {'met' if worst <= target else 'MISSED'}"
        yield line


def main() -> None:
    """Print the table, and keep that of a full run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="fresh processes for each of ours")
    parser.add_argument("--only", action="append", default=[], help="part of a probe's name; may be repeated")
    parser.add_argument("--ours", action="store_true", help="leave the others out")
    arguments = parser.parse_args()
    chosen = [one for one in PROBES if not arguments.only or any(part in one.name for part in arguments.only)]
    lines = [
        "Ratios to the lower bound, max(sum / workers, longest item) (benchmarks/probes.py).",
        *facts("joblib"),
        f"medians; {arguments.rounds} fresh processes for each of ours, one for each other",
        "",
    ]
    print("\n".join(lines))
    for line in table(chosen, arguments.rounds, peers=not arguments.ours):
        print(line, flush=True)
        lines.append(line)
    if not (arguments.only or arguments.ours):
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

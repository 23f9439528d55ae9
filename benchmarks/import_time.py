"""What does `import amorsize` cost over a bare interpreter? The promise is at most 12 ms.

    python benchmarks/import_time.py [--rounds 40]

Bare and importing interpreters start in turn, so that both see the same machine; minima and medians are printed, and
then the slowest modules, each without what it imports itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROMISE_MILLISECONDS = 12.0
SHOWN_MODULES = 8
_ENVIRON = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def start_milliseconds(code: str) -> float:
    """Return how long an interpreter takes to start, run `code` and end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=_ENVIRON)
    return (time.perf_counter() - began) * 1e3


def slowest_modules() -> list[tuple[float, str]]:
    """Return (milliseconds, name) of the modules that `import amorsize` loads, the slowest first."""
    # What a bare interpreter loads comes before the first line of ours, so only what follows it counts.
    code = "import sys; print('begin', file=sys.stderr); import amorsize"
    command = [sys.executable, "-X", "importtime", "-c", code]
    told = subprocess.run(command, check=True, env=_ENVIRON, stderr=subprocess.PIPE, text=True).stderr
    lines = told.partition("begin\n")[2].splitlines()
    fields = (line.removeprefix("import time:").split("|") for line in lines)
    return sorted(((int(own) / 1e3, name.strip()) for own, _, name in fields), reverse=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="pairs of interpreters to start")
    rounds = parser.parse_args().rounds
    start_milliseconds("import amorsize")  # writes the byte code
    bare, importing = [], []
    for _ in range(rounds):
        bare.append(start_milliseconds("pass"))
        importing.append(start_milliseconds("import amorsize"))
    print(f"Python {sys.version.split()[0]}, {rounds} rounds, milliseconds")
    print(f"{'':<18}{'minimum':>9}{'median':>9}")
    for name, times in (("bare interpreter", bare), ("import amorsize", importing)):
        print(f"{name:<18}{min(times):>9.1f}{statistics.median(times):>9.1f}")
    least, middle = min(importing) - min(bare), statistics.median(importing) - statistics.median(bare)
    print(f"{'difference':<18}{least:>9.1f}{middle:>9.1f}   (promised: at most {PROMISE_MILLISECONDS:g})")
    print("\nslowest modules, own time under -X importtime:")
    for milliseconds, name in slowest_modules()[:SHOWN_MODULES]:
        print(f"{milliseconds:>9.2f}  {name}")


if __name__ == "__main__":
    main()

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
import tempfile
import time
from pathlib import Path

PROMISE_MILLISECONDS = 12.0
SHOWN_MODULES = 8
TREE = Path(__file__).resolve().parents[1]
# Without `site`: what the .pth files of an environment load would count as bare. But with `os`, which `site` loads.
BARE = "import os"
CODES = (BARE, f"{BARE}; import amorsize")


def start_milliseconds(code: str, environ: dict[str, str]) -> float:
    """Return how long an interpreter takes to start, run `code` and end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-S", "-c", code], check=True, env=environ)
    return (time.perf_counter() - began) * 1e3


def slowest_modules(environ: dict[str, str]) -> list[tuple[float, str]]:
    """Return (milliseconds, name) of the modules that `import amorsize` loads, the slowest first."""
    # What a bare interpreter loads comes before the first line of ours, so only what follows it counts.
    code = f"import sys; {BARE}; print('begin', file=sys.stderr); import amorsize"
    command = [sys.executable, "-S", "-X", "importtime", "-c", code]
    told = subprocess.run(command, check=True, env=environ, stderr=subprocess.PIPE, text=True).stderr
    lines = told.partition("begin\n")[2].splitlines()
    fields = (line.removeprefix("import time:").split("|") for line in lines)
    return sorted(((int(own) / 1e3, name.strip()) for own, _, name in fields), reverse=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="pairs of interpreters to start")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as byte_code:
        # Byte code is kept whatever the surroundings say, as it is for every installed package.
        environ = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONPYCACHEPREFIX": byte_code}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for code in CODES:
            start_milliseconds(code, environ)
        times: dict[str, list[float]] = {code: [] for code in CODES}
        for _ in range(rounds):
            for code in CODES:
                times[code].append(start_milliseconds(code, environ))
        slowest = slowest_modules(environ)
    bare, importing = times.values()
    differences = min(importing) - min(bare), statistics.median(importing) - statistics.median(bare)
    print(f"Python {sys.version.split()[0]}, {rounds} rounds, milliseconds")
    print(f"{'':<28}{'minimum':>9}{'median':>9}")
    for code, taken in times.items():
        print(f"{code:<28}{min(taken):>9.1f}{statistics.median(taken):>9.1f}")
    print(f"{'difference':<28}{differences[0]:>9.1f}{differences[1]:>9.1f}   (at most {PROMISE_MILLISECONDS:g})")
    print("\nslowest modules, own time under -X importtime:")
    for milliseconds, name in slowest[:SHOWN_MODULES]:
        print(f"{milliseconds:>9.2f}  {name}")


if __name__ == "__main__":
    main()

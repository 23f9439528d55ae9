"""What does `import amorsize` cost over a bare interpreter? The promise is at most 12 ms, and 1.2 bare starts.

    python benchmarks/import_time.py [--rounds 40]

Interpreters start in turn, bare ones, such that import, and such that make a first call of cheap items as well, so that
all see the same machine. Minima and medians are printed, what each takes beyond a bare start, and that as a multiple of
the bare start, which means the same on a slow machine. Then come the slowest modules, each without what it imports.
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
PROMISE_STARTS = 1.2
SHOWN_MODULES = 8
TREE = Path(__file__).resolve().parents[1]
# Without `site`: what the .pth files of an environment load would count as bare. But with `os`, which `site` loads.
BARE = "import os"
CODES = {
    "bare": BARE,
    "import amorsize": f"{BARE}; import amorsize",
    "from amorsize import map, parallelize": f"{BARE}; from amorsize import map, parallelize",
    "import, and a first call of 100 items": f"{BARE}; import amorsize; list(amorsize.map(abs, range(100)))",
}


def start_milliseconds(code: str, environ: dict[str, str]) -> float:
    """Return how long an interpreter takes to start, run `code` and end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-S", "-c", code], check=True, env=environ, cwd=TREE)
    return (time.perf_counter() - began) * 1e3


def slowest_modules(environ: dict[str, str]) -> list[tuple[float, str]]:
    """Return (milliseconds, name) of the modules that `import amorsize` loads, the slowest first."""
    # What a bare interpreter loads comes before the first line of ours, so only what follows it counts.
    code = f"import sys; {BARE}; print('begin', file=sys.stderr); import amorsize"
    command = [sys.executable, "-S", "-X", "importtime", "-c", code]
    told = subprocess.run(command, check=True, env=environ, cwd=TREE, stderr=subprocess.PIPE, text=True).stderr
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
        for code in CODES.values():
            start_milliseconds(code, environ)
        times: dict[str, list[float]] = {name: [] for name in CODES}
        for _ in range(rounds):
            for name, code in CODES.items():
                times[name].append(start_milliseconds(code, environ))
        slowest = slowest_modules(environ)
    bare = min(times["bare"])
    print(f"Python {sys.version.split()[0]}, {rounds} rounds, milliseconds")
    print(f"{'':<40}{'minimum':>9}{'median':>9}{'beyond bare':>14}{'bare starts':>14}")
    for name, taken in times.items():
        least, usual = min(taken), statistics.median(taken)
        line = f"{name:<40}{least:>9.1f}{usual:>9.1f}"
        if name != "bare":
            line += f"{least - bare:>14.1f}{least / bare - 1.0:>14.2f}"
        if name == "import amorsize":
            line += f"   (at most {PROMISE_MILLISECONDS:g}, and {PROMISE_STARTS:g})"
        print(line)
    print("\nslowest modules, own time under -X importtime:")
    for milliseconds, name in slowest[:SHOWN_MODULES]:
        print(f"{milliseconds:>9.2f}  {name}")


if __name__ == "__main__":
    main()

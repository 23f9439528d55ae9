"""Are calls slower than the builtin where workers are dear: heavy modules, large globals, large bound data?

    python benchmarks/first_price.py [--turns 3]

- *heavy module*: a function in a module that takes 1.5 s to import, 100 items of 5 ms, four calls with `shutdown()`
  between them, in a process with another thread, so that workers do not inherit the module.
- *large global*, *bound array*: a function of the main module that names a table of six million numbers, and a method
  of an object with 80 MB of them; items of 4 ms: 20 of them a call, four times, and then 2,000 once.

Each row is a process of its own with an empty cache; the builtin runs in the same process, by turns. Written to
benchmarks/results/first_price.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = HERE / "results" / "first_price.txt"
ROWS = ("heavy module", "large global", "bound array")
TABLE: dict[int, int] = {}
MODULE = """
import time
time.sleep(0.3)
began = time.perf_counter()
while time.perf_counter() - began < 1.2:
    pass

def work(turns):
    total = 0
    for number in range(turns):
        total += number
    return total
"""


def turns_for(seconds: float) -> int:
    """Return how many turns of a plain loop take so long here."""

    def loop(turns: int) -> int:
        total = 0
        for number in range(turns):
            total += number
        return total

    times = []
    for _ in range(7):
        began = perf_counter()
        loop(200_000)
        times.append(perf_counter() - began)
    return round(200_000 * seconds / min(times))


def with_table(turns: int) -> int:
    """Look something up in the table after some work."""
    total = 0
    for number in range(turns):
        total += number
    return TABLE.get(total, total)


class Model:
    """Has 80 MB."""

    def __init__(self) -> None:
        from array import array

        self.data = array("d", bytes(80_000_000))

    def evaluate(self, turns: int) -> float:
        """Work a little."""
        total = 0
        for number in range(turns):
            total += number
        return total + self.data[total % 1000]


def timed(mapping: Callable[..., Any], function: Callable[[int], Any], items: list[int]) -> float:
    """Return the seconds of one call."""
    began = perf_counter()
    list(mapping(function, items))
    return perf_counter() - began


def row(name: str) -> None:
    """Measure one row and print its ratios."""
    import amorsize

    threading.Thread(target=threading.Event().wait, daemon=True).start()
    time.sleep(0.01)
    found: dict[str, Any] = {}
    if name == "heavy module":
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "heavy_to_import.py").write_text(MODULE, encoding="utf-8")
            sys.path.insert(0, folder)
            import heavy_to_import  # type: ignore[import-not-found]

            items = [turns_for(0.005)] * 100
            ratios = []
            for _ in range(4):
                builtin = timed(map, heavy_to_import.work, items)
                ratios.append(timed(amorsize.map, heavy_to_import.work, items) / builtin)
                amorsize.shutdown()
            found["short"] = ratios
    else:
        if name == "large global":
            TABLE.update((number, number) for number in range(6_000_000))
        function: Callable[[int], Any] = with_table if name == "large global" else Model().evaluate
        turns = turns_for(0.004)
        items = [turns] * 20
        found["short"] = []
        for _ in range(4):
            builtin = timed(map, function, items)
            found["short"].append(timed(amorsize.map, function, items) / builtin)
        long = [turns] * 2000
        builtin = timed(map, function, long[:500]) * 4
        found["long"] = builtin / timed(amorsize.map, function, long)
    print(json.dumps(found))


def main() -> None:
    """Run all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    if given.row:
        row(given.row)
        return
    lines = [
        f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; medians of {given.turns} processes",
        f"{'':<16}{'four short calls over the builtin, at most':<44}{'':>24}  2,000 items, times as fast",
    ]
    print(*lines, sep="\n", flush=True)
    limits = {"heavy module": "later ones 1.25", "large global": "1.6, then 1.1", "bound array": "1.6, then 1.1"}
    for name in ROWS:
        cells = [ask(name) for _ in range(given.turns)]
        short = [median(cell["short"][place] for cell in cells) for place in range(4)]
        long = f"{median(cell['long'] for cell in cells):.2f} (at least 1.5)" if "long" in cells[0] else ""
        lines.append(f"{name:<16}{limits[name]:<20}{'  '.join(f'{ratio:.2f}' for ratio in short):<48}  {long}")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ask(name: str) -> dict[str, Any]:
    """Run a row in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        environ = {**os.environ, "AMORSIZE_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--row", name]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()

"""Do calls survive workers that are killed at random, and is anything left of it afterwards?

Run `python benchmarks/kills.py`: it prints the table and writes it to benchmarks/results/kills.txt. Every call maps
items of which some return 300 kB, with `retries=2`; in every call one worker gets SIGKILL: either before it, idle, or
in the middle of it, at a random time, from another process, so that starting workers, running items and writing results
are all hit. A call must give the right results, no more than a second later than undisturbed calls. Afterwards the
process must have no more threads, children, descriptors and shared segments than before.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter, sleep

sys.path.insert(0, str(Path(__file__).parent.parent))  # a checkout need not be installed

import psutil

import amorsize
from amorsize.backends.processes.handle import all_workers

RESULTS = Path(__file__).parent / "results" / "kills.txt"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - counted, not written to
KILLS = 200
ITEMS = 24
ITEM_SECONDS = 0.001
LARGE = 300_000
MOST_SECONDS_MORE = 1.0
# Reads lines "pid delay" and kills; a process, because a thread would make every fork here a fork beside a thread.
KILLER = """
import os, signal, sys, time
for line in sys.stdin:
    pid, delay = line.split()
    time.sleep(float(delay))
    try:
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        pass
    print(flush=True)
"""


def work(number: int) -> bytes | int:
    """Take a while; every fourth item returns much."""
    sleep(ITEM_SECONDS)
    return bytes([number % 256]) * LARGE if number % 4 == 0 else number * number


EXPECTED = [bytes([number % 256]) * LARGE if number % 4 == 0 else number * number for number in range(ITEMS)]


def one_call(start_method: str, chunksize: int | None) -> tuple[float, bool]:
    """Return (seconds, whether the results are right) of one call."""
    began = perf_counter()
    results = list(
        amorsize.map(
            work,
            range(ITEMS),
            backend="processes",
            n_jobs=2,
            start_method=start_method,
            chunksize=chunksize,
            retries=2,
            use_cache=False,
        )
    )
    return perf_counter() - began, results == EXPECTED


def holdings() -> dict[str, int]:
    """Count what this process holds; the standard library's helpers, which stay until exit, are left out."""
    process = psutil.Process()
    children = [child for child in process.children(recursive=True) if not _is_helper(child)]
    return {
        "threads": threading.active_count(),
        "native threads": process.num_threads(),
        "processes": len(children),
        "descriptors": process.num_fds(),
        "shared segments": _shared_segments(),
    }


def _shared_segments() -> int:
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8").count("memfd:amorsize")
    # Other programs have theirs there too.
    named = [path for path in SHARED_MEMORY.iterdir() if path.name.startswith(("pym-", "amorsize"))]
    return mapped + len(named)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # the kill meant for the last call came after it


def _is_helper(child: psutil.Process) -> bool:
    try:
        command = " ".join(child.cmdline())
    except psutil.NoSuchProcess:
        return True
    return child.ppid() == os.getpid() and any(
        name in command for name in ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
    )


def disturbed(start_method: str, kills: int, seed: int) -> str:
    """Run one start method's calls; return its line of the table."""
    choose = random.Random(seed)  # noqa: S311 - for the choice of victims
    one_call(start_method, None)
    amorsize.shutdown()
    before = holdings()
    calm = [one_call(start_method, chunksize)[0] for chunksize in (None, 1, 5) for _ in range(3)]
    killer = subprocess.Popen(
        [sys.executable, "-c", KILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    wrong, slowest, errors, busy = 0, 0.0, 0, 0
    for _ in range(kills):
        workers = all_workers()
        in_mid_call = choose.random() < 0.75 and bool(workers)
        victim = choose.choice(workers).process.pid if workers else None
        if in_mid_call:
            busy += 1
            killer.stdin.write(f"{victim} {choose.random() * max(calm)}\n")
        elif victim is not None:
            _kill(victim)
        began = perf_counter()
        try:
            _, right = one_call(start_method, choose.choice((None, 1, 5)))
            wrong += not right
        except amorsize.AmorsizeError as error:
            errors += 1
            print(f"  {type(error).__name__}: {error}")
        slowest = max(slowest, perf_counter() - began)
        if in_mid_call:
            killer.stdout.readline()
    killer.communicate()
    amorsize.shutdown()
    after = holdings()
    more = {name: after[name] - before[name] for name in before if after[name] > before[name]}
    missed = wrong or errors or more or slowest > max(calm) + MOST_SECONDS_MORE
    return (
        f"{start_method:<11} {kills:>5} {busy:>5} {kills - wrong - errors:>6} {max(calm) * 1e3:>9.0f} "
        f"{slowest * 1e3:>9.0f}  {more or 'nothing'}  {'MISSED' if missed else 'held'}"
    )


def main() -> None:
    """Print the table and keep it."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    lines = [
        f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; {ITEMS} items a call, a quarter {LARGE:,} bytes",
        "method      kills  busy  right  calm, ms  worst, ms  left over",
    ]
    print(*lines, sep="\n")
    for start_method in ("fork", "spawn", "forkserver"):
        lines.append(disturbed(start_method, kills, seed=1))
        print(lines[-1])
    if kills == KILLS:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

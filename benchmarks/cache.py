"""What does the cache cost, what does it save, and does it hold when processes and disks misbehave?

Run `python benchmarks/cache.py`: it prints the tables and writes them to benchmarks/results/cache.txt. It set the
constants of amorsize/cache/describe.py, disk.py and memory.py. Everything happens in a folder of its own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
import timeit
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # a checkout need not be installed

import amorsize  # noqa: E402
from amorsize.cache import disk, lookup  # noqa: E402
from amorsize.cache.entry import Key, System  # noqa: E402
from amorsize.cache.memory import memory  # noqa: E402
from amorsize.code import fingerprint  # noqa: E402
from amorsize.plan.profile import WorkProfile  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results" / "cache.txt"
SYSTEM = System(8, "fork", 10**9, "linux", "3")
PROFILE = WorkProfile(20, 0.0005, 0.0001, 0.001, 1.0, 12.0, 8.0, 1e-6, 0.0)
DAY = 24 * 3600.0
PROCESSES = 24
KEYS = 40
DAMAGED = 1_000
STARTS = 15
FACTOR = 3


def helper(x: int) -> int:
    """Stand for what a function calls."""
    return x * FACTOR


def simple(x: int) -> int:
    """Stand for a function of next to no cost."""
    return helper(x) + 1


def medium(x: int) -> int:
    """Stand for a function of some ten microseconds."""
    return sum(i * x for i in range(200))


def microseconds(call: Callable[[], object], number: int) -> float:
    """Return the least mean time of one call over five rounds."""
    return min(timeit.repeat(call, number=number, repeat=5)) / number * 1e6


def once_milliseconds(call: Callable[[], object]) -> float:
    """Return the time of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def prices() -> Iterator[str]:
    """Time each step of a look-up and of a store."""
    lookup.store(simple, 500, PROFILE, None, SYSTEM)
    digits = fingerprint.fingerprint(simple)
    seconds = [1e-4]

    def first_fingerprint() -> None:
        fingerprint.forget()
        fingerprint.fingerprint(simple)

    def from_disk() -> None:
        memory.reset()
        lookup.find(simple, 500, SYSTEM)

    def news() -> None:
        seconds[0] = 1e-4 if seconds[0] > 7e-4 else seconds[0] * 1.3
        lookup.store(simple, 500, WorkProfile(20, seconds[0]), None, SYSTEM)

    steps: list[tuple[str, float | None, Callable[[], object], int]] = [
        ("fingerprint_hit: a function and its helper, unchanged", 3, lambda: fingerprint.fingerprint(simple), 20_000),
        ("fingerprint_first: the same, described anew", None, first_fingerprint, 2_000),
        ("fingerprint_partial: composed each time", None, lambda: fingerprint.fingerprint(partial(simple, 1)), 5_000),
        ("memory: one look into the LRU", 1, lambda: memory.get(digits, "medium"), 50_000),
        ("find, from memory", None, lambda: lookup.find(simple, 500, SYSTEM), 20_000),
        ("find, length unknown, from memory", None, lambda: lookup.find(simple, None, SYSTEM), 5_000),
        ("find, from disk", 1_000, from_disk, 1_000),
        ("store, nothing new", None, lambda: lookup.store(simple, 500, PROFILE, None, SYSTEM), 5_000),
        ("store, written to disk", 1_000, news, 500),
    ]  # fmt: skip
    yield f"{'one call':<58}{'us':>9}{'at most':>9}"
    for name, limit, call, number in steps:
        yield f"{name:<58}{microseconds(call, number):>9.2f}{limit or '':>9}"
    path = disk.usable_folder()
    for number in range(1_000):
        disk.write(path, Key(f"{number:016x}", "medium", "fast").filename, b"{}", time.time())
    pruned = once_milliseconds(lambda: disk.prune(path, now=time.time(), ttl_seconds=DAY, limit=disk.ROOM_ENTRIES))
    yield f"{'prune: 1,000 files, 100 removed, at each 100th write':<58}{pruned * 1e3:>9.0f}"


def new_process() -> Iterator[str]:
    """Time the first hit from disk in a new process, over `import amorsize` in the same process."""
    code = (
        "import time, sys; sys.path.insert(0, {root!r}); started = time.perf_counter(); import amorsize; "
        "imported = time.perf_counter(); from amorsize.cache.lookup import find, store, System; "
        "from amorsize.plan.profile import WorkProfile; system = System(8, 'fork', 10**9, 'linux', '3')\n"
        "def work(x): return x\n"
        "{action}; done = time.perf_counter(); print(imported - started, done - imported)"
    )
    with tempfile.TemporaryDirectory() as home:
        named = {"AMORSIZE_CACHE_DIR": home}
        unnamed = {"XDG_CACHE_HOME": home, "HOME": home, "LOCALAPPDATA": home}
        yield f"{'first hit from disk in a new process, least of ' + str(STARTS):<58}{'ms':>9}{'at most':>9}"
        for name, variables, limit in (("AMORSIZE_CACHE_DIR set", named, 1), ("not set", unnamed, 15)):
            environ = {key: value for key, value in os.environ.items() if key != "AMORSIZE_CACHE_DIR"} | variables
            store = code.format(root=str(ROOT), action="store(work, 500, WorkProfile(9, 0.0005), None, system)")
            find = code.format(root=str(ROOT), action="assert find(work, 500, system).profile")
            run = partial(subprocess.run, env=environ, check=True, capture_output=True, text=True)
            run([sys.executable, "-c", store])
            times = [run([sys.executable, "-c", find]).stdout.split() for _ in range(STARTS)]
            imports, hits = (min(float(pair[place]) for pair in times) * 1e3 for place in (0, 1))
            yield f"{'  beyond import amorsize, ' + name:<58}{hits:>9.2f}{limit:>9}"
        yield f"{'  import amorsize itself':<58}{imports:>9.2f}"


def scenarios() -> Iterator[str]:
    """Time `optimize` in the situations of the first published table, cold and on a hit."""
    items, longer = range(1_000), range(1_500)
    yield "optimize, ms: published for the first design, and ours (the earlier program ran 36-96 cold, 0.15 on a hit)"
    yield f"{'':<34}{'cold then':>11}{'hit then':>10}{'cold now':>10}{'hit now':>10}{'times':>8}"
    rows: list[tuple[str, float, float, Callable[[], object], Callable[[], object]]] = [
        ("simple function, 1000 items", 27, 0.4, *_twice(simple, lambda: items)),
        ("medium function, 1000 items", 35, 0.4, *_twice(medium, lambda: items)),
        ("other size of the same bucket", 30, 0.4, _twice(medium, lambda: items)[0], _twice(medium, lambda: longer)[0]),
        ("generator", 28, 28, *_twice(medium, lambda: (i for i in items))),
        ("profile=True", 32, 32, *_twice(medium, lambda: items, profile=True)),
    ]  # fmt: skip
    amorsize.optimize(medium, range(10), use_cache=False)  # so that the first row does not pay for imports
    for name, cold_then, hit_then, cold, hit in rows:
        amorsize.clear_cache()
        cold_now = once_milliseconds(cold)
        repeats = 20 if hit_then > 1 else 2_000
        hit_now = min(timeit.repeat(hit, number=repeats, repeat=3)) / repeats * 1e3
        gain = cold_now / hit_now
        yield f"{name:<34}{cold_then:>11}{hit_then:>10}{cold_now:>10.2f}{hit_now:>10.4f}{gain:>8.0f}"
    yield "a hit is to take 0.0100 ms at most; generator and profile=True do not look up, by design"


def _twice(func: Callable[[int], int], data: Callable[[], object], **options: bool) -> tuple[Callable[[], object], ...]:
    def call() -> object:
        return amorsize.optimize(func, data(), **options)

    return call, call


def hit_rates() -> Iterator[str]:
    """Count hits of scripted workloads: each run is a new process, each call a look-up, a second look, and a store."""
    yield f"{'hit rates of scripted workloads':<58}{'hits':>9}{'estimate':>10}"
    for name, estimate, runs in (
        ("development: 60 runs of 3 functions, one edited every 5 runs", "80-95%", development),
        ("CI: 100 runs of 12 functions, one edited every 5 runs", "90-99%", integration),
        ("production: 25 functions, 30 days, unlike lengths and data", "60-80%", production),
    ):
        lookup.clear_cache()
        rng = random.Random(1)  # noqa: S311 - nothing secret
        hits = calls = 0
        for now, func, n_items, seconds in runs(rng):
            if func is None:
                lookup.forget()
                continue
            calls += 1
            clock = partial(float, now)
            found = lookup.find(func, n_items, SYSTEM, clock=clock).profile is not None
            if found:  # what `map` does once it has timed the first items
                found = lookup.find(func, n_items, SYSTEM, seconds_per_item=seconds, clock=clock).profile is not None
            hits += found
            lookup.store(func, n_items, WorkProfile(n_items, seconds), None, SYSTEM, clock=clock)
        yield f"{name:<62}{hits / calls:>5.0%}{estimate:>10}"


Step = tuple[float, "Callable[[int], int] | None", int, float]


def edition(function: int, version: int) -> Callable[[int], int]:
    """Return a function as it stands after `version` edits."""
    names: dict[str, Callable[[int], int]] = {}
    exec(f"def work(x): return x * {function} + {version}", names)  # noqa: S102 - a source that changes is the point
    return names["work"]


def development(rng: random.Random) -> Iterator[Step]:
    """One person changes a function, and runs a script again and again on the same data."""
    for run in range(60):
        yield 0, None, 0, 0
        for function in range(3):
            version = run // 5 if function == 0 else 0
            yield 1e9 + run * 600, edition(function, version), rng.choice([800, 900]), 1e-3 * rng.lognormvariate(0, 0.2)


def integration(rng: random.Random) -> Iterator[Step]:
    """A test suite runs on every commit; some commits change one of the functions."""
    versions = [0] * 12
    for run in range(100):
        yield 0, None, 0, 0
        if run % 5 == 4:
            versions[rng.randrange(12)] += 1
        for function, version in enumerate(versions):
            yield 1e9 + run * 3600, edition(function, version), 200 * (function + 1), 3e-4 * rng.lognormvariate(0, 0.3)


def production(rng: random.Random) -> Iterator[Step]:
    """Many functions meet batches of every length, one in five of unlike data, deployed anew every ten days."""
    for hour in range(30 * 24):
        if hour % 24 == 0:
            yield 0, None, 0, 0
        for _ in range(10):
            function = rng.randrange(25)
            usual = 10 ** (-4 + function / 10) * rng.lognormvariate(0, 0.5)
            seconds = 10 ** rng.uniform(-5, -1) if rng.random() < 0.2 else usual
            yield 1e9 + hour * 3600, edition(function, hour // 240), int(10 ** rng.uniform(1, 5)), seconds


def concurrent_writers() -> str:
    """Let many processes write the same keys at once, and count what is whole."""
    lookup.clear_cache()
    code = (
        f"import sys; from functools import partial; sys.path.insert(0, {str(ROOT)!r})\n"
        "from amorsize.cache.lookup import store, System; from amorsize.plan.profile import WorkProfile\n"
        "def work(n, x): return x * n\n"
        "sys.stdin.readline()\n"
        f"for turn in range(5):\n  for n in range({KEYS}):\n"
        "    profile = WorkProfile(9, (1 + turn) * 1e-4 * float(sys.argv[1]))\n"
        "    store(partial(work, n), 500, profile, None, System(8, 'fork', 10**9, 'linux', '3'))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(1 + number / PROCESSES / 2)], stdin=subprocess.PIPE)
        for number in range(PROCESSES)
    ]
    for writer in writers:
        writer.communicate(b"\n") if writer is writers[-1] else writer.stdin.close()  # type: ignore[union-attr]
    failed = sum(writer.wait() != 0 for writer in writers)
    there = [name for name in os.listdir(disk.folder()) if not name.startswith(".")]
    whole = len(lookup.entries())
    return f"{PROCESSES} processes writing {KEYS} keys at once: {failed} failed, {len(there)} files, {whole} whole"


def damaged_files() -> str:
    """Damage an entry's file in random ways, and count the answers."""
    lookup.clear_cache()
    lookup.store(simple, 500, PROFILE, None, SYSTEM)
    path = disk.usable_folder()
    (file,) = disk.files(path)
    whole = disk.read(path, file.name)
    answers = {"hit": 0, "miss": 0, "wrong": 0}
    for seed in range(DAMAGED):
        rng = random.Random(seed)  # noqa: S311 - nothing secret
        data = whole
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data) + 1)
            end = place + rng.randrange(40)
            foreign = rng.choice([b"9", b"-", b"e99", b"[" * 5_000, b"null", rng.randbytes(10), data[place:end] * 3])
            data = data[:place] + foreign + data[rng.choice([place, end, len(data)]) :]
        Path(path, file.name).write_bytes(data)
        lookup.forget()
        found = lookup.find(simple, 500, SYSTEM).profile
        if found is None:
            answers["miss"] += 1
        else:
            answers["hit" if 1e-4 <= found.seconds_per_item < 1e-3 else "wrong"] += 1
    return (
        f"{DAMAGED} randomly damaged files: {answers['miss']} misses, {answers['hit']} hits, {answers['wrong']} wrong"
    )


def main() -> None:
    """Print every table, and write them to the results."""
    lines = [f"The cache (benchmarks/cache.py), Python {sys.version.split()[0]}, {os.cpu_count()} cores.", ""]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AMORSIZE_CACHE_DIR"] = folder
        lookup.forget()
        for table in (prices, new_process, scenarios, hit_rates):
            lines += [*table(), ""]
        lines += [concurrent_writers(), damaged_files()]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    sys.stdout.write(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()

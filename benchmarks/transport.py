"""Does data cross to workers and back at the speed of memory? Large inputs, results and bound arrays, side by side.

    python benchmarks/transport.py > benchmarks/results/transport.txt     # all rows; who is running goes to stderr
    python benchmarks/transport.py --rows sums,ffts --turns 3             # some rows
    python benchmarks/transport.py --rows table --large                   # the table, with an item of 1 GiB
    python benchmarks/transport.py --soak                                 # only the soak

- sorts: 48 inputs of 8 MB, sorted twice, a number back. Transfer in.
- results: 80 arrays of 4 MB that workers make. Transfer out.
- bound: 80 MB bound by `functools.partial`, 200 items of about 2 ms. Should cross once, or not at all.
- sums: 40 inputs of 2 and of 8 MB, summed: so little work that sending it away can hardly pay.
- ffts: 60 inputs of 2 MB and 20 of 8 MB, transformed, a number back.
- table: one item there and back, from 8 bytes to 256 MiB, beside one memcpy.
- breakeven: arrays there and back in shared memory and in messages, whatever the size: where does the first way pay?

Each contender has a process of its own, as in `contenders.py`, so that none forks another's threads. Its first call
warms it and counts for nothing ("auto" gets three such calls); then all have one call a turn, in random order. Those
whose workers may have left since, being idle, get one more call that counts for nothing. Inputs are made anew before
every call, outside the clock, from a seed that is the turn's: nobody can keep an earlier call's data, and all must give
the same answers. Only what is bound stays the same. First calls are those of fresh processes with an empty cache, in
every turn; importing the library is not counted, starting workers is.

"Ideal" is the same work in two forked processes, each of which has its half before the clock starts and keeps its
results: two workers if nothing had to cross. It is measured in every turn because two busy cores are seldom twice as
fast as one. Ratios are within a turn, and their median is shown. MB are 10**6 bytes; the table's sizes are powers of 2.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Timer
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

import numpy as np  # noqa: E402
from machine_facts import facts  # noqa: E402
from workloads import spin, turns_per_second  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

    Call = Callable[[Sequence[Any]], list[Any]]
    Heard = dict[str, Any]

TURNS = 5
N_JOBS = 2
MEGABYTE = 1_000_000
SORTS, SORT_MEGABYTES = 48, 8
RESULTS, RESULT_MEGABYTES = 80, 4
LOOKS, BOUND_MEGABYTES, LOOK_SECONDS = 200, 80, 0.002
SUMS = {2: 40, 8: 40}  # items by megabytes
FFTS = {2: 60, 8: 20}
WARMING_CALLS = {"auto": 3}  # one for the others
LEAVE_SECONDS = {"auto": 45.0, "processes": 45.0, "joblib": 250.0}  # workers idle for so long may soon have left
HOPELESS = 8.0  # who is so far behind the builtin in its first call is not called again
PATIENCE_SECONDS = 5.0  # unless that call took less than this
HANG_SECONDS = 600.0
# The table.
SIZES = (8, 64, 1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28)
LARGE = 1 << 30
MANY_BYTES = 1 << 26  # items one after another: about so much of them
MANY = (3, 500)  # but at least and at most so many
MANY_CALLS, MANY_SECONDS = 5, 1.0  # most calls of them, and when no other begins
ALONE = (3, 200)  # least and most calls of one item
ALONE_SECONDS = 0.2  # which together take about this
PLACES = (0, 1024, 2048, 3072)  # of a copy's target, in bytes
# The soak.
SOAK_CALLS, SOAK_KILLS, SOAK_ITEMS, SOAK_BYTES = 10_000, 200, 4, 256 * 1024
SOAK_RETRIES = 3
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - listed, not written to
DESCRIPTORS = Path("/proc/self/fd")


# What is run. Hosts import these from the module `transport`, so that every kind of worker finds them by name.


def two_sorts(array: np.ndarray) -> float:
    """Sort it up and down; return something of both."""
    return float(np.sort(array)[len(array) // 3] - np.sort(-array)[len(array) // 7])


def make_result(number: int) -> np.ndarray:
    """Make an array from a number."""
    length = RESULT_MEGABYTES * MEGABYTE // 8
    return np.full(length, float(number)) if number % 2 else np.arange(number, number + length, dtype=np.float64)


def look(array: np.ndarray, turns: int, number: int) -> float:
    """Read one part of what is bound, and compute for a while."""
    spin(turns)
    place = number % LOOKS
    length = len(array) // LOOKS
    return number + float(array[place * length : (place + 1) * length].sum())


def look_shared(shared: tuple[np.ndarray, int], number: int) -> float:
    """Do the same with what mpire shares."""
    return look(*shared, number)


def total(array: np.ndarray) -> float:
    """Add up."""
    return float(array.sum())


def spectrum(array: np.ndarray) -> float:
    """Transform and add up."""
    return float(np.abs(np.fft.fft(array)).sum())


def identity(item: Any) -> Any:
    """Return the item."""
    return item


def increment(array: np.ndarray) -> np.ndarray:
    """Return another array of the same size."""
    return array + 1


def bytes_sent() -> list[int]:
    """Return the bytes that were written to shared memory for each worker of this process so far."""
    from amorsize.backends.processes.handle import all_workers

    return [worker.store.bytes_put for worker in all_workers() if worker.store is not None]


def arrays(number: int, megabytes: int, seed: int) -> list[np.ndarray]:
    """Return arrays of random numbers."""
    generator = np.random.default_rng(seed)
    return [generator.random(megabytes * MEGABYTE // 8) for _ in range(number)]


class Case(NamedTuple):
    """One comparison.

    Attributes:
        row: what `--rows` calls it.
        title: what the results call it.
        items: makes the input from a seed.
        function: what is mapped; what it needs is bound by `make`.
    """

    row: str
    title: str
    items: Callable[[int], Sequence[Any]]
    function: Callable[..., Any]

    def make(self, turns: float) -> Callable[[Any], Any]:
        """Return the function of one item, where a second has so many turns of `workloads.spin`."""
        return partial(self.function, *bound(turns)) if self.row == "bound" else self.function


def bound(turns: float) -> tuple[np.ndarray, int]:
    """Return what the row `bound` binds."""
    return arrays(1, BOUND_MEGABYTES, 0)[0], int(LOOK_SECONDS * turns)


def numbers(count: int, seed: int) -> range:
    """Return whole numbers that an earlier turn did not have."""
    return range(seed * count, (seed + 1) * count)


CASES = [
    Case(
        "sorts",
        f"{SORTS} inputs of {SORT_MEGABYTES} MB, two sorts each",
        partial(arrays, SORTS, SORT_MEGABYTES),
        two_sorts,
    ),
    Case("results", f"{RESULTS} results of {RESULT_MEGABYTES} MB", partial(numbers, RESULTS), make_result),
    Case(
        "bound",
        f"{BOUND_MEGABYTES} MB bound by partial, {LOOKS} items of {LOOK_SECONDS * 1e3:g} ms",
        partial(numbers, LOOKS),
        look,
    ),
    *(Case("sums", f"sums of {count} arrays of {size} MB", partial(arrays, count, size), total)
      for size, count in SUMS.items()),
    *(Case("ffts", f"FFTs of {count} arrays of {size} MB", partial(arrays, count, size), spectrum)
      for size, count in FFTS.items()),
]  # fmt: skip
ROWS = (*dict.fromkeys(case.row for case in CASES), "table", "breakeven")


# Who runs it: in a host, a process that runs one contender as often as it is told.


class Setting(NamedTuple):
    """What a contender is set up with: the function, the turns of a second, and where to leave pools and plans."""

    function: Callable[[Any], Any]
    turns: float
    pools: ExitStack
    plans: list[str]


def open_builtin(setting: Setting) -> Call:
    """Run in this process."""
    return lambda items: list(map(setting.function, items))


def open_pool(setting: Setting) -> Call:
    """Use a stock Pool, an item a chunk."""
    from multiprocessing import Pool

    pool = setting.pools.enter_context(Pool(N_JOBS))
    return lambda items: pool.map(setting.function, items, chunksize=1)


def open_joblib(setting: Setting) -> Call:
    """Use joblib as its documentation does, with the memory mapping that it has by default."""
    from joblib import Parallel, delayed

    work = delayed(setting.function)
    return lambda items: list(Parallel(n_jobs=N_JOBS)(work(item) for item in items))


def open_mpire(setting: Setting) -> Call:
    """Use mpire's shared objects for what is bound, and keep its workers."""
    from mpire import WorkerPool

    array, *_ = setting.function.args  # type: ignore[attr-defined]  # a partial
    shared = (array, int(LOOK_SECONDS * setting.turns))
    pool = setting.pools.enter_context(WorkerPool(n_jobs=N_JOBS, shared_objects=shared, keep_alive=True))
    return lambda items: list(pool.map(look_shared, items))


def open_amorsize(setting: Setting, **options: Any) -> Call:
    """Use amorsize, with nothing set but what is given."""
    import amorsize

    setting.pools.callback(amorsize.shutdown)

    def call(items: Sequence[Any]) -> list[Any]:
        stream = amorsize.map(setting.function, items, **options)
        results = list(stream)
        setting.plans.append(f"{stream.plan.backend} {stream.plan.n_jobs}" if stream.plan else "the caller")
        return results

    return call


OPENERS: dict[str, Callable[[Setting], Call]] = {
    "builtin": open_builtin,
    "pool": open_pool,
    "joblib": open_joblib,
    "mpire": open_mpire,
    "auto": open_amorsize,
    "processes": partial(open_amorsize, backend="processes", n_jobs=N_JOBS),
}
NAMES = {
    "ideal": "ideal, two processes that have it all",
    "builtin, first": "builtin, first call",
    "builtin": "builtin",
    "pool": f"multiprocessing.Pool({N_JOBS}), chunksize 1",
    "joblib": f"joblib, n_jobs={N_JOBS}",
    "mpire": f"mpire, n_jobs={N_JOBS}, shared_objects",
    "auto, first": "amorsize, first call",
    "auto": "amorsize, later calls",
    "processes": f"amorsize, processes, n_jobs={N_JOBS}",
}
FRESH = ("builtin, first", "auto, first")


def host(title: str, contender: str, turns: float) -> None:
    """Be a host: run once for each seed on the standard input; print what was seen."""
    case = next(case for case in CASES if case.title == title)
    function = case.make(turns)
    with ExitStack() as pools:
        setting = Setting(function, turns, pools, [])
        call = None if contender == "ideal" else OPENERS[contender](setting)
        print(json.dumps({}), flush=True)
        last = math.inf
        for line in sys.stdin:
            if call is not None and perf_counter() - last > LEAVE_SECONDS.get(contender, math.inf):
                call(case.items(0))
            items = case.items(int(line))
            gc.collect()
            if call is None:
                seconds, digests = ideal(function, items)
            else:
                began = perf_counter()
                results = call(items)
                seconds = perf_counter() - began
                digests = list(map(digest, results))
                del results
            del items
            gc.collect()
            last = perf_counter()
            heard = {"seconds": seconds, "digests": digests, "plan": setting.plans[-1:], "sent": bytes_sent()}
            print(json.dumps(heard), flush=True)


def ideal(function: Callable[[Any], Any], items: Sequence[Any]) -> tuple[float, list[int]]:
    """Run both halves in forked processes that have them; return the seconds, and a digest of each result."""
    context = get_context("fork")
    ends, processes = [], []
    for first in range(N_JOBS):
        end, other = context.Pipe()
        processes.append(context.Process(target=run_half, args=(function, items[first::N_JOBS], other)))
        processes[-1].start()
        other.close()
        ends.append(end)
    for end in ends:
        end.recv()
    began = perf_counter()
    for end in ends:
        end.send(None)
    for end in ends:
        end.recv()
    seconds = perf_counter() - began
    digests = [0] * len(items)
    for first, (end, process) in enumerate(zip(ends, processes, strict=True)):
        digests[first::N_JOBS] = end.recv()
        process.join()
        end.close()
    return seconds, digests


def run_half(function: Callable[[Any], Any], items: Sequence[Any], end: Connection) -> None:
    """Run one half when told to, in a process whose memory has been used."""
    function(items[0])
    end.send(None)
    end.recv()
    results = list(map(function, items))
    end.send(None)
    end.send(list(map(digest, results)))


def digest(result: Any) -> int:
    """Return a number that is another one for another result."""
    return crc32(result if isinstance(result, np.ndarray) else b"%.9e" % result)


class Host:
    """A process in which one contender runs one case, or measures the table, as often as it is told.

    Args:
        what: a case's title, or "table".
        contender: who runs it.
        turns: turns of `workloads.spin` in a second.
        folder: where caches may lie.
    """

    def __init__(self, what: str, contender: str, turns: float, folder: str) -> None:
        self._what = f"{contender} on {what}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--host", what, contender, str(turns)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "AMORSIZE_CACHE_DIR": tempfile.mkdtemp(dir=folder)},
        )
        self.hear()

    def call(self, order: object) -> Heard:
        """Have it run, with a seed or whatever it takes, and return what it saw."""
        assert self._process.stdin is not None  # piped
        try:
            self._process.stdin.write(f"{order}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has failed before
        return self.hear()

    def hear(self) -> Heard:
        """Return what it says next: seconds without end if it failed."""
        assert self._process.stdout is not None  # piped
        guard = Timer(HANG_SECONDS, self._process.kill)
        guard.start()
        line = self._process.stdout.readline()
        guard.cancel()
        if not line:
            print(f"{self._what} FAILED, exit code {self._process.wait()}", file=sys.stderr)
        return json.loads(line) if line else {"seconds": math.inf, "digests": None, "plan": [], "sent": None}

    def close(self) -> None:
        """Have it end."""
        try:
            self._process.communicate()
        except BrokenPipeError:
            self._process.wait()


# What is compared.


class Race:
    """The turns of one case.

    Args:
        case: what is run.
        turns: turns of `workloads.spin` in a second.
        folder: where caches may lie.

    Attributes:
        seconds: of each contender, a figure a turn; one figure of those who were given up.
        given_up: who was not called again after the first call.
        plans: where "auto" ran, in its first and its later calls.
        sent: the bytes sent to each worker, by contender.
    """

    def __init__(self, case: Case, turns: float, folder: str) -> None:
        self.case = case
        self.seconds: dict[str, list[float]] = {}
        self.given_up: set[str] = set()
        self.plans: dict[str, list[str]] = {}
        self.sent: dict[str, list[int] | None] = {}
        self._turns = turns
        self._folder = folder
        self._chance = random.Random(1)  # noqa: S311 - the order of calls is no secret

    def run(self, times: int) -> None:
        """Warm everybody, and run so many turns."""
        hosts: dict[str, Host] = {}
        try:
            for contender in contenders(self.case):
                if contender not in FRESH:
                    hosts[contender] = self._host(contender)
            self._warm(hosts)
            for turn in range(1, times + 1):
                self._turn(hosts, turn)
        finally:
            for one in hosts.values():
                one.close()

    def _host(self, contender: str) -> Host:
        print(f"{self.case.title}: {contender}", file=sys.stderr)
        return Host(self.case.title, contender.partition(",")[0], self._turns, self._folder)

    def _warm(self, hosts: dict[str, Host]) -> None:
        took = {}
        for contender, one in hosts.items():
            for _ in range(WARMING_CALLS.get(contender, 1)):
                took[contender] = one.call(0)["seconds"]
        for contender, seconds in took.items():
            if seconds > max(PATIENCE_SECONDS, HOPELESS * took["builtin"]):
                self.seconds[contender] = [seconds]
                self.given_up.add(contender)
                hosts.pop(contender).close()

    def _turn(self, hosts: dict[str, Host], turn: int) -> None:
        digests: dict[str, object] = {}
        for contender in self._chance.sample([*hosts, *FRESH], len(hosts) + len(FRESH)):
            if contender in FRESH:
                one = self._host(contender)
                heard = one.call(turn)
                one.close()
            else:
                heard = hosts[contender].call(turn)
            self.seconds.setdefault(contender, []).append(heard["seconds"])
            self.plans.setdefault(contender, []).extend(heard["plan"])
            self.sent[contender] = heard["sent"]
            digests[contender] = heard["digests"]
        for contender, found in digests.items():
            assert found is None or found == digests["builtin"], (self.case.title, contender)

    def report(self) -> Iterator[str]:
        """Yield the lines of the case."""
        yield f"\n{self.case.row}: {self.case.title}"
        yield f"{'':<40}{'least, s':>10}{'median, s':>11}{'builtin / it':>14}{'it / ideal':>12}"
        for contender, name in NAMES.items():
            if contender not in self.seconds:
                continue
            seconds = self.seconds[contender]
            mark = "~" if contender in self.given_up else " "
            yield (
                f"  {name:<38}{min(seconds):>10.4f}{statistics.median(seconds):>10.4f}{mark}"
                f"{self._ratio('builtin', contender):>14.2f}{self._ratio(contender, 'ideal'):>12.2f}"
            )
        if self.case.row == "bound" and not installed("mpire"):
            yield "  mpire is not installed: left out"
        for contender in ("auto, first", "auto"):
            yield f"  {NAMES[contender]}: ran by {', '.join(dict.fromkeys(self.plans.get(contender, ())))}"
        if self.case.row == "bound":
            for contender in ("auto, first", "auto", "processes"):
                told = self.sent.get(contender)
                text = "not counted" if told is None else ", ".join(f"{count:,}" for count in told)
                yield f"  {NAMES[contender]}: bytes sent to each worker in all its calls: {text}"

    def _ratio(self, one: str, other: str) -> float:
        over, under = self.seconds[one], self.seconds[other]
        if len(over) != len(under):  # one was given up
            return statistics.median(over) / statistics.median(under)
        return statistics.median(a / b for a, b in zip(over, under, strict=True))


def contenders(case: Case) -> list[str]:
    """Return who takes part in a case."""
    absent = {name for name in ("joblib", "mpire") if not installed(name)}
    if case.row != "bound":
        absent.add("mpire")
    return [name for name in NAMES if name not in absent]


def installed(name: str) -> bool:
    """Say whether a contender is installed."""
    return importlib.util.find_spec(name) is not None


# The table.


def an_item(kind: str, size: int, number: int) -> Any:
    """Return one item that no other call had."""
    data = number.to_bytes(8, "little") * (size // 8)
    return data if kind == "bytes" else np.frombuffer(data, np.uint8).copy()


def same(one: Any, other: Any) -> bool:
    """Say whether two items are equal."""
    return one == other if isinstance(one, bytes) else np.array_equal(one, other)


def memcpy_seconds(size: int) -> float:
    """Return the least seconds of one copy into memory that has been used.

    Some processors copy at a tenth of their speed if source and target lie alike within their pages, so the target is
    tried at several places.
    """
    source, room = memoryview(bytearray(b"x") * size), memoryview(bytearray(b"y") * (size + max(PLACES)))
    repeats = max(1, min(10_000, (1 << 24) // size))

    def copies(place: int) -> float:
        target = room[place : place + size]
        began = perf_counter()
        for _ in range(repeats):
            target[:] = source
        return (perf_counter() - began) / repeats

    return min(copies(place) for place in PLACES for _ in range(3))


def there_and_back(items: Iterable[Any], **options: Any) -> tuple[float, Any]:
    """Return the seconds, and the last result, of a call on one worker."""
    import amorsize

    began = perf_counter()
    last = deque(amorsize.map(identity, items, backend="processes", chunksize=1, **options), maxlen=1)
    return perf_counter() - began, last.pop()


def host_table() -> None:
    """Be the table's host: measure each size on the standard input."""
    import amorsize

    there_and_back([b""], n_jobs=1)
    print(json.dumps({}), flush=True)
    number = 0
    for line in sys.stdin:
        size = int(line)
        heard: Heard = {"seconds": 0.0, "memcpy": memcpy_seconds(size)}
        for kind in ("bytes", "array"):
            alone: list[float] = []
            while len(alone) < ALONE[0] + 1 or (len(alone) <= ALONE[1] and sum(alone) < ALONE_SECONDS):
                number += 1
                item = an_item(kind, size, number)
                seconds, result = there_and_back([item], n_jobs=1)
                assert same(item, result), (kind, size)
                alone.append(seconds)
                del item, result
            del alone[0]  # it made the room that the others use
            heard[f"{kind}, alone"] = (statistics.median(alone), min(alone))
            count = max(MANY[0], min(MANY[1], MANY_BYTES // size))
            items = [an_item(kind, size, number + place) for place in range(1, count + 1)]
            number += count
            each: list[float] = []
            began = perf_counter()
            while not each or (len(each) < MANY_CALLS and perf_counter() - began < MANY_SECONDS):
                seconds, result = there_and_back(items, n_jobs=N_JOBS)
                assert same(items[-1], result), (kind, size)
                each.append(seconds / count)
                del result
            del items
            gc.collect()
            heard[f"{kind}, many"] = (statistics.median(each), min(each))
        print(json.dumps(heard), flush=True)
    amorsize.shutdown()


def table(times: int, sizes: Sequence[int], folder: str) -> Iterator[str]:
    """Measure the table, in a fresh process each turn, and yield its lines."""
    heard: dict[int, list[Heard]] = {size: [] for size in sizes}
    for _ in range(times):
        one = Host("table", "processes", 0.0, folder)
        for size in sizes:
            print(f"table: {size:,} bytes", file=sys.stderr)
            heard[size].append(one.call(size))
            if math.isinf(heard[size][-1]["seconds"]):
                heard[size].pop()
                break
        one.close()
    for kind in ("bytes", "array"):
        name = "bytes objects" if kind == "bytes" else "uint8 arrays"
        yield f"\ntable: {name} there and back by processes; MB/s: size / seconds of the round trip, medians;"
        yield "copies: how many times one memcpy into warm memory that is, by medians and by minima"
        yield f"{'':<16}{'memcpy':>12}{'one item a call, 1 worker':>36}{f'many items a call, {N_JOBS} workers':>36}"
        yield f"{'bytes':>16}{'MB/s':>12}" + f"{'MB/s':>16}{'copies':>10}{'least':>10}" * 2
        for size, seen in heard.items():
            if not seen:
                yield f"{size:>16,}  FAILED"
                continue
            copy = statistics.median(one["memcpy"] for one in seen)
            least_copy = min(one["memcpy"] for one in seen)
            text = f"{size:>16,}{size / copy / MEGABYTE:>12,.1f}"
            for way in ("alone", "many"):
                median = statistics.median(one[f"{kind}, {way}"][0] for one in seen)
                least = min(one[f"{kind}, {way}"][1] for one in seen)
                text += f"{size / median / MEGABYTE:>16,.3f}{median / copy:>10,.1f}{least / least_copy:>10,.1f}"
            yield text


# The soak.


def holdings() -> tuple[set[str], int]:
    """Return the listing of the shared memory, and how many descriptors this process has."""
    return {path.name for path in SHARED_MEMORY.iterdir()}, len(list(DESCRIPTORS.iterdir()))


def soak() -> Iterator[str]:
    """Make many calls on warm workers, kill workers in some of them, and yield what is left over."""
    from kills import KILLER

    import amorsize
    from amorsize.backends.processes.handle import all_workers

    choose = random.Random(1)  # noqa: S311 - for the choice of victims
    killer = subprocess.Popen([sys.executable, "-c", KILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert killer.stdin is not None  # piped
    assert killer.stdout is not None  # piped
    options = {"backend": "processes", "n_jobs": N_JOBS, "chunksize": 1, "retries": SOAK_RETRIES, "use_cache": False}

    def call(number: int) -> tuple[float, bool]:
        items = [np.full(SOAK_BYTES // 8, float(number + place)) for place in range(SOAK_ITEMS)]
        began = perf_counter()
        results = list(amorsize.map(increment, items, **options))
        seconds = perf_counter() - began
        right = len(results) == SOAK_ITEMS
        return seconds, right and all(np.array_equal(a, b + 1) for a, b in zip(results, items, strict=True))

    call(0)
    amorsize.shutdown()
    cold = holdings()
    calm = [call(number)[0] for number in range(20)]
    warm, usual = holdings(), statistics.median(calm)
    doomed = set(choose.sample(range(SOAK_CALLS), min(SOAK_KILLS, SOAK_CALLS)))
    wrong, errors, killed, in_mid_call, slowest, began = 0, 0, 0, 0, 0.0, perf_counter()
    for number in range(SOAK_CALLS):
        workers = [one for one in all_workers() if one.process.pid] if number in doomed else []  # those that are there
        killed += bool(workers)
        if workers:
            killer.stdin.write(b"%d %.6f\n" % (choose.choice(workers).process.pid, choose.random() * usual * 0.7))
        try:
            seconds, right = call(number)
            wrong += not right
            slowest = max(slowest, seconds)
        except amorsize.AmorsizeError as error:
            errors += 1
            print(f"  {type(error).__name__}: {error}", file=sys.stderr)
        if workers:
            in_mid_call += bool(select.select([killer.stdout], [], [], 0)[0])
            killer.stdout.readline()
    took = perf_counter() - began
    for number in range(20):
        call(number)
    still_warm = holdings()
    amorsize.shutdown()
    left = holdings()
    killer.communicate()
    held = left == cold and not wrong and not errors
    yield f"\nsoak: {SOAK_CALLS:,} calls of {SOAK_ITEMS} arrays of {SOAK_BYTES:,} bytes, {N_JOBS} workers"
    yield f"  {took:.0f} s; {killed} workers got signal {signal.SIGKILL:d}, {in_mid_call} before the call was over"
    yield f"  {wrong} wrong answers, {errors} errors; calm calls {usual * 1e3:.2f} ms, slowest {slowest * 1e3:.0f} ms"
    for name, before, after in (("with warm workers", warm, still_warm), ("after shutdown", cold, left)):
        more, fewer = sorted(after[0] - before[0]), sorted(before[0] - after[0])
        yield (
            f"  {name}: {before[1]} descriptors before, {after[1]} after; /dev/shm: {len(before[0])} names before, "
            f"{len(after[0])} after; new: {', '.join(more) or 'none'}; gone: {', '.join(fewer) or 'none'}"
        )
    yield f"  {'held' if held else 'MISSED'}"


def break_even(times: int, folder: str) -> Iterator[str]:
    """Yield the lines that compare both ways by size; workers are forked, so that they have the threshold set here."""
    os.environ["AMORSIZE_CACHE_DIR"] = folder
    import amorsize
    from amorsize.transport import envelope, memory, serialize

    threshold = memory.LEAST_SHARED_BYTES
    options = {"backend": "processes", "n_jobs": 1, "start_method": "fork", "chunksize": 1, "use_cache": False}
    yield "\nbreakeven: one array there and back, microseconds, least and median; the faster way is marked"
    yield "           bytes   in shared memory        in messages   (from here on it crosses in shared memory: >)"
    for size in (1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 20, 1 << 22):
        told = []
        for least in (0, sys.maxsize):
            for module in (memory, serialize, envelope):
                module.LEAST_SHARED_BYTES = least
            amorsize.shutdown()
            items = [np.arange(size // 8, dtype=float)] * 40
            seconds = []
            for _ in range(1 + 3 * times):
                began = perf_counter()
                deque(amorsize.map(identity, items, **options), maxlen=0)
                seconds.append((perf_counter() - began) / len(items) * 1e6)
            told.append((min(seconds[1:]), statistics.median(seconds[1:])))
        better = told[0][1] < told[1][1]
        (one, two), (three, four) = told
        ways = f"{one:9,.0f} {two:8,.0f} {'*' if better else ' '} {three:9,.0f} {four:8,.0f} {' ' if better else '*'}"
        yield f"{'>' if size >= threshold else ' '} {size:14,} {ways}"
    amorsize.shutdown()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--rows", default=",".join(ROWS), help="some of %(default)s")
    parser.add_argument("--large", action="store_true", help="have an item of 1 GiB in the table, too")
    parser.add_argument("--soak", action="store_true", help="run only the soak")
    parser.add_argument("--host", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        import transport  # the same file under the name by which workers find it

        what, contender, turns = options.host
        transport.host_table() if what == "table" else transport.host(what, contender, float(turns))
        return
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    if options.turns < 1:
        parser.error("at least one turn is needed")
    print("Data at the speed of memory (benchmarks/transport.py)")
    print(*facts("numpy", "joblib", "mpire"), sep="\n")
    if options.soak:
        import transport

        with tempfile.TemporaryDirectory() as folder:
            os.environ["AMORSIZE_CACHE_DIR"] = folder
            for line in transport.soak():
                print(line, flush=True)
        return
    print(f"{options.turns} turns; ~: so slow in its first call that it had no other")
    began, turns = perf_counter(), turns_per_second()
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if case.row in rows:
                race = Race(case, turns, folder)
                race.run(options.turns)
                print(*race.report(), sep="\n", flush=True)
        if "table" in rows:
            for line in table(options.turns, (*SIZES, LARGE) if options.large else SIZES, folder):
                print(line, flush=True)
        if "breakeven" in rows:
            import transport

            print(*transport.break_even(options.turns, folder), sep="\n", flush=True)
    print(f"\n{(perf_counter() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()

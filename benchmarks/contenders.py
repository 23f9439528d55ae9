"""Who runs a workload, and where: each contender in a process of its own, told by a pipe when to run.

The first call in such a process is cold: it starts whatever pool it needs. The following ones find that pool warm. A
process for each keeps contenders apart: none forks the threads of another, or finds its memory in use. Libraries are
imported, and inputs built, before the clock starts; pools are left after it stopped.

`python benchmarks/contenders.py` is what `Host` starts; it is not meant to be run by hand.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed

from machine_facts import usable_cores  # noqa: E402
from workloads import PROBES, WORKLOADS, Workload  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Call = Callable[[Iterable[Any]], list[Any]]

__all__ = ["CONTENDERS", "PACKAGES", "Host", "contestants"]

PACKAGES = ("joblib", "mpire")
HANG_SECONDS = 120.0
# Later calls are repeated for so long, and counted by their median: a call of some microseconds would else mostly find
# the processor's caches full of another contender's doings.
BURST_SECONDS = 0.005
_MOST_CHUNKS = 25_000  # cutting finer is known to lose, and takes long to say so


class Setting(NamedTuple):
    """What a contender is set up with.

    Attributes:
        function: the worker function.
        n_jobs: workers.
        chunksize: items a chunk, where the contender's name has it.
        options: further options, for amorsize.
        pools: leaves the contender's pools at the end.
    """

    function: Callable[..., Any]
    n_jobs: int
    chunksize: int | None
    options: dict[str, Any]
    pools: ExitStack


def open_builtin(setting: Setting) -> Call:
    """Run in this process."""
    return lambda items: list(map(setting.function, items))


def open_pool(setting: Setting) -> Call:
    """Use a stock Pool, by `map`."""
    from multiprocessing import Pool

    pool = setting.pools.enter_context(Pool(setting.n_jobs))
    return lambda items: pool.map(setting.function, items, setting.chunksize)


def open_imap(setting: Setting) -> Call:
    """Use a stock Pool, by `imap`."""
    from multiprocessing import Pool

    pool = setting.pools.enter_context(Pool(setting.n_jobs))
    return lambda items: list(pool.imap(setting.function, items, setting.chunksize or 1))


def open_executor(setting: Setting) -> Call:
    """Use a ProcessPoolExecutor."""
    from concurrent.futures import ProcessPoolExecutor

    executor = setting.pools.enter_context(ProcessPoolExecutor(setting.n_jobs))
    return lambda items: list(executor.map(setting.function, items, chunksize=setting.chunksize or 1))


def open_joblib(setting: Setting) -> Call:
    """Use joblib as its documentation does."""
    from joblib import Parallel, delayed

    work = delayed(setting.function)
    return lambda items: list(Parallel(setting.n_jobs)(work(item) for item in items))


def open_mpire(setting: Setting) -> Call:
    """Use mpire, told to keep its workers, and that an item is one argument; it asks for a length."""
    from mpire import WorkerPool

    pool = setting.pools.enter_context(WorkerPool(setting.n_jobs, keep_alive=True))
    return lambda items: list(pool.map(setting.function, [(item,) for item in items]))


def open_amorsize(setting: Setting) -> Call:
    """Use amorsize, with nothing set but what the name says."""
    import amorsize

    return lambda items: list(amorsize.map(setting.function, items, **setting.options))


class Contender(NamedTuple):
    """A way to run a workload.

    Attributes:
        open: starts what is needed, and returns what runs an input.
        module: imported before the clock starts, as a user's program does at its top.
        options: further options, for amorsize.
    """

    open: Callable[[Setting], Call]
    module: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def present(self) -> bool:
        """Whether it is installed."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None


CONTENDERS = {
    "builtin": Contender(open_builtin, "builtins"),
    "pool": Contender(open_pool, "multiprocessing.pool"),
    "imap": Contender(open_imap, "multiprocessing.pool"),
    "executor": Contender(open_executor, "concurrent.futures.process"),
    "joblib": Contender(open_joblib, "joblib"),
    "mpire": Contender(open_mpire, "mpire"),
    "amorsize": Contender(open_amorsize, "amorsize"),
    "processes": Contender(open_amorsize, "amorsize", (("backend", "processes"),)),
}


def contestants(workload: Workload) -> list[str]:
    """Return whom amorsize is compared with, as "name" or "name/chunksize": those that are installed."""
    n_items, n_jobs = workload.n_items, workload.n_jobs or usable_cores()
    sizes = {1, 10, *(-(-n_items // (shares * n_jobs)) for shares in (1, 4, 16))}
    grid = sorted(size for size in sizes if n_items / _MOST_CHUNKS <= size <= -(-n_items // n_jobs))
    found = ["builtin", *(f"pool/{size}" for size in grid), f"executor/{-(-n_items // (4 * n_jobs))}"]
    return found + [name for name in PACKAGES if CONTENDERS[name].present]


class Host:
    """A process in which one contender runs one workload as often as it is told.

    Args:
        workload: one of `WORKLOADS` or `PROBES`.
        spec: "name" or "name/chunksize".
        turns: turns of `workloads.spin` in a second.
        cache: folder for what amorsize remembers.
    """

    def __init__(self, workload: Workload, spec: str, turns: float, cache: str) -> None:
        self._what = f"{spec} on {workload.name}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, workload.name, spec, str(turns)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "AMORSIZE_CACHE_DIR": cache},
        )

    def ready(self) -> float:
        """Wait until it can begin, and return the seconds that importing the contender's library took; ask once."""
        return self._hear()

    def call(self) -> float:
        """Run the workload and return the seconds that a call took: `math.inf` if it failed, now or before."""
        if self._process.poll() is not None:
            return math.inf
        assert self._process.stdin is not None  # piped
        self._process.stdin.write("\n")
        return self._hear()

    def _hear(self) -> float:
        assert self._process.stdout is not None  # piped
        guard = Timer(HANG_SECONDS, self._process.kill)
        guard.start()
        line = self._process.stdout.readline()
        guard.cancel()
        if not line:
            print(f"{self._what} FAILED, exit code {self._process.wait()}", file=sys.stderr)
        return float(line or math.inf)

    def end(self) -> None:
        """Tell the process to end."""
        assert self._process.stdin is not None  # piped
        self._process.stdin.close()

    def close(self) -> list[tuple[float, float]]:
        """Wait until the process has ended; return what it predicted for calls on workers, and what they took."""
        self.end()
        assert self._process.stdout is not None  # piped
        last = self._process.stdout.readlines()[-1:]
        self._process.stdout.close()
        self._process.wait()
        return [(predicted, took) for predicted, took in json.loads(last[0])] if last else []


def main() -> None:
    """Be a host: run once for each line of the standard input."""
    name, spec, turns = sys.argv[1:]
    workload = next(one for one in (*WORKLOADS, *PROBES) if one.name == name)
    contender = CONTENDERS[spec.partition("/")[0]]
    began = time.perf_counter()
    importlib.import_module(contender.module)
    imported = time.perf_counter() - began
    items = workload.make(float(turns))
    n_jobs = workload.n_jobs or usable_cores()
    options = dict(contender.options)
    if workload.n_jobs is not None:
        options["n_jobs"] = n_jobs
    call: Call | None = None
    predictions: list[tuple[float, float]] = []
    if contender.module == "amorsize":
        note_predictions(predictions)
    if workload.busy:
        be_busy()
    with ExitStack() as pools:
        setting = Setting(workload.function, n_jobs, int(spec.partition("/")[2] or 0) or None, options, pools)
        gc.collect()
        print(imported, flush=True)
        for _ in sys.stdin:
            took: list[float] = []
            while sum(took) < BURST_SECONDS:
                items = workload.make(float(turns)) if workload.anew else items
                began = time.perf_counter()
                cold = call is None
                if call is None:
                    call = contender.open(setting)
                results = call(items)
                took.append(time.perf_counter() - began)
                assert len(results) == workload.n_items
                del results
                if cold:
                    break
            gc.collect()
            print(statistics.median(took), flush=True)
        print(json.dumps(predictions), flush=True)


def be_busy() -> None:
    """Be a process as scientists have it: NumPy has worked, threads wait, and a pool of two processes is there."""
    import threading
    from multiprocessing import get_context

    import numpy as np

    np.ones((300, 300)) @ np.ones((300, 300))
    for _ in range(2):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    pool = get_context("spawn").Pool(2)
    pool.map(time.sleep, [0.1] * 2, chunksize=1)  # they have started, and do not disturb what is measured
    _others.append(pool)


_others: list[Any] = []


def note_predictions(noted: list[tuple[float, float]]) -> None:
    """Note what was predicted whenever work moved to workers, and what it took there.

    What notes it is put into a module of amorsize once a call has imported that, because imports are a part of calls.
    """

    class Finder:
        """Waits for the module."""

        def find_spec(self, name: str, *_: object) -> Any:
            if name != "amorsize.call.learning":
                return None
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            spec: Any = importlib.util.find_spec(name)
            run = spec.loader.exec_module

            def run_and_note(module: Any) -> None:
                run(module)
                _note_in(module.Learning, noted)

            spec.loader.exec_module = run_and_note
            return spec

    sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]


def _note_in(learning: Any, noted: list[tuple[float, float]]) -> None:
    take_in = learning._take_in

    def noting(self: Any, seen: Any) -> None:
        # Of an input that does not tell its length, a whole was not predicted.
        if seen.withdrawal is None and seen.move.n_items and seen.move.plan.predicted_seconds > 0.0:
            noted.append((seen.move.plan.predicted_seconds, seen.open_seconds + seen.seconds))
        take_in(self, seen)

    learning._take_in = noting


if __name__ == "__main__":
    main()

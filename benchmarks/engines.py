"""Compares maps on Dask and on Ray: ours, the engine's own map of one task an item, and its own batched form.

Both engines run on this machine with two workers of one thread each. Two workloads: many items of 10 us, and fewer of
5 ms. Contenders take turns, and medians are shown. The map of one task an item runs on 2,000 of the items and is
scaled; the batched form is the better of a bag and `Client.map` over batches cut by hand, or
`ray.util.multiprocessing.Pool.map`, with the best of several lengths of batch; finding these is not counted. Then: one
worker against two, and the caller's memory over an endless input.

    python benchmarks/engines.py [--engines dask ray] [--turns 5] [--rows short long workers endless]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings

import psutil

SHORT = (100_000, 10e-6)
LONG = (2_000, 5e-3)
PER_ITEM = 2_000  # items of the map of one task an item
WORKERS = 2
BATCHES = (4, 8, 16, 32, 64)  # how many batches the tuned forms try
ENDLESS_SECONDS = 20


class Busy:
    """Callable that keeps its core busy for some seconds."""

    def __init__(self, seconds: float) -> None:
        self.turns = max(1, int(seconds / _seconds_per_turn()))

    def __call__(self, number: int) -> int:
        total = number
        for turn in range(self.turns):
            total += turn
        return total


class OfBatch:
    """Callable that maps over a list."""

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, items) -> list:
        return [self.function(item) for item in items]


def _seconds_per_turn(turns: int = 200_000) -> float:
    def loop() -> float:
        began, total = time.perf_counter(), 0
        for turn in range(turns):
            total += turn
        return (time.perf_counter() - began) / turns

    return min(loop() for _ in range(7))


class Dask:
    """A cluster of Dask on this machine."""

    name = "dask"

    def __init__(self, workers: int) -> None:
        import distributed

        self.cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        )
        self.client = distributed.Client(self.cluster)

    def per_item(self, function, items) -> list:
        """Map with one task for each item."""
        return self.client.gather(self.client.map(function, items, pure=False))

    def batched(self, function, items, batches: int) -> list:
        """Map over batches cut by hand."""
        length = -(-len(items) // batches)
        cut = [items[first : first + length] for first in range(0, len(items), length)]
        parts = self.client.gather(self.client.map(OfBatch(function), cut, pure=False))
        return list(itertools.chain.from_iterable(parts))

    def bag(self, function, items, batches: int) -> list:
        """Map over a bag of so many parts."""
        import dask.bag

        return dask.bag.from_sequence(items, npartitions=batches).map(function).compute(scheduler=self.client)

    def close(self) -> None:
        """End the cluster."""
        self.client.close()
        self.cluster.close()


class Ray:
    """Ray on this machine."""

    name = "ray"

    def __init__(self, workers: int) -> None:
        import ray
        from ray.util.multiprocessing import Pool

        self.ray = ray
        folder = os.path.dirname(os.path.abspath(__file__))
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=40,
            runtime_env={"env_vars": {"PYTHONPATH": folder}},
        )
        self.pool_of = Pool
        self.workers = workers

    def per_item(self, function, items) -> list:
        """Map with one task for each item."""
        run = self.ray.remote(lambda item: function(item))  # noqa: PLW0108 - Ray takes functions only
        return self.ray.get([run.remote(item) for item in items])

    def batched(self, function, items, batches: int) -> list:
        """Map on Ray's Pool, in so many chunks. Its actors hold the cores, so it is closed at once."""
        pool = self.pool_of(processes=self.workers)
        try:
            pool.map(abs, range(self.workers))  # its actors have started
            began = time.perf_counter()
            result = pool.map(function, items, chunksize=-(-len(items) // batches))
            self.seconds = time.perf_counter() - began
            return result
        finally:
            pool.terminate()

    def close(self) -> None:
        """End Ray."""
        self.ray.shutdown()


ENGINES = {"dask": Dask, "ray": Ray}


def timed(call, *arguments) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def ours(engine: str, function, items) -> None:
    """Map with amorsize on an engine."""
    import amorsize

    result = list(amorsize.map(function, items, backend=engine))
    assert len(result) == len(items)


def batched(engine, function, items, form: str, batches: int) -> float:
    """Return the seconds of a batched form, the start of its own workers not counted."""
    engine.seconds = None
    seconds = timed(getattr(engine, form), function, items, batches)
    return engine.seconds or seconds


def row(engine, n_items: int, item_seconds: float, turns: int) -> str:
    """Measure one workload."""
    function, items = Busy(item_seconds), range(n_items)
    few = range(min(n_items, PER_ITEM))
    forms = ["batched", "bag"] if hasattr(engine, "bag") else ["batched"]
    tried = [(form, batches * WORKERS) for form in forms for batches in BATCHES]
    best = min(tried, key=lambda form: min(batched(engine, function, items, *form) for _ in range(2)))
    first = timed(ours, engine.name, function, items)
    seconds = {"ours": [], "batched": [], "per item": [], "serial": []}
    for _ in range(turns):
        seconds["ours"].append(timed(ours, engine.name, function, items))
        seconds["batched"].append(batched(engine, function, items, *best))
        seconds["per item"].append(timed(engine.per_item, function, few) * n_items / len(few))
        seconds["serial"].append(timed(list, map(function, few)) * n_items / len(few))
    found = {name: statistics.median(each) for name, each in seconds.items()}
    least = {name: min(each) for name, each in seconds.items()}
    return (
        f"{engine.name:<6}{n_items:>8,} x {item_seconds * 1e6:>6,.0f} us{first:>9.3f}{found['ours']:>9.3f}"
        f"{found['batched']:>9.3f} ({best[1]}){found['per item']:>9.3f}{found['serial']:>9.3f}"
        f"{found['ours'] / found['batched']:>9.2f}{least['ours'] / least['batched']:>9.2f}"
        f"{found['per item'] / found['ours']:>9.1f}"
    )


def endless(engine) -> str:
    """Read an endless input for a while, and tell what the caller's memory did."""
    import amorsize

    process, function = psutil.Process(), Busy(100e-6)
    seen, read = [], 0
    with amorsize.map(function, itertools.count(), backend=engine.name) as stream:
        until = time.perf_counter() + ENDLESS_SECONDS
        while time.perf_counter() < until:
            read += sum(1 for _ in itertools.islice(stream, 5_000))
            seen.append(process.memory_info().rss)
    half = len(seen) // 2
    grown = (seen[-1] - seen[half]) / 1e6
    return f"{engine.name:<6}{read:,} items of an endless input: the caller grew by {grown:.1f} MB in the second half"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rows", nargs="+", default=["short", "long", "workers", "endless"])
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"CPython {sys.version.split()[0]}, {WORKERS} workers, medians of {asked.turns} turns, seconds")
    print(
        f"{'engine':<6}{'items':>8}   {'each':>6}{'first':>12}{'later':>9}{'batched':>9} (n){'per item':>10}"
        f"{'serial':>9}{'/batched':>9}{'(least)':>9}{'per item/':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AMORSIZE_CACHE_DIR"] = folder
        for name in asked.engines:
            engine = ENGINES[name](WORKERS)
            try:
                for which, workload in (("short", SHORT), ("long", LONG)):
                    if which in asked.rows:
                        print(row(engine, *workload, asked.turns), flush=True)
                if "endless" in asked.rows:
                    print(endless(engine), flush=True)
                two = timed(ours, name, Busy(LONG[1]), range(600)) if "workers" in asked.rows else 0.0
            finally:
                engine.close()
            if "workers" in asked.rows:
                engine = ENGINES[name](1)
                try:
                    one = timed(ours, name, Busy(LONG[1]), range(600))
                finally:
                    engine.close()
                print(f"{name:<6}600 x 5 ms: one worker {one:.2f}, two {two:.2f}: {one / two:.2f} times", flush=True)


if __name__ == "__main__":
    main()

"""Does an exception that a signal handler raises come out of the call as itself, wherever it strikes?

An alarm is a soft time limit of the user's: its handler raises, and what it raises must come out of the call that was
running, neither swallowed nor taken for anything else. 500 alarms strike at random moments (seeded) of calls of several
kinds. Of each: did the exception come out, was it lost, did something else come out? Those that strike in a destructor
or a weak reference's callback, where Python itself can only print them, are counted apart; where the call was over too
soon, another is set. After each no worker may be held and no thread be left.

Run `python benchmarks/alarms.py [alarms] [seed]`: it prints the table and writes it to benchmarks/results/alarms.txt.
"""

from __future__ import annotations

import gc
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # a checkout need not be installed

import amorsize
from amorsize.backends.processes.handle import all_workers
from amorsize.backends.processes.idle import warm_count
from amorsize.cache import lookup

RESULTS = Path(__file__).parent / "results" / "alarms.txt"
LEAVE_SECONDS = 5.0  # for a thread that is on its way out


class Limit(Exception):
    """A limit of the program's own."""


class HardLimit(BaseException):
    """One that `except Exception` does not catch."""


class SlowError(RuntimeError):
    """A kind of error that a thread that cannot be started gives, too."""


KINDS = (Limit, TimeoutError, HardLimit, SlowError, ValueError)


def busy(seconds):
    """Compute for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(50))


def short(number):
    """Take a microsecond."""
    return number + 1


def long(_):
    """Take a millisecond."""
    busy(0.001)


def first_long(number):
    """Take long at the first item only."""
    busy(0.1 if number == 0 else 0.001)


def failing(number):
    """Fail at every third item."""
    if number % 3 == 0:
        raise KeyError(number)
    return [number]


def slow_to_pickle(number):
    """Return what takes a while to pickle, and to rebuild."""
    return Slow(number)


class Slow:
    """Pickling it runs Python code for some time."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        busy(0.0005)
        return rebuilt, (self.number,)


def rebuilt(number):
    """Rebuild slowly."""
    busy(0.0005)
    return Slow(number)


def stream_of(values):
    """Give values one by one, without a length."""
    yield from values


def generators(number):
    """Return what no worker can give back."""
    busy(0.002)
    return (digit for digit in str(number))


def cold():
    """Forget what was measured and let the workers go."""
    lookup.forget()
    amorsize.clear_cache()
    amorsize.shutdown()


def calls(pool):
    """Return the kinds of calls by name: what comes before the alarm is set, and what runs while it is."""
    named = {"backend": "processes", "n_jobs": 2}

    def run(function, data, **options):
        return lambda: list(amorsize.map(function, data(), **options))

    locks = [threading.Lock() for _ in range(10)]
    nothing = lambda: None  # noqa: E731
    return {
        "short items": (nothing, run(short, lambda: range(20_000))),
        "short items of a list": (nothing, run(short, lambda: list(range(20_000)))),
        "long items": (nothing, run(long, lambda: range(30))),
        "going to workers": (cold, run(long, lambda: range(100))),
        "long first item": (cold, run(first_long, lambda: range(40))),
        "starting workers": (cold, run(long, lambda: range(20), **named)),
        "starting a server": (cold, run(long, lambda: range(20), start_method="forkserver", **named)),
        "warm workers": (nothing, run(long, lambda: range(40), **named)),
        "values that pickle slowly": (nothing, run(slow_to_pickle, lambda: map(Slow, range(20)), **named)),
        "a generator": (nothing, run(short, lambda: stream_of(range(3_000)), **named)),
        "results that cannot be sent": (cold, run(generators, lambda: range(20))),
        "items that cannot be sent": (nothing, run(id, lambda: locks, on_error="return", **named)),
        "errors returned": (nothing, run(failing, lambda: range(300), on_error="return")),
        "errors returned by workers": (nothing, run(failing, lambda: range(60), on_error="return", **named)),
        "a cold cache": (cold, run(short, lambda: range(3_000))),
        "optimize": (cold, lambda: amorsize.optimize(long, range(50))),
        "a Pool": (nothing, run(long, lambda: range(40), backend=pool)),
        "seeded": (nothing, run(short, lambda: range(300), seed=1)),
    }


class Alarms:
    """Sets alarms, and says what became of each."""

    def __init__(self):
        self.fired = None
        self.kind = Limit
        self.in_destructor = False
        signal.signal(signal.SIGALRM, self.strike)
        sys.unraisablehook = self.unraisable

    def strike(self, number, frame):
        """Raise, as the user's handler."""
        self.fired = self.kind("the time is over")
        raise self.fired

    def unraisable(self, given):
        """Note what Python prints, and does not raise."""
        self.in_destructor = self.in_destructor or given.exc_value is self.fired

    def run(self, call, moment, kind):
        """Run a call that an alarm strikes after some seconds; return what came of it."""
        self.fired, self.kind, self.in_destructor = None, kind, False
        result = None
        try:
            signal.setitimer(signal.ITIMER_REAL, moment)
            result = call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:  # noqa: BLE001 - the figure is about whatever comes out
            signal.setitimer(signal.ITIMER_REAL, 0)
            if error is self.fired:
                return "came out"
            return f"lost to {error!r:.200}"
        del result
        if self.fired is None:
            return "too late"
        return "in a destructor" if self.in_destructor else "lost"


def left_over(threads):
    """Return what a call left: workers that wait for nobody, and threads."""
    gc.collect()
    held = len(all_workers()) - warm_count()
    until = time.perf_counter() + LEAVE_SECONDS
    while set(threading.enumerate()) - threads and time.perf_counter() < until:
        time.sleep(0.001)  # how often is looked
    # One whose start was interrupted before it ran is in the standard library's list for ever; there is no thread.
    return held, [thread.name for thread in set(threading.enumerate()) - threads if thread.ident is not None]


def main():
    """Print a line for each kind of call, and the sum."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    lines = [f"CPython {platform.python_version()}, {os.cpu_count()} cores; {wanted} alarms, seed {seed}"]
    bad = 0
    with Pool(2) as pool:
        kinds = calls(pool)
        lengths = {}
        for name, (before, call) in kinds.items():
            before()
            began = time.perf_counter()
            call()
            lengths[name] = time.perf_counter() - began
        threads = set(threading.enumerate())
        alarms = Alarms()
        outcomes = {name: Counter() for name in kinds}
        struck = 0
        while struck < wanted:
            name = chance.choice(list(kinds))
            before, call = kinds[name]
            before()
            moment = max(1e-5, chance.random() * lengths[name])
            outcome = alarms.run(call, moment, KINDS[struck % len(KINDS)])
            outcomes[name][outcome] += 1
            struck += outcome != "too late"
            if outcome.startswith("lost"):
                print(f"{name}, {alarms.kind.__name__} after {moment:.6f} s: {outcome}", file=sys.stderr)
                bad += 1
            alarms.fired = None
            held, left = left_over(threads)
            threads = set(threading.enumerate())
            if held or left:
                print(f"{name} after {moment:.6f} s left {held} workers, threads {left}", file=sys.stderr)
                bad += 1
    amorsize.shutdown()
    total = Counter()
    columns = ("came out", "in a destructor", "lost", "too late")
    lines.append(f"{'kind of call':28}{''.join(f'{column:>17}' for column in columns)}")
    for outcome in outcomes.values():
        total += outcome
    for name, outcome in (*outcomes.items(), ("in all", total)):
        outcome["lost"] = sum(count for what, count in outcome.items() if what.startswith("lost"))
        lines.append(f"{name:28}{''.join(f'{outcome[column]:>17}' for column in columns)}")
    lines.append(f"alarms that were lost, or left workers or threads: {bad}")
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bool(bad)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AMORSIZE_CACHE_DIR"] = folder
        sys.exit(main())

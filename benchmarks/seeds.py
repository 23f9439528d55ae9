"""What does `seed=` cost, and what goes wrong without it?

    python benchmarks/seeds.py [--items 1000000] [--rounds 7]

First the stock Pool's workers, which a fork gives one and the same NumPy state, beside ours. Then what the machinery of
`item_rng` costs a loop that does not ask for it, in turns with the bare loop so that both see the same machine; what an
item pays that does ask; and what setting the global states costs an item, for the functions that use them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.random  # newer NumPy loads it when it is first used: a state that a fork can repeat must be there before

import amorsize
from amorsize.rng import Streams, item_rng, numbered, runs_items
from amorsize.seeding import Seeded, may_draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WORKERS = 4
DRAWS = 8
PROMISE = 0.05  # of a loop over cheap items
DEAR_ITEMS = 5_000  # enough for what costs microseconds


def same(item: Any) -> Any:
    """Do nothing: the cheapest item there is."""
    return item


def draw(_: Any) -> float:
    """Draw from NumPy's global state, once all workers have begun."""
    time.sleep(0.05)
    return float(np.random.rand())


def ask(_: Any) -> random.Random:
    """Ask for the item's `random.Random`."""
    return item_rng()


def ask_twice(_: Any) -> random.Random:
    """Ask for it again."""
    item_rng()
    return item_rng()


def ask_numpy(_: Any) -> np.random.Generator:
    """Ask for the item's `numpy.random.Generator`."""
    return item_rng("numpy")


def may_use_anything(_: Any) -> Callable[[], float]:
    """Name a method of `random`, which is enough to be in doubt, and do nothing."""
    return random.random


class Source:
    """Stands for what the loops of a call carry."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.iterator: Iterator[Any] = iter(items)
        self.streams: Streams | None = None


def bare(function: Callable[[Any], Any], source: Source) -> Iterator[Any]:
    """Run items as the builtin would."""
    for item in source.iterator:
        yield function(item)


@runs_items("source")
def marked(function: Callable[[Any], Any], source: Source) -> Iterator[Any]:
    """Run items so that they can ask for their generators."""
    for item in source.iterator:
        yield function(item)


def unseeded(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Return the bare loop."""
    return bare(function, Source(items))


def seeded(
    function: Callable[[Any], Any], items: Iterable[Any], *, keep: bool = True, plain: bool = False
) -> Iterator[Any]:
    """Return the loop of a call with a seed."""
    source = Source(items)
    source.iterator, running = numbered(source.iterator)
    source.streams, function = Seeded.of(function, 7).begin(running, keep=keep, plain=plain)
    return marked(function, source)


def nanoseconds(start: Callable[[], Iterator[Any]], n_items: int) -> float:
    """Return what one item takes in a loop that `start` begins."""
    began = time.perf_counter()
    deque(start(), maxlen=0)
    return (time.perf_counter() - began) / n_items * 1e9


def best(starts: list[Callable[[], Iterator[Any]]], n_items: int, rounds: int) -> list[float]:
    """Return the best of some rounds for each loop; the loops take turns."""
    times = [[nanoseconds(start, n_items) for start in starts] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def show_repeats() -> None:
    """Show what eight draws give on forked workers."""
    print(f"{DRAWS} draws from NumPy's global state on {WORKERS} workers, how many distinct:")
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        _show("stock Pool, fork", pool.map(draw, range(DRAWS), chunksize=1))
    options: dict[str, Any] = {"backend": "processes", "n_jobs": WORKERS, "start_method": "fork", "chunksize": 1}
    _show("amorsize, fork", list(amorsize.map(draw, range(DRAWS), **options)))
    try:
        first, second = (list(amorsize.map(draw, range(DRAWS), seed=7, **options)) for _ in range(2))
    except amorsize.UnsupportedError as error:
        print(f"  amorsize, seed=7: {error}")
        return
    _show("amorsize, seed=7", first)
    print(f"    again: {'the same' if first == second else 'OTHERS'}")


def _show(name: str, drawn: list[float]) -> None:
    print(f"  {name:<18}{len(set(drawn))}: " + " ".join(f"{number:.4f}" for number in drawn))


def show_unused(n_items: int, rounds: int) -> bool:
    """Show what a loop pays whose items do not ask; say whether the promise holds."""
    kept = True
    print(
        f"\n{n_items:,} items that do nothing and ask for nothing, ns an item; promised is at most {PROMISE:.0%} more"
    )
    print("where items are known to be plain data and the input knows its own position:")
    numbers = list(range(n_items))
    inputs: list[tuple[str, Callable[[], Iterable[Any]], bool, bool]] = [
        ("a range", lambda: range(n_items), True, True),
        ("a list, known to be plain", lambda: numbers, True, True),
        ("a generator, known to be plain", lambda: (number for number in numbers), True, False),
        ("a list", lambda: numbers, False, False),
    ]
    for name, items, plain, promised in inputs:
        loops: list[Callable[[], Iterator[Any]]] = [
            lambda items=items: unseeded(same, items()),  # type: ignore[misc]
            lambda items=items, plain=plain: seeded(same, items(), plain=plain),  # type: ignore[misc]
        ]
        without, with_seed = best(loops, n_items, rounds)
        share = with_seed / without - 1
        kept = kept and (share <= PROMISE or not promised)
        print(f"  {name:<32}{without:7.1f}{with_seed:7.1f}{share:+8.1%}")
    return kept


def show_used(rounds: int) -> None:
    """Show what an item pays that asks, or whose function may use global state."""
    print("\nan item's first use, us (the bare call is taken off):")
    items = range(DEAR_ITEMS)
    loops: list[tuple[str, Callable[[], Iterator[Any]]]] = [
        ("item_rng()", lambda: seeded(ask, items, plain=True)),
        ("item_rng(), twice", lambda: seeded(ask_twice, items, plain=True)),
        ('item_rng("numpy")', lambda: seeded(ask_numpy, items, plain=True)),
        ("global states, in a worker", lambda: seeded(may_use_anything, items, keep=False)),
        ("global states, in the caller", lambda: seeded(may_use_anything, items, keep=True)),
    ]
    without, *times = best([lambda: unseeded(same, items), *(start for _, start in loops)], DEAR_ITEMS, rounds)
    for (name, _), taken in zip(loops, times, strict=True):
        print(f"  {name:<32}{(taken - without) / 1e3:7.1f}")
    began = time.perf_counter()
    for _ in range(1000):
        may_draw(ask_twice)
    print(f"  {'to look whether it may, a call':<32}{(time.perf_counter() - began) * 1e3:7.1f}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}\n")
    show_repeats()
    kept = show_unused(arguments.items, arguments.rounds)
    show_used(arguments.rounds)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

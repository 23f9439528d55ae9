"""How many items should the next chunk hold, given what remains and how long items take?

A chunk's length answers to four bounds, each of them plain arithmetic on the present moment, so the schedule has no
state and can be asked again after every surprise:

- *A share of what remains*, `remaining / (SHARES_PER_WORKER * workers)`, so that chunks shrink as the end comes near.
  That is guided self-scheduling (Polychronopoulos & Kuck, IEEE Trans. Computers, 1987) with the halved share of
  factoring (Hummel, Schonberg & Flynn, CACM 1992), which keeps work back for the case that the first chunks are dear.
- *A length in time*, `CHUNK_SECONDS`: early chunks stay small, however much remains. Guided and factoring lack it, and
  it is what they lose by when dear items come first.
- *A least length in time*, so that the fixed cost of a chunk stays a small share of its running time, and so that the
  one caller can serve all its workers. This is the side of the trade that Kruskal & Weiss (IEEE Trans. Software
  Engineering, 1985) balance against the imbalance at the end.
- *An even part of what remains*, which the least length never exceeds: no worker is left without a chunk.

The times behind the second and third bound are only estimates, and can be wrong by any factor. Hence the slice: a
worker that has run `SLICE_SECONDS` on one chunk hands back what it has not started, so a wrong guess costs one slice
and one more chunk, not a chunk's whole length. It is the idea of lazy splitting (Tzannes et al., PPoPP 2010) and of
heartbeat scheduling (Acar et al., PLDI 2018), with the beat taken between items.

`benchmarks/schedule.py` chose the constants: it simulates 2 to 256 workers over eight shapes of item times against
static, one-by-one, guided, factoring and trapezoid schedules, its estimate learnt from nothing as `smoothed` does.
"""

from __future__ import annotations

__all__ = [
    "CHUNK_SECONDS",
    "OVERHEAD_SHARE",
    "SHARES_PER_WORKER",
    "SLICE_SECONDS",
    "UNKNOWN_CHUNK_SECONDS",
    "chunk_length",
    "smoothed",
]

# Constants that name no other were set by benchmarks/schedule.py; its table is benchmarks/results/schedule.txt.

# Shorter: more pieces handed back, each the price of a chunk. Longer: a wrong estimate holds a worker for longer.
SLICE_SECONDS = 0.030
# Shorter: more chunks in a long run. Longer: more is bet on the first chunks, before anything is known.
CHUNK_SECONDS = 0.020
# The same where the number of items is unknown, so that chunks cannot shrink towards the end. Shorter: more chunks.
# Longer: more imbalance at the end, which comes without notice. (The generator's row of benchmarks/regret.py.)
UNKNOWN_CHUNK_SECONDS = 0.008
# Smaller: longer least chunks, so more imbalance at the end. Larger: more of the time goes into chunks' fixed costs.
OVERHEAD_SHARE = 0.02
# Smaller: larger chunks late in the run, so more imbalance. Larger: more chunks near the end.
SHARES_PER_WORKER = 2
# The part of its time that the caller may spend on serving chunks. Smaller: longer least chunks with many workers.
# Larger: workers queue for the caller.
CALLER_SHARE = 0.25
# Weight of the newest chunk in the estimate. Smaller: slow to follow a change. Larger: follows every odd chunk.
NEWEST_SHARE = 0.3


def chunk_length(
    remaining: int,
    n_workers: int,
    seconds_per_item: float,
    *,
    seconds_per_chunk: float,
    most_seconds: float = CHUNK_SECONDS,
) -> int:
    """Return how many of the `remaining` items the next chunk should hold.

    Args:
        remaining: items not yet given to any worker, at least 1.
        n_workers: workers that take chunks, at least 1.
        seconds_per_item: estimated running time of the items to come, in seconds; 0 if they seem free, `math.inf` while
            nothing is known of them (one item a chunk, then).
        seconds_per_chunk: fixed cost of one chunk, in seconds.
        most_seconds: how long a chunk may be, in seconds; its fixed cost may ask for more.

    Returns:
        A length from 1 to `remaining`.

    >>> chunk_length(100_000, 2, 1e-3, seconds_per_chunk=30e-6)
    20
    >>> chunk_length(40, 2, 0.1, seconds_per_chunk=30e-6)
    1
    """
    even_part = -(-remaining // n_workers)
    share = remaining / (SHARES_PER_WORKER * n_workers)
    least_seconds = seconds_per_chunk * max(1.0 / OVERHEAD_SHARE, n_workers / CALLER_SHARE)
    # Compared in seconds first: dividing by a time near zero could overflow.
    if share * seconds_per_item > most_seconds:
        share = most_seconds / seconds_per_item
    if share * seconds_per_item < least_seconds:
        share = least_seconds / seconds_per_item if even_part * seconds_per_item > least_seconds else even_part
    return max(1, min(int(share), even_part))


def smoothed(seconds_per_item: float, chunk_items: int, chunk_seconds: float) -> float:
    """Return the estimate of an item's seconds after one more chunk was run.

    Recent chunks count most, as the items to come resemble them most: an exponentially weighted mean.

    Args:
        seconds_per_item: the estimate before; `math.inf` if there was none.
        chunk_items: items of the chunk that were run, at least 1.
        chunk_seconds: how long they took.

    >>> smoothed(0.001, 10, 0.02)
    0.0013
    """
    newest = chunk_seconds / chunk_items
    if seconds_per_item == float("inf"):
        return newest
    return seconds_per_item + NEWEST_SHARE * (newest - seconds_per_item)

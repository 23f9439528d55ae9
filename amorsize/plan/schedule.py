"""How many items should the next chunk hold, given what remains and how long items take?

Four bounds decide a chunk's length. Each of them is plain arithmetic on the present state of the call, so the schedule
has no state of its own and can be asked again after every surprise:

- *A share of what remains*, `remaining / (SHARES_PER_WORKER * workers)`, makes chunks shrink as the end comes near.
  This is guided self-scheduling (Polychronopoulos & Kuck, IEEE Trans. Computers, 1987) with the halved share of
  factoring (Hummel, Schonberg & Flynn, CACM 1992), which keeps work back for the case that the first chunks are dear.
- *A greatest length in time*, `CHUNK_SECONDS`, keeps early chunks small, however much remains. Guided self-scheduling
  and factoring lack this bound, and lose time for that reason when dear items come first.
- *A least length in time* keeps the fixed cost of a chunk a small share of its running time, and lets the one caller
  serve all its workers. Kruskal & Weiss (IEEE Trans. Software Engineering, 1985) balance this cost against the
  imbalance at the end.
- *An even part of what remains* is never exceeded by the least length, so that no worker is left without a chunk.

The times behind the second and third bound are only estimates, and can be wrong by any factor. This is what slices are
for: a worker that has run one chunk for `SLICE_SECONDS` hands back the items that it has not started, so a wrong
estimate costs one slice and one more chunk, but not a chunk's whole length. This is the idea of lazy splitting (Tzannes
et al., PPoPP 2010) and of heartbeat scheduling (Acar et al., PLDI 2018), with the beat taken between items.

`benchmarks/schedule.py` chose the constants. It simulates 2 to 256 workers on eight shapes of item times, and compares
this schedule, whose estimate starts from nothing and is learnt by `smoothed`, with static, one-by-one, guided,
factoring and trapezoid schedules.
"""

from __future__ import annotations

__all__ = [
    "CHUNK_SECONDS",
    "OVERHEAD_SHARE",
    "SHARES_PER_WORKER",
    "SLICE_SECONDS",
    "UNKNOWN_CHUNK_SECONDS",
    "chunk_length",
    "chunks_ahead",
    "slice_length",
    "smoothed",
]

# benchmarks/schedule.py set every constant for which no other benchmark is named; its table is
# benchmarks/results/schedule.txt.

# How long a worker runs one chunk before it hands back what it has not started. A smaller value means that more pieces
# are handed back, each for the price of a chunk; a larger one means that a wrong estimate holds a worker for longer.
SLICE_SECONDS = 0.030
# The greatest length of a chunk in time. A smaller value means more chunks in a long run; a larger one means that more
# is bet on the first chunks, before anything is known.
CHUNK_SECONDS = 0.020
# The same where the number of items is unknown, so that chunks cannot shrink towards the end. A smaller value means
# more chunks; a larger one means more imbalance at the end, which comes without notice. (The generator's row of
# benchmarks/regret.py set this value.)
UNKNOWN_CHUNK_SECONDS = 0.008
# The part of a chunk's time that its fixed cost may take. A smaller value means longer least chunks, so more imbalance
# at the end; a larger one means that more of the time goes into chunks' fixed costs.
OVERHEAD_SHARE = 0.02
# A chunk holds what remains divided by this and by the number of workers. A smaller value means larger chunks late in
# the run, so more imbalance; a larger one means more chunks near the end.
SHARES_PER_WORKER = 2
# The part of its time that the caller may spend on serving chunks. A smaller value means longer least chunks with many
# workers; a larger one means that workers queue for the caller.
CALLER_SHARE = 0.25
# The weight of the newest chunk in the estimate. With a smaller value the estimate is slow to follow a change; with a
# larger one it follows every odd chunk.
NEWEST_SHARE = 0.3
# A worker is given a second chunk if chunks take at most this long, so that it need not wait for the caller between
# them. Behind a longer chunk, the second one would only wait.
_QUEUE_SECONDS = 0.025
# At most this much work in short chunks, and at most this many of them, is sent ahead to a worker. So neither side must
# wake the other for each chunk.
_AHEAD_SECONDS = 0.001
_AHEAD_CHUNKS = 64


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
        remaining: number of items not yet given to any worker, at least 1.
        n_workers: number of workers that take chunks, at least 1.
        seconds_per_item: estimated running time of an item to come, in seconds; 0 if items seem to take no time, and
            `math.inf` while nothing is known of them, in which case a chunk holds one item.
        seconds_per_chunk: fixed cost of one chunk, in seconds.
        most_seconds: how long a chunk may be, in seconds; a chunk's fixed cost may ask for more.

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
    # Lengths are compared in seconds before they are divided, as dividing by a time near zero could overflow.
    if share * seconds_per_item > most_seconds:
        share = most_seconds / seconds_per_item
    if share * seconds_per_item < least_seconds:
        share = least_seconds / seconds_per_item if even_part * seconds_per_item > least_seconds else even_part
    return max(1, min(int(share), even_part))


def slice_length(seconds_per_chunk: float) -> float:
    """Return after how many seconds a worker hands back what it has not started of a chunk.

    Where chunks are dear they are long, and a worker keeps one for half as long again as the least length.

    >>> slice_length(20e-6), slice_length(0.001)
    (0.03, 0.075)
    """
    return max(SLICE_SECONDS, 1.5 * seconds_per_chunk / OVERHEAD_SHARE)


def smoothed(seconds_per_item: float, chunk_items: int, chunk_seconds: float) -> float:
    """Return the estimate of an item's seconds after one more chunk was run.

    The estimate is an exponentially weighted mean, in which recent chunks count most because the items to come resemble
    their items most.

    Args:
        seconds_per_item: the estimate before; `math.inf` if there was none.
        chunk_items: number of the chunk's items that were run, at least 1.
        chunk_seconds: how many seconds these items took.

    >>> smoothed(0.001, 10, 0.02)
    0.0013
    """
    newest = chunk_seconds / chunk_items
    if seconds_per_item == float("inf"):
        return newest
    return seconds_per_item + NEWEST_SHARE * (newest - seconds_per_item)


def chunks_ahead(chunk_seconds: float | None, *, large: bool = False) -> int:
    """Return how many chunks a worker may have at once, the one it is running included.

    Args:
        chunk_seconds: how long a chunk takes; None if that is unknown.
        large: whether chunks or their results take much memory.

    >>> chunks_ahead(1.0), chunks_ahead(0.01), chunks_ahead(1e-6), chunks_ahead(1e-6, large=True)
    (1, 2, 64, 2)
    """
    if chunk_seconds is None:
        return 2
    if chunk_seconds > _QUEUE_SECONDS:
        return 1
    if large:
        return 2
    return max(2, min(_AHEAD_CHUNKS, int(_AHEAD_SECONDS / max(chunk_seconds, 1e-9))))

"""What could the user change? At most one line, about what cost the call most, and nothing where nothing is clear."""

from __future__ import annotations

from ..lean import NamedTuple
from .planner import seconds_in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .roads import Road

__all__ = ["Facts", "advice"]

# Advice must be worth following: less than this is not spoken of.
_LEAST_SECONDS = 0.05
# A cause counts if it has this share of the call's time, or if another road would have taken so much less.
_SHARE = 0.4
_LARGE_BYTES = 100_000
_SHORT_SECONDS = 100e-6


class Facts(NamedTuple):
    """What is known of a call that could call for advice.

    Attributes:
        seconds: what the call took, without what the user did between results.
        consumer_seconds: what the user did between results.
        items: number of items that have ended.
        workers: number of workers that ran some.
        tail_seconds: for how long at the end some worker had nothing to do.
        longest_seconds, longest_first, longest_items: the part of a chunk that took longest, and the items in it.
        opening_seconds, starting_seconds: what it cost to take and to start workers.
        feeding_seconds: what the caller spent on reading the input and sending it.
        bytes_in, bytes_out: what crossed.
        seconds_per_item: an item's mean seconds.
        chunksize: the number of items in a chunk that the user fixed; None if it was left open.
        roads: the roads that there were.
    """

    seconds: float
    consumer_seconds: float = 0.0
    items: int = 0
    workers: int = 0
    tail_seconds: float = 0.0
    longest_seconds: float = 0.0
    longest_first: int = 0
    longest_items: int = 0
    opening_seconds: float = 0.0
    starting_seconds: float = 0.0
    feeding_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds_per_item: float = 0.0
    chunksize: int | None = None
    roads: Sequence[Road] = ()


def advice(facts: Facts) -> str:
    """Return one line of advice, or nothing.

    >>> advice(Facts(10.0, items=400, workers=8, tail_seconds=6.0, longest_seconds=6.2, longest_first=41,
    ...     longest_items=1))
    '7 of 8 workers waited for item 41, which took 62% of the time: split it, or put the longest items first'
    """
    seconds = facts.seconds
    if seconds + facts.consumer_seconds < _LEAST_SECONDS:
        return ""
    if facts.consumer_seconds >= max(_LEAST_SECONDS, 1.5 * seconds):
        share = facts.consumer_seconds / (facts.consumer_seconds + seconds)
        text = f"the loop over the results took {share:.0%} of the time, which no worker shortens"
        return f"{text}: do its work inside the function"
    if facts.workers > 1 and facts.tail_seconds >= max(_LEAST_SECONDS, _SHARE * seconds):
        return _about_the_tail(facts)
    if facts.workers and facts.feeding_seconds >= max(_LEAST_SECONDS, _SHARE * seconds):
        return _about_sending(facts)
    if facts.opening_seconds >= max(_LEAST_SECONDS, _SHARE * seconds):
        text = f"taking workers and pickling the function took {facts.opening_seconds / seconds:.0%} of the time"
        return f"{text}: bind less data to the function, or load it in an initializer"
    if facts.starting_seconds >= max(_LEAST_SECONDS, _SHARE * seconds):
        text = f"starting workers took {facts.starting_seconds / seconds:.0%} of the time"
        return f"{text}: they stay for the next calls of this process, so gather such work in one process"
    return _about_roads(facts)


def _about_the_tail(facts: Facts) -> str:
    waited = f"{facts.workers - 1} of {facts.workers} workers waited"
    share = facts.longest_seconds / facts.seconds
    if facts.longest_seconds < 0.5 * facts.tail_seconds:
        shorter = "leave chunksize out" if facts.chunksize else "put the longest items first"
        return f"{waited} for {facts.tail_seconds / facts.seconds:.0%} of the time at the end: {shorter}"
    if facts.longest_items == 1:
        what = f"item {facts.longest_first}"
        do = "split it, or put the longest items first"
    else:
        what = f"items {facts.longest_first} to {facts.longest_first + facts.longest_items - 1}"
        do = "leave chunksize out, so that chunks become shorter towards the end"
        if facts.chunksize is None:
            do = "put the longest items first"
    return f"{waited} for {what}, which took {share:.0%} of the time: {do}"


def _about_sending(facts: Facts) -> str:
    share = f"{facts.feeding_seconds / facts.seconds:.0%} of the time"
    if facts.items and facts.bytes_in / facts.items >= _LARGE_BYTES:
        each = facts.bytes_in / facts.items / 1e6
        text = f"reading the items and sending them, {each:,.1f} MB each, took {share}"
        return f"{text}: send what they are made from, such as a path or an index, and make them inside the function"
    if facts.seconds_per_item < _SHORT_SECONDS:
        text = f"reading the items and sending them took {share}, as each takes only"
        return f"{text} {seconds_in_words(facts.seconds_per_item)}: let an item hold more work"
    return f"reading the items took {share}: an input that is slow to iterate keeps workers waiting"


def _about_roads(facts: Facts) -> str:
    others = [road for road in facts.roads if not (road.taken or road.note)]  # a note says what is not known
    if not others:
        return ""
    best = min(others, key=lambda road: road.seconds)
    gain = facts.seconds - best.seconds
    if gain < max(_LEAST_SECONDS, _SHARE * facts.seconds):
        return ""
    return f"backend={best.backend!r} would have taken about {seconds_in_words(best.seconds)}"

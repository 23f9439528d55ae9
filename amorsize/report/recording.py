"""What was recorded of a call, in plain numbers: which worker ran which items when, and what happened besides.

Lane 0 is the caller, and the others are workers in the order in which they were first heard of. Times are seconds since
the call's first `next()`. A pause between two spans of a lane is time in which it ran nothing of this call.
"""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["CALLER_LANE", "Mark", "Recording", "Span"]

CALLER_LANE = 0


class Span(NamedTuple):
    """Items that ran one after another on a lane.

    Attributes:
        lane: where they ran.
        first: position of the first of them in the input.
        items: how many they are.
        began: when the first began.
        seconds: how long they took in all; with `chunks` above 1, the short pauses between chunks included.
        nbytes: pickled size of their results, where that is known.
        failed: how many of them raised.
        chunks: how many chunks, or parts of chunks, this stands for: more than one where there were too many to keep.
    """

    lane: int
    first: int
    items: int
    began: float
    seconds: float
    nbytes: int = 0
    failed: int = 0
    chunks: int = 1


class Mark(NamedTuple):
    """Something that happened at one moment.

    Attributes:
        lane: where.
        at: when.
        kind: "started" (a worker was first heard of), "sent" (a chunk left the caller), "returned" (a chunk came back
            that was not begun), "failed" (an item raised), "died" (a worker), "withdrew" (the rest went back to the
            caller), "ended" (by an error).
        text: more about it in words, such as the item and its error.
    """

    lane: int
    at: float
    kind: str
    text: str = ""


class Recording(NamedTuple):
    """What was recorded of a call.

    Attributes:
        title: the function's name, and what was chosen.
        seconds: how long the call took, or has taken so far.
        lanes: the lanes' names: "caller", then for example "worker 1".
        spans: what ran, in the order in which it was heard of.
        marks: what happened besides, in the order in which it was heard of.
        lost_marks: how many further marks there were, which were not kept because there were too many.
    """

    title: str
    seconds: float
    lanes: tuple[str, ...]
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...] = ()
    lost_marks: int = 0

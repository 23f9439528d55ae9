"""What can be said of where an item is: its position, the seconds it has run, and the stack that it is in.

Stacks are read from outside, while they change. Of each, only what lies above amorsize's own loop is shown: the user's
function and what it has called.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from ..lean import NamedTuple, deque, map, public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType
    from typing import Any, TypeAlias

    # A file, a line in it if it is known, and the name of the function.
    Entry: TypeAlias = "tuple[str, int | None, str]"

__all__ = ["LOOP", "Where", "above", "entries_of", "formatted", "stack_above", "stack_from", "suspended"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# The loop of every backend's workers but our own.
LOOP = f"child{os.sep}run_chunk.py", "run_items"
_MOST_FRAMES = 100  # of one stack, the innermost ones


@public
class Where(NamedTuple):
    """Where one worker of a running call is. Its `str` is text to read.

    Attributes:
        worker: the number of its process, the name of its thread or task, "caller" for the thread that iterates over
            the results, or None if it is not known.
        index: position in the input of the item that it is on; None if it is on none, as when it is idle, or loads the
            function.
        seconds: how long it has been on that, to about 10 ms; None if it is idle or that is not known.
        stack: the Python stack of the item, the innermost call last, as in a traceback; empty where there is none.
        last: position of the last item that the worker has, where it is not known which of them runs; else None.
    """

    worker: int | str | None
    index: int | None = None  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    seconds: float | None = None
    stack: str = ""
    last: int | None = None

    def __str__(self) -> str:
        worker = f"process {self.worker}" if isinstance(self.worker, int) else self.worker or "a worker"
        if self.index is None:
            doing = "idle" if self.seconds is None else "on no item"
        elif self.last is None:
            doing = f"item {self.index}"
        else:
            doing = f"items {self.index} to {self.last}"
        since = "" if self.seconds is None else f", {self.seconds:.1f} seconds"
        return f"{worker}: {doing}{since}\n{self.stack}".rstrip("\n")


def stack_from(
    matches: Callable[[FrameType], bool], look: Callable[[FrameType], object] | None = None
) -> list[Entry] | None:
    """Return the stack of the thread that is in a frame, from that on, the innermost call last; None if no thread is.

    If it is this very thread, the code of ours that asks is left out.

    Args:
        matches: says whether this is the frame.
        look: is called with each frame that is returned.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = None
    stacks = sys._current_frames()
    try:
        for ident in [*stacks]:
            frames.clear()
            frame = stacks[ident]
            while frame is not None:
                frames.append(frame)
                if matches(frame):
                    frames.reverse()
                    if look is not None:
                        deque(map(look, frames), maxlen=0)
                    return _entries(frames, is_own=ident == get_ident())
                frame = frame.f_back
        return None
    finally:
        # This function's own frame may be among them, and would then be kept, with all that it was called by.
        stacks.clear()
        frames.clear()
        del frame


def stack_above(ident: int, loop: tuple[str, str]) -> list[Entry] | None:
    """Return the stack of a thread above a loop of ours; None if the thread has ended."""
    stacks = sys._current_frames()
    frames: list[FrameType] = []
    frame = stacks.get(ident)
    try:
        if frame is None:
            return None
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        frames.reverse()
        return above(_entries(frames, is_own=ident == get_ident()), loop)
    finally:
        stacks.clear()  # as above
        frames.clear()
        del frame


def suspended(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames in which a coroutine waits, the innermost last."""
    while coroutine is not None:
        for frame, awaited in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await")):
            if hasattr(coroutine, frame):
                if getattr(coroutine, frame) is None:
                    return
                yield getattr(coroutine, frame)
                coroutine = getattr(coroutine, awaited)
                break
        else:
            return


def entries_of(frames: Iterable[FrameType]) -> list[Entry]:
    """Return frames in the form that `formatted` takes."""
    return [(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name) for frame in frames]


def _entries(frames: Iterable[FrameType], *, is_own: bool) -> list[Entry]:
    entries = entries_of(frames)
    while is_own and entries and _is_ours(entries[-1]):
        entries.pop()
    return entries


def above(entries: Sequence[Entry], loop: tuple[str, str]) -> list[Entry]:
    """Return what a loop of ours has called: all above its frame, without further ones of ours that follow it.

    Args:
        entries: the stack, the innermost call last. One that is so deep that the loop's frame is not among the newest
            ones, is all of the user's.
        loop: the file of the loop, in this package, and its name.
    """
    file, name = loop
    for at, (path, _, found) in enumerate(entries):
        if found == name and path == _PACKAGE + file:
            return _without_ours(entries[at + 1 :])
    return [*entries] if len(entries) >= _MOST_FRAMES else []


def _without_ours(entries: Sequence[Entry]) -> list[Entry]:
    for at, entry in enumerate(entries):
        if not _is_ours(entry):
            return [*entries[at:]]
    return []


def _is_ours(entry: Entry) -> bool:
    return entry[0].startswith(_PACKAGE)


def formatted(entries: Sequence[Entry], *, ours: bool = False) -> str:
    """Return a stack as text; frames of ours at its beginning are left out unless `ours`."""
    from traceback import StackSummary

    kept = entries if ours else _without_ours(entries)
    lines: Any = [(path, line or 0, name, None) for path, line, name in kept[-_MOST_FRAMES:]]
    return "".join(StackSummary.from_list(lines).format())

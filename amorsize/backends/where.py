"""What can be said of where an item is: its position, the seconds it has run, and the stack that it is in.

Stacks are read from outside, while they change. Of each, only what lies above amorsize's own loop is shown: the user's
function and what it has called.
"""

from __future__ import annotations

import os
import sys
from threading import get_ident

from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType
    from typing import Any, TypeAlias

    # A file, a line in it if it is known, and the name of the function.
    Entry: TypeAlias = "tuple[str, int | None, str]"

__all__ = ["LOOP", "Where", "above", "entries_of", "formatted", "frames_from", "stack_above", "suspended"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# The loop of every backend's workers but our own.
LOOP = os.path.join("child", "run_chunk.py"), "run_items"
_MOST_FRAMES = 100  # of one stack, the innermost ones; `faulthandler` has the same limit


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


def frames_from(matches: Callable[[FrameType], bool]) -> tuple[int, list[FrameType]] | None:
    """Return the thread that is in a frame, and the frames from that on, the innermost last; None if no thread is."""
    for ident, innermost in sys._current_frames().items():
        frames: list[FrameType] = []
        frame: FrameType | None = innermost
        while frame is not None:
            frames.append(frame)
            if matches(frame):
                frames.reverse()
                return ident, frames
            frame = frame.f_back
    return None


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


def stack_above(innermost: FrameType, loop: tuple[str, str]) -> str:
    """Return the stack of a thread, as text, above a loop of ours."""
    frames: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return formatted(above(entries_of(frames[::-1]), loop))


def entries_of(frames: Sequence[FrameType], ident: int | None = None) -> list[Entry]:
    """Return frames of the thread `ident` in the form that `formatted` takes, without the code that asks for them."""
    entries = [(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name) for frame in frames]
    if ident == get_ident():
        while entries and _is_ours(entries[-1]):
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

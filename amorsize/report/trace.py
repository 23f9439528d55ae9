"""How is a recording given to the tools that show traces? As trace events in JSON, which Perfetto and Chrome open."""

from __future__ import annotations

from ..lean import map
from ..version import __version__
from .writing import finite, plain, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from .recording import Mark, Recording, Span

__all__ = ["trace_of", "write_trace"]

# A longer text makes a larger file; a shorter one cuts the errors' messages.
_TEXT_CHARACTERS = 500
_PROCESS = 1  # all lanes are shown as threads of one process, so that the viewers put them together


def write_trace(recording: Recording, path: str | PathLike[str]) -> None:
    """Write a recording as a trace that https://ui.perfetto.dev and chrome://tracing open.

    Args:
        recording: what was recorded of a call.
        path: the file to write; if its name ends in ".gz", it is compressed, which Perfetto reads as well.

    Raises:
        OSError: the file cannot be written.
    """
    import json
    from os import fspath

    text = json.dumps(trace_of(recording), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    content = text.encode("ascii")
    if fspath(path).lower().endswith(".gz"):
        import gzip

        content = gzip.compress(content, mtime=0)  # the same recording makes the same file
    write(path, content)


def trace_of(recording: Recording) -> dict[str, Any]:
    """Return a recording as the object that is written: every lane is a thread, every span an event with a duration.

    Args:
        recording: what was recorded of a call.

    >>> from amorsize.report.recording import Recording, Span
    >>> trace = trace_of(Recording("f", 0.5, ("caller",), (Span(0, 10, 5, 0.25, 0.125, failed=1),)))
    >>> trace["traceEvents"][-1]["name"], trace["traceEvents"][-1]["ts"], trace["traceEvents"][-1]["dur"]
    ('items 10 to 14', 250000.0, 125000.0)
    """
    timed = [*map(_complete, recording.spans), *map(_instant, recording.marks)]
    timed.sort(key=lambda event: event["ts"])
    title = plain(recording.title, _TEXT_CHARACTERS)
    about: dict[str, Any] = {"title": title, "seconds": finite(recording.seconds), "writer": f"amorsize {__version__}"}
    if recording.lost_marks:
        about["lost_marks"] = recording.lost_marks
    return {"traceEvents": [*_names(title, recording.lanes), *timed], "displayTimeUnit": "ms", "otherData": about}


def _names(title: str, lanes: tuple[str, ...]) -> list[dict[str, Any]]:
    named = [_metadata("process_name", 0, {"name": title})]
    for lane, name in enumerate(lanes):
        named.append(_metadata("thread_name", lane, {"name": plain(name, _TEXT_CHARACTERS)}))
        named.append(_metadata("thread_sort_index", lane, {"sort_index": lane}))
    return named


def _metadata(name: str, lane: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": _thread(lane), "ts": 0, "args": args}


def _complete(span: Span) -> dict[str, Any]:
    began = _microseconds(span.began)
    # Both ends are rounded alike, so that spans which follow one another do not overlap afterwards.
    ended = _microseconds(finite(span.began) + max(0.0, finite(span.seconds)))
    args: dict[str, Any] = {"first": span.first, "items": span.items}
    more = {"result_bytes": span.nbytes, "failed": span.failed, "chunks": span.chunks if span.chunks > 1 else 0}
    args.update({name: number for name, number in more.items() if number})
    return {
        "ph": "X",
        "name": _items(span),
        "cat": "caller" if span.lane == 0 else "worker",
        "pid": _PROCESS,
        "tid": _thread(span.lane),
        "ts": began,
        "dur": round(max(0.0, ended - began), 3),
        "args": args,
    }


def _instant(mark: Mark) -> dict[str, Any]:
    event: dict[str, Any] = {
        "ph": "i",
        "name": mark.kind,
        "cat": "mark",
        "s": "t",
        "pid": _PROCESS,
        "tid": _thread(mark.lane),
        "ts": _microseconds(mark.at),
    }
    if mark.text:
        event["args"] = {"text": plain(mark.text, _TEXT_CHARACTERS)}
    return event


def _items(span: Span) -> str:
    if span.items == 1:
        return f"item {span.first}"
    if span.chunks > 1:  # other workers may have had items in between
        return f"{span.items} items from {span.first} on"
    return f"items {span.first} to {span.first + span.items - 1}"


def _microseconds(seconds: float) -> float:
    return round(finite(finite(seconds) * 1e6), 3)


def _thread(lane: int) -> int:
    return lane + 1  # viewers take thread 0 for the system's idle one

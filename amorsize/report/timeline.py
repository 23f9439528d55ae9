"""How does one see which worker ran what when? As a page of one file, which asks no network and any browser opens.

The page's own parts are the three files beside this module: `timeline.html` with places for what differs, its style and
its script. The recording goes into it as numbers in JSON, a list for each field. The script draws; what can be said in
words and tables is written here, so that it is there without a script as well.
"""

from __future__ import annotations

from ..hashing import sha256
from ..lean import map
from ..plan.planner import seconds_in_words
from .recording import CALLER_LANE
from .writing import finite, plain, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from .recording import Mark, Recording, Span

__all__ = ["timeline_page", "write_timeline"]

# More would make the page larger than anyone reads; fewer cut the errors' messages.
_TITLE_CHARACTERS = 300
_TEXT_CHARACTERS = 500
_LISTED_MARKS = 200
_ROUTINE = ("started", "sent", "returned")  # what happens in every call, and is not listed in words


def write_timeline(recording: Recording, path: str | PathLike[str]) -> None:
    """Write a recording as a page for a browser: a lane for each worker and the caller, and what each ran when.

    Args:
        recording: what was recorded of a call.
        path: the file to write, such as "timeline.html"; what was there is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    write(path, timeline_page(recording).encode("utf-8"))


def timeline_page(recording: Recording) -> str:
    """Return the page that `write_timeline` writes. All text of the user's in it is escaped.

    Args:
        recording: what was recorded of a call.

    >>> from amorsize.report.recording import Recording, Span
    >>> page = timeline_page(Recording("<lambda>", 0.5, ("caller",), (Span(0, 0, 5, 0.1, 0.2),)))
    >>> "&lt;lambda&gt;" in page, "5 items in 500 ms" in page
    (True, True)
    """
    import re
    from html import escape

    style, script = _part("timeline.css"), _part("timeline.js")
    busy = _busy(recording)
    parts = {
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "title": escape(plain(recording.title, _TITLE_CHARACTERS)),
        "summary": escape(_summary(recording)),
        "lanes": _rows(_lane_cells(recording, busy)),
        "events": _rows(_event_cells(recording)),
        "unlisted": escape(_unlisted(recording)),
        "recording": _json(recording, busy),
    }
    # All places are filled in one pass, so that nothing in the user's text is taken for a place.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _part("timeline.html"))


def _part(name: str) -> str:
    from importlib.resources import files

    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")  # as browsers read it, and so as its hash must be


def _hash(source: str) -> str:
    """Return what allows a browser to run a script, or to use a style, that stands in the page itself."""
    from binascii import b2a_base64

    return "sha256-" + b2a_base64(sha256(source.encode("utf-8")).digest(), newline=False).decode("ascii")


def _json(recording: Recording, busy: Sequence[float]) -> str:
    import json

    spans, marks = recording.spans, recording.marks
    kinds = sorted({mark.kind for mark in marks})
    data = {
        "title": plain(recording.title, _TITLE_CHARACTERS),
        "us": _microseconds(recording.seconds),
        "lanes": [plain(name, _TITLE_CHARACTERS) for name in recording.lanes],
        "busy": [round(share, 4) for share in busy],
        "spans": {
            "lane": [span.lane for span in spans],
            "first": [span.first for span in spans],
            "items": [span.items for span in spans],
            "began": [_microseconds(span.began) for span in spans],
            "us": [_microseconds(span.seconds) for span in spans],
            "nbytes": [span.nbytes for span in spans],
            "failed": [span.failed for span in spans],
            "chunks": [span.chunks for span in spans],
        },
        "kinds": kinds,
        "marks": {
            "lane": [mark.lane for mark in marks],
            "at": [_microseconds(mark.at) for mark in marks],
            "kind": [kinds.index(mark.kind) for mark in marks],
            "text": [plain(mark.text, _TEXT_CHARACTERS) for mark in marks],
        },
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Nothing in it can end the element that it stands in, or begin a comment.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _microseconds(seconds: float) -> float:
    number = round(finite(finite(seconds) * 1e6), 2)
    return int(number) if number.is_integer() else number


def _busy(recording: Recording) -> list[float]:
    """Return which share of the call's time each lane ran items; what overlaps counts once."""
    spans = sorted(recording.spans, key=lambda span: span.began)
    busy = [0.0] * len(recording.lanes)
    until = [0.0] * len(recording.lanes)
    for span in spans:
        began, ended = _ends(span)
        busy[span.lane] += max(0.0, ended - max(began, until[span.lane]))
        until[span.lane] = max(until[span.lane], ended)
    whole = max([finite(recording.seconds), *until])
    return [min(1.0, seconds / whole) if whole > 0 else 0.0 for seconds in busy]


def _ends(span: Span) -> tuple[float, float]:
    began = max(0.0, finite(span.began))
    return began, began + max(0.0, finite(span.seconds))


def _summary(recording: Recording) -> str:
    spans = recording.spans
    items, failed = sum(span.items for span in spans), sum(span.failed for span in spans)
    here = sum(span.items for span in spans if span.lane == CALLER_LANE)
    workers = max(0, len(recording.lanes) - 1)
    where = ", in the caller"
    if workers:
        where = f": {here:,} in the caller, {items - here:,} on {_count(workers, 'worker')}"
    text = f"{_count(items, 'item')} in {seconds_in_words(finite(recording.seconds))}{where}"
    return f"{text}; {failed:,} failed" if failed else text


def _lane_cells(recording: Recording, busy: Sequence[float]) -> Iterable[Sequence[str]]:
    items, failed, chunks = ([0] * len(recording.lanes) for _ in range(3))
    seconds = [0.0] * len(recording.lanes)
    for span in recording.spans:
        items[span.lane] += span.items
        failed[span.lane] += span.failed
        chunks[span.lane] += span.chunks
        seconds[span.lane] += max(0.0, finite(span.seconds))
    for lane, name in enumerate(recording.lanes):
        yield (
            plain(name, _TITLE_CHARACTERS),
            f"{busy[lane]:.0%}",
            seconds_in_words(seconds[lane]),
            f"{items[lane]:,}",
            seconds_in_words(seconds[lane] / items[lane]) if items[lane] else "",
            f"{chunks[lane]:,}",
            f"{failed[lane]:,}",
        )


def _event_cells(recording: Recording) -> Iterable[Sequence[str]]:
    for mark in _listed(recording)[:_LISTED_MARKS]:
        yield (
            f"{finite(mark.at):,.6f} s",
            plain(recording.lanes[mark.lane], _TITLE_CHARACTERS),
            mark.kind,
            plain(mark.text, _TEXT_CHARACTERS),
        )


def _listed(recording: Recording) -> list[Mark]:
    return sorted((mark for mark in recording.marks if mark.kind not in _ROUTINE), key=lambda mark: mark.at)


def _unlisted(recording: Recording) -> str:
    listed, lost = len(_listed(recording)), recording.lost_marks
    if not listed and not lost:
        return "Nothing failed, and no worker died."
    more = max(0, listed - _LISTED_MARKS)
    texts = (
        f"Not listed here: {_count(more, 'further event')}." if more else "",
        f"Not kept, because there were too many: {_count(lost, 'further event')}." if lost else "",
    )
    return " ".join(filter(None, texts))


def _rows(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of a table, the first cell of each as its heading."""
    from html import escape

    def row(cells: Sequence[str]) -> str:
        first, *others = map(escape, cells)
        return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"

    return "\n".join(map(row, rows))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

"""The trace that Perfetto and Chrome open."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
import recordings

from amorsize.report.recording import Mark, Recording, Span
from amorsize.report.trace import trace_of, write_trace

SCHEMA = Path(__file__).with_name("trace_event.schema.json")
BARE = Recording("f", 1.0, ("caller", "worker 1"), ())


def events(recording, phase):
    return [event for event in trace_of(recording)["traceEvents"] if event["ph"] == phase]


def test_a_span_is_an_event_with_a_duration():
    """In microseconds, on its lane's thread, with what is known of it."""
    span = Span(1, 10, 5, 0.25, 0.125, nbytes=70, failed=1, chunks=1)

    assert events(BARE._replace(spans=(span,)), "X") == [
        {
            "ph": "X",
            "name": "items 10 to 14",
            "cat": "worker",
            "pid": 1,
            "tid": 2,
            "ts": 250000.0,
            "dur": 125000.0,
            "args": {"first": 10, "items": 5, "result_bytes": 70, "failed": 1},
        }
    ]


@pytest.mark.parametrize(
    ("span", "name"),
    [
        (Span(0, 7, 1, 0.0, 0.1), "item 7"),
        (Span(0, 7, 2, 0.0, 0.1), "items 7 to 8"),
        (Span(0, 7, 200, 0.0, 0.1, chunks=4), "200 items from 7 on"),
    ],
)
def test_a_span_is_named_for_its_items(span, name):
    """Those of several chunks may have others in between."""
    assert [event["name"] for event in events(BARE._replace(spans=(span,)), "X")] == [name]


def test_a_mark_is_an_instant_on_its_lane():
    """With its text, if it has one."""
    marks = (Mark(1, 0.5, "died", "signal SIGKILL"), Mark(0, 0.25, "sent"))

    first, second = events(BARE._replace(marks=marks), "i")

    assert (first["name"], first["s"], first["ts"], first["tid"], "args" in first) == ("sent", "t", 250000.0, 1, False)
    assert (second["name"], second["tid"], second["args"]) == ("died", 2, {"text": "signal SIGKILL"})


def test_lanes_are_named_and_in_order():
    """The caller comes first."""
    named = {(event["name"], event["tid"]): event["args"] for event in events(BARE, "M")}

    assert named == {
        ("process_name", 1): {"name": "f"},
        ("thread_name", 1): {"name": "caller"},
        ("thread_sort_index", 1): {"sort_index": 0},
        ("thread_name", 2): {"name": "worker 1"},
        ("thread_sort_index", 2): {"sort_index": 1},
    }


def test_what_was_not_kept_is_said():
    """Beside the title and who wrote it."""
    about = trace_of(BARE._replace(lost_marks=3))["otherData"]

    assert (about["title"], about["seconds"], about["lost_marks"]) == ("f", 1.0, 3)
    assert about["writer"].startswith("amorsize ")


def test_spans_that_follow_one_another_do_not_overlap():
    """Though times are rounded to nanoseconds: viewers drop what overlaps on a thread and is not within another."""
    spans, at = [], 0.0
    for item in range(1000):
        seconds = 1e-5 / (item + 3)
        spans.append(Span(0, item, 1, at, seconds))
        at += seconds
    found = events(BARE._replace(spans=tuple(spans)), "X")

    assert all(round(one["ts"] + one["dur"], 3) <= other["ts"] for one, other in pairwise(found))


def test_numbers_that_are_not_finite_become_zero(tmp_path):
    """JSON has no form for them, and a viewer would refuse the whole file."""
    nan, infinite = float("nan"), float("inf")
    path = tmp_path / "trace.json"

    write_trace(Recording("f", nan, ("caller",), (Span(0, 0, 1, infinite, nan),), (Mark(0, nan, "ended"),)), path)

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(path.read_bytes(), parse_constant=refuse)["otherData"]["seconds"] == 0


def test_texts_are_plain_and_short(tmp_path):
    """Lone surrogates are no JSON that every viewer reads."""
    path = tmp_path / "trace.json"

    write_trace(Recording("a\ud800" + "x" * 10_000, 1.0, ("caller",), ()), path)

    assert b"\\ud800" not in path.read_bytes()
    assert len(path.read_bytes()) < 2000


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_name_that_ends_in_gz_is_compressed(tmp_path, kind):
    """With the same content, and the same bytes each time."""
    plain, compressed = tmp_path / "trace.json", tmp_path / "trace.json.gz"
    write_trace(recordings.small(), kind(plain))
    write_trace(recordings.small(), kind(compressed))
    first = compressed.read_bytes()
    write_trace(recordings.small(), kind(compressed))

    assert gzip.decompress(first) == plain.read_bytes()
    assert compressed.read_bytes() == first


def test_an_error_names_the_path(tmp_path):
    """It is the system's error."""
    with pytest.raises(OSError, match="missing") as caught:
        write_trace(recordings.small(), tmp_path / "missing" / "trace.json")

    assert caught.value.filename == str(tmp_path / "missing" / "trace.json")


@pytest.fixture
def check():
    """Give what raises where a trace is not as the format's description wants it."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate


@pytest.mark.seeing
@pytest.mark.slow
@pytest.mark.parametrize("recording", [recordings.small(), recordings.large(500), BARE], ids=["small", "large", "bare"])
def test_a_trace_is_as_the_format_wants_it(check, tmp_path, recording):
    """As it was written."""
    path = tmp_path / "trace.json"
    write_trace(recording, path)

    check(json.loads(path.read_text(encoding="ascii")))


@pytest.mark.seeing
@pytest.mark.parametrize(
    "wrong",
    [
        {"ph": "X", "name": "no end", "pid": 1, "tid": 1, "ts": 0},
        {"ph": "X", "name": "ends before", "pid": 1, "tid": 1, "ts": 0, "dur": -1},
        {"ph": "i", "name": "of what?", "pid": 1, "tid": 1, "ts": 0, "s": "x"},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {}},
        {"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": 1, "args": {"sort_index": "1"}},
    ],
    ids=lambda event: event["name"],
)
def test_the_description_refuses_what_is_wrong(check, wrong):
    """So that what it lets pass says something."""
    from jsonschema import ValidationError

    with pytest.raises(ValidationError):
        check({"traceEvents": [wrong]})


@pytest.mark.seeing
@pytest.mark.slow
def test_any_recording_has_a_trace_as_the_format_wants_it(check):
    """Whatever its texts and times."""
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(recordings.any_recording(hypothesis.strategies))
    def run(recording):
        check(json.loads(json.dumps(trace_of(recording), allow_nan=False)))

    run()

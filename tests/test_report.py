"""A report tells what a call did, where its time went, and what other roads would have cost."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
import weakref
from pathlib import Path

import pytest

import amorsize
from amorsize.plan.advice import Facts, advice
from amorsize.plan.profile import MachineProfile, WorkProfile
from amorsize.plan.roads import Road, roads, threads_seconds
from amorsize.report.record import MOST_MARKS, MOST_SPANS, Record, together
from amorsize.report.recording import CALLER_LANE, Span
from amorsize.report.report import Report, Spent

MACHINE = MachineProfile(4, 4, None, "fork", 0.01, 0.001)


def double(number):
    return 2 * number


def odd_fails(number):
    if number % 2:
        raise ValueError(number)
    return number


def process_id(_):
    return os.getpid()


def compute(turns):
    return sum(range(turns))


def wait(seconds):
    time.sleep(seconds)
    return seconds


async def double_later(number):
    await asyncio.sleep(0)
    return 2 * number


class TestOfACall:
    """What `stream.report` says."""

    def test_it_counts_every_item(self, backend):
        """On every backend."""
        with amorsize.map(double, range(50), **backend) as stream:
            list(stream)
            report = stream.report

        assert (report.items, report.failed, report.over) == (50, 0, True)

    def test_before_the_first_result_nothing_was_done(self, backend):
        """It can be asked for at any time."""
        with amorsize.map(double, range(50), **backend) as stream:
            report = stream.report

        assert (report.items, report.seconds, report.over) == (0, 0.0, False)

    def test_in_the_middle_it_is_not_over(self, backend):
        """And counts at least what was handed out."""
        with amorsize.map(double, range(500), **backend) as stream:
            for _ in range(100):
                next(stream)
            report = stream.report

            assert not report.over
            assert report.seconds > 0.0
        assert stream.report.over

    def test_workers_are_told_one_by_one(self, one_method):
        """Their items add up."""
        stream = amorsize.map(double, range(40), chunksize=4, **one_method)
        list(stream)
        report = stream.report

        assert report.backend == "processes"
        assert report.chunks == 10
        assert sum(share.items for share in report.workers) == 40
        assert report.bytes_in > 0
        assert report.bytes_out > 0

    def test_failures_are_counted(self, backend):
        """Those that failed for good."""
        stream = amorsize.map(odd_fails, range(20), on_error="return", **backend)
        list(stream)

        assert stream.report.failed == 10
        assert "10 items failed" in stream.report.explain()

    def test_an_error_ends_it(self, backend):
        """The report is of what was done until then."""
        stream = amorsize.map(odd_fails, range(20), **backend)
        with pytest.raises(ValueError, match="1"):
            list(stream)

        assert stream.report.over

    def test_the_parts_of_the_time_add_up(self, one_method):
        """To the wall time."""
        stream = amorsize.map(wait, [0.01] * 10, **one_method)
        list(stream)
        report = stream.report

        assert sum(report.spent) == pytest.approx(report.seconds, rel=0.05)

    def test_the_users_own_time_is_told_apart(self, one_method):
        """The loop over the results took most of it."""
        list(amorsize.map(double, range(4), **one_method))  # now there are workers
        stream = amorsize.map(double, range(4), chunksize=1, **one_method)
        for _ in stream:
            time.sleep(0.05)
        report = stream.report

        assert report.spent.consumer >= 0.15
        assert report.advice.startswith("the loop over the results took")

    def test_the_road_that_was_taken_is_measured(self, one_method):
        """The others are estimated for the same items."""
        stream = amorsize.map(wait, [0.01] * 20, **one_method)
        list(stream)
        report = stream.report

        taken = [road for road in report.roads if road.taken]
        assert [road.backend for road in taken] == ["processes"]
        assert taken[0].seconds == pytest.approx(report.worked_seconds)
        assert {road.backend for road in report.roads} == {"serial", "processes", "threads"}
        serial = next(road for road in report.roads if road.backend == "serial")
        assert serial.seconds == pytest.approx(0.2, rel=0.5)
        assert report.regret >= 1.0

    def test_work_in_the_caller_is_priced_elsewhere(self):
        """As if it had gone to workers."""
        stream = amorsize.map(compute, [20_000] * 5)
        list(stream)
        report = stream.report

        assert (report.backend, report.items_here) == ("serial", 5)
        assert [road.backend for road in report.roads if road.taken] == ["serial"]
        assert report.reason.startswith("serial: 5 items of")

    def test_named_serial_says_so(self):
        """No plan was made."""
        stream = amorsize.map(double, range(5), backend="serial")
        list(stream)

        assert stream.report.reason == "serial: it was asked for by name"

    def test_a_short_call_is_told(self):
        """A call that begins as the builtin would has no times of its items, but a report."""
        for _ in range(3):
            stream = amorsize.map(double, [1, 2, 3])
            list(stream)

        assert (stream.report.items, stream.report.backend, stream.report.over) == (3, "serial", True)

    def test_it_is_text_html_and_plain_data(self, backend):
        """For terminals, notebooks and programs."""
        stream = amorsize.map(double, range(30), **backend)
        list(stream)
        report = stream.report

        assert "30 items" in report.explain()
        assert "30 items" in report._repr_html_()
        assert json.loads(json.dumps(report.as_dict()))["items"] == 30
        assert "30 items" in repr(report)

    def test_names_are_escaped(self):
        """A lambda's has angle brackets."""
        stream = amorsize.map(lambda number: number, range(3))
        list(stream)

        assert "<lambda>" not in stream.report._repr_html_()
        assert "&lt;lambda&gt;" in stream.report._repr_html_()

    @pytest.mark.filterwarnings("ignore:audit")
    def test_what_an_audit_finds_is_in_it(self):
        """Each item with both answers."""
        stream = amorsize.map(process_id, range(5), audit=1.0, backend="serial")
        list(stream)
        report = stream.report

        assert sorted(impure.index for impure in report.audit) == list(range(5))
        assert "audit: gave another answer at item 0, 0: first" in report.explain()
        assert report.function == "process_id"

    def test_coroutines_have_one(self):
        """With all of them one after another as the other road."""
        stream = amorsize.map(double_later, range(30))
        list(stream)
        report = stream.report

        assert (report.items, report.backend, report.over) == (30, "coroutines", True)
        assert [road.backend for road in report.roads] == ["serial", "coroutines"]

    @pytest.mark.parametrize("function", [double, double_later])
    def test_asynchronous_streams_have_one(self, function):
        """Of plain functions and of coroutine functions."""

        async def main():
            stream = amorsize.amap(function, range(30))
            results = [result async for result in stream]
            return results, stream.report

        results, report = asyncio.run(main())

        assert results == [2 * number for number in range(30)]
        assert report.items == 30
        assert report.over


class TestOfOthers:
    """Pools, decorated functions and plans have reports, too."""

    def test_a_pool_tells_its_last_call(self):
        """Until there was one, it is None."""
        with amorsize.Pool() as pool:
            assert pool.report is None
            pool.map(double, range(7))
            assert pool.report.items == 7
            list(pool.imap(double, range(8)))
            assert pool.report.items == 8

    def test_a_decorated_function_tells_its_last_call(self):
        """Of `map`, `starmap` and calls over a parameter."""
        doubled = amorsize.parallelize(double)
        assert doubled.report is None
        list(doubled.map(range(7)))
        assert doubled.report.items == 7

        over = amorsize.parallelize(over="number")(double)
        over([1, 2, 3])
        assert over.report.items == 3

    def test_a_decorated_coroutine_function_does(self):
        """Its stream is asynchronous."""
        doubled = amorsize.parallelize(double_later)

        async def main():
            return [result async for result in doubled.map(range(9))]

        asyncio.run(main())

        assert doubled.report.items == 9

    def test_nothing_of_the_input_is_kept_for_it(self, one_method):
        """What a pool keeps of its last call is numbers."""

        class Item:
            pass

        items = [Item() for _ in range(3)]
        seen = [weakref.ref(item) for item in items]
        pool = amorsize.Pool(backend="threads", n_jobs=1)
        list(pool.imap(type, items))
        assert pool.report.items == 3
        del items
        gc.collect()

        assert [ref() for ref in seen] == [None] * 3

    def test_a_plan_has_roads(self):
        """Those that were considered."""
        plan = amorsize.optimize(wait, [0.01] * 50)

        assert plan.report.roads
        assert plan.report.explain().startswith("not begun")
        assert json.dumps(plan.report.as_dict())


class TestRoads:
    """How long the same items would have taken elsewhere."""

    def test_serial_is_the_sum(self):
        """Nothing is due beside the items."""
        serial = roads(WorkProfile(10, 0.01), MACHINE, 100)[0]

        assert serial.seconds == pytest.approx(1.0)

    def test_waiting_items_gain_from_threads(self):
        """They wait at once."""
        work = WorkProfile(10, 0.1, cpu_share=0.0)

        assert threads_seconds(work, 320, 32, known_width=32) == pytest.approx(1.0, rel=0.1)
        assert 1.0 < threads_seconds(work, 320, 32) < 2.0

    def test_computing_items_do_not(self):
        """They take turns."""
        assert threads_seconds(WorkProfile(10, 0.1, cpu_share=1.0), 100, 8) >= 10.0

    def test_a_computing_road_of_threads_says_what_it_supposes(self):
        """The times do not tell whether items release the interpreter."""
        threads = roads(WorkProfile(10, 0.1), MACHINE, 100)[2]

        assert threads.note == "if the items hold the interpreter"

    def test_two_workers_are_priced_where_one_was_best(self):
        """So that one sees what they would have cost."""
        processes = roads(WorkProfile(10, 1e-6), MACHINE, 10)[1]

        assert processes.n_jobs == 2
        assert processes.seconds > 0.001


class TestAdvice:
    """At most one line, where something is clear."""

    def test_nothing_for_short_calls(self):
        """Whatever happened."""
        assert not advice(Facts(0.001, items=10, workers=2, tail_seconds=0.0009, longest_seconds=0.001))

    def test_a_long_item_is_named(self):
        """With its share of the time."""
        text = advice(Facts(10.0, workers=8, tail_seconds=6, longest_seconds=6.0, longest_first=41, longest_items=1))

        assert text.startswith("7 of 8 workers waited for item 41, which took 60% of the time")

    def test_large_items_are_named(self):
        """They are better made where they are needed."""
        text = advice(Facts(1.0, items=10, workers=2, feeding_seconds=0.8, bytes_in=80_000_000))

        assert "8.0 MB each" in text

    def test_a_better_road_is_named(self):
        """With what it would have taken."""
        others = (Road("processes", 2, 5.0, taken=True), Road("threads", 32, 0.5))
        text = advice(Facts(5.0, items=10, workers=2, roads=others))

        assert text == "backend='threads' would have taken about 500 ms"

    def test_an_uncertain_road_is_not(self):
        """What is supposed of it may be wrong."""
        others = (Road("processes", 2, 5.0, taken=True), Road("threads", 32, 0.5, note="if"))

        assert not advice(Facts(5.0, items=10, workers=2, roads=others))


class TestRecord:
    """What is kept with `record=True`."""

    def test_every_chunk_has_a_span(self, one_method):
        """With its items."""
        stream = amorsize.map(double, range(40), chunksize=4, record=True, **one_method)
        list(stream)
        recording = stream.report.recording

        ran = sorted((span.first, span.items) for span in recording.spans if span.lane != CALLER_LANE)
        assert sum(items for _, items in ran) == 40
        assert [first for first, _ in ran][:1] == [0]
        assert {mark.kind for mark in recording.marks} >= {"started", "sent"}
        assert all(0.0 <= span.began <= recording.seconds for span in recording.spans)

    def test_the_callers_items_have_spans(self):
        """Long ones one each."""
        stream = amorsize.map(wait, [0.003] * 5, record=True, n_jobs=1)
        list(stream)
        recording = stream.report.recording

        assert recording.lanes == ("caller",)
        assert [(span.first, span.items) for span in recording.spans] == [(number, 1) for number in range(5)]

    def test_short_items_of_the_caller_share_one(self):
        """Otherwise a million of them would be a million spans."""
        stream = amorsize.map(double, range(10_000), record=True, backend="serial")
        list(stream)
        recording = stream.report.recording

        assert sum(span.items for span in recording.spans) == 10_000
        assert len(recording.spans) < 5_000

    def test_failures_are_marked(self, one_method):
        """With the item and its error."""
        stream = amorsize.map(odd_fails, range(4), on_error="return", record=True, **one_method)
        list(stream)

        texts = [mark.text for mark in stream.report.recording.marks if mark.kind == "failed"]
        assert sorted(texts) == ["item 1: ValueError: 1", "item 3: ValueError: 3"]

    def test_the_error_that_ended_it_is_marked(self):
        """In the caller, too."""
        stream = amorsize.map(odd_fails, range(4), record=True, backend="serial")
        with pytest.raises(ValueError, match="1"):
            list(stream)

        assert [mark.kind for mark in stream.report.recording.marks] == ["failed", "ended"]

    def test_without_it_nothing_is_kept(self):
        """And a timeline is refused."""
        stream = amorsize.map(double, range(4))
        list(stream)

        assert stream.report.recording is None
        with pytest.raises(amorsize.UnsupportedError, match="record=True"):
            stream.report.timeline("never.html")

    def test_memory_is_bounded(self):
        """Neighbours are put together, and no item is lost."""
        record = Record()
        record.begin()
        for number in range(3 * MOST_SPANS):
            record.add_here(2 * number, 1, record.began_at + number, 0.5)
        recording = record.recording("f")

        assert len(recording.spans) <= MOST_SPANS
        assert sum(span.items for span in recording.spans) == 3 * MOST_SPANS
        assert sum(span.chunks for span in recording.spans) == 3 * MOST_SPANS

    def test_marks_are_bounded(self):
        """Those that were left out are counted."""
        record = Record()
        record.begin()
        for number in range(MOST_MARKS + 7):
            record.add_here(number, 1, record.began_at, 1.0, ValueError(number))

        assert len(record.recording("f").marks) == MOST_MARKS
        assert record.recording("f").lost_marks == 7

    def test_an_error_that_cannot_be_told_is_named(self):
        """Its own code may fail."""

        class Sullen(Exception):
            def __str__(self):
                raise RuntimeError("no")

        record = Record()
        record.begin()
        record.add_here(0, 1, record.began_at, 1.0, Sullen())

        assert record.recording("f").marks[0].text == "item 0: Sullen: <its text cannot be made: RuntimeError>"

    def test_lanes_are_put_together_apart(self):
        """A span has items of one lane only."""
        spans = [Span(number % 3, number, 1, float(number), 0.9) for number in range(30)]

        assert {span.lane for span in together(spans, 1, 30.0)} == {0, 1, 2}
        assert len(together(spans, 1, 30.0)) == 3


def test_a_report_of_nothing_is_a_report():
    """Every figure has a default."""
    report = Report("f", "serial", 1, "because", True, None, 0.0, 0)

    assert report.regret is None
    assert report.explain()
    assert report.spent == Spent()


def test_it_is_made_without_loading_what_only_pictures_need(python):
    """A timeline's code is loaded for a timeline."""
    code = "import amorsize, sys; s = amorsize.map(abs, [-1]); list(s); s.report.explain(); print(sorted(sys.modules))"
    loaded = python("-c", code).stdout

    assert "amorsize.report.report" in loaded
    assert "amorsize.report.timeline" not in loaded
    assert "amorsize.report.page" not in loaded


def test_the_path_of_a_timeline_may_be_a_path(tmp_path, one_method):
    """Of the standard library's kind."""
    pytest.importorskip("amorsize.report.timeline")
    stream = amorsize.map(double, range(40), record=True, **one_method)
    list(stream)
    stream.report.timeline(tmp_path / "run.html")
    stream.report.trace(str(tmp_path / "run.json"))

    assert Path(tmp_path / "run.html").stat().st_size > 1000
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["traceEvents"]

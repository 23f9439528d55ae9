"""Recordings for tests of what shows them: a small one, one that is as large as they get, and any that may be made."""

from __future__ import annotations

import random

from amorsize.report.recording import Mark, Recording, Span

KINDS = ("started", "sent", "returned", "failed", "died", "withdrew", "ended")
HOSTILE = (
    "<lambda>",
    "</script><script>document.documentElement.dataset.harmed = 1</script>",
    "</title><img src=x onerror='document.documentElement.dataset.harmed = 1'>",
    "<!--<script>",
    '"><svg onload="document.documentElement.dataset.harmed = 1">\'',
    "{{script}} {{recording}} \\u003c &lt; &amp;lt; ${harmed}",
    "Größe, 大きさ, \U0001f40d, \u2028 \u2029",
)


def small():
    """Return a call of five items in the caller and twelve chunks on three workers, with a mark of each kind."""
    spans = [Span(0, item, 1, item * 0.01, 0.009) for item in range(5)]
    marks = [Mark(lane, 0.05, "started") for lane in (1, 2, 3)]
    for chunk in range(12):
        lane, turn = chunk % 3 + 1, chunk // 3
        marks.append(Mark(lane, 0.055 + turn * 0.1, "sent"))
        spans.append(Span(lane, 5 + chunk * 10, 10, 0.06 + turn * 0.1, 0.09, nbytes=800, failed=int(chunk == 4)))
    marks += [Mark(index % 4, 0.2 + index / 100, kind, f"about {kind}") for index, kind in enumerate(KINDS[2:])]
    lanes = ("caller", "worker 1", "worker 2", "worker 3")
    return Recording("work: processes, n_jobs=3", 0.46, lanes, tuple(spans), tuple(marks))


def large(n_spans=20_000, workers=64, items=1_000_000):
    """Return a call of a million items, of which as many spans are kept as ever are."""
    chance = random.Random(16)
    ends = [0.0] * workers
    spans, marks = [], []
    each = items // n_spans
    for number in range(n_spans):
        worker = number % workers
        seconds = each * 0.0005 * chance.uniform(0.5, 1.5)
        spans.append(Span(worker + 1, number * each, each, ends[worker], seconds, nbytes=each * 40, chunks=3))
        marks.append(Mark(worker + 1, ends[worker], "sent", f"{each} items from {number * each} on"))
        ends[worker] += seconds + 0.0002
    lanes = ("caller", *(f"worker {number + 1}" for number in range(workers)))
    return Recording("work: processes, n_jobs=64", max(ends), lanes, tuple(spans), tuple(marks))


def any_recording(strategies):
    """Return a strategy for recordings, with whatever texts and times.

    Args:
        strategies: `hypothesis.strategies`, which not everybody has.
    """
    st = strategies
    texts = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(HOSTILE)
    times = st.floats(0, 1e6) | st.floats(0, 1e-3)
    counts = st.integers(1, 10**9)

    def of_lanes(lanes):
        lane = st.integers(0, len(lanes) - 1)
        span = st.builds(
            Span, lane, st.integers(0, 10**9), counts, times, times, st.integers(0, 10**12), st.integers(0, 9), counts
        )
        mark = st.builds(Mark, lane, times, st.sampled_from(KINDS), texts)
        several = {"spans": st.lists(span, max_size=12).map(tuple), "marks": st.lists(mark, max_size=12).map(tuple)}
        return st.builds(Recording, texts, times, st.just(lanes), lost_marks=st.integers(0, 10**6), **several)

    return st.lists(texts, min_size=1, max_size=5).map(tuple).flatmap(of_lanes)

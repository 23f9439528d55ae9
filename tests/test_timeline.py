"""The page that shows which worker ran what when: what stands in it, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import browser
import pytest
import recordings
from browser import Page

from amorsize.report.recording import Mark, Recording, Span
from amorsize.report.timeline import timeline_page, write_timeline

MOST_BYTES = 4_000_000  # of a page with as many spans and marks as are kept, of usual length


def data_of(page):
    """Return what the page's script will read."""
    parsed = page if isinstance(page, Page) else Page(page)
    scripts = [attributes for tag, attributes in parsed.elements if tag == "script"]
    return json.loads(parsed.texts["script"][[script.get("id") for script in scripts].index("recording")])


class _Rows(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tables = []
        self._open = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._open.add(tag)
        if tag == "tbody":
            self.tables.append([])
        elif "tbody" in self._open and tag == "tr":
            self.tables[-1].append([])
        elif "tbody" in self._open and tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        self._open.discard(tag)

    def handle_data(self, data):
        if "tbody" in self._open and self._open & {"td", "th"}:
            self.tables[-1][-1][-1] += data


def table(page, number):
    """Return the cells of a table of the page, by rows: 0 is that of the lanes, 1 that of the events."""
    return _Rows(page).tables[number]


class TestText:
    """What can be said of the page without a browser."""

    def test_spans_and_marks_are_in_it(self):
        """In microseconds, a list for each field."""
        span = Span(1, 10, 5, 0.25, 0.125, nbytes=70, failed=1, chunks=2)
        mark = Mark(1, 0.3, "died", "of it")

        data = data_of(timeline_page(Recording("f", 0.5, ("caller", "worker 1"), (span,), (mark,))))

        assert {field: values[0] for field, values in data["spans"].items()} == {
            "lane": 1, "first": 10, "items": 5, "began": 250000, "us": 125000, "nbytes": 70, "failed": 1, "chunks": 2,
        }  # fmt: skip
        assert data["kinds"] == ["died"]
        assert data["marks"] == {"lane": [1], "at": [300000], "kind": [0], "text": ["of it"]}
        assert data["us"] == 500000

    @pytest.mark.parametrize("text", recordings.HOSTILE)
    def test_text_of_the_users_stays_text(self, text):
        """In titles, lanes' names and marks, whatever it looks like."""
        harmless, hostile = (
            Recording(word, 1.0, ("caller", word), (Span(1, 0, 1, 0.0, 1.0),), (Mark(1, 0.5, "failed", word),))
            for word in ("word", text)
        )

        expected, page = Page(timeline_page(harmless)), Page(timeline_page(hostile))

        assert [tag for tag, _ in page.elements] == [tag for tag, _ in expected.elements]
        assert page.texts["h1"] == [text]
        assert data_of(page)["title"] == text
        assert table(timeline_page(hostile), 1) == [["0.500000 s", text, "failed", text]]

    def test_lone_surrogates_can_be_written(self, tmp_path):
        """UTF-8 has no form for them, so that they are replaced; a pair of them is one character."""
        path = tmp_path / "page.html"
        write_timeline(Recording("a\ud800b \ud83d\udc0d", 1.0, ("\udfff",), ()), path)

        page = Page(path.read_text(encoding="utf-8"))
        assert page.texts["h1"] == ["a\ufffdb \U0001f40d"]
        assert data_of(page)["lanes"] == ["\ufffd"]

    def test_it_asks_no_network(self):
        """Nothing in the page refers to another file or host."""
        page = timeline_page(recordings.small())
        links = [
            (tag, name, value)
            for tag, attributes in Page(page).elements
            for name, value in attributes.items()
            if name in {"src", "href", "action", "data", "poster", "srcset", "style"}
        ]

        assert links == [("link", "href", "data:,")]
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket|import\(", page)

    def test_its_policy_allows_its_own_script_and_style_and_nothing_else(self):
        """By their hashes, which a browser compares."""
        page = Page(timeline_page(recordings.small()))
        policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)

        def source(text):
            return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

        assert policy.split("; ") == [
            "default-src 'none'",
            f"script-src {source(page.texts['script'][1])}",
            f"style-src {source(page.texts['style'][0])}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]

    def test_its_size_is_bounded(self):
        """The recording bounds the number of spans; long texts are cut."""
        assert len(timeline_page(recordings.large()).encode()) < MOST_BYTES

        long = "x" * 1_000_000
        page = timeline_page(Recording(long, 1.0, (long,), (Span(0, 0, 1, 0.0, 1.0),), (Mark(0, 0.0, "failed", long),)))
        assert len(page.encode()) < 60_000

    def test_time_in_which_spans_overlap_counts_once(self):
        """A lane of coroutines is not busier than all the time."""
        spans = (Span(0, 0, 1, 0.0, 0.5), Span(0, 1, 1, 0.25, 0.5), Span(1, 2, 1, 0.9, 0.1), Span(1, 3, 1, 0.0, 0.1))

        assert data_of(timeline_page(Recording("f", 1.0, ("caller", "worker 1"), spans)))["busy"] == [0.75, 0.2]

    def test_lanes_have_a_row_of_numbers(self):
        """For those who cannot see the drawing, and without a script."""
        page = timeline_page(recordings.small())

        assert table(page, 0)[:3] == [
            ["caller", "10%", "45 ms", "5", "9 ms", "5", "0"],
            ["worker 1", "78%", "360 ms", "40", "9 ms", "4", "0"],
            ["worker 2", "78%", "360 ms", "40", "9 ms", "4", "1"],
        ]
        assert Page(page).texts["p"][0] == "125 items in 460 ms: 5 in the caller, 120 on 3 workers; 1 failed"

    def test_events_are_listed_up_to_a_number(self):
        """The rest is counted, and so is what was not kept."""
        marks = tuple(Mark(0, at / 1000, "failed", f"item {at}") for at in range(250))

        page = timeline_page(Recording("f", 1.0, ("caller",), (), marks, lost_marks=1))

        assert len(table(page, 1)) == 200
        assert "Not listed here: 50 further events." in page
        assert "Not kept, because there were too many: 1 further event." in page

    def test_routine_is_not_listed(self):
        """Only what a reader may have to act on."""
        page = timeline_page(Recording("f", 1.0, ("caller",), (), (Mark(0, 0.1, "sent"), Mark(0, 0.2, "started"))))

        assert table(page, 1) == []
        assert "Nothing failed, and no worker died." in page

    def test_numbers_that_are_not_finite_become_zero(self):
        """JSON has no form for them, and a script would not read the page."""
        nan, infinite = float("nan"), float("inf")
        span, mark = Span(0, 0, 1, nan, infinite), Mark(0, infinite, "ended")

        page = timeline_page(Recording("f", nan, ("caller",), (span,), (mark,)))

        assert data_of(page)["spans"]["us"] == [0]

    def test_nothing_recorded(self):
        """A page all the same."""
        page = Page(timeline_page(Recording("f", 0.0, ("caller",), ())))

        assert page.texts["p"][0] == "0 items in 0 s, in the caller"

    def test_any_recording_has_a_page(self):
        """With all its spans, and with elements that do not depend on its texts."""
        hypothesis = pytest.importorskip("hypothesis")

        @hypothesis.settings(max_examples=60, deadline=None)
        @hypothesis.given(recordings.any_recording(hypothesis.strategies))
        def check(recording):
            text = timeline_page(recording)
            text.encode("utf-8")
            page, data = Page(text), data_of(text)
            assert data["spans"]["first"] == [span.first for span in recording.spans]
            assert data["spans"]["us"] == pytest.approx([span.seconds * 1e6 for span in recording.spans], abs=0.01)
            assert [data["kinds"][kind] for kind in data["marks"]["kind"]] == [mark.kind for mark in recording.marks]
            assert len(page.texts["script"]) == 2
            assert all(0 <= share <= 1 for share in data["busy"])

        check()


class TestFile:
    """How it is written."""

    @pytest.mark.parametrize("kind", [str, lambda path: path])
    def test_it_takes_a_name_or_a_path(self, tmp_path, kind):
        """And replaces what was there."""
        path = tmp_path / "page.html"
        path.write_text("older and longer" * 10_000, encoding="utf-8")

        write_timeline(recordings.small(), kind(path))

        assert path.read_bytes() == timeline_page(recordings.small()).encode("utf-8")

    def test_an_error_names_the_path(self, tmp_path):
        """It is the system's error."""
        path = tmp_path / "missing" / "page.html"
        with pytest.raises(FileNotFoundError) as caught:
            write_timeline(recordings.small(), path)

        assert caught.value.filename == str(path)

    @pytest.mark.skipif(sys.platform != "linux", reason="the device that is always full is Linux's")
    def test_a_full_disk_names_the_path(self):
        """Which the system's error by itself does not."""
        with pytest.raises(OSError, match="/dev/full"):
            write_timeline(recordings.small(), "/dev/full")

    def test_what_is_no_path_is_refused(self):
        """A number would be taken for an open file's."""
        with pytest.raises(TypeError):
            write_timeline(recordings.small(), 1)


def look(recording, tmp_path, *, script=None, **how):
    """Write a page, perhaps with a script that acts on it, open it, and return what the browser made of it."""
    path = tmp_path / "page.html"
    page = timeline_page(recording)
    path.write_text(page if script is None else browser.with_script(page, script), encoding="utf-8", newline="\n")
    seen = browser.opened(path, tmp_path, **how)
    assert "data-error" not in seen.root, seen.root
    assert "data-refused" not in seen.root, seen.root
    return seen


class TestSeen:
    """What a browser makes of the page."""

    pytestmark = browser.NEEDED

    @pytest.mark.parametrize("scheme", browser.SCHEMES)
    def test_every_span_of_a_small_recording_has_a_bar(self, tmp_path, scheme):
        """In the light and in the dark."""
        recording = recordings.small()

        page = look(recording, tmp_path, scheme=scheme)

        bars = page.of_class("bar")
        assert page.root["data-scheme"] == scheme
        assert page.root["data-bars"] == str(len(recording.spans)) == str(len(bars))
        found = [(int(bar["data-lane"]), int(bar["data-first"]), int(bar["data-items"])) for bar in bars]
        assert sorted(found) == sorted(span[:3] for span in recording.spans)
        assert [bar["data-first"] for bar in page.of_class("failed") if "data-first" in bar] == ["45"]

    def test_bars_stand_where_their_times_are(self, tmp_path):
        """As long as they took, from left to right."""
        spans = (Span(0, 0, 1, 0.0, 0.25), Span(0, 1, 1, 0.5, 0.5))

        one, other = look(Recording("f", 1.0, ("caller",), spans), tmp_path).of_class("bar")

        long = float(other["width"]) + 1  # a pixel tells neighbours apart
        assert float(one["width"]) + 1 == pytest.approx(long / 2, abs=0.1)
        assert float(other["x"]) - float(one["x"]) == pytest.approx(long, abs=0.1)

    def test_each_kind_of_mark_has_a_form_of_its_own(self, tmp_path):
        """Not only a colour."""
        page = look(recordings.small(), tmp_path)

        forms = {}
        kind = None
        for tag, attributes in page.elements:
            kinds = (attributes.get("class") or "").split()
            if tag == "g" and kinds[:1] == ["mark"]:
                kind = kinds[1]
            elif tag == "path" and kinds == ["form"]:
                forms.setdefault(kind, set()).add(attributes["d"])
        assert set(forms) == set(recordings.KINDS)
        assert all(len(found) == 1 for found in forms.values())
        assert len(set.union(*forms.values())) == len(recordings.KINDS)

    def test_a_million_items_on_64_workers_open(self, tmp_path):
        """What a column of pixels can show is drawn, and single bars where few are in view."""
        recording = recordings.large()

        page = look(recording, tmp_path)
        assert (page.root["data-view"], page.root["data-bars"]) == ("shares", "0")
        assert len(page.elements) < 2000

        page = look(recording, tmp_path, fragment="#4-4.5")
        expected = [span for span in recording.spans if span.began <= 4.5 and span.began + span.seconds >= 4]
        assert page.root["data-view"] == "bars"
        assert {int(bar["data-first"]) for bar in page.of_class("bar")} == {span.first for span in expected}

    @pytest.mark.parametrize("lanes", [1, 300, 1500])
    def test_any_number_of_lanes(self, tmp_path, lanes):
        """Each with a track."""
        names = tuple(f"worker {lane}" for lane in range(lanes))
        spans = tuple(Span(number % lanes, number, 1, number / 100, 0.02) for number in range(4000))

        page = look(Recording("f", 41.0, names, spans), tmp_path)

        assert page.root["data-view"] == "shares"
        assert len(page.of_class("track")) == lanes

    def test_hostile_text_does_no_harm(self, tmp_path):
        """It is shown as it is."""
        text = " ".join(recordings.HOSTILE)
        marks = tuple(Mark(0, 0.1, "failed", part) for part in recordings.HOSTILE)
        recording = Recording(text, 1.0, ("caller", *recordings.HOSTILE), (Span(1, 0, 1, 0.0, 1.0),), marks)
        point = """
            const box = document.getElementById("lanes"), at = box.getBoundingClientRect();
            box.dispatchEvent(new PointerEvent("pointermove", {clientX: 400, clientY: at.top + 40, bubbles: true}));
        """

        for script in (None, point):
            page = look(recording, tmp_path, script=script)
            assert "data-harmed" not in page.root
            assert page.texts["h1"] == [text[:299] + "…" if len(text) > 300 else text]
        assert page.texts["b"] == [recordings.HOSTILE[0]]

    def test_a_script_that_is_not_the_pages_own_is_refused(self, tmp_path):
        """The browser enforces the policy, from a file too."""
        path = tmp_path / "page.html"
        script = "<script>document.documentElement.dataset.harmed = 1</script></body>"
        path.write_text(timeline_page(recordings.small()).replace("</body>", script), encoding="utf-8", newline="\n")

        page = browser.opened(path, tmp_path)

        assert "data-harmed" not in page.root
        assert page.root["data-bars"] == "17"

    def test_pointing_at_a_bar_tells_of_it(self, tmp_path):
        """Its items, its seconds, its results and what failed."""
        script = """
            const bar = document.querySelector('.bar[data-first="45"]').getBoundingClientRect();
            document.getElementById("lanes").dispatchEvent(new PointerEvent("pointermove",
                {clientX: bar.left + bar.width / 2, clientY: bar.top + 5, bubbles: true}));
        """

        page = look(recordings.small(), tmp_path, script=script)

        assert page.texts["b"] == ["worker 2"]
        divisions = [attributes.get("id") for tag, attributes in page.elements if tag == "div"]
        told = page.texts["div"][divisions.index("tip")]
        for part in ("items 45 to 54", "took 90 ms, 9 ms an item", "results: 800 bytes", "1 failed"):
            assert part in told

    @pytest.mark.parametrize(
        ("act", "bars"),
        [
            ("for (let i = 0; i < 8; i++) press('+')", range(1, 10)),
            ("for (let i = 0; i < 8; i++) press('+'); press('0')", [17]),
            ("wheel(-200, 900)", range(1, 17)),
            ("document.getElementById('closer').click(); drag(-500)", range(1, 17)),
            ("window.amorsizeTimeline.show(0, 9e3)", [1]),
        ],
        ids=["keys", "back", "wheel", "drag", "call"],
    )
    def test_zooming_and_moving(self, tmp_path, act, bars):
        """Only what is in view has a bar."""
        script = """
            const plot = document.getElementById("plot"), lanes = document.getElementById("lanes");
            const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
            const act = (Kind, name, how) => new Kind(name, {...how, bubbles: true});
            const wheel = (deltaY, clientX) => plot.dispatchEvent(act(WheelEvent, "wheel", {deltaY, clientX}));
            const drag = (by) => {
              lanes.setPointerCapture = () => {};
              for (const [name, clientX] of [["down", 700], ["move", 700 + by], ["up", 700 + by]])
                lanes.dispatchEvent(new PointerEvent("pointer" + name, {clientX, clientY: 250, bubbles: true}));
            };
        """

        page = look(recordings.small(), tmp_path, script=script + act)

        assert int(page.root["data-bars"]) == len(page.of_class("bar"))
        assert len(page.of_class("bar")) in bars

    def test_keys_choose_a_lane_and_its_bars(self, tmp_path):
        """What is chosen is told to those who do not see it, too."""
        script = """
            for (const key of ["ArrowDown", "ArrowDown", "n", "n"])
              document.getElementById("plot").dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        """

        page = look(recordings.small(), tmp_path, script=script)

        assert page.texts["b"] == ["worker 1"]
        assert [bar["data-first"] for bar in page.of_class("found")] == ["35"]
        assert [attributes["role"] for _, attributes in page.elements if attributes.get("id") == "tip"] == ["status"]

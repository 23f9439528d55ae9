"""What people see of real runs: pages in a browser, and reports, bars and prints in notebooks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import browser
import pytest

import amorsize
from amorsize.report.recording import CALLER_LANE


def double(number):
    return 2 * number


@pytest.mark.parametrize("record", [pytest.param({"chunksize": 4}, id="fixed"), pytest.param({}, id="automatic")])
class TestPage:
    """The timeline of a run that has just been."""

    pytestmark = browser.NEEDED

    def test_every_chunk_has_a_bar(self, record, tmp_path, one_method):
        """On the lane of the worker that ran it."""
        stream = amorsize.map(double, range(200), record=True, **record, **one_method)
        list(stream)
        report = stream.report
        report.timeline(tmp_path / "run.html")

        page = browser.opened(tmp_path / "run.html", tmp_path)
        bars = page.of_class("bar")
        ran = [span for span in report.recording.spans if span.lane != CALLER_LANE]
        assert len(ran) >= report.chunks - report.returned
        assert sorted((int(bar["data-first"]), int(bar["data-items"])) for bar in bars) == sorted(
            (span.first, span.items) for span in report.recording.spans
        )


class TestPicture:
    """The picture in the docs is that of an example's page."""

    pytestmark = browser.NEEDED

    def test_the_example_is_shown(self, python, tmp_path):
        """With a bar for every chunk; AMORSIZE_PICTURE names a file that keeps the picture."""
        page, kept = tmp_path / "run.html", tmp_path / "timeline.png"
        child = python(Path(__file__).parents[1] / "examples" / "see_a_run.py", page)
        assert child.returncode == 0, child.stderr
        bars = browser.opened(page, tmp_path).of_class("bar")
        browser.picture(page, kept, tmp_path)

        assert sum(int(bar["data-items"]) for bar in bars) == 400
        assert kept.read_bytes().startswith(b"\x89PNG")
        if "AMORSIZE_PICTURE" in os.environ:
            shutil.copy(kept, os.environ["AMORSIZE_PICTURE"])


@pytest.mark.seeing
@pytest.mark.slow
class TestNotebook:
    """A notebook's cells, which a kernel of its own runs."""

    @pytest.fixture
    def ran(self, tmp_path, monkeypatch):
        """Return what runs some cells, and returns the outputs of the last one and the states of all widgets."""
        nbformat = pytest.importorskip("nbformat")
        nbclient = pytest.importorskip("nbclient")
        pytest.importorskip("ipykernel")
        monkeypatch.setenv("PYTHONPATH", str(Path(amorsize.__file__).parents[1]))

        def run(*cells):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            client = nbclient.NotebookClient(
                notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
            )
            done = client.execute()
            widgets = done.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
            return done.cells[-1].outputs, [one["state"] for one in widgets.get("state", {}).values()]

        return run

    @pytest.mark.filterwarnings("ignore")  # what the packages of notebooks warn of is theirs
    def test_a_report_is_shown_as_html(self, ran):
        """With the roads in a table."""
        outputs, _ = ran(
            "import amorsize\ndef double(number):\n    return sum(range(20_000)) * number",
            "stream = amorsize.map(double, range(20))\nlist(stream)\nstream.report",
        )

        html = outputs[-1]["data"]["text/html"]
        assert "20 items" in html
        assert "<table>" in html
        assert "taken" in html

    @pytest.mark.filterwarnings("ignore")  # as above
    @pytest.mark.parametrize("backend", ["serial", "processes"])
    def test_a_bar_counts_to_the_end(self, ran, backend):
        """As a widget."""
        pytest.importorskip("ipywidgets")
        outputs, widgets = ran(
            "import amorsize",
            f"found = list(amorsize.map(abs, range(50), progress=True, backend={backend!r}))\nlen(found)",
        )

        assert outputs[-1]["data"]["text/plain"] == "50"
        assert [state["value"] for state in widgets if state.get("max") == 50] == [50]
        assert any("50/50" in str(state.get("value")) for state in widgets)

    @pytest.mark.filterwarnings("ignore")  # as above
    def test_what_items_print_is_in_the_cell(self, ran):
        """In whole lines."""
        outputs, _ = ran(
            "import amorsize\ndef tell(number):\n    print('item', number)",
            "list(amorsize.map(tell, range(20), backend='processes', n_jobs=2));",
        )

        shown = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
        assert sorted(shown.splitlines()) == sorted(f"item {number}" for number in range(20))

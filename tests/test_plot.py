"""The picture of predicted seconds against the number of workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from amorsize.errors import UnsupportedError
from amorsize.report.plot import plot

PREDICTED = [(4, 3.0), (1, 10.0), (2, 5.5)]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    """It names the extra."""
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(UnsupportedError, match=r"pip install 'amorsize\[plot\]'"):
        plot(PREDICTED, None)


@pytest.fixture
def axes():
    """Give axes of a figure that no window shows."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    return Figure().subplots()


@pytest.mark.seeing
@pytest.mark.slow
class TestDrawn:
    """What matplotlib was asked to draw."""

    def test_predictions_are_a_line_in_the_order_of_workers(self, axes):
        """In whatever order they were given, and the caller alone is named."""
        assert plot(PREDICTED, None, axes) is axes

        (line,) = axes.lines
        assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 4], [10.0, 5.5, 3.0])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["serial", "2", "4"]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("workers", "seconds")

    def test_what_was_measured_is_one_point(self, axes):
        """With a name of its own, and a tick at its width."""
        plot(PREDICTED, (3, 4.0), axes)

        _, point = axes.lines
        assert (list(point.get_xdata()), list(point.get_ydata())) == ([3], [4.0])
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["predicted", "measured"]
        assert list(axes.get_xticks()) == [1, 2, 3, 4]

    def test_nothing_to_show(self, axes):
        """Empty axes, without a warning."""
        assert plot([], None, axes).lines[:] == []

    def test_it_can_be_saved(self, axes, tmp_path):
        """With the size that the user's figure has."""
        plot(PREDICTED, (4, 3.5), axes).figure.savefig(tmp_path / "plan.png")

        assert (tmp_path / "plan.png").stat().st_size > 1000

    def test_a_figure_of_its_own_leaves_the_users_backend(self):
        """And shows nothing; given axes, pyplot is not even imported."""
        pytest.importorskip("matplotlib")
        program = """
import sys
import matplotlib
from amorsize.report.plot import plot
from matplotlib.figure import Figure
plot([(1, 2.0)], None, Figure().subplots())
assert "matplotlib.pyplot" not in sys.modules
matplotlib.use("svg")
from matplotlib import pyplot
asked = []
pyplot.switch_backend("svg")
pyplot.show = lambda *args, **options: asked.append(args)
axes = plot([(1, 2.0), (2, 1.0)], (2, 1.1))
assert (matplotlib.get_backend(), asked) == ("svg", [])
assert pyplot.get_fignums() == [1]
assert axes.figure is pyplot.figure(1)
print("fine")
"""
        command = [sys.executable, "-c", program]
        child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

        assert child.stdout == "fine\n", child.stderr

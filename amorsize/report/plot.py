"""How are predictions shown as a picture? Seconds against the number of workers, beside what was measured."""

from __future__ import annotations

from ..errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = ["plot"]


def plot(predicted: Sequence[tuple[int, float]], measured: tuple[int, float] | None, axes: Axes | None = None) -> Axes:
    """Draw predicted seconds against the number of workers, and what was measured as one point.

    The user's backend of matplotlib stays, and nothing is shown on a screen: that is for the user to ask.

    Args:
        predicted: pairs of workers and seconds; one worker stands for the caller alone.
        measured: how many workers the call had, and how many seconds it took; None if it was not measured.
        axes: where to draw; None makes a figure of its own.

    Returns:
        The axes, to be changed or saved: `plot(...).figure.savefig("plan.png")`.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    if axes is None:
        axes = _own_axes()
    points = sorted(predicted)
    if points:
        axes.plot([workers for workers, _ in points], [seconds for _, seconds in points], "o-", label="predicted")
    if measured is not None:
        axes.plot([measured[0]], [measured[1]], linestyle="none", marker="D", markersize=9, label="measured")
    widths = sorted({workers for workers, _ in points} | ({measured[0]} if measured is not None else set()))
    if widths:
        axes.set_xscale("log", base=2)  # widths are considered by doubling them
        axes.set_xticks(widths, ["serial" if workers == 1 else f"{workers}" for workers in widths])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.legend()
    axes.set_xlabel("workers")
    axes.set_ylabel("seconds")
    axes.grid(visible=True, alpha=0.3)
    return axes


def _own_axes() -> Axes:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        text = "plot() needs matplotlib, which is not installed: pip install 'amorsize[plot]'"
        raise UnsupportedError(text) from error
    axes: Axes = plt.subplots(layout="constrained")[1]
    return axes

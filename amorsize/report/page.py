"""A report as a piece of HTML, for notebooks: tables without style sheets of their own, so that any theme fits."""

from __future__ import annotations

from html import escape

from ..lean import map
from ..plan.planner import seconds_in_words
from .report import SPENT_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .report import Report

__all__ = ["as_html"]


def as_html(report: Report) -> str:
    """Return a report as HTML; whatever the user has named is escaped."""
    told = escape(f"{report.where_in_words()}, {report.took_in_words()}")
    parts = [f"<p><strong>{escape(report.function)}</strong>: {told}</p>"]
    parts.append(f"<p>{escape(report.reason)}</p>")
    if report.roads:
        rows = [
            (
                road.backend,
                f"{road.n_jobs:,}",
                seconds_in_words(road.seconds),
                "taken" if road.taken else f"estimated, {road.note}" if road.note else "estimated",
            )
            for road in report.roads
        ]
        parts.append(_table(("road", "workers", "seconds", ""), rows))
    if report.seconds > 0.0:
        spent = [
            (SPENT_ON[name], seconds_in_words(seconds), f"{seconds / report.seconds:.0%}")
            for name, seconds in report.spent._asdict().items()
            if seconds >= 0.005 * report.seconds
        ]
        parts.append(_table(("where the time went", "", ""), spent))
    if report.workers:
        shares = [(one.worker, f"{one.items:,}", f"{one.busy_share:.0%}") for one in report.workers]
        parts.append(_table(("worker", "items", "busy"), shares))
    if report.advice:
        parts.append(f"<p><em>{escape(report.advice)}</em></p>")
    parts += [f"<p>{escape(str(one))}</p>" for one in report.audit]
    return "".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("".join(f"<td>{cell}</td>" for cell in map(escape, row)) for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"

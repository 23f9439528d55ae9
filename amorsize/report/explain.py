"""How is a plan told to people? The text says what was chosen, why, and what else was considered."""

from __future__ import annotations

from ..lean import map
from ..plan.planner import seconds_in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.planner import Alternative, Plan

__all__ = ["explain"]


def explain(plan: Plan) -> str:
    """Return several lines that tell the plan, its reason, its warnings, and the alternatives with predicted seconds.

    Args:
        plan: as `amorsize.optimize` returns it.

    >>> from amorsize.plan.planner import choose
    >>> from amorsize.plan.profile import MachineProfile, WorkProfile
    >>> print(explain(choose(WorkProfile(10, 0.01), MachineProfile(2, 2, None, "fork", 0.01, 0.001), 1000)))
    plan: processes, n_jobs=2, chunksize=1
    reason: 2 workers: 1,000 items of 10 ms take 10 s in the caller, about 5.04 s there, 11 ms of it to start them
    predicted: 5.04 s, 1.98 times as fast as in the caller
    considered:
      backend    n_jobs  chunksize  predicted
      serial          1          1       10 s
      processes       1          1       10 s
      processes       2          1     5.04 s  <- chosen
    """
    lines = [f"plan: {plan.backend}", f"reason: {plan.reason}"]
    predicted = f"predicted: {seconds_in_words(plan.predicted_seconds)}"
    if plan.backend != "serial":
        lines[0] += f", n_jobs={plan.n_jobs}, chunksize={plan.chunksize}"
        predicted += f", {plan.estimated_speedup:.3g} times as fast as in the caller"
    lines.append(predicted)
    lines += [f"warning: {text}" for text in plan.warnings]
    if plan.alternatives:
        lines.append("considered:")
        lines += [f"  {line}" for line in _table(plan)]
    return "\n".join(lines)


def _table(plan: Plan) -> list[str]:
    rows = [("backend", "n_jobs", "chunksize", "predicted", "")]
    rows += [
        (
            alternative.backend,
            f"{alternative.n_jobs:,}",
            f"{alternative.chunksize:,}",
            seconds_in_words(alternative.predicted_seconds),
            _remark(alternative, plan),
        )
        for alternative in plan.alternatives
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _remark(alternative: Alternative, plan: Plan) -> str:
    # A plan for a stock pool names that backend, while its alternatives name "processes", which were predicted.
    same_kind = (alternative.backend == "serial") == (plan.backend == "serial")
    chosen = same_kind and alternative.n_jobs == plan.n_jobs
    return "; ".join(filter(None, ("<- chosen" if chosen else "", alternative.note)))

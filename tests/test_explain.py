"""The text of a plan."""

from __future__ import annotations

from amorsize.plan.planner import Alternative, Plan, choose
from amorsize.plan.profile import MachineProfile, WorkProfile
from amorsize.report.explain import explain

COLD = MachineProfile(8, 8, None, "fork", seconds_first_start=0.010, seconds_next_start=0.001)


def test_serial_plan() -> None:
    """A serial plan shows its reason, and what the other ways would have taken."""
    assert explain(choose(WorkProfile(10, 3e-6), COLD._replace(cores=2), 1000)) == (
        "plan: serial\n"
        "reason: serial: 1,000 items of 3 us take 3 ms, starting 2 workers takes 11 ms\n"
        "predicted: 3 ms\n"
        "considered:\n"
        "  backend    n_jobs  chunksize  predicted\n"
        "  serial          1        500       3 ms  <- chosen\n"
        "  processes       1        500    13.2 ms\n"
        "  processes       2        250    13.1 ms"
    )


def test_columns_are_aligned() -> None:
    """Each figure ends where its column's heading ends."""
    rows = explain(choose(WorkProfile(10, 0.01), COLD, 10**6)).partition("considered:\n")[2].splitlines()
    ends = {row.removesuffix("  <- chosen").rstrip() for row in rows}
    assert len({len(row) for row in ends}) == 1
    assert len(rows) == 6


def test_only_the_chosen_width_is_marked() -> None:
    """One alternative is marked, and it is the plan's."""
    plan = choose(WorkProfile(10, 0.01), COLD, 10**6)
    marked = [line for line in explain(plan).splitlines() if line.endswith("<- chosen")]
    assert [line.split()[:2] for line in marked] == [["processes", "8"]]


def test_warnings_and_notes_are_shown() -> None:
    """Warnings have a line each, and a note stands beside its alternative."""
    plan = Plan(
        "pool", 2, 5, 1.0, 2.0, "because", ("first", "second"), (Alternative("processes", 2, 5, 1.0, "a stock pool"),)
    )
    assert explain(plan) == (
        "plan: pool, n_jobs=2, chunksize=5\n"
        "reason: because\n"
        "predicted: 1 s, 2 times as fast as in the caller\n"
        "warning: first\n"
        "warning: second\n"
        "considered:\n"
        "  backend    n_jobs  chunksize  predicted\n"
        "  processes       2          5        1 s  <- chosen; a stock pool"
    )


def test_nothing_considered() -> None:
    """A plan without alternatives has no list of them."""
    assert explain(Plan("serial", 1, 1, 1.0, 1.0, "because")) == "plan: serial\nreason: because\npredicted: 1 s"

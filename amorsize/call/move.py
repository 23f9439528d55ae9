"""A move of a call to workers, the job that it gives them, and the visit that comes of it."""

from __future__ import annotations

from ..backends.registry import Job
from ..backends.rows import AUTO, PROCESSES
from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..backends.base import Backend
    from ..backends.rows import Row
    from ..feed.judge import Withdrawal
    from ..plan.planner import Plan
    from ..transport.by_value import Outgoing
    from .policy import Policy
    from .request import Request

__all__ = ["Move", "Visit", "job_of"]


class Move(NamedTuple):
    """The decision that the rest of a call goes to workers.

    Attributes:
        row: the backend.
        plan: how the work is run there, and why.
        pays_missed: whether the time that earlier calls have missed justifies the start of workers.
        n_items: the number of items that the plan is for; 0 if that was a guess, as the input does not tell.
        gain_seconds: what workers that run would gain, by which it was decided how much may be looked at for the call.
    """

    row: Row
    plan: Plan
    pays_missed: bool = False
    n_items: int = 0
    gain_seconds: float = 0.0


class Visit(NamedTuple):
    """What one visit to workers was like, which is over.

    Attributes:
        move: the move that led there.
        open_seconds: the caller's seconds before the first item was read: pickling the function, taking workers.
        backend: the workers.
        seconds: the caller's seconds from then on, waiting included, and what the user did between results excluded.
        items: number of items that workers ran.
        item_seconds: how long these items took in all.
        withdrawal: why the workers were given up; None if they were not.
    """

    move: Move
    open_seconds: float
    backend: Backend
    seconds: float
    items: int
    item_seconds: float
    withdrawal: Withdrawal | None


def job_of(
    request: Request,
    policy: Policy,
    move: Move,
    width: int,
    function: Any,
    outgoing: Outgoing,
    alone_seconds: float | None,
) -> Job:
    """Return the job that a backend is opened for when a call makes a move.

    Args:
        request: what was asked for.
        policy: what is known of starting workers, and of how many are right.
        move: where the call goes.
        width: how many workers there are to be.
        function: what runs one item.
        outgoing: pickles what the call sends.
        alone_seconds: seconds of an item that runs alone in the caller; None if that is not known.
    """
    from ..transport.relay import what_to_tell

    options, can = request.options, move.row.can
    return Job(
        function=function,
        outgoing=outgoing,
        width=width,
        start_method=policy.starting.method_now() if can.starts_processes else "",
        stop_at_error=options.on_error == "raise" and not options.retries,
        timeout=options.timeout,
        initializer=options.initializer,
        initargs=options.initargs,
        by_name=request.row is not AUTO,
        gain_seconds=move.gain_seconds,
        finds_width=can.width == "found" and options.n_jobs is None,
        known_width=policy.known_width(),
        alone_seconds=alone_seconds,
        relay=what_to_tell() if options.relay and move.row is PROCESSES else b"",
    )

"""A move of a call to workers, and the visit that comes of it."""

from __future__ import annotations

from ..lean import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..backends.rows import Row
    from ..feed.judge import Withdrawal
    from ..plan.planner import Plan

__all__ = ["Move", "Visit"]


class Move(NamedTuple):
    """The decision that the rest of a call goes to workers.

    Attributes:
        row: the backend.
        plan: how the work is run there, and why.
        pays_missed: whether the time that earlier calls have missed justifies the start of workers.
        n_items: the number of items that the plan is for; 0 if that was a guess, as the input does not tell.
    """

    row: Row
    plan: Plan
    pays_missed: bool = False
    n_items: int = 0


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

"""Are workers worth it? They are not if the caller would do their items, one after another, in less time."""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["Judge", "Withdrawal"]

# Workers are judged after this long, because before there is only their start and the first small chunks to judge by.
_JUDGED_SECONDS = 0.050
# The pump withdraws when the caller would have done the workers' items in less than this share of the time. The share
# is below 1 because times on a slow machine vary.
_SLOWER_SHARE = 0.7
# Threads that keep this share of a core busy wait for one another; with a larger share, they let each other run.
_ONE_INTERPRETER = 0.6, 1.2


class Withdrawal(NamedTuple):
    """Why workers get no more items.

    Attributes:
        reason: why, in words.
        unfit: whether the function cannot be sent to workers, or its results cannot be sent back.
        for_good: whether other workers are not worth a try in this call.
    """

    reason: str
    unfit: bool = False
    for_good: bool = False


class Judge:
    """Judges whether workers are slower than the caller would be, which would run their items one after another.

    Args:
        ordered_at: when the workers were ordered, perhaps by an earlier call.
        ready_at: when workers that are still starting are expected to be ready.
    """

    def __init__(self, ordered_at: float, ready_at: float) -> None:
        self.ordered_at = ordered_at
        self.ready_at = ready_at
        self.heard = False  # whether a worker has answered yet
        self.working_seconds = 0.0
        self._judged_seconds = self._cpu_seconds = 0.0

    def finds_computing(self, cpu_seconds: float) -> bool:
        """Say whether it is time to judge, and items have kept just one interpreter busy since the last judgement.

        This is asked of few threads, and before `finds_slow`.
        """
        if not self.heard or self.working_seconds < _JUDGED_SECONDS:
            return False
        share = (cpu_seconds - self._cpu_seconds) / self.working_seconds
        self._cpu_seconds = cpu_seconds
        return _ONE_INTERPRETER[0] < share < _ONE_INTERPRETER[1]

    def begin(self, item_seconds: float) -> None:
        """Begin to judge; the time when workers were starting, and an earlier run's items in the pace, do not count."""
        self.heard = True
        self.working_seconds, self._judged_seconds = 0.0, item_seconds

    def finds_slow(self, item_seconds: float, *, looks_often: bool = False) -> bool:
        """Say whether it is time to judge, and workers have done too few seconds of items since the last judgement.

        Args:
            item_seconds: how long all items have taken that came back.
            looks_often: whether this is also asked while no worker has answered.
        """
        if not self.heard or self.working_seconds < _JUDGED_SECONDS:
            return False
        in_caller = item_seconds - self._judged_seconds
        if looks_often and not in_caller:
            return False
        slow = in_caller < _SLOWER_SHARE * self.working_seconds
        self._judged_seconds += in_caller
        self.working_seconds = 0.0
        return slow

"""May a function go to workers again, after a call there lost against the caller?

Every call on workers is compared with what the caller would have taken by its own measurements. A call that lost is not
repeated the same way: the function stays in the caller. As the world may change without a sign (a busy machine becomes
quiet), it is tried again now and then, each time after eight times as many calls, which must also claim to have missed
eight times as much as was lost. So in a world where workers always lose, three calls are lost within the first 583, and
their number grows with the logarithm of the calls after that. One call that gains restores trust. Calls of more
than twice the length are another matter, and may go to workers at once.

Short calls on workers lose now and then by chance, though they gain on the whole. So one loss is forgiven if the calls
before it have gained more than it lost, on balance, recent ones counting most. A second one right after it counts as
two, so that no more calls are lost than otherwise when the world has changed.

This is the schedule of a two-armed bandit whose losing arm is tried at geometrically growing intervals (Auer,
Cesa-Bianchi & Fischer, Machine Learning 2002, have the logarithmic regret of such schedules).
"""

from __future__ import annotations

from ..lean import NamedTuple

__all__ = ["Trust"]

# With a smaller value a losing way is tried more often; with a larger one it takes longer to notice that it would gain.
PATIENCE = 8
# A call whose work is longer than the lost one's by more than this factor is another matter.
_ANOTHER_MATTER = 2.0
# More losses than this in a row would ask for a number of calls that no program makes.
_MOST_LOSSES = 12


class Trust(NamedTuple):
    """What is remembered of a function since its last call on workers that gained, and of what such calls have gained.

    Attributes:
        losses: number of calls on workers that lost, one after another.
        lost_seconds: how much the last of them lost.
        in_caller_seconds: how long the caller would have taken for it.
        stays: number of calls since then that stayed in the caller.
        claimed_seconds: how much these could have gained on workers.
        gained_seconds: what the calls on workers have gained lately, on balance.
        forgiven: whether the last of them lost, and was forgiven.
    """

    losses: int = 0
    lost_seconds: float = 0.0
    in_caller_seconds: float = 0.0
    stays: int = 0
    claimed_seconds: float = 0.0
    gained_seconds: float = 0.0
    forgiven: bool = False

    def after_workers(self, seconds: float, in_caller_seconds: float) -> Trust:
        """Take in a call on workers, and how long it would have taken in the caller by what was measured there.

        >>> Trust().after_workers(0.003, 0.001).losses, Trust(losses=2).after_workers(0.001, 0.003).losses
        (1, 0)
        >>> forgiven = Trust().after_workers(0.001, 0.003).after_workers(0.0015, 0.001)
        >>> forgiven.losses, forgiven.after_workers(0.0015, 0.001).losses
        (0, 2)
        """
        lost = seconds - in_caller_seconds
        if lost <= 0.0:
            return Trust(gained_seconds=self.gained_seconds / 2 - lost)
        if not (self.losses or self.forgiven) and lost < self.gained_seconds:
            return self._replace(gained_seconds=self.gained_seconds - lost, forgiven=True)
        losses = 2 if self.forgiven else self.losses + 1
        return Trust(min(_MOST_LOSSES, losses), lost, in_caller_seconds)

    def after_caller(self, claimed_seconds: float) -> Trust:
        """Take in a call that stayed in the caller and could have gained `claimed_seconds` on workers."""
        claimed = self.claimed_seconds + max(0.0, claimed_seconds)
        return self._replace(stays=self.stays + 1, claimed_seconds=claimed)

    def allows(self, in_caller_seconds: float) -> bool:
        """Say whether a call that would take so long in the caller may go to workers.

        >>> lost = Trust().after_workers(0.003, 0.001)
        >>> lost.allows(0.001), lost.allows(0.1)
        (False, True)
        """
        if not self.losses or in_caller_seconds > _ANOTHER_MATTER * self.in_caller_seconds:
            return True
        wait: int = PATIENCE**self.losses
        return self.stays >= wait and self.claimed_seconds >= wait * self.lost_seconds

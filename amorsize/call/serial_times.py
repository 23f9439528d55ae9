"""Adds up what serial work has measured, over all serial work of a call."""

from __future__ import annotations

from ..measure.times import ItemTimes
from .caller import ONE_TIME_FACTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .caller import Serial

__all__ = ["SerialTimes"]

# So many further items tell whether the first one paid for something once.
_LEAST_REST = 4


class SerialTimes:
    """Adds up the times of the items that ran in the caller, over all serial work of a call.

    Attributes:
        times: the times of the items, without a first one that paid for something once.
        seconds: their sum.
        cpu_seconds: how many of these were CPU seconds.
        whole_seconds: the sum of all, that first one included.
    """

    def __init__(self) -> None:
        self.times = ItemTimes()
        self.seconds = self.cpu_seconds = self.whole_seconds = 0.0

    def add(self, serial: Serial, least_seconds: float) -> None:
        """Take in serial work that is over, with its CPU time if it took so long; a second time changes nothing."""
        if not serial.counted:
            serial.counted = True
            if serial.seconds >= least_seconds:
                serial.note_cpu()
            times, seconds = serial.times, serial.seconds
            self.whole_seconds += seconds
            if serial.first is not None and times.n > _LEAST_REST:
                rest = times.without(serial.first.seconds)
                if serial.first.seconds > ONE_TIME_FACTOR * rest.mean:
                    times, seconds = rest, seconds - serial.first.seconds
            self.times.merge(times)
            self.seconds += seconds
            self.cpu_seconds += min(seconds, serial.cpu_seconds)

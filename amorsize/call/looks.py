"""Decides when a call that runs in the caller asks whether its rest should go elsewhere (`plan.look`)."""

from __future__ import annotations

import sys

from ..backends.rows import PROCESSES
from ..errors import let_signals_through
from ..measure import machine
from ..plan.look import can_gain, next_look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options
    from .caller import Serial
    from .starting import Starting
    from .waiting import Waiting

__all__ = ["Looks"]

_ANY_WIDTH = 1_000_000


class Looks:
    """The moments at which one call is looked at.

    Args:
        options: the call's options.
        starting: how its workers would be started.
        waiting: whether its items would go to threads.

    Attributes:
        any: whether there was one.
    """

    def __init__(self, options: Options, starting: Starting, waiting: Waiting) -> None:
        self.any = False
        self._options = options
        self._starting = starting
        self._waiting = waiting
        self._next_seconds = 0.0
        self._price: float | None = None

    def is_time(self, serial: Serial, remaining: int | None, *, known: bool) -> bool:
        """Say whether a look could have an answer other than no, and may cost what it costs.

        Args:
            serial: what has run in the caller.
            remaining: the number of items that are left; None if unknown.
            known: whether it was asked already what is known of the function.
        """
        if serial.seconds < self._next_seconds:
            return False
        if self.any or known or PROCESSES.module in sys.modules:
            return True
        try:
            return self._workers_may_gain(serial, remaining) or self._waiting.seems_due(serial)
        except Exception as error:
            let_signals_through(error)
            return True  # no file is to be had, for example; the look meets the same, and says so

    def _workers_may_gain(self, serial: Serial, remaining: int | None) -> bool:
        """Say whether the first workers of this process could be worth what they cost at least."""
        if self._price is None:
            self._price = self._starting.least_seconds()
        left = None if remaining is None else remaining * serial.seconds_per_item
        done = serial.seconds, serial.times.n, left, self._price
        # On any number of cores first, because asking how many there are reads files.
        return can_gain(*done, _ANY_WIDTH) and can_gain(
            *done, machine.workers_asked(self._options.n_jobs) or machine.cores()
        )

    def took(self, serial: Serial, seconds: float) -> None:
        """Take in how long a look took. The first one loads modules and reads files, so it says nothing of others."""
        if self.any:
            self._next_seconds = next_look(serial.seconds, seconds)
        self.any = True

"""What is known of a call at one moment, in numbers: enough for a report, and nothing that keeps the user's data alive.

A pool or a decorated function keeps this of its last call, which may have had a large input.
"""

from __future__ import annotations

from time import perf_counter

from ..backends.rows import AUTO, SERIAL
from ..cache import lookup
from ..errors import let_signals_through
from ..lean import NamedTuple
from ..log import debug
from ..measure import machine
from ..options import DEFAULTS
from ..plan.profile import Limits, WorkProfile
from .policy import SILENT_SECONDS
from .request import name_of
from .waiting import system_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..feed.pace import Pace
    from ..feed.source import Source
    from ..measure.sampling import Transfer
    from ..plan.planner import Plan
    from ..report.tally import Tally
    from .caller import Serial, SerialTimes
    from .policy import Policy
    from .request import Request

__all__ = ["Noted", "note"]


class Noted(NamedTuple):
    """What is known of one call.

    Attributes:
        function: its name.
        backend: the backend that was asked for.
        over: whether it is over.
        wall_seconds: from the first `next()` to the end, or until now.
        items: number of items that have ended.
        items_here: how many of them ran in the caller.
        plan: the plan in force; None if none was needed.
        failed: number of items that failed for good.
        tally: what was counted; None of a call that is short.
        here: what was measured of the items in the caller; None if they were not timed.
        here_seconds: how long all items in the caller took, those included that paid for something once.
        there: the same of items on workers; None if there were none.
        known: what earlier calls have measured; None if nothing.
        transfer: what sending costs, if this call has measured it.
        slowdown: how many times as long an item takes on workers as in the caller.
        carrying_seconds: what it costs to send the function.
        limits: what the user has fixed.
        start_method: how new workers would be started.
        audit: what `audit=` has found.
    """

    function: str
    backend: str
    over: bool
    wall_seconds: float
    items: int
    items_here: int = 0
    plan: Plan | None = None
    failed: int = 0
    tally: Tally | None = None
    here: WorkProfile | None = None
    here_seconds: float = 0.0
    there: WorkProfile | None = None
    known: WorkProfile | None = None
    transfer: Transfer | None = None
    slowdown: float = 1.0
    carrying_seconds: float = 0.0
    limits: Limits = Limits()
    start_method: str = ""
    audit: tuple[Any, ...] = ()


def note(
    request: Request,
    policy: Policy,
    source: Source,
    tally: Tally,
    here: SerialTimes,
    serial: Serial | None,
    pace: Pace | None,
) -> Noted:
    """Return what the parts of a call know."""
    known = policy.known
    slowdown = known.slowdown if policy.slowdown == 1.0 and known is not None else policy.slowdown
    items_here = tally.serial_until(source.newest + 1) + tally.here_items
    found, seconds = _here(here, serial)
    return Noted(
        request.name,
        request.row.name,
        tally.ended_at is not None,
        tally.wall_seconds,
        items_here + tally.items,
        items_here,
        tally=tally,
        here=found,
        here_seconds=seconds,
        there=_there(pace),
        known=known,
        transfer=policy.transfer,
        slowdown=slowdown or 1.0,
        carrying_seconds=policy.carrying_seconds or 0.0,
        limits=policy.limits(),
        start_method="" if request.row not in {AUTO, SERIAL} and not request.row.can.starts_processes
        else policy.starting.method(),
    )  # fmt: skip


def _here(times: SerialTimes, serial: Serial | None) -> tuple[WorkProfile | None, float]:
    """Return what the items in the caller took: those of serial work that is over, or of the one that goes on."""
    seconds, whole, items = times.seconds, times.whole_seconds, times.times.n
    cpu, std, most = times.cpu_seconds, times.times.std, times.times.max
    if serial is not None and not serial.counted:
        seconds, whole, items = seconds + serial.seconds, whole + serial.seconds, items + serial.times.n
        cpu, std, most = cpu + serial.cpu_seconds, max(std, serial.times.std), max(most, serial.times.max)
    if not items or seconds <= 0.0:
        return None, whole
    mean = seconds / items
    share = min(1.0, cpu / seconds) if seconds >= SILENT_SECONDS else 1.0  # of less the CPU time is not asked
    return WorkProfile(items, mean, std, max(most, mean), share), whole


def _there(pace: Pace | None) -> WorkProfile | None:
    if pace is None or not pace.items or pace.route is None:
        return None
    mean = pace.seconds / pace.items
    share = min(1.0, pace.cpu_seconds / pace.seconds) if pace.seconds else 1.0
    return WorkProfile(pace.items, mean, seconds_max=mean, cpu_share=share, route=pace.route, width=pace.width)


def short(
    function: Any, began_at: float | None, ended_at: float | None, items: int, *, look_up: bool = False
) -> Noted:
    """Return what is known of a call that ran as the builtin would.

    Args:
        function: the user's function.
        began_at: when it began, in `time.perf_counter()` seconds; None if it has not.
        ended_at: when it was over; None if it is not.
        items: number of items that have ended.
        look_up: whether the cache is to be asked what earlier calls have measured.
    """
    seconds = 0.0 if began_at is None else (perf_counter() if ended_at is None else ended_at) - began_at
    known = None
    if look_up and items:
        method = machine.start_method()
        try:
            known = lookup.find(function, items, system_of(DEFAULTS), route=machine.route_of(method)).profile
        except Exception as error:  # a report can do without
            let_signals_through(error)
            debug("what is known of the function is not told: %r", error)
    return Noted(name_of(function), AUTO.name, ended_at is not None, seconds, items, items, known=known)

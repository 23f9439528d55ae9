"""What is known of a call at one moment, in numbers: enough for a report, and nothing that keeps the user's data alive.

A pool or a decorated function keeps this of its last call, which may have had a large input.
"""

from __future__ import annotations

from time import perf_counter

from ..backends.rows import AUTO, SERIAL
from ..errors import let_signals_through
from ..lean import NamedTuple
from ..log import debug
from ..measure import machine
from ..options import DEFAULTS
from ..plan.profile import Limits, WorkProfile
from .policy import SILENT_SECONDS
from .waiting import system_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..feed.pace import Pace
    from ..feed.source import Source
    from ..measure.sampling import Transfer
    from ..plan.planner import Plan
    from ..report.tally import Tally
    from .caller import Serial
    from .policy import Policy
    from .request import Request
    from .serial_times import SerialTimes

__all__ = ["Brief", "Noted", "note", "short", "tell"]


class Noted(NamedTuple):
    """What is known of one call.

    Attributes:
        function: its name.
        backend: the backend that was asked for.
        over: whether it is over.
        wall_seconds: from the first `next()` to the end, or until now.
        items: number of items that have ended.
        limits: what the user has fixed.
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
        start_method: how new workers would be started.
        stays: whether it turned out that the items must stay in the caller.
        audit: what `audit=` has found.
    """

    function: str
    backend: str
    over: bool
    wall_seconds: float
    items: int
    limits: Limits
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
    start_method: str = ""
    stays: bool = False
    audit: tuple[Any, ...] = ()


class Brief(NamedTuple):
    """What is known of a call that ran as the builtin would.

    Attributes:
        function: its name.
        began_at: when it began, in `time.perf_counter()` seconds; 0 if it has not.
        ended_at: when it was over; 0 if it is not.
        items: number of items that have ended.
    """

    function: str
    began_at: float = 0.0
    ended_at: float = 0.0
    items: int = 0


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
    serial_items = tally.serial_until(source.newest + (0 if source.failed_at else 1))
    found, seconds = _here(here, serial)
    return Noted(
        request.name,
        request.row.name,
        tally.ended_at is not None,
        tally.wall_seconds,
        serial_items + tally.placed,
        policy.limits(),
        serial_items + min(tally.here_items, tally.placed),
        tally=tally,
        here=found,
        here_seconds=seconds,
        there=_there(pace),
        known=known,
        transfer=policy.transfer,
        slowdown=slowdown or 1.0,
        carrying_seconds=policy.carrying_seconds or 0.0,
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


def short(brief: Brief, *, function: Any = None) -> Noted:
    """Return what is known of a call that ran as the builtin would.

    Args:
        brief: what is known of it.
        function: the user's function, if the cache is to be asked what earlier calls have measured.
    """
    name, began_at, ended_at, items = brief
    seconds = (ended_at or perf_counter()) - began_at if began_at else 0.0
    known = None
    if function is not None and items:
        try:
            from ..cache import lookup

            route = machine.route_of(machine.start_method())
            known = lookup.find(function, items, system_of(DEFAULTS), route=route).profile
        except Exception as error:  # a report can do without
            let_signals_through(error)
            debug("what is known of the function is not told: %r", error)
    return Noted(name, AUTO.name, ended_at > 0.0, seconds, items, Limits(), items, known=known)


def tell(tally: Tally, noted: Callable[[], Noted]) -> None:
    """Put what is known of a call where somebody keeps it, once, if anybody does. Nothing of that can fail the call."""
    last, tally.last = tally.last, None
    if last is None:
        return
    try:
        last[:] = [noted()]
    except Exception as error:  # as said above
        let_signals_through(error)
        debug("nothing is kept of a call: %r", error)

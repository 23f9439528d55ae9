"""What has a call taught? It is kept for the next ones: of the function in the cache, of routes in `measure.machine`.

Only calls that were long, or were taken for long, are worth it. So a process that maps little never loads this.
"""

from __future__ import annotations

from ..backends.rows import PROCESSES
from ..cache import costs, lookup
from ..measure import machine
from ..plan.profile import WorkProfile
from ..plan.trust import Trust
from .policy import LEAST_ITEMS_HERE, sent, trusted
from .waiting import system_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..feed.pace import Pace
    from ..feed.source import Source
    from ..measure.times import ItemTimes
    from ..plan.planner import Plan
    from .move import Visit
    from .policy import Policy
    from .request import Request

__all__ = ["Learning"]

# A call with more work than this says little of what a call costs apart from its items.
_CALL_LEARNT_SECONDS = 0.050


class Learning:
    """Keeps what one call has taught, at its end.

    Args:
        request: what the call was asked to do.
        source: the input.
        policy: what the call knows, and has decided.
    """

    def __init__(self, request: Request, source: Source, policy: Policy) -> None:
        self._function, self._options = request.function, request.options
        self._source, self._policy = source, policy
        self._call_seconds: float | None = None
        self._load_seconds: float | None = None

    def remember(
        self,
        here: ItemTimes,
        seconds_here: float,
        cpu_seconds_here: float,
        pace: Pace | None,
        plan: Plan | None,
        *,
        on_disk: bool = True,
    ) -> None:
        """Keep what was measured for the next call.

        Args:
            here: times of the items that ran in the caller.
            seconds_here: the sum of these times.
            cpu_seconds_here: how many of these seconds were CPU seconds.
            pace: what workers said of the items they ran; None if there were no workers.
            plan: the plan in force.
            on_disk: whether the disk may be written to now.
        """
        for visit in self._policy.visits:
            self._take_in(visit)
        self._store(here, seconds_here, cpu_seconds_here, pace, plan, on_disk=on_disk)
        if self._policy.visits and self._options.use_cache and on_disk:
            costs.keep(system_of(self._options))
        if self._policy.row_was_named():
            return
        for visit in self._policy.visits:
            self._compare(visit)
        if not self._policy.visits:
            self._note_stay(seconds_here)

    def _take_in(self, seen: Visit) -> None:
        """Learn from a visit to workers what such a call costs, beyond starting them and running the items."""
        backend, work, plan = seen.backend, self._policy.known, seen.move.plan
        if backend.start.load_seconds is not None:
            self._load_seconds = loaded = backend.start.load_seconds
            machine.learn_load(backend.route, loaded, self._policy.starting.modules(self._function))
        if seen.items and seen.move.row is PROCESSES:
            sent.add(self._function)
        if not backend.start.warm or not seen.items or backend.width < 1:
            return
        from ..plan.model import processes_line

        seconds, each = seen.open_seconds + seen.seconds, seen.item_seconds / seen.items
        profile, width = self._policy.machine(work)._replace(warm_workers=backend.width), backend.width
        line = processes_line(WorkProfile(seen.items, each, call_seconds=0.0), profile, width).at(seen.items)
        line = max(line, -(-seen.items // width) * each)  # one worker has had an item more, if they cannot be halved
        if line < _CALL_LEARNT_SECONDS and seen.withdrawal is None:
            beyond = max(0.0, seen.seconds - line)
            machine.learn_call(backend.route, beyond + min(seen.open_seconds, _CALL_LEARNT_SECONDS))
        else:
            beyond = profile.seconds_per_call
        found = seen.open_seconds + beyond
        known = work.call_seconds if work is not None else None
        # A call that was held up, by other programs for example, says less than one that was not.
        self._call_seconds = found if known is None else known + (found - known) * (0.5 if found < known else 0.2)
        if seen.items == seen.move.n_items and seen.withdrawal is None:
            machine.learn_prediction(backend.route, plan.predicted_seconds, seconds)

    def _compare(self, seen: Visit) -> None:
        """Compare a visit to workers with what the caller would have taken, by what is known now."""
        if not (seen.backend.start.warm or seen.withdrawal):
            return
        in_caller = seen.item_seconds / self._policy.slowdown
        trust = trusted.get(self._function) or Trust()
        trusted.put(self._function, trust.after_workers(seen.open_seconds + seen.seconds, in_caller))

    def _note_stay(self, seconds: float) -> None:
        """Take in that the whole call has stayed in the caller, where it took so long."""
        trust = trusted.get(self._function)
        if trust is not None and trust.losses:
            # On all cores it would have taken its part at best.
            trusted.put(self._function, trust.after_caller(seconds * (1.0 - 1.0 / machine.cores())))

    def _store(
        self,
        here: ItemTimes,
        seconds_here: float,
        cpu_seconds_here: float,
        pace: Pace | None,
        plan: Plan | None,
        *,
        on_disk: bool,
    ) -> None:
        there = 0 if pace is None or pace.route is None else pace.items
        if not self._options.use_cache or not here.n + there:
            return
        seconds = seconds_here + (pace.seconds if pace is not None and there else 0.0)
        if not self._policy.is_news(here.n + there, seconds):
            return
        work = self._policy.with_transfer(WorkProfile(0, 0.0), or_known=True)
        # The next call is looked up by the length of its input, so items that were not read count here as well.
        n_items = self._source.index + (self._source.remaining() or 0)
        system = system_of(self._options)
        waited = self._policy.waiting.seen_alone(here, pace)
        if waited is not None:
            lookup.store(self._function, n_items, work._replace(**waited), plan, system, on_disk=on_disk)
        # If only a few items ran here before the rest left, they say little, as the first may have imported something.
        elif here.n and (not there or here.n >= LEAST_ITEMS_HERE):
            mean = seconds_here / here.n
            found = work._replace(
                items=here.n,
                seconds_per_item=mean,
                seconds_std=here.std,
                seconds_max=max(here.max, mean),
                cpu_share=cpu_seconds_here / seconds_here if seconds_here else 1.0,
            )
            lookup.store(self._function, n_items, found, plan, system, on_disk=on_disk)
        if there and pace is not None and pace.route is not None:
            mean = pace.seconds / there
            known = self._policy.known or work
            found = work._replace(
                call_seconds=known.call_seconds if self._call_seconds is None else self._call_seconds,
                load_seconds=known.load_seconds if self._load_seconds is None else self._load_seconds,
                items=there,
                seconds_per_item=mean,
                seconds_max=max(pace.seconds_max, mean),
                cpu_share=pace.cpu_seconds / pace.seconds if pace.seconds else 1.0,
                route=pace.route,
                width=pace.width,
            )
            seen = pace.slowdown_seen()
            kept = lookup.store(self._function, n_items, found, plan, system, slowdown_seen=seen, on_disk=on_disk)
            self._policy.slowdown = (kept.slowdown if kept is not None else None) or 1.0

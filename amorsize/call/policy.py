"""Where is the rest of a call's work to run? From what is known of the function, and what this call has measured.

Three moments ask. Before the first item: is the function known, and do workers pay for it? While items run in the
caller: has the moment come to leave (`plan.escalate`)? At the end: what is worth remembering, and what would workers
have saved, had they run already? Nothing here runs an item or starts a worker.
"""

from __future__ import annotations

import sys
from time import monotonic, perf_counter, sleep

from ..cache import lookup
from ..code.functions import FunctionSet, unfit
from ..context import imported_here, others_import
from ..errors import let_signals_through
from ..lean import map
from ..log import debug
from ..measure import machine
from ..measure.sampling import Transfer, measure_transfer
from ..plan.profile import Limits, WorkProfile
from ..transport.values import holds_iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..feed.pump import Pace
    from ..feed.source import Source
    from ..measure.sampling import Running
    from ..options import Options
    from ..plan.planner import Plan
    from ..plan.profile import MachineProfile
    from .caller import Serial

__all__ = ["Decision"]

# Less work than this is not worth a look at cache or machine, which cost about as much on a first call.
_SILENT_SECONDS = 200e-6
_FOR_EVER_SECONDS = 1e6
_THREAD_END_SECONDS = 0.002
# After workers turned out not to help, so much serial work must pass before they are thought of again.
_PATIENCE_SECONDS = 0.1


# Functions whose items held iterators: the first ones of the next call are looked at before there are workers.
_holding = FunctionSet()


class Decision:
    """The plan of one call, and what it rests on.

    Args:
        function: the user's function, undecorated.
        source: the input.
        options: the resolved options.

    Attributes:
        plan: the plan in force; None until one was made.
        looked_up: whether the cache was asked already.
    """

    def __init__(self, function: Callable[..., Any], source: Source, options: Options) -> None:
        self.plan: Plan | None = None
        self.looked_up = False
        self._function = function
        self._source = source
        self._options = options
        self._known: WorkProfile | None = None
        self._transfer: Transfer | None = None
        self._start_method: str | None = None
        self._patience_seconds = _SILENT_SECONDS
        self._input_stays: bool | None = None

    def _must_stay(self, serial: Serial | None = None) -> bool:
        """Say whether the items cannot be read ahead, or cannot leave: by the input's code, and by what items were."""
        if self._input_stays is None:
            shown = self._source.worklist_call()
            self._input_stays = shown is not None
            if shown is not None:
                debug("%s is called for the next item, so the items of %r stay in the caller", shown, self._function)
                self.stay()
        if self._input_stays:
            return True
        if serial is not None and any(holds_iterator(item) for item, _ in serial.recent):
            debug("the items of %r hold iterators, so they stay in the caller", self._function)
            self._input_stays = True
            _holding.add(self._function)
            self.stay()
        return self._input_stays

    def look_up(self) -> None:
        """Ask the cache, once."""
        if not self.looked_up:
            self.looked_up = True
            if self._options.use_cache:
                self._known = lookup.find(self._function, self._source.remaining(), self._system()).profile

    def known_to_pay(self) -> bool:
        """Say whether what is known of the function makes workers the plan."""
        self.look_up()
        if self._known is None or self._function in _holding or self._must_stay():
            return False
        remaining = self._source.remaining()
        n_items = self._known.items if remaining is None else remaining
        # Where all of it is over before a choice could be made, there is none to make.
        if n_items * self._known.seconds_per_item < _SILENT_SECONDS or self._must_wait():
            return False
        return self._choose(self._known, n_items) or self._paid_for(self._known, n_items)

    def _paid_for(self, work: WorkProfile, n_items: int) -> bool:
        """Say whether running workers would help, and earlier calls have missed as much as starting them costs."""
        missed = machine.missed(monotonic())
        if not missed or _warm_workers() or self._function in unfit:
            return False
        if work.bytes_in is None or work.bytes_out is None:
            return False
        from ..plan.model import start_seconds
        from ..plan.planner import choose

        profile = self._machine()
        plan = choose(work, _as_if_running(profile), n_items, self._limits())
        if plan.backend != "processes" or missed < start_seconds(profile, plan.n_jobs) or not self._can_be_sent():
            return False
        machine.settle()
        self.plan = plan._replace(reason=f"{plan.reason}, and calls like it have missed the price of a start")
        return True

    def _can_be_sent(self) -> bool:
        """Say whether workers could have the function; nobody asked for them, so that they cannot is no warning."""
        from ..transport.serialize import dump_function

        try:
            dump_function(self._function)
        except BaseException as error:  # noqa: BLE001 - pickling runs the user's code
            let_signals_through(error)
            debug("no workers for short calls of %r: %r", self._function, error)
            unfit.add(self._function)
            return False
        return True

    def leave(self, serial: Serial) -> bool:
        """Say whether the rest should go to workers now."""
        if serial.seconds < self._patience_seconds or self._must_stay(serial):
            return False
        from ..plan.escalate import should_escalate
        from ..plan.planner import widest

        if not self.looked_up and self.known_to_pay() and self._still_true(serial):
            return True
        remaining, limits = self._source.remaining(), self._limits()
        profile = self._machine()
        done = serial.running.n
        if not should_escalate(serial.seconds, done, remaining, self._measured(serial), profile, limits):
            return False
        if self._must_wait():
            return False
        if self._transfer is None:
            self._knows_transfer(serial)
            if not should_escalate(serial.seconds, done, remaining, self._measured(serial), profile, limits):
                return False
        # Without a length, as much again as was done is what can be expected.
        work, left = self._measured(serial), done if remaining is None else remaining
        if not self._choose(work, left):
            # The prediction alone would stay; the bound of `should_escalate` says that enough was spent here.
            self._choose(work, left, Limits(min(widest(profile, work)[0], left), limits.chunksize, ("processes",)))
            assert self.plan is not None  # there are items left
            spent = f"{self.plan.n_jobs} workers: as much was missed in the caller as starting them costs"
            self.plan = self.plan._replace(reason=spent)
        return True

    def _must_wait(self) -> bool:
        """Say whether an import is under way that pickling would wait for, or that workers would do again."""
        if others_import():
            return True
        # A worker that is not forked would import the module anew, and run this very call in it.
        return imported_here(getattr(self._function, "__module__", None)) and self.start_method() != "fork"

    def _still_true(self, serial: Serial) -> bool:
        """Say whether what this call's first items took fits what is known; if not, look up what does."""
        found = lookup.find(
            self._function, self._source.remaining(), self._system(), seconds_per_item=serial.seconds_per_item
        )
        if found.profile is self._known:
            return True
        self._known, self.plan = found.profile, None
        return self.known_to_pay()

    def _choose(self, work: WorkProfile, n_items: int, limits: Limits | None = None) -> bool:
        from ..plan.planner import choose

        if n_items < 1:
            return False
        self.plan = choose(work, self._machine(), n_items, limits or self._limits())
        return self.plan.backend == "processes"

    def note_missed(self, serial: Serial) -> None:
        """Count what running workers would have saved a call that ran in the caller."""
        if serial.seconds < _SILENT_SECONDS or not self._options.use_cache or _warm_workers():
            return
        if self._patience_seconds == float("inf") or self._function in unfit:
            return
        from ..plan.model import start_seconds

        known = self._known
        if self._transfer is None and known is not None and known.bytes_in is not None:
            self._transfer = Transfer(known.bytes_in, known.bytes_out, known.transfer_seconds_per_item)
        saved, now = self._would_save(serial), monotonic()
        if saved <= 0:
            return
        # What sending costs is measured when it matters: an item may be large.
        if machine.missed(now) + saved >= start_seconds(self._machine(), 1) and not (
            self._knows_transfer(serial) and self._would_save(serial) > 0
        ):
            return
        machine.miss(saved, now)

    def _would_save(self, serial: Serial) -> float:
        from ..plan.model import predict_seconds
        from ..plan.planner import best_width

        work, n_items, limits = self._measured(serial), self._source.index, self._limits()
        profile = _as_if_running(self._machine())
        n_jobs = best_width(work, profile, n_items, limits)
        there = predict_seconds(work, profile, n_items, "processes", n_jobs, limits.chunksize)
        return predict_seconds(work, profile, n_items, "serial", 1) - there

    def _knows_transfer(self, serial: Serial) -> bool:
        """Measure what sending an item costs, if that is not known yet; say whether it can be sent."""
        if self._transfer is None and serial.recent and not others_import():
            items, results = zip(*serial.recent, strict=True)
            self._transfer = measure_transfer(list(items), list(results), perf_counter)
        transfer = self._transfer
        return transfer is not None and transfer.bytes_in is not None and transfer.bytes_out is not None

    def _measured(self, serial: Serial) -> WorkProfile:
        running, transfer = serial.running, self._transfer
        work = WorkProfile(running.n, serial.seconds_per_item, running.std, running.max)
        if transfer is not None:
            work = work._replace(
                bytes_in=transfer.bytes_in,
                bytes_out=transfer.bytes_out,
                transfer_seconds_per_item=transfer.seconds_per_item,
            )
        return work

    def remember(self, here: Running, seconds_here: float, pace: Pace | None) -> None:
        """Keep what was measured for the next call.

        Args:
            here: times of the items that ran in the caller.
            seconds_here: their sum.
            pace: what workers said of theirs; None if there were no workers.
        """
        items = here.n + (pace.items if pace is not None else 0)
        seconds = seconds_here + (pace.seconds if pace is not None else 0.0)
        if not self._options.use_cache or not items or seconds < _SILENT_SECONDS:
            return
        work = WorkProfile(items, seconds / items, here.std, max(here.max, seconds / items))
        told = self._transfer or self._known
        if told is not None:
            work = work._replace(bytes_in=told.bytes_in, bytes_out=told.bytes_out)
        if self._transfer is not None:
            work = work._replace(transfer_seconds_per_item=self._transfer.seconds_per_item)
        elif self._known is not None:
            work = work._replace(transfer_seconds_per_item=self._known.transfer_seconds_per_item)
        if pace is not None and pace.seconds:
            work = work._replace(cpu_share=pace.cpu_seconds / pace.seconds)
        lookup.store(self._function, self._source.index, work, self.plan, self._system())

    def expected_seconds_per_item(self, serial: Serial | None) -> float | None:
        """Return what the next items will probably take, by what ran here or what is known; None for no idea."""
        if serial is not None and serial.running.n:
            return serial.seconds_per_item
        return self._known.seconds_per_item if self._known is not None else None

    def stay(self) -> None:
        """Think of workers no more in this call: they cannot have its function or its items, or are not to be had."""
        self._be_patient(float("inf"))

    def come_back(self) -> None:
        """Drop a plan whose workers turned out not to help: each time, the next try has to look better."""
        self._be_patient(max(_PATIENCE_SECONDS, 4 * self._patience_seconds))

    def _be_patient(self, seconds: float) -> None:
        self._patience_seconds = seconds
        self.plan = None

    def take_named(self, name: str, n_jobs: int) -> None:
        """Make a plan of what the user named, unless there is one already."""
        by_name = self._options.backend != "auto"
        reason = "it was asked for by name" if by_name else "an item with a deadline must be stoppable"
        self.plan = self.plan or self._unpriced(name, n_jobs, f"{name}: {reason}")

    def take_found(self, n_jobs: int) -> None:
        """Make a plan of what was begun beside the first item."""
        reason = f"{n_jobs} workers: the first item took long enough to start them beside it"
        self.plan = self._unpriced("processes", n_jobs, reason)

    def _unpriced(self, backend: str, n_jobs: int, reason: str) -> Plan:
        from ..plan.planner import Plan

        return Plan(backend, n_jobs, self._options.chunksize or 1, 0.0, 0.0, reason)

    def width(self) -> int:
        """Return the number of workers: the user's, the plan's, or what cores, memory and input allow."""
        limits = self._limits()
        if limits.n_jobs is not None:
            return limits.n_jobs
        if self.plan is not None:
            return self.plan.n_jobs
        from ..plan.planner import widest

        allowed, _ = widest(self._machine())
        remaining = self._source.remaining()
        return allowed if remaining is None else max(1, min(allowed, remaining))

    def gain_seconds(self) -> float:
        """Return what the plan is predicted to gain over the caller; 0 if it was not predicted."""
        return 0.0 if self.plan is None else max(0.0, self.plan.serial_seconds - self.plan.predicted_seconds)

    def first_may_take(self) -> float:
        """Return after how many seconds of the first item workers are to start beside it: what a start costs."""
        limits = self._limits()
        if (machine.cores() if limits.n_jobs is None else limits.n_jobs) < 2:
            return _FOR_EVER_SECONDS
        return machine.seconds_first_start(self._method_beside())

    def start_method(self) -> str:
        """Return how workers are started, as it was when this was first asked."""
        if self._start_method is None:
            self._start_method = machine.start_method(self._options.start_method)
        return self._start_method

    def start_method_now(self) -> str:
        """Return how workers are started, asked again: since the plan, threads may have come, and ours have gone."""
        planned = self.start_method()
        until = perf_counter() + _THREAD_END_SECONDS
        while (method := machine.start_method(self._options.start_method)) != planned and perf_counter() < until:
            sleep(0)  # a thread that was joined is still counted until the system has ended it
        return method

    def _method_beside(self) -> str:
        """Return how workers are started while a second thread runs: a fork is out."""
        method = machine.configured_start_method(self._options.start_method)
        return machine.threaded_start_method() if method == "fork" else method

    def _limits(self) -> Limits:
        return Limits(machine.workers_asked(self._options.n_jobs), self._options.chunksize)

    def _machine(self) -> MachineProfile:
        return machine.machine_profile(self.start_method(), warm_workers=_warm_workers())

    def _system(self) -> lookup.System:
        return lookup.System(
            machine.physical_cores(),
            machine.configured_start_method(self._options.start_method),
            machine.available_memory(),
            sys.platform,
            ".".join(map(str, sys.version_info[:3])),
        )


def _as_if_running(profile: MachineProfile) -> MachineProfile:
    return profile._replace(seconds_first_start=0.0, seconds_next_start=0.0)


def _warm_workers() -> int:
    pool: Any = sys.modules.get("amorsize.backends.processes.lease")
    # Without the function it is just being imported, by a thread that prepares: then there are none.
    return pool.warm_count() if hasattr(pool, "warm_count") else 0

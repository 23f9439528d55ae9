"""Decides where the rest of a call's work runs, by what is known of the function and what this call has measured.

The driver asks at three moments. Before the first item, it asks whether the function is known and workers pay for it.
While items run in the caller, it asks whether the moment has come to go to workers (`plan.escalate`). At the end, it
asks what is worth remembering, and what workers would have saved if they had been running. Nothing in this module runs
an item or starts a worker. Questions change nothing; the driver calls `look_up`, `measure_transfer`, `stay` or
`come_back` when something is to be looked up, measured, given up or tried again later.
"""

from __future__ import annotations

from time import monotonic, perf_counter

from ..backends.rows import AUTO, PROCESSES, THREADS
from ..code.functions import FunctionSet, FunctionTable, unfit
from ..context import imported_here, others_import
from ..measure import machine
from ..plan.profile import Limits, WorkProfile
from ..transport.values import holds_iterator
from .looks import Looks
from .starting import STARTED_BESIDE, Starting, is_served
from .waiting import Waiting, system_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..backends.rows import Row
    from ..feed.pace import Pace
    from ..feed.source import Source
    from ..measure.sampling import Transfer
    from ..plan.planner import Plan
    from ..plan.profile import MachineProfile
    from ..plan.trust import Trust
    from .caller import Serial
    from .move import Move, Visit
    from .request import Request

__all__ = ["LEAST_ITEMS_HERE", "SILENT_SECONDS", "Policy", "holding", "sent", "trusted"]

# Less work than this is not worth a look at the cache or the machine, which costs about as much on a first call.
SILENT_SECONDS = 200e-6
# In a call that spent so long in the caller, what sending costs is measured even though the call stays: several such
# calls may repay a start of workers together, and their items may be gone when that is asked (rows of an array).
_MEASURED_SECONDS = 0.004
# Fewer items in the caller say little of what items take there, because the first may have imported something.
LEAST_ITEMS_HERE = 4
_FOR_EVER_SECONDS = 1e6
# What it costs to read an item ahead of an input that is not read as it is. A smaller value sends items that are over
# sooner (with none, the last row of benchmarks/lines.py is 3 instead of 1); a larger one keeps some that would gain.
_READ_SECONDS = 1.5e-6
# A call that began in the caller is asked again once it has taken so many times as long as was known.
_LONGER = 1.25
# After workers turned out not to help, at least this much serial work must pass before they are considered again.
_PATIENCE_SECONDS = 0.1

# Functions whose items held iterators; their next calls begin in the caller, so that their first items are looked at.
holding = FunctionSet()
# Functions that workers of ours were sent in this process; those that run may still have them.
sent = FunctionSet()
# What calls on workers have taught of each function.
trusted: FunctionTable[Trust] = FunctionTable()


class Policy:
    """Decides where the items of one call run.

    Args:
        request: what the call was asked to do.
        source: the input.

    Attributes:
        looked_up: whether the cache was asked already.
        patience_seconds: how much serial work must have passed before workers are considered.
        visits: the visits to workers that are over.
        waiting: decides whether the items go to threads.
        looks, starting: say when it is asked where the rest is to run, and know how workers are started.
        known, transfer, carrying_seconds, slowdown: what earlier calls have measured, and this one of sending.
    """

    def __init__(self, request: Request, source: Source) -> None:
        self.looked_up, self.patience_seconds = False, SILENT_SECONDS
        self._function, self._options = request.function, request.options
        self._row, self._source = request.row, source
        self.known: WorkProfile | None = None
        self.transfer: Transfer | None = None
        self.carrying_seconds: float | None = None
        self._sending_seconds = 0.0  # the part of these that only a function pays which workers do not have
        self.visits: list[Visit] = []
        self.slowdown = 1.0
        self.starting, self.waiting = Starting(request.options), Waiting(request.function, request.options)
        self.looks = Looks(request.options, self.starting, self.waiting)

    # What the driver tells it.

    def look_up(self, serial: Serial | None = None, *, route: str | None = None) -> None:
        """Ask the cache what is known of the function, on a `route` to others' workers or ours, and fits `serial`."""
        self.looked_up = True
        if self._options.use_cache:
            from ..cache import costs, lookup

            system = system_of(self._options)
            costs.recall(system)
            seconds = serial.seconds_per_item if serial is not None else None
            remaining = self._source.remaining()
            self.known = lookup.find(
                self._function,
                # As in `remember`, the whole length counts, some of which may have run.
                None if remaining is None else self._source.index + remaining,
                system,
                route=route or (THREADS.name if self._row is THREADS else self._route()),
                seconds_per_item=seconds,
            ).profile

    def measure_transfer(self, serial: Serial) -> bool:
        """Measure what sending the newest items costs, by pickling, unless that is known; say whether it was done."""
        if self.transfer is None and serial.recent and not others_import():
            from ..measure import sampling

            items, results = zip(*serial.recent, strict=True)
            row = self._source.row_bytes
            found = sampling.measure_transfer(list(items) if row is None else [], list(results), perf_counter)
            machine.learn_copying(self._route(), found.copied_bytes, found.copied_seconds)
            self.transfer = found if row is None else found._replace(bytes_in=float(row))
            return True
        return False

    def measure_carrying(self) -> bool:
        """Estimate what sending the function costs, by what it carries, unless that is known; say whether it was done.

        Nothing is pickled for it, because a function may be bound to a large part of the memory.
        """
        if self.carrying_seconds is not None or (self.known is not None and self.known.call_seconds is not None):
            return False
        from ..transport.carried import carried, price

        each, once = price(carried(self._function))
        self._sending_seconds = 0.0 if self._function in sent and self.starting.warm_workers() else once
        self.carrying_seconds = each + self._sending_seconds
        return True

    def _route(self) -> str:
        return machine.route_of(self.starting.method())

    def stay(self) -> None:
        """Stay in the caller for this call: workers cannot be had, or cannot be given its function or its items."""
        self.patience_seconds = float("inf")

    def wait_as_predicted(self) -> None:
        """Take in that the call begins in the caller: where the rest runs is asked once it takes longer than known."""
        known, n_items = self.known, self._source.remaining()
        if known is None or n_items is None or self.waiting.is_undecided(known):
            return
        seconds = _LONGER * n_items * known.seconds_per_item
        if seconds < _MEASURED_SECONDS or self.knows_transfer():
            self.patience_seconds = max(self.patience_seconds, seconds)

    def come_back(self, pace: Pace | None, seconds: float) -> None:
        """Take in that workers turned out not to help, in so long: they are considered again after more serial work."""
        if pace is not None and pace.route == THREADS.name:
            self.waiting.give_up()
            if pace.cpu_seconds < seconds / 2:
                self.stay()  # the items wait for something that serves one at a time
                return
        self.patience_seconds = max(_PATIENCE_SECONDS, 4 * self.patience_seconds)

    # What the driver asks it.

    def kept_by(self, serial: Serial | None = None) -> str | None:
        """Return why the items must stay, judging by the input's code and the newest items; None if they need not."""
        shown = self._source.worklist_call()
        if shown is not None:
            return f"{shown} is called for the next item"
        if serial is not None and any(holds_iterator(item) for item, _ in serial.recent):
            return "its items hold iterators"
        return None

    def before_first(self) -> Move | None:
        """Return the move to make at once, by what is known of the function; None to begin in the caller."""
        known = self.known
        if known is None or self._function in holding:
            return None
        remaining = self._source.remaining()
        n_items = max(known.items, 2 * machine.cores()) if remaining is None else remaining
        # If all items would be over before a decision was made, none is needed.
        if n_items * known.seconds_per_item < SILENT_SECONDS or self.must_wait():
            return None
        if (move := self.waiting.before_first(known, n_items)) is not None:
            return move
        if self.waiting.is_undecided(known):
            return None
        return self._move(known, n_items) or self._paid_for(known, n_items)

    def _paid_for(self, work: WorkProfile, n_items: int) -> Move | None:
        """Return a move if workers would help once they run, and earlier calls have missed the price of a start."""
        missed = machine.missed(monotonic())
        if not missed or n_items < 1 or self.starting.warm_workers() or self._function in unfit:
            return None
        if work.bytes_in is None or work.bytes_out is None:
            return None
        from ..plan.planner import choose

        profile = self.machine(work)
        if missed < self._price(profile, 1) or not self._is_trusted(n_items * work.seconds_per_item):
            return None
        self.measure_carrying()
        profile = self.machine(work)
        plan = choose(self._with_reading(work), self._as_if_running(profile), n_items, self.limits())
        if plan.backend == "serial" or missed < self._price(profile, plan.n_jobs):
            return None
        plan = plan._replace(reason=f"{plan.reason}, and calls like it have missed the price of a start")
        return self._move_with(plan, work, n_items, pays_missed=True)

    def known_width(self) -> int | None:
        """Return how many items at once were best in an earlier call; None if that is not known."""
        if self._row is THREADS:
            return None if self.known is None else self.known.width
        return self.waiting.known_width

    def is_due(self, serial: Serial) -> bool:
        """Say whether enough time was spent in the caller (`plan.escalate`), by what was measured so far."""
        remaining = self._source.remaining()
        if remaining is not None:
            whole = serial.seconds + remaining * serial.seconds_per_item
            if whole < self.starting.least_seconds():  # so no answer below says that it is due
                return False
        from ..plan.escalate import should_escalate

        work = self._with_reading(self._expected(serial))
        if not self._is_trusted(serial.seconds + (remaining or 0) * work.seconds_per_item):
            return False
        spent, done = serial.seconds, serial.times.n
        if serial.first is not None and serial.first.once:
            spent, done = spent - serial.first.seconds, done - 1
        due = should_escalate(spent, done, remaining, work, self.machine(work), self.limits())
        return due and not self.must_wait()

    def to_workers(self, serial: Serial) -> Move:
        """Return the move that is due."""
        from ..plan.planner import choose, widest

        # If the length is unknown, as many items as were done are expected to be left, and enough for all workers.
        remaining = self._source.remaining()
        work = self._expected(serial)
        left = max(serial.times.n, 2 * machine.cores()) if remaining is None else remaining
        move = self._move(work, left)
        if move is not None:
            return move
        # By the prediction alone the items would stay, but by the bound of `should_escalate` enough was spent here.
        profile = self.machine(work)
        limits = self.limits()._replace(n_jobs=min(widest(profile, work)[0], left), backends=("processes",))
        plan = choose(work, profile, left, limits)
        spent = f"{plan.n_jobs} workers: as much was missed in the caller as starting them costs"
        return self._move_with(plan._replace(reason=spent), work, left)

    def named(self, width: int) -> Move:
        """Return the move to the backend that the user named, whose cost is not predicted."""
        reason = "it was asked for by name" if self.row_was_named() else "an item with a deadline must be stoppable"
        return self._unpriced(self._row, width, f"{self._row.name}: {reason}")

    def row_was_named(self) -> bool:
        """Say whether the user has named the backend, so that nothing is predicted."""
        return bool(self._options.backend != AUTO.name)

    def beside_first(self) -> Move:
        """Return the move to workers that begin beside a long first item: threads, if it waits."""
        if (move := self.waiting.beside_first()) is not None:
            return move
        width = self.width(None)
        reason = f"{width} workers: the first item took long enough to start them beside it"
        return self._unpriced(PROCESSES, width, reason)

    def _move(self, work: WorkProfile, n_items: int) -> Move | None:
        from ..plan.planner import choose

        if n_items < 1 or not self._is_trusted(n_items * work.seconds_per_item):
            return None
        # The plan with its words is made only for a move; that most calls stay is known from the numbers alone.
        profile = self.machine(work)
        if not self._would_gain(work, profile, n_items):
            return None
        if self.measure_carrying():
            profile = self.machine(work)
        plan = choose(self._with_reading(work), profile, n_items, self.limits())
        return None if plan.backend == "serial" else self._move_with(plan, work, n_items)

    def _move_with(self, plan: Plan, work: WorkProfile, n_items: int, *, pays_missed: bool = False) -> Move:
        from .move import Move  # most calls stay

        length = 0 if self._source.remaining() is None else n_items
        gain = max(0.0, plan.serial_seconds - plan.predicted_seconds)
        return Move(PROCESSES, self._begun(plan, work, n_items), pays_missed, length, gain)

    def _begun(self, plan: Plan, work: WorkProfile, n_items: int) -> Plan:
        """Return the plan with what this call will take, if it goes on in the caller while workers start.

        Whether they are worth their start was decided by less, since later calls have them, too.
        """
        from ..plan.model import beside_seconds, predict_seconds, start_seconds
        from ..plan.planner import seconds_in_words

        if self.starting.method() == "fork":
            return plan
        whole = self.machine(work, whole=True)
        start = start_seconds(whole, plan.n_jobs)
        if start <= 0.0 or whole.warm_workers > 0:
            return plan
        work = self._with_reading(work)
        seconds = predict_seconds(work, _started(whole), n_items, "processes", plan.n_jobs, self.limits().chunksize)
        seconds = beside_seconds(seconds, plan.serial_seconds, start)
        said = f"{plan.reason}; this call, which goes on while they start, takes {seconds_in_words(seconds)}"
        return plan._replace(predicted_seconds=seconds, reason=said)

    def _would_gain(self, work: WorkProfile, profile: MachineProfile, n_items: int) -> bool:
        """Say whether workers are predicted to be faster."""
        from ..plan.planner import gains

        return gains(*self._predicted(work, profile, n_items), profile)

    def _predicted(self, work: WorkProfile, profile: MachineProfile, n_items: int) -> tuple[float, float]:
        """Return the seconds predicted on workers and in the caller."""
        from ..plan.model import predict_seconds
        from ..plan.planner import best_width

        limits, work = self.limits(), self._with_reading(work)
        n_jobs = best_width(work, profile, n_items, limits)
        there = predict_seconds(work, profile, n_items, "processes", n_jobs, limits.chunksize)
        return there, predict_seconds(work, profile, n_items, "serial", 1)

    def _with_reading(self, work: WorkProfile) -> WorkProfile:
        """Return a profile in which an item that is sent costs what reading it costs, too."""
        reading = 0.0 if self._source.exact else _READ_SECONDS
        return work._replace(transfer_seconds_per_item=work.transfer_seconds_per_item + reading)

    def is_distrusted(self) -> bool:
        """Say whether the function has lost on workers, so that the calls that stay are counted."""
        trust = trusted.get(self._function)
        return trust is not None and trust.losses > 0

    def _is_trusted(self, in_caller_seconds: float) -> bool:
        trust = trusted.get(self._function)
        return trust is None or trust.allows(in_caller_seconds)

    def _unpriced(self, row: Row, n_jobs: int, reason: str) -> Move:
        from ..plan.planner import Plan
        from .move import Move

        return Move(row, Plan(row.name, n_jobs, self._options.chunksize or 1, 0.0, 0.0, reason))

    def must_wait(self) -> bool:
        """Say whether an import is under way for which pickling would wait, or which workers would repeat."""
        if others_import():
            return True
        # A worker that is not forked would import the module anew, and run this same call in it.
        return imported_here(getattr(self._function, "__module__", None)) and self.starting.method() != "fork"

    def is_news(self, items: int, seconds: float) -> bool:
        """Say whether a call is worth keeping, as it was long or was taken for long before it began."""
        each = 0.0 if self.known is None else self.known.seconds_per_item
        return max(seconds, items * each) >= SILENT_SECONDS

    def has_missed(self, serial: Serial) -> float:
        """Return the seconds that workers would have saved this call, had they been running; 0 if none."""
        if serial.seconds < SILENT_SECONDS or not self._options.use_cache or self.starting.warm_workers():
            return 0.0
        if self.patience_seconds == float("inf") or self._function in unfit:
            return 0.0
        work = self._measured(serial, or_known=True)
        there, here = self._predicted(work, self._as_if_running(self.machine(work)), self._source.index)
        return max(0.0, here - there)

    def would_start(self, missed_seconds: float) -> bool:
        """Say whether the seconds that all calls have missed are as much as starting a worker costs."""
        return missed_seconds >= self._price(self.machine(self.known), 1)

    def wants_transfer(self, serial: Serial) -> bool:
        """Say whether what sending costs should be measured for later calls, while the newest items are at hand."""
        return serial.seconds >= _MEASURED_SECONDS and self._options.use_cache and not self.knows_transfer()

    def _price(self, profile: MachineProfile, n_jobs: int) -> float:
        """Return what calls must have missed before workers start for them."""
        from ..plan.model import start_seconds

        load_known = self.known is not None and self.known.load_seconds is not None
        # Where loading is known the profile has the share already. Nothing goes on beside the caller's own imports.
        share = 1.0 if load_known and self.starting.method() != "fork" else STARTED_BESIDE
        here = 0.0 if share == 1.0 else self.starting.import_seconds()
        return here + share * (start_seconds(profile, n_jobs) - here) + self._sending_seconds

    def knows_transfer(self) -> bool:
        """Say whether items can be sent, and it is known what that costs."""
        told = self.transfer or self.known
        return told is not None and told.bytes_in is not None and told.bytes_out is not None

    def _measured(self, serial: Serial, *, or_known: bool = False) -> WorkProfile:
        times = serial.times
        cpu_share = serial.cpu_seconds / serial.seconds if serial.seconds else 1.0
        work = WorkProfile(times.n, serial.seconds_per_item, times.std, times.max, cpu_share)
        if self.known is not None:
            work = work._replace(call_seconds=self.known.call_seconds, load_seconds=self.known.load_seconds)
            work = self._lasting(work, work.seconds_per_item)
        return self.with_transfer(work, or_known=or_known)

    def _expected(self, serial: Serial) -> WorkProfile:
        """Return a profile of the rest of the call, by what was measured in it and, where that says little, before."""
        work, remaining = self._measured(serial), self._source.remaining()
        if not remaining or self.known is None:
            return work
        from ..plan.model import seconds_of_the_rest

        return self._lasting(work, seconds_of_the_rest(work, self.known, remaining))

    def _lasting(self, work: WorkProfile, seconds_per_item: float) -> WorkProfile:
        """Return a profile of items that take so long in the caller, and on workers by what is known of these."""
        known = self.known
        assert known is not None
        slowdown, there = known.slowdown, known.worker_seconds_per_item
        if slowdown is not None:
            there = slowdown * seconds_per_item
        elif there is not None and known.seconds_per_item > 0.0:
            there *= seconds_per_item / known.seconds_per_item  # the items may be others than those that were known
        return work._replace(seconds_per_item=seconds_per_item, worker_seconds_per_item=there, slowdown=slowdown)

    def with_transfer(self, work: WorkProfile, *, or_known: bool) -> WorkProfile:
        """Return a profile with what sending costs, as measured in this call or, if that may be, as known before."""
        told, known = self.transfer, self.known
        if told is None and or_known and known is not None:
            from ..measure.sampling import Transfer

            told = Transfer(known.bytes_in, known.bytes_out, known.transfer_seconds_per_item)
        if told is None:
            return work
        return work._replace(
            bytes_in=told.bytes_in, bytes_out=told.bytes_out, transfer_seconds_per_item=told.seconds_per_item
        )

    def pace_on(self, route: str, serial: Serial | None) -> Pace:
        """Return what will learn how fast items are on a route, by which those that ran here are judged, too."""
        from ..feed.pace import Pace

        enough = serial is not None and serial.times.n >= LEAST_ITEMS_HERE
        return Pace(route=route, before_seconds_per_item=serial.seconds_per_item if serial and enough else None)

    def expected_seconds_per_item(self, serial: Serial | None) -> float | None:
        """Return how long the next items probably take, by those that ran here or by what is known; None if unknown."""
        if serial is not None and serial.times.n:
            return serial.seconds_per_item
        known = self.known
        if known is None:
            return None
        there = known.worker_seconds_per_item
        return known.seconds_per_item if there is None else there

    def width(self, plan: Plan | None, row: Row = PROCESSES) -> int:
        """Return the number of workers: the user's, the plan's, or what cores, memory and input allow; `Job.width`."""
        if row.can.width == "own":
            return self._options.n_jobs or 0
        limits = self.limits()
        if limits.n_jobs is not None:
            return limits.n_jobs
        if row.can.width == "found":
            return self.waiting.most()
        if plan is not None:
            return plan.n_jobs
        from ..plan.planner import widest

        allowed, _ = widest(self.machine())
        remaining = self._source.remaining()
        return allowed if remaining is None else max(1, min(allowed, remaining))

    def first_may_take(self) -> float:
        """Return after how many seconds of the first item workers start beside it: as many as a start costs.

        Where earlier calls are known to have waited, threads cost nothing to start.
        """
        if not self.looked_up:
            self.look_up()
        remaining = self._source.remaining()
        if self.known is not None and self.waiting.before_first(self.known, remaining or 0) is not None:
            return 0.0
        limits = self.limits()
        if (machine.cores() if limits.n_jobs is None else limits.n_jobs) < 2:
            return _FOR_EVER_SECONDS
        method = self.starting.method_beside()
        return machine.seconds_first_start(method, served=is_served(method))

    def seconds_until_ready(self, *, served: bool | None = None) -> float:
        """Return after how many seconds workers are expected to be able to run items, once they are ordered.

        Args:
            served: whether a fork server runs for them; None asks.
        """
        method = self.starting.method()
        served = is_served(method) if served is None else served
        profile = machine.machine_profile(method, served=served, modules=self.starting.modules(self._function))
        load = self.known.load_seconds if self.known is not None and not served else None
        return profile.seconds_first_start + (profile.seconds_load if load is None else load)

    def limits(self) -> Limits:
        return Limits(machine.workers_asked(self._options.n_jobs), self._options.chunksize)

    def machine(self, work: WorkProfile | None = None, *, whole: bool = False) -> MachineProfile:
        """Return the machine profile, with what the function takes to be loaded if that is known.

        Args:
            work: what is known of the function.
            whole: whether a start counts with all that it takes, also where the caller need not wait for it.
        """
        method = self.starting.method()
        served, modules = is_served(method), self.starting.modules(self._function)
        warm, left = self.starting.warm_and_starting(self.seconds_until_ready)
        profile = machine.machine_profile(method, warm_workers=warm, served=served, modules=modules)
        known = None if work is None else work.load_seconds
        if left > 0.0:  # an earlier call has ordered them
            first, load = left, 0.0
            profile = profile._replace(warm_workers=0)
        else:
            first = profile.seconds_first_start + self.starting.import_seconds()
            load = profile.seconds_load if known is None or served else known
        # Such workers have had the function before, and will again: a start costs what goes on beside it.
        beside = left > 0.0 or (known is not None and method != "fork")
        share = STARTED_BESIDE if beside and not whole else 1.0
        return profile._replace(
            seconds_first_start=share * first,
            seconds_next_start=share * profile.seconds_next_start,
            seconds_load=share * load,
            seconds_per_call=profile.seconds_per_call + (self.carrying_seconds or 0.0),
        )

    def _as_if_running(self, profile: MachineProfile) -> MachineProfile:
        """Return the profile as it will be once workers run and have the function."""
        call = max(0.0, profile.seconds_per_call - self._sending_seconds)
        return _started(profile)._replace(seconds_per_call=call)


def _started(profile: MachineProfile) -> MachineProfile:
    return profile._replace(seconds_first_start=0.0, seconds_next_start=0.0, seconds_load=0.0)

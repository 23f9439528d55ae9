"""One call's life: look up what is known, run in the caller while that is best, hand over to workers, remember."""

from __future__ import annotations

import sys
from collections import deque
from functools import partial
from operator import length_hint
from time import monotonic, perf_counter, sleep
from weakref import WeakSet

from .cache import fingerprint, lookup
from .context import in_daemon, works_in_place
from .errors import SerializationError
from .measure import machine
from .measure.sampling import Running, Transfer, measure_transfer
from .plan.profile import Limits, WorkProfile
from .rng import numbered
from .serial import Attempt, Serial, apply_star, attempts, plain
from .understudy import Understudy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from .dispatch.backend import Backend
    from .dispatch.run import Failed, Pace, Run
    from .options import Options
    from .plan.planner import Plan
    from .plan.profile import MachineProfile
    from .seeding import Seeded
    from .source import Source

__all__ = ["Call"]

# Less work than this is not worth a look at cache or machine, which cost about as much on a first call.
_SILENT_SECONDS = 200e-6
_FOR_EVER_SECONDS = 1e6
# A start beside the first item costs the caller this much of its time; the rest passes on another core.
# Smaller: more starts that a first item did not need. Larger: the items behind a long one wait longer.
_START_SHARE = 1
_THREAD_END_SECONDS = 0.002
_RANGE_ITERATOR = type(iter(range(0)))
# After workers turned out not to help, so much serial work must pass before they are thought of again.
_PATIENCE_SECONDS = 0.1


class Call:
    """The state behind a Stream.

    Args:
        function: the user's function, undecorated.
        source: the input.
        options: the resolved options.
        backend: "auto", "serial", "processes" or "pool".
        star: whether an item is a tuple of arguments.
    """

    def __init__(
        self, function: Callable[..., Any], source: Source, options: Options, backend: str, star: bool
    ) -> None:
        self.plan: Plan | None = None
        self.failures: list[Failed] = []
        self.begun = False
        self.unused_name: str | None = None
        self._function = function
        self._source = source
        self._options = options
        self._backend = backend
        self._star = star
        self._generator: Any = None
        self._current: Iterator[Any] = iter(())
        self._serial: Serial | None = None
        self._pace: Pace | None = None
        self._seeded: Seeded | None = None
        self._seeded_here: Callable[[Any], Any] | None = None
        self._run: Run | None = None
        self._over = False
        self._patience_seconds = _SILENT_SECONDS
        self._running = Running()
        self._serial_seconds = 0.0
        self._looked_up = False
        self._known: WorkProfile | None = None
        self._transfer: Transfer | None = None
        self._start_method: str | None = None

    def length_hint(self) -> int:
        """Return about how many results are still to come."""
        remaining = self._source.remaining()
        if remaining is None:
            return NotImplemented  # type: ignore[no-any-return]
        ahead = self._run.ahead if self._run is not None else 0
        return remaining + ahead + length_hint(self._current, 0)  # a generator, serial work, has no hint: 0

    def close(self) -> None:
        """Cancel what is not done and release what is held."""
        self.unused_name = None
        current, self._current = self._current, iter(())
        if hasattr(current, "close"):
            current.close()
        else:
            deque(current, maxlen=0)  # results of workers that were handed over and are not wanted
        if self._generator is not None:
            self._generator.close()
        self._serial = None  # it refers back to this call; the input goes now, not with the next collection

    def phases(self) -> Iterator[Iterable[Any]]:
        """Return the generator of iterables of results."""
        self._generator = self._tracked()
        return self._generator  # type: ignore[no-any-return]

    def _tracked(self) -> Iterator[Iterable[Any]]:
        self.begun = True
        self._seed()
        if self._backend == "serial" or (self._backend == "auto" and self._must_stay()):
            phases = self._serial_only()
        elif self._backend == "auto":
            phases = self._as_it_turns_out()
        else:
            phases = self._on_named()
        try:
            for phase in phases:
                self._current = iter(phase)
                yield self._current
        finally:
            phases.close()  # type: ignore[attr-defined]
            self._current = iter(())

    def _must_stay(self) -> bool:
        return self._options.n_jobs == 1 or works_in_place(self._function) or in_daemon()

    # Serial work that cannot become anything else.

    def _serial_only(self) -> Iterator[Iterable[Any]]:
        self._initialize_here()
        attempt = self._attempt()
        if attempt is None:
            seeded = self._seeded_here
            yield plain(seeded or self._function, self._source, star=self._star and seeded is None)
        else:
            yield attempts(attempt, self._source)

    def _initialize_here(self) -> None:
        if self._options.initializer is not None:
            self._options.initializer(*self._options.initargs)

    def _attempt(self) -> Attempt | None:
        options = self._options
        if not options.retries and options.on_error == "raise":
            return None
        returns = options.on_error == "return"
        return Attempt(self._one_item(), options.retries, returns, self._note_failure, self._source.streams)

    def _note_failure(self, index: int, error: Exception, tries: int) -> None:
        from .dispatch.run import Failed

        self.failures.append(Failed(index, error, tries))

    def _seed(self) -> None:
        """Give the items random streams of their own, if the call has a seed."""
        seed = self._options.seed
        if seed is None:
            return
        from .seeding import Seeded

        source = self._source
        scalars = type(source.iterator) is _RANGE_ITERATOR
        source.iterator, running = numbered(source.iterator, source.index)
        self._seeded = Seeded.of(self._one_item(), seed)
        source.streams, self._seeded_here = self._seeded.begin(running, keep=True, plain=scalars)

    def _one_item(self) -> Callable[[Any], Any]:
        """Return what runs one item in the caller's own serial work."""
        if self._seeded_here is not None:
            return self._seeded_here
        return partial(apply_star, self._function) if self._star else self._function

    def _to_send(self) -> Callable[[Any], Any] | Seeded:
        """Return what runs one item elsewhere, or out of turn."""
        return self._one_item() if self._seeded is None else self._seeded

    # Work that starts in the caller and goes to workers when that pays.

    def _as_it_turns_out(self) -> Iterator[Iterable[Any]]:
        if fingerprint.remembers(self._function) and self._known_to_pay():
            yield from self._on_workers("processes")
        if not self._over:
            self._initialize_here()
        while not self._over:
            serial = self._serial = Serial(
                self._one_item(),
                self._source,
                leave=self._leave,
                before_thread=self._method,
                attempt=self._attempt(),
            )
            run = yield from self._first_item(serial)
            if run is None and not serial.is_over():
                yield from serial.phases()
            self._running.merge(serial.running)
            self._serial_seconds += serial.seconds
            if serial.is_over():
                self._over = True
            elif run is not None:
                if self._pace is not None and self._pace.seconds_per_item is None:
                    self._pace.seconds_per_item = serial.seconds_per_item
                run.widen()
                yield from self._finish(run)
            else:
                yield from self._on_workers("processes")
        if self._run is None and self._serial is not None:
            self._note_missed(self._serial)
        self._remember()

    def _first_item(self, serial: Serial) -> Generator[Iterable[Any], None, Run | None]:
        """Run the first item with an understudy beside it, if one may; return the run that it began."""
        understudy = self._understudy()
        if understudy is None:
            return None
        try:
            yield serial.first_item(understudy)
        except GeneratorExit:
            if understudy.run is not None:
                understudy.run.close()
            raise
        if understudy.run is None:
            _remember_short(self._function)
        return understudy.run

    def _understudy(self) -> Understudy | None:
        """Return what is to stand beside the first item; None if nothing may, or need."""
        if self._source.index or self._looked_up or _was_short(self._function):
            return None
        self._method()  # before a thread of ours is counted
        if self._seeded is not None:
            return None  # which item runs is learnt from how far the input was read
        remaining = self._source.remaining()
        if remaining is None or remaining < 2 or self._options.start_method == "fork":
            return None
        return Understudy(self._first_may_take, self._begin_beside)

    def _first_may_take(self) -> float:
        limits = self._limits()
        if (machine.cores() if limits.n_jobs is None else limits.n_jobs) < 2:
            return _FOR_EVER_SECONDS
        return machine.seconds_first_start(self._method_beside()) * _START_SHARE

    def _method_beside(self) -> str:
        """Return how workers are started while a second thread runs: a fork is out."""
        method = machine.configured_start_method(self._options.start_method)
        return machine.threaded_start_method() if method == "fork" else method

    def _begin_beside(self) -> Run:
        """Start workers on the items behind the first one, which keeps one core busy itself."""
        width = self._width()
        self.plan = _as_found(width, self._options.chunksize)
        backend = self._open("processes", max(1, width - 1))
        return self._run_on(backend, width)

    def _finish(self, run: Run) -> Iterator[Iterable[Any]]:
        yield from run
        if run.withdrawn is None:
            self._over = True
        else:
            # Each time it was not worth it, the next try has to look better.
            self._be_patient(max(_PATIENCE_SECONDS, 4 * self._patience_seconds))

    def _known_to_pay(self) -> bool:
        """Say whether what is known of the function makes workers the plan."""
        self._look_up()
        if self._known is None:
            return False
        remaining = self._source.remaining()
        n_items = self._known.items if remaining is None else remaining
        # Where all of it is over before a choice could be made, there is none to make.
        if n_items * self._known.seconds_per_item < _SILENT_SECONDS:
            return False
        return self._choose(self._known, n_items) or self._paid_for(self._known, n_items)

    def _paid_for(self, work: WorkProfile, n_items: int) -> bool:
        """Say whether running workers would help, and earlier calls have missed as much as starting them costs."""
        from .plan.model import start_seconds
        from .plan.planner import choose

        missed, profile = machine.missed(monotonic()), machine.machine_profile(self._method())
        if missed < start_seconds(profile, 1) or _warm_workers():
            return False
        plan = choose(work, _as_if_running(profile), n_items, self._limits())
        if plan.backend != "processes" or missed < start_seconds(profile, plan.n_jobs):
            return False
        self.plan = plan._replace(reason=f"{plan.reason}, and calls like it have missed the price of a start")
        return True

    def _note_missed(self, serial: Serial) -> None:
        """Count what running workers would have saved this call."""
        if self._serial_seconds < _SILENT_SECONDS or not self._options.use_cache or _warm_workers():
            return
        from .plan.model import start_seconds

        known = self._known
        if self._transfer is None and known is not None and known.bytes_in is not None:
            self._transfer = Transfer(known.bytes_in, known.bytes_out, known.transfer_seconds_per_item)
        saved, now = self._would_save(serial), monotonic()
        if saved <= 0:
            return
        machine.miss(saved, now)
        # What sending costs is measured when it matters: an item may be large.
        if machine.missed(now) >= start_seconds(machine.machine_profile(self._method()), 1) and not (
            self._knows_transfer(serial) and self._would_save(serial) > 0
        ):
            machine.settle()

    def _would_save(self, serial: Serial) -> float:
        from .plan.model import predict_seconds
        from .plan.planner import best_width

        work, n_items, limits = self._measured(serial), self._source.index, self._limits()
        profile = _as_if_running(machine.machine_profile(self._method()))
        n_jobs = best_width(work, profile, n_items, limits)
        there = predict_seconds(work, profile, n_items, "processes", n_jobs, limits.chunksize)
        return predict_seconds(work, profile, n_items, "serial", 1) - there

    def _knows_transfer(self, serial: Serial) -> bool:
        """Measure what sending an item costs, if that is not known yet; say whether it can be sent."""
        if self._transfer is None and serial.recent:
            items, results = zip(*serial.recent, strict=True)
            self._transfer = measure_transfer(list(items), list(results), perf_counter)
        transfer = self._transfer
        return transfer is not None and transfer.bytes_in is not None and transfer.bytes_out is not None

    def _look_up(self) -> None:
        if not self._looked_up:
            self._looked_up = True
            if self._options.use_cache:
                self._known = lookup.find(self._function, self._source.remaining(), self._system()).profile

    def _leave(self, serial: Serial) -> bool:
        """Say whether the rest should go to workers now."""
        if serial.seconds < self._patience_seconds:
            return False
        from .plan.escalate import should_escalate
        from .plan.planner import widest

        if not self._looked_up and self._known_to_pay() and self._still_true(serial):
            return True
        remaining, limits = self._source.remaining(), self._limits()
        profile = machine.machine_profile(self._method(), warm_workers=_warm_workers())
        done = serial.running.n
        if not should_escalate(serial.seconds, done, remaining, self._measured(serial), profile, limits):
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

    def _still_true(self, serial: Serial) -> bool:
        """Say whether what this call's first items took fits what is known; if not, look up what does."""
        found = lookup.find(
            self._function, self._source.remaining(), self._system(), seconds_per_item=serial.seconds_per_item
        )
        if found.profile is self._known:
            return True
        self._known, self.plan = found.profile, None
        return self._known_to_pay()

    def _choose(self, work: WorkProfile, n_items: int, limits: Limits | None = None) -> bool:
        from .plan.planner import choose

        if n_items < 1:
            return False
        profile = machine.machine_profile(self._method(), warm_workers=_warm_workers())
        self.plan = choose(work, profile, n_items, limits or self._limits())
        return self.plan.backend == "processes"

    def _limits(self) -> Limits:
        return Limits(machine.workers_asked(self._options.n_jobs), self._options.chunksize)

    def _method(self) -> str:
        if self._start_method is None:
            self._start_method = machine.start_method(self._options.start_method)
        return self._start_method

    def _method_now(self) -> str:
        """Return how workers are started, asked again: since the plan, threads may have come, and ours have gone."""
        planned = self._method()
        until = perf_counter() + _THREAD_END_SECONDS
        while (method := machine.start_method(self._options.start_method)) != planned and perf_counter() < until:
            sleep(0)  # a thread that was joined is still counted until the system has ended it
        return method

    def _system(self) -> lookup.System:
        return lookup.System(
            machine.physical_cores(),
            machine.configured_start_method(self._options.start_method),
            machine.available_memory(),
            sys.platform,
            ".".join(map(str, sys.version_info[:3])),
        )

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

    def _remember(self) -> None:
        """Keep what was measured for the next call."""
        pace = self._pace
        items = self._running.n + (pace.items if pace is not None else 0)
        seconds = self._serial_seconds + (pace.seconds if pace is not None else 0.0)
        if not self._options.use_cache or not items or seconds < _SILENT_SECONDS:
            return
        work = WorkProfile(items, seconds / items, self._running.std, max(self._running.max, seconds / items))
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

    # Work on workers.

    def _on_named(self) -> Iterator[Iterable[Any]]:
        self._look_up()  # for the length of the first chunks
        yield from self._on_workers(self._backend)
        self._remember()

    def _on_workers(self, name: str) -> Iterator[Iterable[Any]]:
        """Run on workers until the input is over or, under "auto", they turn out not to help."""
        auto = self._backend == "auto"
        n_jobs = self._width()
        if self.plan is None:
            self.plan = _as_named(name, n_jobs, self._options)
        try:
            backend = self._open(name, n_jobs)
        except SerializationError as error:
            if not auto:
                raise
            import warnings

            warnings.warn(f"amorsize stays in one process: {error}", RuntimeWarning, stacklevel=2)
            machine.settle()
            self._be_patient(float("inf"))
            return
        yield from self._finish(self._run_on(backend, n_jobs))

    def _run_on(self, backend: Backend, n_jobs: int) -> Run:
        from .dispatch.run import Pace, Run

        if self._pace is None:
            self._pace = Pace()
        self._pace.seconds_per_item = self._expected_seconds_per_item()
        profile = machine.machine_profile(self._method())
        self._run = Run(
            backend,
            self._source,
            self._options,
            n_jobs,
            self._pace,
            self.failures,
            self._to_send() if self._backend == "auto" else None,
            profile.seconds_first_start,
        )
        return self._run

    def _be_patient(self, seconds: float) -> None:
        self._patience_seconds = seconds
        self.plan = None

    def _expected_seconds_per_item(self) -> float | None:
        if self._serial is not None and self._serial.running.n:
            return self._serial.seconds_per_item
        return self._known.seconds_per_item if self._known is not None else None

    def _width(self) -> int:
        """Return the number of workers: the user's, the plan's, or what cores, memory and input allow."""
        limits = self._limits()
        if limits.n_jobs is not None:
            return limits.n_jobs
        if self.plan is not None:
            return self.plan.n_jobs
        from .plan.planner import widest

        allowed, _ = widest(machine.machine_profile(self._method(), warm_workers=_warm_workers()))
        remaining = self._source.remaining()
        return allowed if remaining is None else max(1, min(allowed, remaining))

    def _open(self, name: str, n_jobs: int) -> Backend:
        options = self._options
        method = self._method_now()
        stop_at_error = options.on_error == "raise" and not options.retries
        if name == "pool":
            from .dispatch.stock import StockPool

            pool = None if isinstance(options.backend, str) else options.backend
            return StockPool(
                self._to_send(),
                n_jobs=n_jobs if pool is None else getattr(pool, "_processes", n_jobs),
                stop_at_error=stop_at_error,
                pool=pool,
                start_method=method,
                initializer=options.initializer,
                initargs=options.initargs,
            )
        from .dispatch.pool import lease

        return lease(
            self._to_send(),
            n_jobs=n_jobs,
            start_method=method,
            stop_at_error=stop_at_error,
            initializer=options.initializer,
            initargs=options.initargs,
            timeout=options.timeout,
        )


def _as_named(name: str, n_jobs: int, options: Options) -> Plan:
    from .plan.planner import Plan

    reason = "it was asked for by name" if options.backend != "auto" else "an item with a deadline must be stoppable"
    return Plan(name, n_jobs, options.chunksize or 1, 0.0, 0.0, f"{name}: {reason}")


# Functions whose first item was short once: a thread beside their next first item would cost more than it saves.
_short: WeakSet[Any] = WeakSet()


def _was_short(function: Any) -> bool:
    try:
        return getattr(function, "func", function) in _short
    except TypeError:  # cannot be hashed or referred to weakly
        return False


def _remember_short(function: Any) -> None:
    try:
        _short.add(getattr(function, "func", function))
    except TypeError:  # as above
        return


def _as_if_running(profile: MachineProfile) -> MachineProfile:
    return profile._replace(seconds_first_start=0.0, seconds_next_start=0.0)


def _as_found(n_jobs: int, chunksize: int | None) -> Plan:
    from .plan.planner import Plan

    reason = f"{n_jobs} workers: the first item took long enough to start them beside it"
    return Plan("processes", n_jobs, chunksize or 1, 0.0, 0.0, reason)


def _warm_workers() -> int:
    pool: Any = sys.modules.get("amorsize.dispatch.pool")
    # Without the function it is just being imported, by a thread that prepares: then there are none.
    return pool.warm_count() if hasattr(pool, "warm_count") else 0

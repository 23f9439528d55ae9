"""One call's life: run in the caller while that is best, hand over to workers when it is not (`decision`), remember."""

from __future__ import annotations

from collections import deque
from functools import partial
from operator import length_hint

from ..code import fingerprint
from ..code.functions import FunctionSet, unfit
from ..context import in_daemon, in_import, works_in_place
from ..errors import SerializationError, let_signals_through, signal_handlers
from ..log import debug
from ..measure import machine
from ..measure.sampling import Running
from ..plan.retry import Failed
from ..rng import numbered
from .caller import Attempt, Serial, apply_star, attempts, plain
from .headstart import Understudy
from .policy import Decision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import CodeType
    from typing import Any

    from ..backends.base import Backend
    from ..feed.pace import Pace
    from ..feed.pump import Run
    from ..feed.source import Source
    from ..options import Options
    from ..plan.planner import Plan
    from ..seeding import Seeded

__all__ = ["Call"]

_RANGE_ITERATOR = type(iter(range(0)))


class Call:
    """The state behind a Stream.

    Args:
        function: the user's function, undecorated.
        source: the input.
        options: the resolved options.
        backend: "auto", "serial", "processes" or "pool".
        star: whether an item is a tuple of arguments.

    Attributes:
        decision: where the items run, and why.
    """

    def __init__(
        self, function: Callable[..., Any], source: Source, options: Options, backend: str, star: bool
    ) -> None:
        self.decision = Decision(function, source, options)
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
        self._limits: frozenset[CodeType] | None = None
        self._over = False
        self._running = Running()
        self._serial_seconds = 0.0

    @property
    def plan(self) -> Plan | None:
        """The plan in force; None until one was made."""
        return self.decision.plan

    def length_hint(self) -> int:
        """Return about how many results are still to come."""
        if self._generator.gi_frame is None:
            return 0  # it was closed, or has ended, whatever the input still has
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
        if self._run is not None:
            self._run.close()  # nothing is left to close, unless a signal handler's exception came between
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
        options, function = self._options, self._function
        return options.n_jobs == 1 or works_in_place(function) or in_daemon() or function in unfit

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
        if self._limits is None:
            self._limits = signal_handlers()
        one = self._one_item()
        return Attempt(one, options.retries, returns, self._note_failure, self._source.streams, self._limits)

    def _note_failure(self, index: int, error: BaseException, tries: int) -> None:
        self.failures.append(Failed(index, error, tries))

    def _seed(self) -> None:
        """Give the items random streams of their own, if the call has a seed."""
        seed = self._options.seed
        if seed is None:
            return
        from ..seeding import Seeded

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
        if self._known_to_pay():
            yield from self._on_workers("processes")
        if not self._over:
            self._initialize_here()
        while not self._over:
            serial = self._serial = Serial(
                self._one_item(),
                self._source,
                leave=self._leave,
                before_thread=self._before_thread,
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
        self._learn()

    # What decides, looks up, imports or starts is ours: if it fails, for want of a file or of memory, items stay here.

    def _known_to_pay(self) -> bool:
        try:
            return fingerprint.remembers(self._function) and self.decision.known_to_pay()
        except Exception as error:  # noqa: BLE001 - as said above
            self._stay(error)
            return False

    def _leave(self, serial: Serial) -> bool:
        try:
            return self.decision.leave(serial)
        except Exception as error:  # noqa: BLE001 - as said above
            self._stay(error)
            return False

    def _before_thread(self) -> None:
        try:
            self.decision.start_method()
        except Exception as error:  # noqa: BLE001 - as said above
            self._stay(error)

    def _stay(self, error: BaseException) -> None:
        let_signals_through(error)
        debug("the rest stays in the caller: %r", error)
        self.decision.stay()

    def _learn(self) -> None:
        try:
            if self._run is None and self._serial is not None:
                self.decision.note_missed(self._serial)
            self.decision.remember(self._running, self._serial_seconds, self._pace)
        except Exception as error:  # noqa: BLE001 - as said above
            let_signals_through(error)
            debug("nothing is learnt of this call: %r", error)

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
            _short.add(self._function)
        return understudy.run

    def _understudy(self) -> Understudy | None:
        """Return what is to stand beside the first item; None if nothing may, or need."""
        try:
            return self._understudy_wanted()
        except Exception as error:  # noqa: BLE001 - as above
            self._stay(error)
            return None

    def _understudy_wanted(self) -> Understudy | None:
        if self._source.index or self.decision.looked_up or self._function in _short:
            return None
        self.decision.start_method()  # before a thread of ours is counted
        if self._seeded is not None:
            return None  # which item runs is learnt from how far the input was read
        source = self._source
        if not source.exact or source.begins_with_iterators() or self._options.start_method == "fork":
            return None  # no code of the user's runs in a thread of ours
        remaining = source.remaining()
        if remaining is None or remaining < 2 or in_import():  # last, as it costs 0.1 us a frame of the whole stack
            return None
        return Understudy(self.decision.first_may_take, self._begin_beside)

    def _begin_beside(self) -> Run:
        """Start workers on the items behind the first one, which keeps one core busy itself."""
        width = self.decision.width()
        self.decision.take_found(width)
        backend = self._open("processes", max(1, width - 1))
        try:
            return self._run_on(backend, width)
        except BaseException:
            backend.kill()
            raise

    def _finish(self, run: Run) -> Iterator[Iterable[Any]]:
        try:
            yield from run
        finally:
            if run.unfit:
                unfit.add(self._function)
        if run.withdrawn is None:
            self._over = True
        elif run.unfit or run.broken or run.keeps_all:
            self.decision.stay()
        else:
            self.decision.come_back()

    # Work on workers.

    def _on_named(self) -> Iterator[Iterable[Any]]:
        try:
            self.decision.look_up()  # for the length of the first chunks
        except Exception as error:  # noqa: BLE001 - they can do without
            let_signals_through(error)
            debug("what is known of the function is not used: %r", error)
        yield from self._on_workers(self._backend)
        self._learn()

    def _on_workers(self, name: str) -> Iterator[Iterable[Any]]:
        """Run on workers until the input is over or, under "auto", they cannot be had or turn out not to help."""
        backend: Backend | None = None
        try:
            n_jobs = self._width()
            self.decision.take_named(name, n_jobs)
            backend = self._open(name, n_jobs)
            run = self._run_on(backend, n_jobs)
        except BaseException as error:
            if backend is not None:
                backend.kill()
            if self._backend != "auto" or not isinstance(error, Exception):
                raise
            self._stay(error)
            if isinstance(error, SerializationError):
                unfit.add(self._function)
                import warnings

                warnings.warn(f"amorsize stays in one process: {error}", RuntimeWarning, stacklevel=2)
            return
        yield from self._finish(run)

    def _width(self) -> int:
        """Return the number of workers: a Pool of the user's has its own."""
        pool = None if isinstance(self._options.backend, str) else self._options.backend
        return getattr(pool, "_processes", None) or self.decision.width()

    def _run_on(self, backend: Backend, n_jobs: int) -> Run:
        from ..feed.pace import Pace
        from ..feed.pump import Run

        if self._pace is None:
            self._pace = Pace()
        self._pace.seconds_per_item = self.decision.expected_seconds_per_item(self._serial)
        self._run = Run(
            backend,
            self._source,
            self._options,
            n_jobs,
            self._pace,
            self.failures,
            self._to_send() if self._backend == "auto" else None,
            machine.seconds_first_start(self.decision.start_method()),
        )
        return self._run

    def _open(self, name: str, n_jobs: int) -> Backend:
        options = self._options
        method = self.decision.start_method_now()
        stop_at_error = options.on_error == "raise" and not options.retries
        if name == "pool":
            from ..backends.stock import StockPool

            pool = None if isinstance(options.backend, str) else options.backend
            return StockPool(
                self._to_send(),
                n_jobs=n_jobs,
                stop_at_error=stop_at_error,
                pool=pool,
                start_method=method,
                initializer=options.initializer,
                initargs=options.initargs,
            )
        from ..backends.processes.lease import lease

        return lease(
            self._to_send(),
            n_jobs=n_jobs,
            start_method=method,
            stop_at_error=stop_at_error,
            initializer=options.initializer,
            initargs=options.initargs,
            timeout=options.timeout,
            waive_data=self._backend != "auto",
            gain_seconds=self.decision.gain_seconds(),
        )


# Functions whose first item was short once: a thread beside their next first item would cost more than it saves.
_short = FunctionSet()

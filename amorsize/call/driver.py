"""Drives one call: items run in the caller while that is best, and on workers when it is not (see `policy`)."""

from __future__ import annotations

from _operator import length_hint
from time import monotonic, perf_counter

from ..backends.registry import open_backend, stays
from ..backends.rows import AUTO, SERIAL
from ..code import fingerprint
from ..code.functions import FunctionSet, unfit
from ..context import in_import
from ..errors import SerializationError, let_signals_through
from ..lean import deque
from ..log import debug, info
from ..measure import machine
from ..report.tally import tally_for
from .caller import Serial
from .noted import note, tell
from .one_item import OneItem
from .phases import close_all, passed_on, recorded_here
from .policy import SILENT_SECONDS, Policy, holding
from .serial_times import SerialTimes
from .stay import let_stay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any

    from ..backends.base import Backend
    from ..backends.where import Where
    from ..feed.pace import Pace
    from ..feed.pump import Pump
    from ..feed.source import Source
    from ..plan.planner import Plan
    from ..plan.retry import Failed
    from ..report.progress import Progress
    from ..transport.by_value import Outgoing
    from .audited import Impure
    from .headstart import Headstart
    from .move import Move
    from .noted import Brief, Noted
    from .request import Request

__all__ = ["Call"]

# Fewer items than this, of a call that was left before its end, say nothing about the next call.
_LEAST_ITEMS = 2


class Call:
    """The state behind a Stream.

    Args:
        request: what was asked for.
        source: the input.

    Attributes:
        plan: the plan in force; None until one was made.
        failures: the items that failed for good so far.
        begun: whether somebody has asked for a result.
        unused_name: the name to use in a warning if nobody ever asks; None for no warning.
    """

    def __init__(self, request: Request, source: Source) -> None:
        self.plan: Plan | None = None
        self.failures: list[Failed] = []
        self.begun = False
        self.unused_name: str | None = None
        self._request = request
        self._source = source
        self._policy = Policy(request, source)
        self._generator: Any = None
        self._current: Iterator[Any] = iter(())
        self._serial: Serial | None = None
        self._pace: Pace | None = None
        self._pump: Pump | None = None
        self._one = OneItem(request, source, self.failures)
        self._over = self._learnt = False
        self._input_stays: bool | None = None
        self._here = SerialTimes()
        self._move: Move | None = None
        self._tally = tally_for(record=request.options.record)
        self._progress: Progress | None = None

    @property
    def audit(self) -> tuple[Impure, ...]:
        """What an audit has found so far."""
        return () if self._request.recorder is None else tuple(self._request.recorder.impure)

    def length_hint(self) -> Any:
        """Return about how many results are still to come."""
        if self._generator.gi_frame is None:
            return 0  # the call was closed or has ended, even if the input has more items
        remaining = self._source.remaining()
        if remaining is None:
            return NotImplemented
        ahead = self._pump.ahead if self._pump is not None else 0
        return remaining + ahead + length_hint(self._current, 0)  # serial work, a generator, has no hint: 0

    def where(self) -> list[Where]:
        """Say where the items are that run now, from any thread."""
        from .places import in_caller

        pump, here = self._pump, in_caller(self._current, self._source.newest)
        return here if pump is None else [*here, *pump.where()]

    def close(self, *, dropped: bool = False) -> None:
        """Cancel what is not done and release what is held.

        Args:
            dropped: whether a destructor calls this; then nothing is written to disk.
        """
        self.unused_name = None
        current, self._current = self._current, iter(())
        if hasattr(current, "close"):
            current.close()
        else:
            deque(current, maxlen=0)  # drops results that workers had sent and that nobody wants
        if self._generator is not None:
            self._generator.close()
        if self._pump is not None:
            self._pump.close()  # it is closed already, unless a signal handler's exception prevented that
        if self.begun and not (self._learnt or (self._serial is not None and self._serial.failed)):
            # This call may have been read by `zip`, `islice` or `next` up to a known count: nobody asked for the end,
            # but all items may have run.
            self._learn(on_disk=not dropped)
        self._serial = None  # it refers back to this call; so the input is freed now, not at the next collection

    def phases(self) -> Generator[Iterable[Any], None, None]:
        """Return the generator of iterables of results."""
        self._generator = generator = self._tracked()
        return generator

    def _tracked(self) -> Generator[Iterable[Any], None, None]:
        self.begun = True
        self._one.seed()
        row, recorder, tally = self._request.row, self._request.recorder, self._tally
        tally.begin()
        if row is SERIAL or (row is AUTO and self._must_stay()):
            phases = self._serial_only()
        elif row is AUTO:
            phases = self._as_it_turns_out()
        else:
            phases = self._on_named()
        try:
            self._begin_progress()
            if recorder is not None:
                recorder.open()
            began = perf_counter()
            for phase in phases:
                tally.seconds.stepping += perf_counter() - began
                # Workers' results come as lists, and were written and counted when they came.
                watched = type(phase) is not list and (recorder or self._progress) is not None
                self._current = passed_on(phase, recorder, self._progress) if watched else iter(phase)
                if tally.records and type(phase) is not list:
                    self._current = recorded_here(self._current, tally, self._source.index, self.failures)
                yield self._current
                self._current, began = iter(()), perf_counter()
            tally.seconds.stepping += perf_counter() - began
            if recorder is not None:
                recorder.ended(None)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._learnt = True  # nothing is kept of a call that failed
            tally.close(error)
            if recorder is not None:
                recorder.ended(error)
            raise
        finally:
            phases.close()
            self._current = iter(())
            tally.close()
            tell(tally, self.noted)
            close_all(self._progress, recorder)

    def goes_on(self, began_at: float, now: float) -> None:
        """Take in that the items before the next one have run in the caller, from one moment to the other."""
        self._tally.goes_on(began_at, self._source.index)
        self._here.whole_seconds += now - began_at

    def tell_at_end(self, last: list[Noted | Brief]) -> None:
        """Have what is known of the call put into a list when it ends, in the place of what is there."""
        self._tally.last = last

    def noted(self) -> Noted:
        """Return what is known of the call so far, in numbers that hold nothing of the user's."""
        if self._source.failed_at and self._tally.ended_at is None:  # an item raised, and nobody has asked for more
            self._tally.close()
            self._tally.ended_at = self._source.failed_at
        return note(
            self._request, self._policy, self._source, self._tally, self._here, self._serial, self._pace
        )._replace(plan=self.plan, failed=len(self.failures), stays=self._stays(), audit=self.audit)

    def _stays(self) -> bool:
        withdrawal = self._pump.withdrawal if self._pump is not None else None
        unfit_now = self._request.function in unfit or (withdrawal is not None and withdrawal.for_good)
        return self._request.row is AUTO and (bool(self._input_stays) or unfit_now)

    def _begin_progress(self) -> None:
        wanted = self._request.options.progress
        if wanted is not False:
            from ..report.progress import begin

            self._progress = begin(wanted, self._source.remaining(), self.failures)

    def _must_stay(self) -> bool:
        return stays(self._request.function, self._request.options.n_jobs) or self._request.function in unfit

    def _serial_only(self) -> Generator[Iterable[Any], None, None]:
        self._learnt = True  # there is nothing to learn
        self._tally.serial_begins(self._source.index)
        yield self._one.all_here()

    # Work that starts in the caller and goes to workers when that pays.

    def _as_it_turns_out(self) -> Generator[Iterable[Any], None, None]:
        move = self._known_move()
        if move is not None:
            yield from self._on_workers(move)
        if not self._over:
            self._one.initialize()
            self._policy.waiting.note_begin()
        while not self._over:
            serial = self._serial = Serial(
                self._one.here(),
                self._source,
                leave=self._leave,
                before_thread=self._before_thread,
                attempt=self._one.attempt(),
            )
            self._tally.serial_begins(self._source.index)
            pump = yield from self._first_item(serial)
            if pump is None and not serial.is_over() and not self._leave(serial):
                yield from serial.phases()
            if serial.is_over():
                self._over = True
                break
            self._here.add(serial, SILENT_SECONDS)
            if pump is not None:
                if self._pace is not None and self._pace.seconds_per_item is None:
                    self._pace.seconds_per_item = serial.seconds_per_item
                pump.widen()
                self._tell()
                yield from self._finish(pump)
            else:
                assert self._move is not None  # otherwise the serial work would not have ended
                yield from self._on_workers(self._move)
        self._learn()

    # Code that decides, looks up, imports or starts something is the library's own. If it fails, for example because no
    # file or memory is to be had, the items stay in the caller.

    def _known_move(self) -> Move | None:
        try:
            if not fingerprint.remembers(self._request.function):
                return None
            self._policy.look_up()
            move = self._taken(self._policy.before_first())
            if move is None:
                self._policy.wait_as_predicted()
        except Exception as error:  # as said above
            self._stay(error)
            return None
        return move

    def _taken(self, move: Move | None) -> Move | None:
        """Make a move's plan the one in force, unless the items must stay."""
        if move is None or self._items_stay():
            return None
        if move.pays_missed:
            if not self._can_be_sent():
                return None
            machine.forget_missed()
        self.plan = move.plan
        return move

    def _items_stay(self, serial: Serial | None = None) -> bool:
        """Say whether the items cannot be read ahead or cannot be sent; workers are then not considered any more."""
        if self._input_stays is None or (serial is not None and not self._input_stays):
            kept = self._policy.kept_by(serial)
            if kept is not None:
                info("%s, so the items of %s stay in the caller", kept, self._request.name)
                if serial is not None:
                    holding.add(self._request.function)
                self._policy.stay()
            self._input_stays = kept is not None
        return self._input_stays

    def _can_be_sent(self) -> bool:
        """Say whether the function can be sent to workers. No warning is given, because nobody asked for workers."""
        from ..transport.bound import pieces_of

        try:
            pieces_of(self._request.function)
        except BaseException as error:  # pickling runs the user's code
            let_signals_through(error)
            debug("no workers for short calls of %r: %r", self._request.function, error)
            unfit.add(self._request.function)
            return False
        return True

    def _leave(self, serial: Serial) -> bool:
        """Say whether the rest should go to workers now."""
        policy = self._policy
        if serial.seconds < policy.patience_seconds:
            return False
        if not policy.looks.is_time(serial, self._source.remaining(), known=policy.looked_up):
            return False
        began = perf_counter()
        try:
            self._move = self._due_move(serial)
        except Exception as error:  # as said above
            self._stay(error)
            return False
        finally:
            seconds = perf_counter() - began
            serial.leave_out(seconds)
            policy.looks.took(serial, seconds)
            self._tally.seconds.deciding += seconds
        return self._move is not None

    def _due_move(self, serial: Serial) -> Move | None:
        policy = self._policy
        serial.note_cpu()
        if self._items_stay(serial):
            return None
        imported = serial.times.n == 1 and serial.first is not None and serial.first.imported
        if not policy.looked_up:
            policy.look_up(None if imported else serial)
            move = self._taken(policy.before_first())
            if move is not None:
                return move
        if (move := policy.waiting.to_threads(serial, self._source.remaining())) is not None:
            return self._taken(move)
        if imported:
            return None  # the first item imported something, so it says nothing of the next ones
        if not policy.is_due(serial):
            if policy.wants_transfer(serial):
                policy.measure_transfer(serial)
            return None
        measured = policy.measure_transfer(serial), policy.measure_carrying()
        if any(measured) and not policy.is_due(serial):
            return None
        return self._taken(policy.to_workers(serial))

    def _before_thread(self) -> None:
        try:
            self._policy.starting.method()
        except Exception as error:  # as said above
            self._stay(error)

    def _stay(self, error: BaseException) -> None:
        let_signals_through(error)
        info("the rest of %s stays in the caller: %r", self._request.name, error)
        self._policy.stay()
        self.plan = None

    def _learn(self, *, on_disk: bool = True) -> None:
        self._learnt = True
        if self._request.recorder is not None and self._request.recorder.reused:
            return  # the items that did not run would make the others look short
        try:
            here, serial = self._here, self._serial
            if self._pump is None:
                spent = here.seconds + serial.seconds if serial is not None else 0.0
                asked = self._policy.looks.any or self._policy.looked_up
                counts = serial is not None and (asked or self._request.function in _again)
                missed = self._policy.has_missed(serial) if serial is not None and counts else 0.0
                # `zip` with another input that ends first does not ask again after the last result.
                whole = self._over or self._source.remaining() == 0
                if whole and serial is not None and serial.times.n:
                    let_stay(self._request.function, spent, missed, distrusted=self._policy.is_distrusted())
                if serial is None or not self._policy.is_news(serial.times.n, spent):
                    return
                if not self._note_missed(serial, missed) and not asked:
                    _again.add(self._request.function)
                    return  # nobody had to ask, and the next call need not ask either
            if serial is not None:
                here.add(serial, SILENT_SECONDS)
            items = here.times.n + (self._pace.items if self._pace is not None else 0)
            if not self._over and items < _LEAST_ITEMS:
                return
            from .learning import Learning

            learning = Learning(self._request, self._source, self._policy)
            learning.remember(here.times, here.seconds, here.cpu_seconds, self._pace, self.plan, on_disk=on_disk)
        except Exception as error:  # as said above
            let_signals_through(error)
            debug("nothing is learnt of this call: %r", error)

    def _note_missed(self, serial: Serial, missed: float) -> bool:
        """Count what running workers would have saved a call that ran here; say whether they may start for the next."""
        policy = self._policy
        if missed <= 0:
            return False
        now = monotonic()
        # The cost of sending is measured only when it matters, because an item may be large.
        starts = policy.would_start(machine.missed(now) + missed)
        if starts:
            if not policy.knows_transfer():
                policy.measure_transfer(serial)
            policy.measure_carrying()
            if not policy.knows_transfer() or policy.has_missed(serial) <= 0:
                return True
        machine.miss(missed, now)
        return starts

    def _first_item(self, serial: Serial) -> Generator[Iterable[Any], None, Pump | None]:
        """Run the first item, with a headstart beside it if one is allowed; return the pump that was begun, if any."""
        headstart = self._headstart()
        if headstart is None:
            return None
        try:
            yield serial.first_item(headstart)
        except GeneratorExit:
            if headstart.pump is not None:
                headstart.pump.close()
            raise
        if headstart.pump is None:
            _short.add(self._request.function)
        return headstart.pump

    def _headstart(self) -> Headstart | None:
        """Return the headstart for the first item; None if there must be none, or need be none."""
        try:
            return self._headstart_wanted()
        except Exception as error:  # as said above
            self._stay(error)
            return None

    def _headstart_wanted(self) -> Headstart | None:
        if self._source.index or self._policy.known is not None or self._request.function in _short:
            return None
        self._policy.starting.method()  # asked now, before the headstart's thread is counted
        if self._one.seeded is not None or self._request.options.audit:
            return None  # how far the input was read tells which item runs, so it must not be read ahead
        source = self._source
        if not source.exact or source.begins_with_iterators() or self._request.options.start_method == "fork":
            return None  # the headstart's thread must not run code of the user's
        remaining = source.remaining()
        if remaining is None or remaining < 2 or in_import():  # asked last, as it costs 0.1 us per frame of the stack
            return None
        from .headstart import Headstart

        self._policy.waiting.note_first()
        return Headstart(self._policy.first_may_take, self._begin_beside)

    def _begin_beside(self) -> Pump:
        """Start workers on the items after the first one, which keeps one core busy itself unless it waits."""
        move = self._policy.beside_first()
        width = self._policy.width(move.plan, move.row)
        self.plan = move.plan
        outgoing = _outgoing()
        backend = self._open(move, max(1, width - 1), outgoing)
        try:
            return self._pump_on(move, backend, outgoing, width)
        except BaseException:
            backend.close(hurry=True)
            raise

    def _finish(self, pump: Pump, opened: tuple[Move, float] | None = None) -> Iterator[Iterable[Any]]:
        """Hand out the pump's results; `opened` tells the move that led there, and how long opening took."""
        items, item_seconds = self._paced()
        try:
            yield from pump
        finally:
            withdrawal = pump.withdrawal
            if (found := pump.backend.found) is not None:
                self._note_width(found)
            elif opened is not None:
                from .move import Visit

                now, seconds = self._paced()
                self._policy.visits.append(
                    Visit(*opened, pump.backend, pump.seconds, now - items, seconds - item_seconds, withdrawal)
                )
            if withdrawal is not None and withdrawal.unfit:
                unfit.add(self._request.function)
        if withdrawal is None:
            self._over = True
            return
        self.plan = None
        info("the rest of %s comes back to the caller: %s", self._request.name, withdrawal.reason)
        if withdrawal.for_good:
            self._policy.stay()
        else:
            self._policy.come_back(self._pace, pump.seconds)

    def _tell(self) -> None:
        """Log a move that was decided here, not by the user."""
        if self._request.row is AUTO and self.plan is not None:
            info("%s goes to %s: %s", self._request.name, self.plan.backend, self.plan.reason)

    def _note_width(self, found: int) -> None:
        """Take in how many workers were found to be best."""
        if self._pace is not None:
            self._pace.width = found
        plan = self.plan
        if plan is not None:
            self.plan = plan._replace(n_jobs=found, reason=f"{plan.reason}; {found} at once were best")

    def _paced(self) -> tuple[int, float]:
        return (0, 0.0) if self._pace is None else (self._pace.items, self._pace.seconds)

    # Work on workers.

    def _on_named(self) -> Generator[Iterable[Any], None, None]:
        if self._request.row.can.width != "own":  # of other workers the route is known when there are some
            self._look_up()
        yield from self._on_workers(self._policy.named(self._policy.width(None, self._request.row)))
        self._learn()

    def _look_up(self, route: str | None = None) -> None:
        """Find what is known of the function, which gives the length of the first chunks."""
        try:
            self._policy.look_up(route=route)
        except Exception as error:  # the first chunks can do without it
            let_signals_through(error)
            debug("what is known of the function is not used: %r", error)

    def _on_workers(self, move: Move) -> Iterator[Iterable[Any]]:
        """Run items on workers until the input is over or, under "auto", there are none or they do not help."""
        backend: Backend | None = None
        try:
            began = perf_counter()
            outgoing = _outgoing()
            width = self._policy.width(move.plan, move.row)
            backend = self._open(move, width, outgoing)
            if move.row.can.width == "own":
                self._look_up(backend.route)
            opened = move, perf_counter() - began
            self._tally.seconds.opening += opened[1]
            self.plan = move.plan if backend.width == move.plan.n_jobs else move.plan._replace(n_jobs=backend.width)
            pump = self._pump_on(move, backend, outgoing, width if move.row.can.width == "found" else None)
        except BaseException as error:
            if backend is not None:
                backend.close(hurry=True)
            if self._request.row is not AUTO or not isinstance(error, Exception):
                raise
            self._stay(error)
            if isinstance(error, SerializationError):
                unfit.add(self._request.function)
                import warnings

                warnings.warn(f"amorsize stays in one process: {error}", RuntimeWarning, stacklevel=2)
            return
        self._tell()
        yield from self._finish(pump, opened)

    def _open(self, move: Move, width: int, outgoing: Outgoing) -> Backend:
        from .move import job_of

        alone = None if self._serial is None else self._serial.seconds_per_item
        job = job_of(self._request, self._policy, move, width, self._one.to_send(), outgoing, alone)
        backend = self._request.options.backend
        return open_backend(move.row, job, None if isinstance(backend, str) else backend)

    def _pump_on(self, move: Move, backend: Backend, outgoing: Outgoing, width: int | None = None) -> Pump:
        from ..feed.pump import Pump

        if self._pace is None or self._pace.route != backend.route:
            self._pace = self._policy.pace_on(backend.route, self._serial)
        self._pace.seconds_per_item = self._policy.expected_seconds_per_item(self._serial)
        self._tally.serial_ends(self._source.index)
        self._pump = Pump(
            backend,
            self._source,
            self._request.options,
            self._pace,
            self.failures,
            self._one.to_send() if self._request.row is AUTO else None,
            start_seconds=self._policy.seconds_until_ready(),
            outgoing=outgoing,
            width=width,
            crosses=move.row.can.crosses,
            abandoned=self._request.abandoned,
            observer=self._tally,
            progress=self._progress,
            taken=None if self._request.recorder is None else self._request.recorder.taken,
        )
        self._tally.pumps_into(self._pump.order)
        return self._pump


def _outgoing() -> Outgoing:
    from ..transport.by_value import Outgoing

    return Outgoing()


# Functions with a call about which nobody had to ask (`looks`). What workers would have saved is counted from the next
# one on, because asking that costs a process a millisecond, and a single call gets nothing for it.
_again = FunctionSet()
# Functions whose first item was short once: a thread beside their next first item would cost more than it saves.
_short = FunctionSet()

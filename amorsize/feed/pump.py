"""The loop that moves chunks between a feed and a backend: reads the input ahead, keeps workers fed, hands results out.

An input that is not read as it is (see `source`) is only read in `next()`, and not while there are results that could
be handed out. If its items come fast and the user is slow, however, it is read all the same, because the workers would
otherwise stand idle. Each item is fixed when it is read; under "auto", an item that cannot be fixed runs in the caller
at once.

Under "auto" the caller works too when that helps: it runs short items while the workers start, and items that cannot be
sent. When workers turn out slower than the caller would be, the pump withdraws and leaves the rest to serial work.
"""

from __future__ import annotations

import warnings
from time import perf_counter, sleep, thread_time

from ..backends.base import Unsendable
from ..backends.events import Broken, Chunk, Lost, Results, Returned, Said
from ..errors import AmorsizeError, InitializerError, WorkerCrashError
from ..log import debug
from ..measure import machine
from ..plan.schedule import CHUNK_SECONDS, UNKNOWN_CHUNK_SECONDS, chunk_length, slice_length
from ..plan.width import START_WIDTH
from ..transport.memory import LEAST_SHARED_BYTES
from ..transport.payload import Outdated
from ..transport.remote import UnrebuiltItem, UnsentResult
from ..transport.serialize import fixed, fixer
from .cost import ChunkCost
from .feed import WINDOW_ITEMS, Feed
from .here import Here
from .judge import Judge, Withdrawal
from .outcome import Outcome
from .voice import Voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..backends.base import Backend
    from ..backends.events import Counts, Event, Failure, Observer
    from ..backends.where import Where
    from ..options import Options
    from ..plan.retry import Failed
    from ..seeding import Seeded
    from ..transport.by_value import Outgoing
    from .order import InOrder, Piece
    from .pace import Pace
    from .source import Source

__all__ = ["Pump"]

# How long the caller runs items before it looks again whether workers are ready. A smaller value means that the
# workers' first answers wait less for the caller; a larger one means fewer looks.
_OVERLAP_SECONDS = 0.001
# Chunks are not made longer than this, in bytes of items and results, if their items are large. A smaller value means
# more messages; a larger one means that a worker waits while much is copied, and that more memory is taken.
_CHUNK_BYTES = 8 << 20
# A user who asks again sooner than this gets the results that are ready before more of the input is read. With a larger
# value, workers wait while the user is busy.
_AWAY_SECONDS = 0.001
# How long a call that another thread may abandon waits before it looks whether that was done.
_ABANDONED_SECONDS = 0.2
# How long results are waited for before live input is looked at again.
_LIVE_SECONDS = 0.005
# After this many items in a row that hold iterators, the other items are taken to hold iterators, too.
_HOLDING_IN_A_ROW = 3
# Failures of the way to the worker and back, for which the item itself is not to blame.
_OF_THE_WAY = (UnrebuiltItem, UnsentResult)


class Pump:
    """Drives one call on one backend. Iterate it for lists of results.

    Args:
        backend: where chunks run.
        source: the input; the pump begins with its next item.
        options: the call's options.
        pace: what is known of the items' times; the pump adds to it.
        failures: where items that failed for good are listed; also an attribute.
        function: runs one item in the caller, under "auto" only; None where every item goes to a worker.
        start_seconds: how many seconds from now workers that are still starting are expected to be ready.
        outgoing: pickles items; the backend's job must have the same object.
        width: how many workers the pump is meant for, if the backend was opened with fewer.
        crosses: whether items are sent between processes; else one that cannot be pickled goes to a worker as it is.
        abandoned: a list that is no longer empty once another thread has abandoned the call; None if none may.
        observer: is told of every chunk.
        progress: counts the items that have ended; None if nobody wants to know.
        taken: keeps results that have come, and returns them as the user gets them; None if nobody keeps any.

    Attributes:
        withdrawal: why the workers got no more items, of which there may be more; None while they do.
        backend: where chunks run.
        seconds: how long the caller has spent here, waiting included, and what the user did between results excluded.
    """

    def __init__(
        self,
        backend: Backend,
        source: Source,
        options: Options,
        pace: Pace,
        failures: list[Failed],
        function: Callable[[Any], Any] | Seeded | None = None,
        *,
        start_seconds: float = 0.0,
        outgoing: Outgoing | None = None,
        width: int | None = None,
        crosses: bool = True,
        abandoned: list[bool] | None = None,
        observer: Observer | None = None,
        progress: Counts | None = None,
        taken: Callable[[Piece], Piece] | None = None,
    ) -> None:
        self.withdrawal: Withdrawal | None = None
        self.seconds = 0.0
        self.failures = failures
        self.backend = backend
        self._source, source.crosses = source, crosses
        self._options = options
        self._meant_width = width
        self._pace = pace
        self._feed = Feed(
            source.index,
            ordered=options.ordered,
            outcome=Outcome(options.retries, options.on_error == "return", failures),
            timeout=options.timeout,
            free_memory=machine.available_memory,
            progress=progress,
            taken=taken,
        )
        self._here = None if function is None else Here(function, self._feed)
        self._fix = fixed if function is None and not crosses else fixer(outgoing, try_first=function is not None)
        self._cost = ChunkCost()
        now = perf_counter()
        ordered_at = now if backend.start.ordered_at is None else backend.start.ordered_at
        self._judge = Judge(ordered_at, ordered_at + start_seconds)
        self._observer = observer
        self._abandoned = abandoned
        self._voice = Voice()
        self._over = self._held = False
        self._to_end = False  # whether the source may be asked for more although it may be at its end
        self._warned = False

    def __iter__(self) -> Iterator[list[Any]]:
        backend, order, cost = self.backend, self._feed.order, self._cost
        entered, away = thread_time(), 0.0
        ended: BaseException | None = None
        try:
            while self._advance(away):
                while (piece := order.pop()) is not None:
                    if piece.values:
                        cost.seconds += thread_time() - entered
                        left = perf_counter()
                        yield piece.values
                        away = perf_counter() - left
                        entered = thread_time()
                    if piece.error is not None:
                        if isinstance(piece.error, StopIteration):
                            self._source.end()  # as the builtin's iteration ends there
                            return
                        raise piece.error
        except GeneratorExit:
            raise
        except BaseException as error:
            # An error or an interrupt: nobody waits for what still runs.
            ended = error
            backend.close(hurry=True)
            raise
        finally:
            self._over = True
            backend.close()
            cost.learn(backend.route, 0.0 if self._here is None else self._here.seconds, backend.seconds_per_task)
            if self._observer is not None:
                self._observer.ended(ended)

    def _advance(self, away_seconds: float) -> bool:
        """Do what leads to the next results, waiting once at most; return False once there will be no more.

        Args:
            away_seconds: how long the user was busy with the last results before asking again.
        """
        order, judge = self._feed.order, self._judge
        entered = began = perf_counter()
        has_results = self._has_results(away_seconds)
        waits = not has_results and self._prefers_here()
        if not (has_results or waits):
            self._fill()
        self._voice.show()
        if not order.ready():
            if not self._work_here():
                if waits:
                    self._fill()  # a worker became ready in between, or the caller has found nothing to do
                if self.backend.busy() or self._feed.next_try_at() is not None:
                    began = self._wait(began)
                elif not order.ready() and not self._may_go_on():
                    self.seconds += perf_counter() - entered
                    self._end_with_input()
                    return False
            if not self._prefers_here():
                self._fill()
            judge.working_seconds += perf_counter() - began
            self._withdraw_if_slower()
        self.seconds += perf_counter() - entered
        self._feed.count()
        return True

    def _may_go_on(self) -> bool:
        """Say whether to ask the source for more, now that all results were handed out; if so, it will be asked."""
        if self.withdrawal is not None or self._feed.failed_at is not None:
            return False
        if self._source.held:
            self._to_end = True
        elif self._source.has_grown_behind():
            text = "a list became longer after the input that reads from it had been read ahead to its end"
            raise AmorsizeError(f"{text}: map it with backend='serial'")
        return self._to_end

    def _end_with_input(self) -> None:
        """Make sure that results do not end before the input: a backend may refuse items although it has none."""
        source = self._source
        if self.withdrawal is not None or self._feed.failed_at is not None or source.over or source.is_drained():
            return
        text = f"the backend {self.backend.route} has nothing to do, and takes no more items from number {source.index}"
        if self._here is None:
            raise AmorsizeError(f"{text} on: this is an error of the backend's")
        self.withdraw(text)

    def _has_results(self, away_seconds: float) -> bool:
        """Say whether results are to be handed out before more of the input is read, and there are some."""
        source = self._source
        if source.exact or not (source.slow or away_seconds < _AWAY_SECONDS):
            return False
        return self._looks_ready()

    def _looks_ready(self) -> bool:
        """Say whether results can be handed out, after taking in what the workers have said by now."""
        ready = self._feed.order.ready
        if not ready() and self.backend.busy():
            for event in self.backend.wait(0.0):
                self._take(event)
        return ready()

    def _wait(self, began: float) -> float:
        """Wait for the workers, or for the next try of an item; return since when the workers are judged."""
        due, entered, heard = self._feed.next_try_at(), perf_counter(), self._judge.heard
        pause = None if due is None else max(0.0, due - entered)
        if not self.backend.busy():
            if pause:
                sleep(pause)
            return began
        waits_for_start = not heard and self._here is not None and not self.backend.prompt
        if waits_for_start:
            left = max(self._start_left(), self._pace.seconds_per_item or 0.0)
            pause = left if pause is None else min(pause, left)
        events = self._wait_for_events(pause)
        if waits_for_start and not events and self.backend.starting():
            self.backend.ask_back()  # workers take longer than was expected, so the caller goes on meanwhile
            events = self.backend.wait(0.0)
        if self._observer is not None:
            self._observer.waited(perf_counter() - entered, starting=not heard)
        for event in events:
            self._take(event)
        # Workers are not judged by the time before the first answer, when they were starting.
        return began if heard == self._judge.heard else perf_counter()

    def _wait_for_events(self, pause: float | None) -> list[Event]:
        abandoned, progress = self._abandoned, self._feed.progress
        due = None if progress is None else progress.shows_in()
        if self._source.live:
            pause = _LIVE_SECONDS if pause is None else min(pause, _LIVE_SECONDS)
        if progress is not None and due is not None and (pause is None or due < pause):
            if events := self.backend.wait(due):
                return events
            progress.show()
            pause = None if pause is None else pause - due
        if abandoned is None:
            return self.backend.wait(pause)
        if abandoned:
            raise GeneratorExit
        return self.backend.wait(_ABANDONED_SECONDS if pause is None else min(pause, _ABANDONED_SECONDS))

    @property
    def _width(self) -> int:
        return self._meant_width or self.backend.width

    @property
    def order(self) -> InOrder:
        """The results that wait to be handed out."""
        return self._feed.order

    @property
    def ahead(self) -> int:
        """Number of items that were read, but whose results are still to be handed out."""
        return 0 if self._over else self._source.index - self._feed.order.next

    def where(self) -> list[Where]:
        """Say where the items are that run now, from any thread."""
        return [] if self._over else [*self.backend.where(), *(self._here.where() if self._here else ())]

    def step(self, timeout: float) -> None:
        """Keep the workers fed, and take in what they say within `timeout` seconds; no item runs in the caller."""
        self._held = True
        self._fill()
        if self.backend.busy() and not self._voice.holds_back(timeout):
            for event in self.backend.wait(timeout):
                self._take(event)
        self._held = False

    def widen(self) -> None:
        """Use all the workers that this pump is meant for; it may have begun with fewer."""
        self.backend.resize(self._width)

    def withdraw(self, reason: str) -> None:
        """Give workers no more items; an earlier withdrawal keeps its reason."""
        self.withdrawal = self.withdrawal or Withdrawal(reason)

    def close(self) -> None:
        """Give up the items under way, because nobody will iterate over their results."""
        self.backend.close(hurry=True)

    # Items to the workers.

    def _fill(self) -> None:
        """Submit as many chunks as there is room for."""
        feed, backend = self._feed, self.backend
        if not (self._to_end or feed.is_pending()) and self._source.is_drained():
            backend.flush()
            return
        entered = perf_counter()
        per_chunk = machine.seconds_per_chunk(backend.route)
        slice_seconds = 0.0 if self._options.chunksize else slice_length(per_chunk)
        seconds_per_item = self._pace.seconds_per_item
        room, nbytes = 1, 0
        while room > 0 and self.withdrawal is None:
            length = self._length(seconds_per_item)
            room = backend.room(None if seconds_per_item is None else seconds_per_item * length)
            for _ in range(room):
                chunk = self._chunk(length)
                if chunk is None:
                    room = 0
                    break
                if chunk.items:
                    if not self._cost.chunks and self._is_alone(chunk):
                        room = 0
                        break
                    self._cost.chunks += 1
                    try:
                        nbytes = backend.submit(chunk, slice_seconds)
                    except Unsendable as error:
                        self._keep_here(chunk, error)
                        break
                    self._cost.nbytes += nbytes
                    if self._observer is not None:
                        self._observer.sent(chunk, nbytes)
                    if self._here is not None:
                        self._here.holding = 0
                if not self._source.exact and self._is_interrupted():
                    room = 0
                    break
                if nbytes >= LEAST_SHARED_BYTES:
                    break  # there may be room for fewer such chunks
                length = self._length(seconds_per_item)
        backend.flush()
        if self._observer is not None:
            self._observer.fed(perf_counter() - entered)

    def _is_alone(self, chunk: Chunk) -> bool:
        """Say whether an input of unknown length was over after one item, which was then run in the caller."""
        source = self._source
        if self._here is None or self._held or len(chunk.items) > 1 or source.unfixed or source.slow:
            return False
        if source.remaining() is not None:
            return False
        second = self._chunk(1)
        if second is not None:
            self._feed.put_first(second)
            return False
        self._run_here(chunk)
        return True

    def _length(self, seconds_per_item: float | None) -> int:
        if self._options.chunksize is not None:
            return self._options.chunksize
        if seconds_per_item is None:
            return 1
        source = self._source
        remaining, most_seconds = source.remaining(), CHUNK_SECONDS
        if remaining is None:
            # It may be endless: chunks are so small that the window has room for two per worker. It may be over soon as
            # well: half as many items as were read are expected to be left.
            remaining, most_seconds = min(WINDOW_ITEMS, max(2 * self._width, source.index // 2)), UNKNOWN_CHUNK_SECONDS
        length = chunk_length(
            max(1, remaining),
            self._width,
            seconds_per_item,
            seconds_per_chunk=machine.seconds_per_chunk(self.backend.route),
            most_seconds=most_seconds,
        )
        cost = self._cost
        return length if cost.nbytes < _CHUNK_BYTES else max(1, min(length, _CHUNK_BYTES * cost.items // cost.nbytes))

    def _chunk(self, length: int, *, at_once: bool = False) -> Chunk | None:
        """Return up to `length` items; None if there are none now. With `at_once` they will run before more is read."""
        feed, source = self._feed, self._source
        if feed.is_pending() and feed.has_backlog(perf_counter()):
            return feed.from_backlog(length)
        if source.live and (feed.order.ready() or self.backend.busy()) and source.would_wait():
            return None
        lasting = self._options.chunksize is not None or source.remaining() is not None
        if not feed.may_read(source.index, length, self._width, lasting=lasting):
            return None
        first = source.index
        to_end, self._to_end = self._to_end, False
        items = source.take(
            length,
            to_end=to_end,
            fix=None if at_once and not self._options.retries else self._fix,
            plain_only=self._held,
            in_time=self._options.chunksize is None,
        )
        if not items and source.unfixed is None:
            if source.error is not None:
                feed.end_at(source.index, source.error)
            return None
        return Chunk(first, items)

    def _is_interrupted(self) -> bool:
        """Run the item that cannot wait, if one was read; say whether to stop reading, because results are ready."""
        source = self._source
        if source.unfixed is None and not source.slow:
            return False
        self.backend.flush()
        if source.unfixed is not None:
            (item, error), source.unfixed = source.unfixed, None
            refusal = Unsendable(source.index - 1, error, item)
            refusal.__cause__ = error
            self._run_at_once(refusal, item)
        return self._feed.failed_at is not None or self._looks_ready()

    # Items in the caller.

    def _work_here(self) -> bool:
        """Run a few items in the caller, if there are any for it to run; say whether there were."""
        here = self._here
        if here is None:
            return False
        if here.mine:
            index, item = here.mine.popleft()
            self._run_here(Chunk(index, [item]))
            return True
        if self.withdrawal is not None:
            if not self._feed.has_backlog(perf_counter()):
                return False
            chunk: Chunk | None = self._chunk(1)
        else:
            seconds_per_item, left = self._pace.seconds_per_item, self._start_left()
            if seconds_per_item is None or seconds_per_item > left / 2 or not self.backend.starting():
                return False
            length = max(1, int(min(_OVERLAP_SECONDS, left / 4) / max(seconds_per_item, 1e-7)))
            chunk = self._chunk(length if self._source.exact else 1, at_once=True)
        if chunk is None:
            return False
        began = thread_time()
        self._run_here(chunk)
        self._is_interrupted()
        here.seconds += thread_time() - began
        return True

    def _run_here(self, chunk: Chunk) -> None:
        assert self._here is not None  # otherwise nothing would be left for the caller
        began = perf_counter()
        try:
            for index, item in enumerate(chunk.items, chunk.first):
                self._here.run(index, item, perf_counter)
        finally:
            if self._observer is not None:
                self._observer.ran_here(chunk.first, len(chunk.items), began, perf_counter() - began)

    def _start_left(self) -> float:
        """Return for how many more seconds workers are expected to start.

        Once they take longer than was expected, they are expected to take as long again; this is right within a factor
        of two whatever they take.
        """
        now = perf_counter()
        return max(self._judge.ready_at - now, now - self._judge.ordered_at)

    def _prefers_here(self) -> bool:
        """Say whether the caller runs the next items because they will be over before a worker can take them.

        What is submitted to workers that have yet to load the function would wait for them.
        """
        if self._here is None or self._held or self.backend.prompt or self.withdrawal is not None:
            return False
        seconds_per_item = self._pace.seconds_per_item
        if seconds_per_item is None or seconds_per_item > self._start_left() / 2:
            return False
        return self.backend.starting()

    def _keep_here(self, chunk: Chunk, refusal: Unsendable) -> None:
        """Keep an item that cannot be sent, and have the rest of its chunk submitted again: nothing of it was sent."""
        if self._held:
            self.withdrawal = Withdrawal(str(refusal))
            self._feed.hand_back(chunk)
            return
        at = refusal.index - chunk.first
        self._feed.put_first(Chunk(refusal.index + 1, chunk.items[at + 1 :]))
        self._feed.put_first(Chunk(chunk.first, chunk.items[:at]))
        self._run_at_once(refusal, chunk.items[at])

    def _run_at_once(self, refusal: Unsendable, item: Any) -> None:
        """Run an item that cannot be sent, if the caller may, and warn once; withdraw if all items seem like it."""
        if self._here is None:
            self._feed.give_up(refusal.index, refusal, 1)
            return
        self._here.holding += 1
        if refusal.holds_iterator:
            debug("an item stays in the caller: %s", refusal)
            if self._here.holding >= _HOLDING_IN_A_ROW and self.withdrawal is None:
                self.withdrawal = Withdrawal(str(refusal), for_good=True)
        elif not self._warned:
            self._warned = True  # more such items may follow, and one warning is enough
            warnings.warn(f"amorsize runs it in the caller: {refusal}", RuntimeWarning, stacklevel=2)
        self._run_here(Chunk(refusal.index, [item]))

    def _withdraw_if_slower(self) -> None:
        """Leave the rest to the caller if it would have done the workers' items, one after another, in less time."""
        if self._here is None or self.withdrawal is not None:
            return
        found, cpu_seconds = self.backend.found, self._pace.cpu_seconds
        if found == 1:
            self.withdrawal = Withdrawal("more threads than one did not help")
        elif found is not None and found <= START_WIDTH and self._judge.finds_computing(cpu_seconds):
            self.withdrawal = Withdrawal("the items compute, and threads share one interpreter")
        elif self._judge.finds_slow(self._pace.seconds, looks_often=self._source.live):
            self.withdrawal = Withdrawal("workers turned out slower than the caller")

    # What is heard from workers.

    def _take(self, event: Event) -> None:
        if isinstance(event, Said):
            self._voice.take(event, later=self._held)
            return
        if self._observer is not None:
            self._observer.heard(event)
        if isinstance(event, Results):
            self._take_results(event)
        elif isinstance(event, Returned):
            self._feed.hand_back(event.chunk)
        elif isinstance(event, Lost):
            if not self._feed.lose(event, perf_counter()):
                self._give_up_workers(event)
        elif self._here is None or isinstance(event.error, InitializerError):
            raise event.error
        elif isinstance(event, Broken):
            self._go_without(event.error)
        else:
            if isinstance(event.error, Outdated):
                self.withdraw(str(event.error))
                debug("stays in one process: %s", event.error)
            else:
                if self.withdrawal is None:
                    self._voice.warning = f"amorsize stays in one process: {event.error}"
                self.withdrawal = Withdrawal(str(event.error), unfit=True, for_good=True)
            self._feed.hand_back(event.chunk)

    def _take_results(self, results: Results) -> None:
        self._pace.add(results)
        cost, judge = self._cost, self._judge
        cost.items += len(results.values)
        cost.nbytes += results.bytes_out
        if not judge.heard:
            judge.begin(self._pace.seconds)
        self._feed.take_results(results, self._take_failure)

    def _take_failure(self, index: int, failure: Failure) -> None:
        """Take in that an item failed on a worker; the caller runs it if it failed only on the way there or back."""
        if self._here is None or type(failure.error) not in _OF_THE_WAY:
            self._feed.fail(index, failure, perf_counter())
            return
        self._here.mine.append((index, failure.item))
        if type(failure.error) is UnsentResult and not (self.withdrawal and self.withdrawal.unfit):
            self.withdrawal = Withdrawal(str(failure.error), unfit=True, for_good=True)
            self._voice.warning = f"amorsize stays in one process, and runs such items again: {failure.error}"
            self.backend.ask_back()

    def _give_up_workers(self, lost: Lost) -> None:
        """Leave the rest to the caller, or give up, because workers die before they begin anything."""
        assert lost.rest is not None
        if self._here is None:
            raise WorkerCrashError(lost.rest.first, lost.exitcode, free_memory=machine.available_memory())
        self._feed.hand_back(lost.rest)
        self._go_without(WorkerCrashError(lost.rest.first, lost.exitcode))

    def _go_without(self, error: BaseException) -> None:
        """Leave the rest to the caller, because no workers can be had."""
        debug("the rest stays in the caller: %r", error)
        unfit = self.withdrawal is not None and self.withdrawal.unfit
        self.withdrawal = Withdrawal(f"no worker to be had: {error!r}", unfit, for_good=True)

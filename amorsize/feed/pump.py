"""One call's life on workers: reads the input ahead, keeps workers fed, puts results in order, decides about losses.

Pieces of input wait in a backlog when they come back (a time slice was over, a worker died, an item is tried again);
the backlog goes before new input. Results wait by position until all before them are there. Reading ahead stops when
`WINDOW_ITEMS` items or `WINDOW_BYTES` bytes of results are on their way; the oldest missing piece is always under way
or in the backlog, so that never blocks for good.

An input that is not read as it is (`source`) is only read in `next()`, and not while results are ready that were not
handed out: unless its items come fast and the user is slow, for then the workers would stand idle. Each item is fixed
when it is read; one that cannot be runs in the caller at once under "auto".

Under "auto" the caller works too when it helps: it runs short items while the workers start, and items that cannot be
sent; and the run withdraws, leaving the rest to serial work, when workers turn out slower than the caller would be.
"""

from __future__ import annotations

import warnings
from collections import deque
from heapq import heappop, heappush
from time import perf_counter, sleep, thread_time

from ..backends.base import Unsendable
from ..backends.events import Broken, Chunk, Done, Failure, Lost
from ..errors import (
    AmorsizeError,
    InitializerError,
    ItemTimeoutError,
    SerializationError,
    WorkerCrashError,
    add_index,
    raised_by,
    signal_handlers,
)
from ..lean import NamedTuple
from ..log import debug
from ..measure import machine
from ..plan.retry import NOT_OF_ITEMS, Failed, backoff_seconds
from ..plan.schedule import CHUNK_SECONDS, SLICE_SECONDS, UNKNOWN_CHUNK_SECONDS, chunk_length
from ..rng import runs_items
from ..seeding import Seeded
from ..transport.payload import Outdated
from ..transport.remote import UnrebuiltItem, UnsentResult
from ..transport.serialize import dump_item, load, rebuilt
from .pace import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..backends.base import Backend
    from ..backends.events import Event
    from ..options import Options
    from ..rng import Streams
    from .source import Source

__all__ = ["Pace", "Run"]

# Smaller: a long item at the head leaves workers idle. Larger: more memory, more work lost with an abandoned iterator.
WINDOW_ITEMS = 4096
WINDOW_BYTES = 64 << 20
# Shorter: the workers' first answers wait less for the caller. Longer: fewer looks at whether they are ready.
_OVERLAP_SECONDS = 0.001
# Workers are judged after this long: before, their start and the first small chunks are all there is.
_JUDGED_SECONDS = 0.050
# How much faster than the workers the caller must look before the run withdraws: a slow machine looks uneven.
_SLOWER_SHARE = 0.7
# Results up to this size are handed on together. More: what the user has done with is kept for longer.
_JOINED_BYTES = 1 << 14
# Workers that die before they begin anything, so many in a row, will not do better.
_FRUITLESS_DEATHS = 3
# Users who are back sooner than this have their results before more is read. Longer: workers wait for what they do.
_AWAY_SECONDS = 0.001
# So many items in a row that hold iterators, and the others are taken to do so, too.
_HOLDING_IN_A_ROW = 3
# Fewer chunks say little of what one costs; larger ones say more of their items, or of their bytes.
_CHUNKS_LEARNT_FROM = 32
_SMALL_CHUNK_ITEMS = 8
_SMALL_CHUNK_BYTES = 10_000


# Failures that are none of the item's own.
_OF_THE_WAY = (UnrebuiltItem, UnsentResult)
class _Piece(NamedTuple):
    values: list[Any]
    error: BaseException | None
    bytes_out: int


class Run:
    """Drives one call on one backend. Iterate it for lists of results, in order.

    Args:
        backend: where chunks run.
        source: the input, from the first item that this run is to do.
        options: the call's options.
        n_jobs: number of workers, for the chunk schedule.
        pace: what is known of the items' times; this run adds to it.
        failures: where items that failed for good are listed.
        function: runs one item in the caller, under "auto" only; None where every item goes to a worker.
        start_seconds: how long workers that are not ready yet are expected to take until they are.

    Attributes:
        withdrawn: why the workers got no more items, in words; None while they do. The input may then have more.
        unfit: whether workers cannot have the function, or not give back its results.
        broken: whether no worker was left, and none could be had.
        keeps_all: whether it withdrew because the items hold iterators, so that others are not worth a try.
    """

    def __init__(
        self,
        backend: Backend,
        source: Source,
        options: Options,
        n_jobs: int,
        pace: Pace,
        failures: list[Failed],
        function: Callable[[Any], Any] | Seeded | None = None,
        start_seconds: float = 0.0,
    ) -> None:
        self.failures = failures
        self.withdrawn: str | None = None
        self.unfit = self.broken = False
        self.keeps_all = False
        self._backend = backend
        self._source = source
        self._options = options
        self._n_jobs = n_jobs
        self._pace = pace
        self._here = -1
        self.streams: Streams | None = None
        self._function: Callable[[Any], Any] | None
        if isinstance(function, Seeded):
            self.streams, self._function = function.begin(lambda: self._here, keep=True)
        else:
            self._function = function
        self._ready_at = perf_counter() + start_seconds
        self._began = 0.0
        self._heard = self._over = False
        self._working_seconds = 0.0
        self._judged_seconds = 0.0
        self._held = False
        self._warned = False
        self._warning: str | None = None
        self._limits = signal_handlers() if function is not None else frozenset()
        self._mine: deque[tuple[int, Any]] = deque()  # items that only the caller can run
        self._backlog: deque[Chunk] = deque()
        self._pieces: dict[int, _Piece] = {}
        self._next = source.index
        self._bytes_waiting = 0
        self._tries: dict[int, int] = {}
        self._later: list[tuple[float, Chunk]] = []  # a heap: items to be tried again, and when
        self._as_done: deque[_Piece] = deque()
        self._failed_at: int | None = None
        self._to_end = False  # whether the source may be asked for what it may not have
        self._holding = 0
        self._types_rebuilt: set[type] = set()
        self._window_items = WINDOW_ITEMS
        self._fruitless_deaths = 0
        self._chunks = self._items_back = self._bytes_out = 0
        self._busy_seconds = 0.0  # the caller's CPU time for this run, items in the caller included
        self._here_seconds = 0.0

    def __iter__(self) -> Iterator[list[Any]]:
        backend = self._backend
        entered, away = thread_time(), 0.0
        try:
            while self._advance(away):
                while (piece := self._pop()) is not None:
                    self._bytes_waiting -= piece.bytes_out
                    self._next += len(piece.values)
                    if piece.values:
                        self._busy_seconds += thread_time() - entered
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
        except BaseException:
            # An error or an interrupt: nobody waits for what still runs.
            backend.kill()
            raise
        finally:
            self._over = True
            backend.close()
            self._learn()

    def _advance(self, away_seconds: float) -> bool:
        """Do what leads to the next results, waiting once at most; false once there will be none.

        Args:
            away_seconds: how long the user was away with the results before.
        """
        self._began = perf_counter()
        if not self._has_results(away_seconds):
            self._fill()
        self._say()
        if not self._ready():
            if not self._work_here():
                if self._backend.busy() or self._later:
                    self._wait()
                elif not self._may_go_on():
                    return False
            self._fill()
            self._working_seconds += perf_counter() - self._began
            self._withdraw_if_slower()
        return True

    def _may_go_on(self) -> bool:
        """Have the source asked for more, now that all its results were handed out; say whether it is to be."""
        if self.withdrawn is not None or self._failed_at is not None:
            return False
        if self._source.held:
            self._to_end = True
        elif self._source.has_grown_behind():
            text = "a list became longer after the input that reads from it had been read ahead to its end"
            raise AmorsizeError(f"{text}: map it with backend='serial'")
        return self._to_end

    def _has_results(self, away_seconds: float) -> bool:
        """Say whether results come before more of the input is read; look for them where they do."""
        source = self._source
        if source.exact or not (source.slow or away_seconds < _AWAY_SECONDS):
            return False
        return self._looks_ready()

    def _looks_ready(self) -> bool:
        """Say whether results can be handed out, of those too that have come by now."""
        if not self._ready() and self._backend.busy():
            for event in self._backend.wait(0.0):
                self._take(event)
        return self._ready()

    def _learn(self) -> None:
        """Take in what a chunk cost the caller."""
        chunks, nbytes = self._chunks, self._backend.bytes_in + self._bytes_out
        small = self._items_back <= chunks * _SMALL_CHUNK_ITEMS and nbytes <= chunks * _SMALL_CHUNK_BYTES
        if chunks >= _CHUNKS_LEARNT_FROM and small:
            machine.learn_chunk(self._backend.route, (self._busy_seconds - self._here_seconds) / chunks)

    def _wait(self) -> None:
        """Wait for the workers, or for the time of the next retry."""
        pause = max(0.0, self._later[0][0] - perf_counter()) if self._later else None
        if self._backend.busy():
            for event in self._backend.wait(pause):
                self._take(event)
        elif pause:
            sleep(pause)

    @property
    def ahead(self) -> int:
        """Number of items that were read and whose results are still to be handed out."""
        return 0 if self._over else self._source.index - self._next

    def step(self, timeout: float) -> None:
        """Keep the workers fed, and take in what they say within `timeout` seconds; no item runs in the caller."""
        self._held = True
        self._fill()
        if self._backend.busy():
            for event in self._backend.wait(timeout):
                self._take(event)
        self._held = False

    def widen(self) -> None:
        """Use all the workers that the run is meant for; it may have begun with fewer."""
        self._backend.widen(self._n_jobs)

    def close(self) -> None:
        """Give up a run that nobody will iterate."""
        self._backend.kill()

    def _fill(self) -> None:
        """Submit what there is room for."""
        if not (self._backlog or self._later or self._to_end) and self._source.is_drained():
            self._backend.flush()
            return
        slice_seconds = 0.0 if self._options.chunksize else SLICE_SECONDS
        seconds_per_item = self._pace.seconds_per_item
        room = 1
        while room > 0 and self.withdrawn is None:
            length = self._length(seconds_per_item)
            room = self._backend.room(None if seconds_per_item is None else seconds_per_item * length)
            for _ in range(room):
                chunk = self._chunk(length)
                if chunk is None:
                    room = 0
                    break
                if chunk.items:
                    self._chunks += 1
                    try:
                        self._backend.submit(chunk, slice_seconds)
                    except Unsendable as error:
                        self._keep_here(chunk, error)
                        break
                    self._holding = 0
                if not self._source.exact and self._is_interrupted():
                    room = 0
                    break
                length = self._length(seconds_per_item)
        self._backend.flush()

    def _is_interrupted(self) -> bool:
        """Run an item that cannot wait, if one was read; say whether reading is to end here, for results are ready."""
        source = self._source
        if source.unfixed is None and not source.slow:
            return False
        self._backend.flush()
        if source.unfixed is not None:
            (item, error), source.unfixed = source.unfixed, None
            self._run_at_once(source.index - 1, item, error)
        return self._failed_at is not None or self._looks_ready()

    def _run_at_once(self, index: int, item: Any, error: Exception) -> None:
        refusal = Unsendable(index, error, item)
        refusal.__cause__ = error
        if self._function is None:
            self._settle(index, refusal, 1)
        else:
            self._note_kept(refusal)
            self._run_here(self._function, index, item)

    def _note_kept(self, refusal: Unsendable) -> None:
        """An item runs in the caller since it cannot be sent: say so once; leave the rest, too, where all look so."""
        self._holding += 1
        if refusal.holds_iterator:
            debug("an item stays in the caller: %s", refusal)
            if self._holding >= _HOLDING_IN_A_ROW and self.withdrawn is None:
                self.withdrawn, self.keeps_all = str(refusal), True
        elif not self._warned:
            self._warned = True  # others of its kind may follow; one word is enough
            warnings.warn(f"amorsize runs it in the caller: {refusal}", RuntimeWarning, stacklevel=2)

    def _fix(self, item: Any) -> bytes:
        """Pickle an item; under "auto", where another could run it, see that the first of a type can be rebuilt."""
        data = dump_item(item, self._backend.outgoing)
        if self._function is not None and type(item) not in self._types_rebuilt:
            load(data)
            self._types_rebuilt.add(type(item))
        return data

    def _work_here(self) -> bool:
        """Run a little in the caller, if there is anything for it to do; say whether there was."""
        function = self._function
        if function is None:
            return False
        if self._mine:
            self._run_here(function, *self._mine.popleft())
            return True
        if self.withdrawn is not None:
            if not self._has_backlog():
                return False
            chunk: Chunk | None = self._chunk(1)
        else:
            # While workers start, items that will be over before they are ready.
            seconds_per_item = self._pace.seconds_per_item
            left = self._ready_at - perf_counter()
            if seconds_per_item is None or seconds_per_item > left / 2 or self._backend.any_ready():
                return False
            length = max(1, int(min(_OVERLAP_SECONDS, left / 4) / max(seconds_per_item, 1e-7)))
            chunk = self._chunk(length if self._source.exact else 1, at_once=True)
        if chunk is None:
            return False
        began = thread_time()
        for index, item in enumerate(chunk.items, chunk.first):
            self._run_here(function, index, item)
        self._is_interrupted()
        self._here_seconds += thread_time() - began
        return True

    @runs_items("self")
    def _run_here(self, function: Callable[[Any], Any], index: int, item: Any) -> None:
        try:
            item = rebuilt(item)
        except Exception as error:  # the user's code
            refusal = SerializationError(f"item {index} could not be rebuilt: {error!r}")
            refusal.__cause__ = error
            self._settle(index, refusal, 1)
            return
        self._here = index
        if self.streams is not None:
            self.streams.restart()  # it may be tried again
        try:
            value = function(item)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # the user's function
            if raised_by(self._limits, error):
                raise  # a limit on the whole, which happened to strike here
            self._take_failure(index, Failure(error, item))
        else:
            self._put(index, _Piece([value], None, 0))

    def _withdraw_if_slower(self) -> None:
        """Leave the rest to the caller if the workers' items, one after another, would have been done sooner there."""
        if self._function is None or self.withdrawn is not None:
            return
        if not self._heard or self._working_seconds < _JUDGED_SECONDS:
            return
        in_caller = self._pace.seconds - self._judged_seconds
        if in_caller < _SLOWER_SHARE * self._working_seconds:
            self.withdrawn = "workers turned out slower than the caller"
        self._judged_seconds += in_caller
        self._working_seconds = 0.0

    def _length(self, seconds_per_item: float | None) -> int:
        if self._options.chunksize is not None:
            return self._options.chunksize
        if seconds_per_item is None:
            return 1
        remaining, most_seconds = self._source.remaining(), CHUNK_SECONDS
        if remaining is None:
            # Such an input may be endless: chunks are kept small enough for two a worker in the window.
            remaining, most_seconds = WINDOW_ITEMS, UNKNOWN_CHUNK_SECONDS
        return chunk_length(
            max(1, remaining),
            self._n_jobs,
            seconds_per_item,
            seconds_per_chunk=machine.seconds_per_chunk(self._backend.route),
            most_seconds=most_seconds,
        )

    def _has_backlog(self) -> bool:
        while self._later and self._later[0][0] <= perf_counter():
            self._requeue(heappop(self._later)[1])
        return bool(self._backlog)

    def _chunk(self, length: int, *, at_once: bool = False) -> Chunk | None:
        """Return up to `length` items; None if there are none now. `at_once`: they run before more is read."""
        if (self._backlog or self._later) and self._has_backlog():
            chunk = self._backlog.popleft()
            if len(chunk.items) > length:
                self._backlog.appendleft(Chunk(chunk.first + length, chunk.items[length:]))
                chunk = Chunk(chunk.first, chunk.items[:length])
            return chunk
        ahead = self._source.index - self._next
        fixed = self._options.chunksize is not None or self._source.remaining() is not None
        if fixed:  # chunks become shorter towards the end, and what is under way is of the longer ones
            self._window_items = max(self._window_items, 3 * self._n_jobs * length)
        full = self._bytes_waiting >= WINDOW_BYTES or ahead + length > self._window_items
        if self._failed_at is not None or full:
            return None
        first = self._source.index
        to_end, self._to_end = self._to_end, False
        items = self._source.take(
            length,
            to_end=to_end,
            fix=None if at_once and not self._options.retries else self._fix,
            plain_only=self._held,
            in_time=self._options.chunksize is None,
        )
        if not items and self._source.unfixed is None:
            if self._source.error is not None:
                self._fail_at(self._source.index, self._source.error)
            return None
        return Chunk(first, items)

    def _keep_here(self, chunk: Chunk, refusal: Unsendable) -> None:
        if self._held:
            self.withdrawn = str(refusal)
            self._requeue(chunk)
            return
        at = refusal.index - chunk.first
        if chunk.items[at + 1 :]:
            self._backlog.appendleft(Chunk(refusal.index + 1, chunk.items[at + 1 :]))
        if chunk.items[:at]:
            self._backlog.appendleft(Chunk(chunk.first, chunk.items[:at]))
        if self._function is None:
            self._settle(refusal.index, refusal, 1)
        else:
            self._note_kept(refusal)
            self._run_here(self._function, refusal.index, chunk.items[at])

    def _take(self, event: Event) -> None:
        if isinstance(event, Done):
            if event.items:
                self._fruitless_deaths = 0
            self._take_done(event)
        elif isinstance(event, Lost):
            self._take_lost(event)
        elif self._function is None or isinstance(event.error, InitializerError):
            raise event.error
        elif isinstance(event, Broken):
            self._go_without(event.error)
        else:
            if isinstance(event.error, Outdated):
                self.withdrawn = str(event.error)
                debug("stays in one process: %s", event.error)
            else:
                if self.withdrawn is None:
                    self._warning = f"amorsize stays in one process: {event.error}"
                self.withdrawn, self.unfit = str(event.error), True
            self._requeue(event.chunk)

    def _go_without(self, error: BaseException) -> None:
        """Leave the rest to the caller: there are no workers to be had."""
        debug("the rest stays in the caller: %r", error)
        self.withdrawn, self.broken = f"no worker to be had: {error!r}", True

    def _say(self) -> None:
        """Warn of what came up. Not where it came up: that may be in a thread, and a warning may be made an error."""
        if self._warning is not None:
            text, self._warning = self._warning, None
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _take_done(self, done: Done) -> None:
        self._pace.add(done)
        self._items_back += done.items
        self._bytes_out += done.bytes_out
        if not self._heard:
            # Until now the workers were starting, and an earlier run may have used the same pace.
            self._heard = True
            self._began, self._working_seconds, self._judged_seconds = perf_counter(), 0.0, self._pace.seconds
        if done.rest is not None:
            self._requeue(done.rest)
        if not done.failures:
            if done.values:
                self._put(done.first, _Piece(done.values, None, done.bytes_out))
            return
        start, bytes_out = 0, done.bytes_out
        for index in sorted(done.failures):
            at = index - done.first
            if at > start:
                self._put(done.first + start, _Piece(done.values[start:at], None, bytes_out))
                bytes_out = 0
            self._take_workers_failure(index, done.failures[index])
            start = at + 1
        if start < len(done.values):
            self._put(done.first + start, _Piece(done.values[start:], None, bytes_out))

    def _take_workers_failure(self, index: int, failure: Failure) -> None:
        """Take in what a worker says of an item; what only the way there or back made fail, the caller can do."""
        if self._function is None or type(failure.error) not in _OF_THE_WAY:
            self._take_failure(index, failure)
            return
        self._mine.append((index, failure.item))
        if type(failure.error) is UnsentResult and not self.unfit:
            self.withdrawn, self.unfit = str(failure.error), True
            self._warning = f"amorsize stays in one process, and runs such items again: {failure.error}"
            self._backend.ask_back()

    def _take_failure(self, index: int, failure: Failure) -> None:
        tries = self._tries.get(index, 0) + 1
        error = failure.error
        if tries <= self._options.retries and not isinstance(error, NOT_OF_ITEMS):
            self._tries[index] = tries
            heappush(self._later, (perf_counter() + backoff_seconds(tries), Chunk(index, [failure.item])))
        else:
            self._settle(index, error, tries)

    def _take_lost(self, lost: Lost) -> None:
        if lost.running is None and lost.finished is None:
            self._fruitless_deaths += 1
            if self._fruitless_deaths > _FRUITLESS_DEATHS and lost.rest is not None:
                if self._function is not None:
                    self._requeue(lost.rest)
                    self._go_without(WorkerCrashError(lost.rest.first, lost.exitcode))
                    return
                raise WorkerCrashError(lost.rest.first, lost.exitcode, free_memory=machine.available_memory())
        else:
            self._fruitless_deaths = 0
        options = self._options
        again = options.retries > 0 or options.on_error == "return"
        finished = lost.finished
        if finished is not None:
            if not again:
                culprit = lost.running.first if lost.running else finished.first
                self._settle(finished.first, self._crash(culprit, lost), 1)
            elif lost.running is not None:
                self._requeue(finished)
            elif len(finished.items) > 1:
                # It died with the results, perhaps of one of them: one by one, that one will stand alone.
                for index, item in enumerate(finished.items, finished.first):
                    self._requeue(Chunk(index, [item]))
            else:
                self._take_failure(finished.first, Failure(self._crash(finished.first, lost), finished.items[0]))
        if lost.running is not None and (finished is None or again):
            index, (item,) = lost.running
            self._take_failure(index, Failure(self._crash(index, lost), item))
        self._requeue(lost.rest)

    def _requeue(self, chunk: Chunk | None) -> None:
        if chunk is not None and (self._failed_at is None or chunk.first < self._failed_at):
            self._backlog.append(chunk)

    def _crash(self, index: int, lost: Lost) -> WorkerCrashError | ItemTimeoutError:
        if lost.timed_out:
            limit: float = self._options.timeout  # type: ignore[assignment]  # or nothing would have been late
            return ItemTimeoutError(index, limit, tries=self._tries.get(index, 0) + 1)
        return WorkerCrashError(
            index,
            lost.exitcode,
            lost=len(lost.finished.items) if lost.finished else 0,
            tries=self._tries.get(index, 0) + 1,
            free_memory=machine.available_memory() if lost.exitcode == -9 else None,
        )

    def _settle(self, index: int, error: BaseException, tries: int) -> None:
        """An item has failed for good: its error stands in its place, or ends the run there."""
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, StopIteration):  # no failure: the builtin's iteration ends there too
            self._fail_at(index, error)
            return
        self.failures.append(Failed(index, add_index(error, index), tries))
        if self._options.on_error == "return" and not isinstance(error, GeneratorExit):
            self._put(index, _Piece([error], None, 0))
        else:
            self._fail_at(index, error)

    def _fail_at(self, index: int, error: BaseException) -> None:
        # Nothing after this position will be wanted; what is before it still is.
        self._failed_at = index if self._failed_at is None else min(index, self._failed_at)
        self._put(index, _Piece([], error, 0))
        self._backlog = deque(chunk for chunk in self._backlog if chunk.first < index)
        self._later = sorted(entry for entry in self._later if entry[1].first < index)

    def _put(self, index: int, piece: _Piece) -> None:
        if self._options.ordered:
            self._pieces[index] = piece
        else:
            self._as_done.append(piece)
        self._bytes_waiting += piece.bytes_out

    def _ready(self) -> bool:
        return self._next in self._pieces if self._options.ordered else bool(self._as_done)

    def _pop(self) -> _Piece | None:
        """Return the next results; those of short chunks together, for each piece costs on its way to the user."""
        piece = self._peek(self._next)
        if piece is None:
            return None
        values, error, bytes_out = piece
        self._remove(self._next)
        while error is None and bytes_out < _JOINED_BYTES:
            at = self._next + len(values)
            piece = self._peek(at)
            if piece is None or piece.bytes_out >= _JOINED_BYTES:
                break
            self._remove(at)
            values += piece.values
            error = piece.error
            bytes_out += piece.bytes_out
        return _Piece(values, error, bytes_out)

    def _peek(self, index: int) -> _Piece | None:
        if self._options.ordered:
            return self._pieces.get(index)
        return self._as_done[0] if self._as_done else None

    def _remove(self, index: int) -> None:
        if self._options.ordered:
            del self._pieces[index]
        else:
            del self._as_done[0]

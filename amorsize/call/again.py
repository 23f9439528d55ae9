"""Where the items of an audited call run for the second time: in a worker process that runs nothing else.

It is ordered when the call begins, so that it has the program as that was before the first item ran. It runs one batch
of items after another, while the call goes on. Where no process can be had, or the function cannot be sent to one, the
items wait for the end of the call, and run in the caller: before, they could change what later items find there. They
do so only if the first runs were in the caller, too, because others may need each other's company.

Nobody waits without limit, because a function may block elsewhere: a worker that takes too long is ended.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import chain
from time import perf_counter

from .. import context
from ..backends.events import Broken, Chunk, Lost, Refused, Results, Returned
from ..backends.registry import Job, open_backend
from ..backends.rows import PROCESSES
from ..child.twice import Said, second_run
from ..errors import WorkerCrashError, let_signals_through
from ..lean import NamedTuple
from ..log import debug
from ..seeding import Seeded
from ..transport.by_value import Outgoing
from ..transport.relay import what_to_tell
from ..transport.remote import pack_error
from .starting import Starting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..backends.base import Backend
    from ..backends.events import Event
    from ..child.twice import Copy
    from ..options import Options

__all__ = ["Again", "Ran"]

# So many items, or bytes of items and results, wait for the end of the call where there is no worker. With larger
# values more memory is held, and the end of a call takes longer; with smaller ones less is compared.
_MOST_KEPT = 4096
_MOST_KEPT_BYTES = 8 << 20

_TOO_LONG = "its second run takes far longer than the first"
_ALONE = "no process of its own could run it, and not the caller, as items that ran side by side may need each other"


class Ran(NamedTuple):
    """An item's second run."""

    at: int
    said: Said


class Again:
    """Runs items for the second time.

    Args:
        function: takes one item.
        options: those of the call.

    Attributes:
        here: whether all items ran in the caller so far, so that they may run there again.
    """

    def __init__(self, function: Callable[[Any], Any], options: Options) -> None:
        sent = function if options.seed is None else Seeded.of(function, options.seed)
        self._function: Callable[[list[Copy]], list[Said]] = partial(second_run, sent, options.retries)
        self._options = options
        self._backend: Backend | None = None
        self._todo: deque[list[Copy]] = deque()
        self._under_way: list[Copy] | None = None
        self._ran: list[Ran] = []
        self._kept: list[Copy] = []  # no worker can run them
        self._kept_bytes = 0
        self._given_up = False
        self.here = True

    @property
    def full(self) -> bool:
        """Whether no more items can wait for the end of the call."""
        return len(self._kept) >= _MOST_KEPT or self._kept_bytes >= _MOST_KEPT_BYTES

    def open(self) -> None:
        """Order the worker process, without waiting for it."""
        options = self._options
        if context.worker_process or context.in_worker.get() or context.in_daemon():
            return
        try:
            self._backend = open_backend(
                PROCESSES,
                Job(
                    function=self._function,
                    outgoing=Outgoing(),
                    width=1,
                    start_method=Starting(options).method_now(),
                    timeout=None if options.timeout is None else options.timeout * (options.retries + 1),
                    initializer=options.initializer,
                    initargs=options.initargs,
                    warns=False,  # if they differ, so do the answers, and that is told
                    relay=what_to_tell() if options.relay else b"",
                ),
            )
        except Exception as error:  # the function cannot be pickled, or the system has no process for us
            let_signals_through(error)
            self._go_without(error)

    def close(self, *, hurry: bool = True) -> None:
        """Run nothing more, and release the worker."""
        self._todo.clear()
        self._kept.clear()
        self._under_way = None
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close(hurry=hurry)

    def give(self, copies: list[Copy], size: int) -> None:
        """Take items that are to run.

        Args:
            copies: the items.
            size: how many bytes they and their first results have.
        """
        if self._given_up:
            self._untell(copies, _TOO_LONG)
        elif self._backend is None:
            self._kept += copies
            self._kept_bytes += size
        elif self._options.timeout is not None:  # one that runs for too long must be told from the others
            self._todo.extend([copy] for copy in copies)
        else:
            self._todo.append(copies)
        self._go_on()

    def ran(self, seconds: float = 0.0) -> list[Ran]:
        """Return the items that have run since this was asked last.

        Args:
            seconds: how long to wait for all that are to run in the worker. If they take longer, they are given up.
        """
        until = perf_counter() + seconds
        while self._under_way is not None and self._backend is not None:
            events = self._backend.wait(max(0.0, until - perf_counter()))
            for event in events:
                self._hear(event)
            if not events and perf_counter() >= until:
                if seconds:
                    self._give_up()
                break
        ran, self._ran = self._ran, []
        return ran

    def run_here(self, seconds: float) -> list[Ran]:
        """Run in the caller what no worker could, for about so many seconds at most.

        They run backwards, because a counter counts the same items to the same numbers.
        """
        kept, self._kept = sorted(self._kept, key=lambda copy: copy.at, reverse=True), []
        until = perf_counter() + seconds
        for copy in kept:
            if not self.here or perf_counter() >= until:
                self._untell([copy], _TOO_LONG if self.here else _ALONE)
            else:
                self._ran.append(Ran(copy.at, self._function([copy])[0]))
        return self.ran()

    def _go_on(self) -> None:
        if self._todo and self._under_way is None:
            self._under_way = self._todo.popleft()
            self._submit()

    def _submit(self) -> None:
        """Send the batch that is under way to the worker."""
        assert self._backend is not None
        try:
            self._backend.submit(Chunk(0, [self._under_way]), 0.0)
            self._backend.flush()
        except Exception as error:  # there may be no memory, or no process any more
            let_signals_through(error)
            self._go_without(error)

    def _untell(self, copies: list[Copy], reason: str) -> None:
        self._ran += [Ran(copy.at, Said(None, untold=reason)) for copy in copies]

    def _left(self) -> list[Copy]:
        """Return what was given to the worker, and has not run."""
        left = [*(self._under_way or ()), *chain.from_iterable(self._todo)]
        self._under_way = None
        self._todo.clear()
        return left

    def _give_up(self) -> None:
        self._given_up = True
        self._untell(self._left(), _TOO_LONG)
        self.close()

    def _hear(self, event: Event) -> None:
        copies = self._under_way
        if copies is None:
            return
        if isinstance(event, Results):
            if event.failures:
                error = event.failures[0].error
                if isinstance(error, KeyboardInterrupt):
                    raise error
                self._go_without(error)
            else:
                self._take(event.values[0])
        elif isinstance(event, Lost):
            self._take_lost(copies, event)
        elif isinstance(event, Returned):  # it had not begun
            self._submit()
            return
        elif isinstance(event, (Refused, Broken)):
            self._go_without(event.error)
        else:
            return  # what an item prints the second time is shown to nobody
        self._go_on()

    def _take(self, said: list[Said]) -> None:
        copies, self._under_way = self._under_way, None
        assert copies is not None
        self._ran += [Ran(copy.at, each) for copy, each in zip(copies, said, strict=True)]

    def _take_lost(self, copies: list[Copy], lost: Lost) -> None:
        """Take in that the worker has died: that is what the item has said, if it was alone."""
        if len(copies) > 1:
            self._under_way = None
            self._todo.extendleft([copy] for copy in reversed(copies))
        elif lost.timed_out:
            self._take([Said(None, untold="an item ran for longer than timeout= the second time")])
        else:
            self._take([Said(pack_error(WorkerCrashError(copies[0].at, lost.exitcode)), raised=True)])

    def _go_without(self, error: BaseException) -> None:
        """Have the caller run all that is left, at the end of the call."""
        debug("items run again in the caller, or not at all: %r", error)
        self._kept += self._left()
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

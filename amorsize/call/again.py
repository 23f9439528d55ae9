"""Where the items of an audited call run for the second time: in a worker process that runs nothing else.

It is ordered when the call begins, so that it has the program as that was before the first item ran. It runs one batch
of items after another, while the call goes on. Where no process can be had, or the function cannot be sent to one, the
items run in the caller.
"""

from __future__ import annotations

from collections import deque
from functools import partial

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


class Ran(NamedTuple):
    """An item's second run."""

    at: int
    said: Said


class Again:
    """Runs items for the second time.

    Args:
        function: takes one item.
        options: those of the call.
    """

    def __init__(self, function: Callable[[Any], Any], options: Options) -> None:
        sent = function if options.seed is None else Seeded.of(function, options.seed)
        self._function: Callable[[list[Copy]], list[Said]] = partial(second_run, sent, options.retries)
        self._options = options
        self._backend: Backend | None = None
        self._todo: deque[list[Copy]] = deque()
        self._under_way: list[Copy] | None = None
        self._ran: list[Ran] = []

    def open(self) -> bool:
        """Order the worker process, without waiting for it; say whether there will be one."""
        options = self._options
        if context.worker_process or context.in_worker.get() or context.in_daemon():
            return False
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
                    relay=what_to_tell() if options.relay else b"",
                ),
            )
        except Exception as error:  # the function cannot be pickled, or the system has no process for us
            let_signals_through(error)
            self._go_without(error)
        return self._backend is not None

    def close(self, *, hurry: bool = True) -> None:
        """Run nothing more, and release the worker."""
        self._todo.clear()
        self._under_way = None
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close(hurry=hurry)

    def give(self, copies: list[Copy]) -> None:
        """Take items that are to run."""
        if self._options.timeout is not None:  # one that runs for too long must be told from the others
            self._todo.extend([copy] for copy in copies)
        else:
            sent = [copy for copy in copies if copy.data is not None]
            kept = [copy for copy in copies if copy.data is None]
            self._todo.extend(batch for batch in (sent, kept) if batch)
        self._go_on()

    def ran(self, *, wait: bool) -> list[Ran]:
        """Return the items that have run since this was asked last; with `wait`, wait for all of them."""
        while self._under_way is not None:
            events = [] if self._backend is None else self._backend.wait(None if wait else 0.0)
            for event in events:
                self._hear(event)
            if not events:
                break
        ran, self._ran = self._ran, []
        return ran

    def _go_on(self) -> None:
        while self._todo and self._under_way is None:
            copies = self._under_way = self._todo.popleft()
            sendable = self._backend is not None and all(copy.data is not None for copy in copies)
            if sendable and self._submit(copies):
                return
            self._take(self._function(copies))

    def _submit(self, copies: list[Copy]) -> bool:
        """Send a batch to the worker; say whether it was sent."""
        assert self._backend is not None
        try:
            self._backend.submit(Chunk(0, [copies]), 0.0)
            self._backend.flush()
        except Exception as error:  # there may be no memory, or no process any more
            let_signals_through(error)
            self._go_without(error)
            return False
        return True

    def _hear(self, event: Event) -> None:
        copies = self._under_way
        if copies is None:
            return
        if isinstance(event, Results):
            if event.failures:
                error = event.failures[0].error
                if isinstance(error, KeyboardInterrupt):
                    raise error
                self._give_way(copies, error)
            else:
                self._take(event.values[0])
        elif isinstance(event, Lost):
            self._take_lost(copies, event)
        elif isinstance(event, Returned):  # it had not begun
            if not self._submit(copies):
                self._give_way(copies, None)
            return
        elif isinstance(event, (Refused, Broken)):
            self._give_way(copies, event.error)
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

    def _give_way(self, copies: list[Copy], error: BaseException | None) -> None:
        """Run these items, and all others, in the caller."""
        if error is not None:
            self._go_without(error)
        self._take(self._function(copies))

    def _go_without(self, error: BaseException) -> None:
        debug("items run again in the caller: %r", error)
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

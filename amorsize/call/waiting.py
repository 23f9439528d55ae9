"""Work that mostly waits: may it run on threads, is it worth it, and how many were right the last time?

Threads are chosen for items that use little CPU time: a wait lets other threads run, nothing need be pickled, and what
such work uses, sessions and pools of connections, is made for threads. Real items say how much CPU time they use, that
of the whole process and of the programs it has run meanwhile included, so that work which another thread or a child
does is not taken for waiting, and neither is the time in which other programs have the processors. What threads must
not share stays off them (`code.sharing`).
"""

from __future__ import annotations

import sys
from _thread import get_native_id
from time import perf_counter

from ..backends.rows import THREADS
from ..code.functions import FunctionSet
from ..context import in_import, others_import
from ..errors import let_signals_through
from ..lean import map
from ..log import debug
from ..measure import machine, platforms
from ..plan.profile import WorkProfile
from ..plan.waiting import is_due, is_worth_it, predicted_seconds, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..cache import lookup
    from ..feed.pace import Pace
    from ..measure.times import ItemTimes
    from ..options import Options
    from ..plan.planner import Plan
    from .caller import Serial
    from .move import Move

__all__ = ["COROUTINES", "Waiting", "Widths", "system_of", "unhelped"]

COROUTINES = "coroutines"  # the route of coroutine functions, and the name of their plan's backend
_CLOCK_STEP = platforms.cpu_clock_step()
# Functions for which more threads than one did not help; they stay off threads in this process.
unhelped = FunctionSet()


def system_of(options: Options) -> lookup.System:
    """Return the facts of this machine on which what was measured depends."""
    from ..cache.lookup import System

    return System(
        machine.physical_cores(),
        machine.configured_start_method(options.start_method),
        machine.available_memory(),
        sys.platform,
        ".".join(map(str, sys.version_info[:3])),
    )


class Widths:
    """What is known of how many items of a function may wait at once, on one route.

    Args:
        function: the user's function, undecorated.
        options: the call's options.
        route: where the items wait.
    """

    def __init__(self, function: Any, options: Options, route: str) -> None:
        self._function = function
        self._options = options
        self._route = route
        self._n_items = 0

    def known(self, n_items: int | None) -> int | None:
        """Return the width that was found for about so many items, or the user's where they ran so; None if none."""
        self._n_items = n_items or 0
        if not self._options.use_cache:
            return None
        try:
            from ..cache import lookup

            profile = lookup.find(self._function, n_items, system_of(self._options), route=self._route).profile
        except Exception as error:  # tuning never breaks work
            let_signals_through(error)
            debug("what is known of the function is not used: %r", error)
            return None
        return None if profile is None else profile.width or machine.workers_asked(self._options.n_jobs)

    def plan(self, width: int) -> Plan:
        """Return the plan of a call that runs so many items at once."""
        from ..plan.planner import Plan

        return Plan(self._route, width, 1, 0.0, 0.0, f"{self._route}: {width} items wait at once")

    def remember(self, width: int, items: int, seconds: float) -> None:
        """Keep the width that was found for the next call.

        Args:
            width: the width.
            items: how many items ran.
            seconds: how long they took in all.
        """
        if self._options.use_cache and items:
            from ..cache import lookup

            mean = seconds / items
            found = WorkProfile(items, mean, seconds_max=mean, cpu_share=0.0, route=self._route, width=width)
            lookup.store(self._function, max(self._n_items, items), found, None, system_of(self._options))


class Waiting:
    """Decides whether the items of one call under "auto" go to threads.

    Args:
        function: the user's function, undecorated.
        options: the call's options.

    Attributes:
        known_width: the width that was found by an earlier call; None if none was.
    """

    def __init__(self, function: Any, options: Options) -> None:
        self.known_width: int | None = None
        self._function = function
        self._options = options
        self._reason: str | None = None  # why threads must not share the function; empty if they may
        self._given_up = self._asked = False
        self._first_began = (0.0, 0.0)
        self._thread = 0  # the system's number of the thread that runs items
        self._ready = 0.0  # how long it was ready to run, and could not, when the call began
        self._known_move: Move | None = None
        self._alone_seconds = 0.0

    def give_up(self) -> None:
        """Take in that threads did not help."""
        self._given_up = True
        unhelped.add(self._function)

    def may(self) -> bool:
        """Say whether threads may run the function at all."""
        options = self._options
        if self._given_up or options.thread_safe is False or options.seed is not None or options.timeout is not None:
            return False
        if options.n_jobs == 1 or self._function in unhelped:
            return False
        if in_import() or others_import():
            return False  # a thread may wait for the module that is being imported, which waits for this call
        if self._reason is None:
            # Only work that waits needs these.
            from ..code.reach import surroundings
            from ..code.sharing import why_not_shared
            from ..transport.payload import must_draw_here

            # It is asked anew for each call, because closures with the same code may hold different things.
            function, initializer = self._function, options.initializer
            reason = why_not_shared(function)
            if not reason and initializer is not None:
                reason = why_not_shared(initializer) or why_not_shared(options.initargs)
            if not reason:  # on threads, whose turn it is to draw depends on chance
                around = surroundings(function)
                reason = must_draw_here(function, around, seeded=False, initializer=initializer)
            self._reason = reason
            if reason:
                debug("no threads for %r: %s", self._function, reason)
        return not self._reason

    def before_first(self, known: WorkProfile, n_items: int) -> Move | None:
        """Return the move to make at once, by what earlier calls have measured; None if there is none."""
        if not waits(known) or not is_worth_it(known.seconds_per_item, n_items) or not self.may():
            return None
        if self._options.use_cache and not self._asked:
            self._asked = True
            self.known_width = Widths(self._function, self._options, THREADS.name).known(n_items)
        if self.known_width is None or self.known_width == 1:
            return None  # nothing has shown that they help, or they did not
        self._known_move = self._move(known.seconds_per_item, n_items)
        return self._known_move

    def is_undecided(self, known: WorkProfile) -> bool:
        """Say whether the first items must show here that they wait, as is known of earlier ones."""
        return waits(known) and self.known_width is None and self.may()

    def seems_due(self, serial: Serial) -> bool:
        """Say whether items in the caller have waited, as far as its own thread can tell."""
        serial.note_cpu()
        return is_due(serial.times.n, serial.seconds, serial.cpu_seconds, clock_step=_CLOCK_STEP)

    def to_threads(self, serial: Serial, remaining: int | None) -> Move | None:
        """Return the move that is due, by what items in the caller have shown; None if none is."""
        # Asking for the part of other threads and programs takes 10 us, so it is done only for what seems to wait. That
        # other programs have the processors looks the same to this thread as waiting.
        if not self.seems_due(serial):
            return None
        busy = serial.busy_seconds() + platforms.thread_ready_seconds(self._thread) - self._ready
        if not is_due(serial.times.n, serial.seconds, busy, clock_step=_CLOCK_STEP):
            return None
        left = 2 * serial.times.n if remaining is None else remaining
        loaded = THREADS.module in sys.modules
        if not is_worth_it(serial.seconds_per_item, left, loaded=loaded) or not self.may():
            return None
        self._alone_seconds = serial.seconds_per_item
        return self._move(serial.seconds_per_item, left)

    def note_begin(self) -> None:
        """Take in that items begin to run in this thread."""
        self._thread = get_native_id()
        self._ready = platforms.thread_ready_seconds(self._thread)

    def note_first(self) -> None:
        """Take in that the first item begins now."""
        self._first_began = perf_counter(), machine.busy_seconds()

    def beside_first(self) -> Move | None:
        """Return the move to threads beside a first item that has mostly waited so far; None if it has not.

        It is called in a thread of our own that was started beside that item.
        """
        if self._known_move is not None:
            return self._known_move
        began, busy = self._first_began
        seconds = perf_counter() - began
        busy = machine.busy_seconds() - busy + platforms.thread_ready_seconds(self._thread) - self._ready
        if is_due(1, seconds, busy, clock_step=_CLOCK_STEP) and self.may():
            return self._move(seconds, self.most())
        return None

    def seen_alone(self, here: ItemTimes, pace: Pace | None) -> dict[str, Any] | None:
        """Return what is known of items that run alone, by a call that has used a width; None if it says nothing.

        Only the first few have run alone, and the first may have imported something. How much CPU time an item uses is
        told by those on threads.
        """
        seconds = self._alone_seconds or here.mean
        if pace is None or not (pace.items and here.n and seconds > 0.0):
            return None
        if pace.width is None and (pace.route != THREADS.name or self._options.n_jobs is None):
            return None
        seconds = min(seconds, pace.seconds / pace.items)  # the first may have waited for something once
        mean = (here.n * here.mean + pace.items * seconds) / (here.n + pace.items)
        share = min(1.0, pace.cpu_seconds / pace.items / seconds)
        longest = max(mean, here.max, pace.seconds_max)
        return {"items": here.n, "seconds_per_item": mean, "seconds_max": longest, "cpu_share": share}

    def most(self) -> int:
        """Return how many threads there may be."""
        from ..plan.width import MOST_WIDTH

        asked = machine.workers_asked(self._options.n_jobs)
        return MOST_WIDTH if asked is None else asked

    def _move(self, seconds_per_item: float, n_items: int) -> Move:
        from ..plan.planner import Plan, seconds_in_words
        from .move import Move

        width = min(self.known_width or self.most(), max(1, n_items), self.most())
        serial = n_items * seconds_per_item
        each = seconds_in_words(seconds_per_item)
        reason = f"threads: {n_items:,} items wait for most of their {each}, up to {width} at once"
        predicted = predicted_seconds(seconds_per_item, n_items, width)
        plan = Plan(THREADS.name, width, 1, predicted, serial, reason)
        return Move(THREADS, plan, n_items=n_items, gain_seconds=max(0.0, serial - predicted))

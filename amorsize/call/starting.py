"""How are a call's workers started? Threads come and go, so this is asked when it begins and when it moves."""

from __future__ import annotations

import sys
from time import perf_counter, sleep

from ..backends.rows import PROCESSES
from ..measure import machine
from ..measure.startup import IMPORT_SECONDS
from . import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..options import Options

__all__ = ["STARTED_BESIDE", "Starting", "is_served"]

# What a start costs the calls that go on beside it, as a share of what it takes: the caller works meanwhile, and only
# shares the machine with the workers that load. A larger value means that short calls wait longer for workers which
# would help them; a smaller one means that workers start for calls that are not repeated (benchmarks/clients.py).
STARTED_BESIDE = 0.25

# A thread that has ended is still counted until the system has ended it, which takes less than this.
_THREAD_END_SECONDS = 0.002


class Starting:
    """The start method of one call's workers.

    Args:
        options: the call's options.
    """

    def __init__(self, options: Options) -> None:
        self._asked = options.start_method
        self._initializer = options.initializer, options.initargs
        self._method: str | None = None
        self._modules: int | None = None

    def method(self) -> str:
        """Return how workers are started, as it was when this was first asked."""
        if self._method is None:
            preload.wait_for_glances()
            self._method = machine.start_method(self._asked)
        return self._method

    def modules(self, function: Any) -> int:
        """Return how many modules fresh workers load for a function; none if they are forks of this process."""
        if self._modules is None:
            if self.method() == "fork":
                self._modules = 0
            else:
                from ..code.modules import modules_to_load

                self._modules = modules_to_load(function)
        return self._modules

    def method_now(self) -> str:
        """Return how workers are started, asked anew: threads may have come since the plan, and our own have gone."""
        planned = self.method()
        preload.finish()
        until = perf_counter() + _THREAD_END_SECONDS
        while (method := machine.start_method(self._asked)) != planned and perf_counter() < until:
            sleep(0)
        return method

    def method_beside(self) -> str:
        """Return how workers are started while a second thread runs, so that a fork is not safe."""
        method = machine.configured_start_method(self._asked)
        return machine.threaded_start_method() if method == "fork" else method

    def warm_workers(self) -> int:
        """Return how many idle workers this call would get."""
        return self._warm()[0]

    def warm_and_starting(self, until_ready: Callable[..., float]) -> tuple[int, float]:
        """Return how many idle workers this call would get, and for how many more seconds they are expected to start.

        Args:
            until_ready: returns how many seconds workers take to start, `served` by a running fork server or not.
        """
        count, first = self._warm()
        if first is None:
            return count, 0.0
        elapsed = perf_counter() - first.ordered_at
        left = until_ready(served=first.served) - elapsed
        return count, left if left > 0.0 else elapsed  # late ones may take as long again, as `feed.pump` has it

    def _warm(self) -> tuple[int, Any]:
        pool: Any = sys.modules.get(PROCESSES.module or "")
        # The module has no such function while a thread is still importing it; then there are no workers.
        if not hasattr(pool, "warm_since"):
            return 0, None
        found: tuple[int, Any] = pool.warm_since(self.method(), *self._initializer)
        return found

    def import_seconds(self) -> float:
        """Return what importing takes that a start needs."""
        return 0.0 if PROCESSES.module in sys.modules else IMPORT_SECONDS

    def least_seconds(self) -> float:
        """Return what a start of workers costs this call at least, whatever is known of its function.

        A call that is over in this time need not ask for anything else.
        """
        if self.warm_workers():
            return 0.0
        method = self.method()
        seconds = machine.seconds_first_start(method, served=is_served(method)) + self.import_seconds()
        return seconds if method == "fork" else STARTED_BESIDE * seconds


def is_served(start_method: str) -> bool:
    """Say whether a fork server runs for such workers; it is taken to have loaded what they need."""
    pool: Any = sys.modules.get(PROCESSES.module or "")
    return start_method == "forkserver" and hasattr(pool, "server_stands") and bool(pool.server_stands())

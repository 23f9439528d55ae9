"""How are a call's workers started? Threads come and go, so this is asked when it begins and when it moves."""

from __future__ import annotations

import sys
from time import perf_counter, sleep

from ..backends.rows import PROCESSES
from ..measure import machine
from . import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..options import Options

__all__ = ["Starting", "is_served"]

# A thread that has ended is still counted until the system has ended it, which takes less than this.
_THREAD_END_SECONDS = 0.002


class Starting:
    """The start method of one call's workers.

    Args:
        options: the call's options.
    """

    def __init__(self, options: Options) -> None:
        self._asked = options.start_method
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


def is_served(start_method: str) -> bool:
    """Say whether a fork server runs for such workers; it is taken to have loaded what they need."""
    pool: Any = sys.modules.get(PROCESSES.module or "")
    return start_method == "forkserver" and hasattr(pool, "server_stands") and bool(pool.server_stands())

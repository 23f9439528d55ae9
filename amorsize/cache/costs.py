"""What do workers cost on this machine, as other processes have learnt? One small file keeps it, for all routes.

A process reads it once, before it first plans with workers. It writes the file after a call on workers that has changed
a cost much; what others have written of other costs stays. As with entries, a fault of the disk or of the file gives a
debug line, never an error.
"""

from __future__ import annotations

import time

from ..errors import let_signals_through
from ..log import debug
from ..measure import machine
from ..state import register
from . import disk
from .entry import TTL_SECONDS
from .json_text import parsed, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .entry import System

    # Routes, names, and for each the value and when it was learnt, in seconds since the epoch.
    Costs = dict[str, dict[str, tuple[float, float]]]

__all__ = ["forget", "keep", "recall"]

FORMAT = 1
# The file is written again when a cost has moved by more than this share. With a smaller value more calls write; with a
# larger one the next process starts from an older cost. A cost is learnt in halves, so it may be a third off anyway.
_CHANGED_SHARE = 0.3
_MOST_ROUTES = 16  # with their costs they are well within what `disk.read` reads


class _Shared:
    """What this process knows of the file: whether it was read, what it is taken to hold, and when it was written."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.recalled = False
        self.held: Costs = {}
        self.written_at = 0.0


def recall(system: System, *, clock: Callable[[], float] = time.time) -> None:
    """Begin with what other processes have learnt, where this one has not learnt anything; once in a process.

    Args:
        system: the machine's facts now; what was learnt under others is not used.
        clock: returns seconds since the epoch.
    """
    if not _shared.recalled:
        _shared.recalled = True
        _shared.held = _read(system, clock())
        machine.take_over_costs(
            {route: {name: value for name, (value, _) in values.items()} for route, values in _shared.held.items()}
        )


def keep(system: System, *, clock: Callable[[], float] = time.time) -> None:
    """Write what this process has learnt, if that is news to the next one; the arguments are those of `recall`."""
    learnt, now = machine.lasting_costs(), clock()
    if not _is_news(learnt, _shared.held) or 0.0 <= now - _shared.written_at < disk.LEAST_REWRITE_SECONDS:
        return
    held = _read(system, now)
    for route, values in learnt.items():
        before = held.pop(route, {})
        # What was only recalled keeps its age.
        fresh = {name: (value, now) for name, value in values.items() if before.get(name, (None,))[0] != value}
        held[route] = before | fresh  # the newest routes are the last
    for route in [*held][:-_MOST_ROUTES]:
        del held[route]
    content = {"version": FORMAT, "system": _facts(system), "costs": held}
    try:
        disk.write(disk.usable_folder(create=True), disk.COSTS, written(content).encode(), now)
    except (OSError, ValueError) as error:
        let_signals_through(error)
        debug("cache: costs are not written: %s", error)
    _shared.held, _shared.written_at = held, now


def forget() -> None:
    """Forget what was learnt in this process, and what the file is taken to hold."""
    machine.forget_costs()
    _shared.forget()


def _is_news(learnt: dict[str, dict[str, float]], held: Costs) -> bool:
    for route, values in learnt.items():
        known = held.get(route, {})
        for name, value in values.items():
            if abs(value - known.get(name, (0.0, 0.0))[0]) > _CHANGED_SHARE * value:
                return True
    return False


def _facts(system: System) -> dict[str, Any]:
    """Return the facts on which costs depend: not how workers are started, which a route says, nor free memory."""
    return {"physical_cores": system.physical_cores, "platform": system.platform, "python": system.python}


def _read(system: System, now: float) -> Costs:
    """Return the costs in the file; nothing if there is no file, or it is old, or of another machine."""
    try:
        return _decoded(disk.read(disk.usable_folder(), disk.COSTS), system, now)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        let_signals_through(error)
        debug("cache: costs are not used: %s", error)
        return {}


def _decoded(data: bytes, system: System, now: float) -> Costs:
    content = parsed(data.decode())
    if not isinstance(content, dict) or content.get("version") != FORMAT or content.get("system") != _facts(system):
        raise ValueError("another format or machine")
    costs: Any = content.get("costs")
    if not isinstance(costs, dict) or not all(isinstance(values, dict) for values in costs.values()):
        raise ValueError("costs are not an object of objects")
    return {
        route: {name: (pair[0], pair[1]) for name, pair in values.items() if _is_fresh(pair, now)}
        for route, values in costs.items()
    }


def _is_fresh(pair: Any, now: float) -> bool:
    """Say whether this is a number above 0 and when it was learnt, which is not long ago; an int may be too large."""
    if not isinstance(pair, list) or [type(one) for one in pair] != [float, float]:
        return False
    value, learnt_at = pair
    return bool(value > 0.0 and abs(now - learnt_at) <= TTL_SECONDS)


_shared = _Shared()
register(_shared.forget)

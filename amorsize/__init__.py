"""The map that decides for itself: `amorsize.map`, `@amorsize.parallelize`, and the advisor `amorsize.optimize`."""

# This is the map of the package. No module imports what stands above it; docs/architecture.md has the reasons.
#
#   cli/                  the command line
#   decorator             a function that carries its own map
#   pool                  a pool object for code that asks for one
#   api                   map, starmap, amap: what the user calls
#   replaced              what happens if `builtins.map` is amorsize's map
#   advise                the advisor for a pool of the user's own
#   call/                 one call's life, and the iterator that the user holds
#   feed/                 the input, and its items' way to a backend and back
#   report/               what is told of a plan
#   backends/             what runs chunks; processes/ has amorsize's own workers
#   child/                a worker's side
#   cache/                remembers what was measured, in memory and on disk
#   measure/              reads clocks and the machine, and nothing else does
#   plan/                 pure: numbers in, a plan out
#   transport/            how functions, items, results and errors cross
#   seeding, rng          each item's own random streams
#   code/                 what a function refers to
#   options, errors, context, runners, hashing, log, state, guard, version, lean

from __future__ import annotations

from .api import amap, map, shutdown, starmap
from .call.stream import Stream
from .errors import (
    AmorsizeError,
    InitializerError,
    ItemTimeoutError,
    SerializationError,
    UnseededError,
    UnsupportedError,
    WorkerCrashError,
)
from .options import config
from .version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .advise import OptimizedPlan, optimize
    from .backends.where import Where
    from .cache.lookup import CacheStats, cache_stats, clear_cache, get_cache_dir, prune_expired_cache
    from .call.on_signal import where_on_signal
    from .decorator import Parallelized, parallelize
    from .plan.planner import Plan
    from .pool import Pool
    from .rng import item_rng
else:
    # What `map` does without is loaded when it is first named. These are the modules of such names.
    _LATER = {
        "CacheStats": "cache.lookup",
        "OptimizedPlan": "advise",
        "Parallelized": "decorator",
        "Plan": "plan.planner",
        "Pool": "pool",
        "Where": "backends.where",
        "cache_stats": "cache.lookup",
        "clear_cache": "cache.lookup",
        "get_cache_dir": "cache.lookup",
        "item_rng": "rng",
        "optimize": "advise",
        "parallelize": "decorator",
        "prune_expired_cache": "cache.lookup",
        "where_on_signal": "call.on_signal",
    }

    def __getattr__(name):
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(__import__(f"{__name__}.{module}", fromlist=[name]), name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "AmorsizeError",
    "CacheStats",
    "InitializerError",
    "ItemTimeoutError",
    "OptimizedPlan",
    "Parallelized",
    "Plan",
    "Pool",
    "SerializationError",
    "Stream",
    "UnseededError",
    "UnsupportedError",
    "Where",
    "WorkerCrashError",
    "amap",
    "cache_stats",
    "clear_cache",
    "config",
    "get_cache_dir",
    "item_rng",
    "map",
    "optimize",
    "parallelize",
    "prune_expired_cache",
    "shutdown",
    "starmap",
    "where_on_signal",
]

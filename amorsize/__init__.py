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
#   options, errors, context, log, state, guard, version, lean

from __future__ import annotations

from .advise import OptimizedPlan, optimize
from .api import amap, map, shutdown, starmap
from .backends.where import Where
from .cache.lookup import CacheStats, cache_stats, clear_cache, get_cache_dir, prune_expired_cache
from .call.on_signal import where_on_signal
from .call.stream import Stream
from .decorator import Parallelized, parallelize
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
from .plan.planner import Plan
from .pool import Pool
from .rng import item_rng
from .version import __version__ as __version__

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

# Tracebacks and pickles then show the name that users know, which stays the same when a module is split.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name

"""What is known of this function at this length, and how is it kept? A look-up asks memory first and then the disk.

A look-up needs the time bucket of a key before anything was timed, so it provisionally takes the newest entry of the
function and size. Once the first items were timed, the time measured is looked up too. If it clearly contradicts the
entry, the entry of the right bucket is taken instead, or the look-up is a miss.

Any fault of the cache counts as a miss and gives a debug line, never an error, so that tuning never breaks work.
"""

from __future__ import annotations

import time
from functools import partial
from math import inf

from ..code import fingerprint as fingerprints
from ..errors import let_signals_through
from ..lean import NamedTuple, public
from ..log import debug
from ..plan.buckets import SIZES, TIMES, clearly_outside, size_bucket, time_bucket
from ..plan.profile import CALLER, is_one_of
from . import costs, disk
from .entry import (
    TTL_SECONDS,
    Entry,
    FormatError,
    Key,
    System,
    checked,
    decode,
    encode,
    fault,
    memory_changed,
    stored_plan,
)
from .memory import Held, memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any, TypeVar

    from ..plan.planner import Plan
    from ..plan.profile import WorkProfile
    from .memory import Group

    Clock = Callable[[], float]
    Result = TypeVar("Result")

__all__ = [
    "CacheStats",
    "Found",
    "System",
    "cache_stats",
    "clear_cache",
    "entries",
    "find",
    "get_cache_dir",
    "prune_expired_cache",
    "store",
]

# A profile is written to disk again when its time per item has moved by more than this share, or when its file is older
# than so many seconds. Smaller values mean more writes after runs; larger ones mean that the next process starts from
# an older measurement.
_CHANGED_SHARE = 0.2
_REWRITE_SECONDS = 24 * 3600.0
# Items are not taken to be quicker or slower on workers than by these factors, whatever was measured.
_LEAST_SLOWDOWN, _MOST_SLOWDOWN = 0.5, 100.0
# A mean is certain if its standard error is at most this share of it.
_CERTAIN_SHARE = 0.1


class Found(NamedTuple):
    """The answer to a look-up.

    Attributes:
        profile: what was measured before; None for a miss.
        reason: for a miss "new", "expired", "physical_cores", "start_method", "format", "damaged", "time" (what was
            measured now contradicts the entry) or "function" (the callable cannot be told apart from others); for a
            hit "hit", or "available_memory" when free memory changed by more than a fifth.
        plan_stale: whether free memory has changed so much that a plan made for this entry must not be reused.
        key: the entry's key as text; empty for a miss.
    """

    profile: WorkProfile | None
    reason: str
    plan_stale: bool = False
    key: str = ""


@public
class CacheStats(NamedTuple):
    """State of the cache.

    Attributes:
        hits: number of look-ups of this process that found a profile.
        misses: number of look-ups of this process that found none.
        misses_by_reason: number of misses for each reason that `Found` lists.
        entries: number of entries' files on disk.
        bytes: total length of these files.
    """

    hits: int
    misses: int
    misses_by_reason: Mapping[str, int]
    entries: int
    bytes: int


def find(
    func: Any,
    n_items: int | None,
    system: System,
    *,
    route: str | None = None,
    seconds_per_item: float | None = None,
    ttl_seconds: float = TTL_SECONDS,
    clock: Clock = time.time,
) -> Found:
    """Look up the work profile that was measured in the caller, and the one measured on the workers of one route.

    Where both are known, they are brought together by `_together`. Where only one is known, it serves for both.
    Profiles measured on any other route are not looked at.

    Args:
        func: the function, undecorated.
        n_items: length of the input; if None, for unknown, the function's newest profile of any size serves.
        system: the machine's facts now.
        route: route of the workers that the call could have; None for the caller alone.
        seconds_per_item: seconds that an item of this call took, if some have run; an entry that clearly contradicts
            this is no hit.
        ttl_seconds: age in seconds beyond which an entry has expired.
        clock: returns seconds since the epoch.
    """
    try:
        digits = fingerprints.fingerprint(func)
    except Exception as error:  # noqa: BLE001 - reading the attributes of a user's callable may run any code
        let_signals_through(error)
        debug("cache: %s cannot be told apart: %r", type(func).__name__, error)
        return _miss("function")
    sizes, now = SIZES if n_items is None else (size_bucket(n_items),), clock()
    if route is None and seconds_per_item is None and n_items is not None:
        # The usual case of `optimize`: the newest entry is in memory, and can be used as it is.
        group = memory.get(digits, sizes[0], CALLER)
        if group and fault(group[0].entry, system, now, ttl_seconds) is None:
            return _hit(group[0], group[0].entry.profile, system)
    here, reason = _choose(_known(digits, sizes, CALLER), system, now, ttl_seconds, seconds_per_item)
    there = None
    if route is not None:
        there, wrong = _choose(_known(digits, sizes, route), system, now, ttl_seconds, seconds_per_item)
        reason = wrong if reason == "new" else reason
    found = here or there
    if found is None:
        return _miss(reason)
    profile = _together(here.entry if here else None, there.entry) if there else found.entry.profile
    return _hit(found, profile, system)


def _hit(found: Held, profile: WorkProfile, system: System) -> Found:
    memory.count_hit()
    if memory_changed(found.entry.system.available_memory, system.available_memory):
        return Found(profile, "available_memory", plan_stale=True, key=found.text)
    return Found(profile, "hit", key=found.text)


def _together(here: Entry | None, there: Entry) -> WorkProfile:
    """Return one profile from what was measured in the caller and on workers.

    The newer of the two says what items take now; the older one, measured when they may have been shorter or longer,
    says nothing against it. What workers take compared with the caller is the slowdown, which was measured when one
    followed the other.
    """
    work = there.profile
    profile = here.profile if here is not None else work
    if work.slowdown is None:
        profile = profile._replace(worker_seconds_per_item=work.seconds_per_item)
    elif here is None or there.timestamp > here.timestamp:
        seconds = work.seconds_per_item / work.slowdown
        scale = seconds / profile.seconds_per_item if profile.seconds_per_item else 1.0
        profile = profile._replace(
            seconds_per_item=seconds,
            seconds_std=scale * profile.seconds_std,
            seconds_max=scale * profile.seconds_max,
            worker_seconds_per_item=work.seconds_per_item,
        )
    else:
        profile = profile._replace(worker_seconds_per_item=work.slowdown * profile.seconds_per_item)
    return profile._replace(
        slowdown=work.slowdown, call_seconds=work.call_seconds, load_seconds=work.load_seconds, width=work.width
    )


def _slowdown(
    digits: str, size: str, profile: WorkProfile, slowdown_seen: tuple[float, int] | None
) -> float | None:
    """Return how many times as long items take on a route as in the caller, by what was measured there just now.

    Only the first measurement on workers after one in the caller is compared with it. Neighbours tell something else
    than whole calls if items grow or shrink on the way, or if workers have paid for something once; then the smaller
    difference counts. Of a spread that leaves the means uncertain, half of the difference is believed, on the scale of
    ratios.
    """
    there, _ = _known(digits, (size,), profile.route)
    here, _ = _known(digits, (size,), CALLER)
    known = there[0].entry if there else None
    slowdown = known.profile.slowdown if known is not None else None
    if not here or (known is not None and known.timestamp > here[0].entry.timestamp):
        return slowdown
    caller = here[0].entry.profile
    if not (caller.seconds_per_item > 0 and profile.seconds_per_item > 0):
        return slowdown
    whole = profile.seconds_per_item / caller.seconds_per_item, profile.items
    seen, items = min(whole, slowdown_seen or whole, key=lambda one: max(one[0], 1.0 / one[0]) if one[0] > 0.0 else inf)
    seen = max(_LEAST_SLOWDOWN, min(seen, _MOST_SLOWDOWN))
    uncertain = caller.seconds_std > _CERTAIN_SHARE * caller.seconds_per_item * min(caller.items, items) ** 0.5
    return ((slowdown or 1.0) * seen) ** 0.5 if uncertain else seen


def _choose(
    known: tuple[Group, str], system: System, now: float, ttl_seconds: float, seconds_per_item: float | None
) -> tuple[Held | None, str]:
    """Return the newest entry that can be used, or None and the reason why none can."""
    group, reason = known
    chosen = None
    for held in group:
        wrong = fault(held.entry, system, now, ttl_seconds)
        if wrong is None:
            chosen = held
            break
        if held is group[0]:
            reason = wrong  # the newest entry's fault is the one to name
    if chosen is not None and seconds_per_item is not None and _contradicts(seconds_per_item, chosen.entry):
        right = time_bucket(seconds_per_item)
        others = (held for held in group if held.entry.key.time == right)
        chosen = next((held for held in others if fault(held.entry, system, now, ttl_seconds) is None), None)
        reason = "time"
    return chosen, reason


def _contradicts(seconds_per_item: float, entry: Entry) -> bool:
    return clearly_outside(entry.key.time, seconds_per_item) and not is_one_of(seconds_per_item, entry.profile)


def store(
    func: Any,
    n_items: int,
    profile: WorkProfile,
    plan: Plan | None,
    system: System,
    *,
    slowdown_seen: tuple[float, int] | None = None,
    on_disk: bool = True,
    clock: Clock = time.time,
) -> WorkProfile | None:
    """Keep a work profile in memory, and on disk too if it tells the next process something new. Never raises.

    Args:
        func: the function, undecorated.
        n_items: length of the input, or the number of items that was reached.
        profile: what was measured.
        plan: the plan that the profile gave, for people who read the file.
        system: the machine's facts now.
        slowdown_seen: how many times as long items took on workers as neighbours of theirs in the caller, and how many
            tell; None if that was not measured, so that whole calls are compared.
        on_disk: whether the disk may be used now, which it may not in a destructor.
        clock: returns seconds since the epoch.

    Returns:
        The profile as it is kept, with the slowdown if it is one of workers; None if it could not be kept.
    """
    try:
        digits, size = fingerprints.fingerprint(func), size_bucket(n_items)
        if profile.route != CALLER:
            profile = profile._replace(slowdown=_slowdown(digits, size, profile, slowdown_seen))
        key = Key(digits, size, time_bucket(profile.seconds_per_item), profile.route)
        kept_plan = stored_plan(plan) if plan is not None else None
        entry = checked(Entry(key, _label(func), n_items, clock(), system, profile, kept_plan))
    except Exception as error:  # noqa: BLE001 - a user's callable may run any code; what it raises is not the run's error
        let_signals_through(error)
        debug("cache: not stored: %r", error)
        return None
    if not on_disk:
        memory.put(Held(entry, key.text, None))
        return profile
    group, _ = _known(key.func, (key.size,), key.route)
    written = next((held.written for held in group if held.entry.key == key), None)
    if written is None or group[0].entry.key != key or _is_news(entry, written):
        try:
            _write(entry)
            written = entry
        except OSError as error:
            let_signals_through(error)
            debug("cache: not written: %s", error)
    memory.put(Held(entry, key.text, written))
    return profile


@public
def clear_cache() -> int:
    """Remove every entry, in memory and on disk, and return how many there were. Other files are left alone.

    What workers cost on this machine, which is kept in the same folder, goes with them and is learnt anew.

    >>> import amorsize
    >>> amorsize.clear_cache() >= 0
    True
    """
    gone = memory.drop(lambda _: True)
    gone |= _on_disk(disk.clear) or set()
    costs.forget()
    return len(gone)


@public
def prune_expired_cache(ttl_seconds: float = TTL_SECONDS, *, clock: Clock = time.time) -> int:
    """Remove the entries that are too old, and return how many there were. Other files are left alone.

    Args:
        ttl_seconds: age in seconds beyond which an entry is removed.
        clock: returns seconds since the epoch.

    Raises:
        TypeError: `ttl_seconds` is not a number.
        ValueError: `ttl_seconds` is negative or NaN.

    >>> import amorsize
    >>> amorsize.prune_expired_cache(ttl_seconds=3 * 24 * 3600) >= 0
    True
    """
    if isinstance(ttl_seconds, bool) or not isinstance(ttl_seconds, (int, float)):
        raise TypeError(f"ttl_seconds must be a number, not {type(ttl_seconds).__name__} {ttl_seconds!r}")
    if not ttl_seconds >= 0:
        raise ValueError(f"ttl_seconds must be 0 or more, not {ttl_seconds!r}")
    now = clock()
    gone = _on_disk(lambda path: disk.prune(path, now=now, ttl_seconds=ttl_seconds)) or set()
    gone |= memory.drop(lambda held: held.entry.key.filename in gone or abs(now - held.entry.timestamp) > ttl_seconds)
    return len(gone)


@public
def get_cache_dir() -> Path:
    """Return the folder that holds the entries' files, whether it is there yet or not.

    It is `optimization_cache` in the platform's cache folder, or in `AMORSIZE_CACHE_DIR` if that is set.

    >>> import amorsize
    >>> amorsize.get_cache_dir().name
    'optimization_cache'
    """
    from pathlib import Path

    return Path(disk.folder())


@public
def cache_stats() -> CacheStats:
    """Return the hits and misses of this process, and the number and total length of the files on disk.

    >>> import amorsize
    >>> amorsize.cache_stats().entries >= 0
    True
    """
    hits, misses = memory.counts()
    found = _on_disk(disk.files) or []
    return CacheStats(hits, sum(misses.values()), misses, len(found), sum(file.size_bytes for file in found))


def entries() -> list[Entry]:
    """Return every readable entry on disk, newest first.

    Raises:
        FileNotFoundError: there is no cache yet.
        OSError: the cache's folder cannot be read or must not be trusted.
    """
    path = disk.usable_folder()
    keys = (Key.of_filename(file.name) for file in disk.files(path))
    found = (_read(path, key)[0] for key in keys if key is not None)
    return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.timestamp)


def _on_disk(action: Callable[[str], Result]) -> Result | None:
    """Return what `action` returns for the folder; None if there is no folder that can be used."""
    try:
        return action(disk.usable_folder())
    except FileNotFoundError:  # nothing was ever written
        return None
    except OSError as error:
        let_signals_through(error)
        debug("cache: the disk is not used: %s", error)
        return None


def _miss(reason: str) -> Found:
    memory.count_miss(reason)
    return Found(None, reason)


def _known(digits: str, sizes: tuple[str, ...], route: str) -> tuple[Group, str]:
    """Return what is known of a function at these sizes on a route, newest first, and why, if nothing is known."""
    if len(sizes) == 1:  # this is the usual case, and the loop below would give the same
        group = memory.get(digits, sizes[0], route)
        if group is not None:
            return group, "new"
    groups = {size: memory.get(digits, size, route) for size in sizes}
    unread = [size for size, group in groups.items() if group is None]
    reason = "new"
    if unread:
        read, reason = _on_disk(lambda path: _load(path, digits, unread, route)) or ({}, reason)
        for size in unread:
            groups[size] = memory.fill(digits, size, route, read.get(size, ()))
    together = [held for group in groups.values() if group for held in group]
    return tuple(sorted(together, key=_age)), reason


def _load(path: str, digits: str, sizes: list[str], route: str) -> tuple[dict[str, Group], str]:
    """Return a function's entries on disk at these sizes, newest first, and the reason if a file cannot be used."""
    reason = "new"
    read: dict[str, Group] = {}
    for size in sizes:
        found = []
        for bucket in TIMES:
            entry, wrong = _read(path, Key(digits, size, bucket, route))
            reason = wrong or reason
            if entry is not None:
                found.append(Held(entry, entry.key.text, entry))
        read[size] = tuple(sorted(found, key=_age))
    return read, reason


def _age(held: Held) -> float:
    return -held.entry.timestamp


def _read(path: str, key: Key) -> tuple[Entry | None, str]:
    """Return the entry in a key's file, or None and the reason, which is empty if there is no file."""
    try:
        return decode(disk.read(path, key.filename), key), ""
    except FileNotFoundError:
        return None, ""
    except FormatError as error:
        debug("cache: %s is not used: %s", key.filename, error)
        return None, "format"
    except (OSError, ValueError) as error:
        let_signals_through(error)
        debug("cache: %s is not used: %s", key.filename, error)
        return None, "damaged"


def _write(entry: Entry) -> None:
    path = disk.usable_folder(create=True)
    disk.write(path, entry.key.filename, encode(entry), entry.timestamp)
    if disk.count_write(path):
        disk.prune(path, now=entry.timestamp, ttl_seconds=TTL_SECONDS, limit=disk.ROOM_ENTRIES)


def _is_news(entry: Entry, written: Entry) -> bool:
    """Say whether the next process would start better from an entry than from the one on disk."""
    now, then = entry.profile, written.profile
    if 0.0 <= entry.timestamp - written.timestamp < disk.LEAST_REWRITE_SECONDS:
        return False
    return (
        abs(now.seconds_per_item - then.seconds_per_item) > _CHANGED_SHARE * then.seconds_per_item
        or abs(entry.timestamp - written.timestamp) > _REWRITE_SECONDS
        or entry.system[:2] != written.system[:2]  # physical cores and start method
        or memory_changed(written.system.available_memory, entry.system.available_memory)
        or (then.bytes_in is None and now.bytes_in is not None)
        or (then.bytes_out is None and now.bytes_out is not None)
        or then.width != now.width
    )


def _label(func: Any) -> str:
    plain = func.func if type(func) is partial else func
    name = getattr(plain, "__qualname__", type(plain).__qualname__)
    return f"{getattr(plain, '__module__', None)}.{name}"[:200]

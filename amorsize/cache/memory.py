"""What does this process already know? `Memory` keeps a bounded LRU of entries and counts hits and misses.

An element of the LRU is everything known of one function at one size on one route: a tuple of entries, newest first,
at most one for each time bucket. An empty tuple says that the disk has nothing either. One lock guards all of it.
Tuples are replaced and never changed, so a reader needs the lock only to find a tuple.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter, OrderedDict

from ..lean import NamedTuple
from ..state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .entry import Entry

    Group = tuple["Held", ...]

__all__ = ["Held", "Memory", "memory"]

# Functions, sizes and routes known at once. Fewer mean that a program with many functions reads files again, about
# 0.1 ms each; more mean about 2 KB apiece that stay in memory.
_MAX_GROUPS = 512


class Held(NamedTuple):
    """An entry in memory.

    Attributes:
        entry: the newest measurement.
        text: the entry's key as text.
        written: the entry that the file holds, as far as this process knows; None if nothing was written.
    """

    entry: Entry
    text: str
    written: Entry | None


class Memory:
    """The in-process level of the cache, safe to use from any thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything and make a new lock: after a fork, a thread that was not copied may hold the old one."""
        self._lock = allocate_lock()
        self._groups: OrderedDict[tuple[str, str, str], Group] = OrderedDict()
        self._misses: Counter[str] = Counter()
        self._hits = 0

    def get(self, func: str, size: str, route: str) -> Group | None:
        """Return a function's entries at a size on a route, newest first; None if the disk was not asked yet."""
        place = func, size, route
        with self._lock:
            group = self._groups.get(place)
            if group is not None:
                self._groups.move_to_end(place)
            return group

    def fill(self, func: str, size: str, route: str, group: Group) -> Group:
        """Keep the entries read from disk, unless another thread was faster. Return the entries that are kept."""
        with self._lock:
            kept = self._groups.setdefault((func, size, route), group)
            self._trim()
            return kept

    def put(self, held: Held) -> None:
        """Keep `held` as the newest entry of its function, size and route."""
        key = held.entry.key
        place = key.func, key.size, key.route
        with self._lock:
            others = (other for other in self._groups.get(place, ()) if other.entry.key.time != key.time)
            self._groups[place] = (held, *others)
            self._groups.move_to_end(place)
            self._trim()

    def drop(self, unwanted: Callable[[Held], bool]) -> set[str]:
        """Forget the entries that are `unwanted`, and return the names of their files."""
        dropped: set[str] = set()
        with self._lock:
            for place, group in self._groups.items():
                gone = {held.entry.key.filename for held in group if unwanted(held)}
                if gone:
                    self._groups[place] = tuple(held for held in group if held.entry.key.filename not in gone)
                    dropped |= gone
        return dropped

    def count_hit(self) -> None:
        """Count a look-up that found a profile."""
        with self._lock:
            self._hits += 1

    def count_miss(self, reason: str) -> None:
        """Count a look-up that found no profile."""
        with self._lock:
            self._misses[reason] += 1

    def counts(self) -> tuple[int, dict[str, int]]:
        """Return the number of hits, and of misses by reason."""
        with self._lock:
            return self._hits, dict(self._misses)

    def _trim(self) -> None:
        while len(self._groups) > _MAX_GROUPS:
            self._groups.popitem(last=False)


memory = Memory()
register(memory.reset, after_fork=memory.reset)

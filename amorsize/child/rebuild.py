"""How a worker rebuilds a function, compares its surroundings, puts in what the caller sent, and takes that out again.

`transport.payload` is the caller's side of this. What a function carried stands in the worker's modules while that
function runs; what it displaced there is put back before another function runs.
"""

from __future__ import annotations

import pickle
from functools import partial

from ..code.reach import Entry, different, find_place
from ..code.strict import ABSENT
from ..lean import map
from ..transport import by_value
from ..transport.bound import unpacked
from ..transport.payload import LENGTH, Outdated
from .initialize import load_function, new_space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..seeding import Seeded

__all__ = ["Rebuilt", "leave", "rebuild"]


class Rebuilt:
    """A function in a worker, with what it needs around it.

    Attributes:
        function: the function as it was sent.
        space: the space in which it was rebuilt.
        digest: the digest of its payload.
        entries: places in modules, and what must stand there when it runs.
        carried: what it brought for such places, each as holder, name and value.
        ambient: the caller's settings (`transport.ambient`).
    """

    function: Callable[[Any], Any] | Seeded

    def __init__(
        self,
        space: by_value.Space,
        digest: bytes,
        entries: tuple[Entry, ...],
        carried: tuple[tuple[Any, str, Any], ...],
        ambient: tuple[Any, ...],
    ) -> None:
        self.space = space
        self.digest = digest
        self.entries = entries
        self.carried = carried
        self.ambient = ambient

    def enter(self) -> None:
        """Make this the function that runs, by setting everything around it as the caller had it when it was sent.

        Raises:
            Outdated: something around it still differs from what the caller has.
        """
        global _entered
        by_value.enter(self.space)
        if _entered is not None and _entered.digest == self.digest:
            return
        leave()
        _put_in(self.carried)
        _entered = self
        places = different(self.entries)
        if places:
            leave()
            raise Outdated(self.digest, places)


# A worker has here the function whose surroundings are in place, and the calls that restore what these displaced.
_entered: Rebuilt | None = None
_displaced: list[Callable[[], object]] = []


def rebuild(data: bytes | memoryview, digest: bytes) -> Rebuilt:
    """Rebuild a function that was sent to this process, and enter it; nothing of `data` is kept.

    Raises:
        Outdated: something around it differs from what the caller has.
        Exception: whatever importing the user's modules raises.
    """
    data = memoryview(data)  # its slices are not copied
    (length,) = LENGTH.unpack_from(data)
    at = LENGTH.size
    entries, carried, ambient = pickle.loads(data[at : at + length])
    space = new_space()
    by_value.enter(space)
    leave()
    values = []
    for (module, path), packed in carried:
        holder, name, _ = find_place(module, path)
        values.append((holder, name, load_function(packed, space) if packed else ABSENT))
    settings = load_function(ambient, space)
    rebuilt = Rebuilt(space, digest, tuple(map(Entry._make, entries)), tuple(values), settings)
    rebuilt.enter()  # it comes before the function, whose module may read what was carried when it is imported
    pickled, beside = unpacked(data[at + length :])
    rebuilt.function = load_function(pickled, space, beside)
    return rebuilt


def leave() -> None:
    """Put back what the surroundings of the function that ran last displaced."""
    global _entered
    _entered = None
    while _displaced:
        _displaced.pop()()


def _put_in(carried: Iterable[tuple[Any, str, Any]]) -> None:
    for holder, name, value in carried:
        old = vars(holder).get(name, ABSENT)
        kind = type(value)
        if kind is type(old) and kind in _IN_PLACE:
            # The container is refilled in place, so that other objects that hold it see the new content, too.
            before = old.copy()
            _displaced.append(partial(_refill, old, before))
            _refill(old, value)
        else:
            _displaced.append(partial(_set, holder, name, old))
            _set(holder, name, value)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    (container.update if hasattr(container, "update") else container.extend)(content)


def _set(holder: Any, name: str, value: Any) -> None:
    if value is not ABSENT:
        setattr(holder, name, value)
    elif name in vars(holder):
        delattr(holder, name)


_IN_PLACE = (list, dict, set, bytearray)

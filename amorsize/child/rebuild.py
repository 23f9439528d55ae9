"""A function and its surroundings in a worker: compared with what is here, put in, and taken out again.

`transport.payload` is the caller's side of it. What was carried is in the worker's modules while the function that
brought it runs, and what it displaced is put back before another one does.
"""

from __future__ import annotations

import pickle
from functools import partial

from ..code.reach import Entry, different, find_place
from ..code.strict import ABSENT
from ..lean import map
from ..transport import by_value
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
        function: as it was sent.
        space: where it was rebuilt.
        entries: what must be so when it runs.
        carried: what it brought: holder, name, value.
        ambient: what the caller had set around it.
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
        """Make this the function that runs: all around it becomes as the caller has it, or was when it was sent."""
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


# In a worker: the function whose surroundings are in place, and what they displaced.
_entered: Rebuilt | None = None
_displaced: list[Callable[[], object]] = []


def rebuild(data: bytes, digest: bytes) -> Rebuilt:
    """Rebuild a function that was sent to this process, and enter it.

    Raises:
        Outdated: something around it is not as the caller has it.
        Exception: whatever importing the user's modules raises.
    """
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
    rebuilt.enter()  # before the function: importing its module may run code that reads what was carried
    rebuilt.function = load_function(data[at + length :], space)
    return rebuilt


def leave() -> None:
    """Put back what was displaced for the function that ran last."""
    global _entered
    _entered = None
    while _displaced:
        _displaced.pop()()


def _put_in(carried: Iterable[tuple[Any, str, Any]]) -> None:
    for holder, name, value in carried:
        old = vars(holder).get(name, ABSENT)
        kind = type(value)
        if kind is type(old) and kind in _IN_PLACE:
            # What else holds it sees the same.
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

"""An initializer in a worker, and how what it leaves in globals reaches the functions that rely on it.

What is from the main module goes to workers by value, each piece with its own copy of the globals it refers to. An
initializer that says `global model` would thus set a global that no function reads. So what it changed in its globals
is noted, and put into those of every function of the main module that this process is sent. Functions of other modules
need none of this: they go by name, and find the module that the initializer worked on.

Seen is a name set anew, and a list, a set, a dictionary or an object with other parts than before; not what changed
deeper inside, for comparing by content would cost as much as the data is large, nor a class, which is rebuilt as the
caller has it.
"""

from __future__ import annotations

import sys
from itertools import chain, islice
from operator import is_
from types import ModuleType

from ..lean import map
from ..transport import by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["ByValue", "load_function", "new_space"]

# Beyond this, a container that an initializer filled shows in its length.
_PARTS_SEEN = 1000

_left: dict[str, Any] = {}
_first: by_value.Space | None = None


class ByValue:
    """A callable that crosses a process start by value, whatever module it is from, and is rebuilt when it is called.

    It is pickled while the process starts, so locks and queues of `multiprocessing` may be among its parts. Rebuilding
    it may import what heeds the environment, or may fail: a worker does so once it is ready for either.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function
        self._pickled = b""

    def __call__(self) -> object:
        global _first
        if self._function is None:
            _first = by_value.Space()
            function, space = by_value.load_function(self._pickled, _first), _first.main
        else:  # a fork inherited it, and its globals
            _first = by_value.InheritedSpace()
            by_value.enter(_first)
            function, space = self._function, vars(sys.modules["__main__"])
        before = {name: (value, *_parts(value)) for name, value in space.items()}
        result: object = function()
        _left.update((name, value) for name, value in space.items() if _changed(value, before.get(name)))
        return result

    def __getstate__(self) -> dict[str, object]:
        return {"_function": None, "_pickled": by_value.Outgoing().function(self._function)}


def new_space() -> by_value.Space:
    """Return where a function that is sent to this process is to be rebuilt, beside what the initializer left."""
    return by_value.Space(_first)


def load_function(data: bytes, space: by_value.Space) -> Any:
    """Rebuild a function that was sent to this process, with what the initializer left for it, and enter its space."""
    function = by_value.load_function(data, space)
    if space.main:
        space.main.update(_left)
    return function


def _changed(value: object, old: tuple[object, int, tuple[object, ...]] | None) -> bool:
    if old is None or value is not old[0]:
        return True
    length, parts = _parts(value)
    return length != old[1] or not all(map(is_, parts, old[2]))


def _parts(value: Any) -> tuple[int, tuple[object, ...]]:
    """Return how many parts a value has, and the first of them."""
    parts: Iterable[object]
    if isinstance(value, (list, set)):
        length, parts = len(value), value
    else:
        members = value if isinstance(value, dict) else getattr(value, "__dict__", None)
        if members is None or isinstance(value, (ModuleType, type)):
            return 0, ()
        length, parts = len(members), chain(members, members.values())
    return length, tuple(islice(parts, 2 * _PARTS_SEEN))

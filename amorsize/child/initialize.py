"""How an initializer runs in a worker, and how what it leaves in globals reaches the functions that rely on it.

Functions of the main module go to workers by value, each with its own copy of the globals it refers to. An initializer
that says `global model` would thus set a global that no function reads. So the worker notes what the initializer
changed in its globals, and puts that into the globals of every function of the main module that it is sent. Functions
of other modules need none of this: they go by name, and find the module that the initializer worked on.

The worker notices a name that was set anew, and a list, a set, a dictionary or an object that has other parts than
before. It does not notice what changed deeper inside, because the cost of comparing contents would grow with the data;
nor does it notice a changed class, because classes are rebuilt as the caller has them.
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
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["ByValue", "load_function", "new_space"]

# So many parts of a container are compared; if an initializer added parts beyond these, the length shows it.
_PARTS_SEEN = 1000

_left: dict[str, Any] = {}
_first: by_value.Space | None = None


class ByValue:
    """A callable that is sent to a new process by value, whatever module it is from, and is rebuilt when it is called.

    It is pickled while the process starts, so locks and queues of `multiprocessing` may be among its parts. Rebuilding
    it may fail, or may import libraries that read the environment, so a worker does it only when it is ready for both.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function
        self._pickled = b""

    def __call__(self) -> object:
        global _first
        if self._function is None:
            _first = by_value.Space()
            function, space = by_value.load_function(self._pickled, _first), _first.main
        else:  # a forked worker inherited the function and its globals
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
    """Return a space in which to rebuild a function that is sent here, with the initializer's space as its parent."""
    return by_value.Space(_first)


def load_function(data: bytes | memoryview, space: by_value.Space, beside: Sequence[bytearray] = ()) -> Any:
    """Rebuild a function that was sent to this process, with what the initializer left for it, and enter its space."""
    function = by_value.load_function(data, space, beside)
    if space.main:
        space.main.update(_left)
    return function


def _changed(value: object, old: tuple[object, int, tuple[object, ...]] | None) -> bool:
    if old is None or value is not old[0]:
        return True
    length, parts = _parts(value)
    return length != old[1] or not all(map(is_, parts, old[2]))


def _parts(value: Any) -> tuple[int, tuple[object, ...]]:
    """Return how many parts a value has, and the first of these parts."""
    parts: Iterable[object]
    if isinstance(value, (list, set)):
        length, parts = len(value), value
    else:
        members = value if isinstance(value, dict) else getattr(value, "__dict__", None)
        if members is None or isinstance(value, (ModuleType, type)):
            return 0, ()
        length, parts = len(members), chain(members, members.values())
    return length, tuple(islice(parts, 2 * _PARTS_SEEN))

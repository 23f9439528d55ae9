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

from .serialize import dump_by_value, load_with_globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["ByValue", "load_function"]

# Beyond this, a container that an initializer filled shows in its length.
_PARTS_SEEN = 1000

_left: dict[str, Any] = {}


class ByValue:
    """A callable that crosses a process start by value, whatever module it is from, and is rebuilt when it is called.

    It is pickled while the process starts, so locks and queues of `multiprocessing` may be among its parts. Rebuilding
    it may import what heeds the environment, or may fail: a worker does so once it is ready for either.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function
        self._pickled = b""

    def __call__(self) -> object:
        if self._function is None:
            function, spaces = load_with_globals(self._pickled)
        else:  # a fork inherited it, and its globals
            function, spaces = self._function, [vars(sys.modules["__main__"])]
        before = [{name: (value, *_parts(value)) for name, value in space.items()} for space in spaces]
        result: object = function()
        for space, old in zip(spaces, before, strict=True):
            _left.update((name, value) for name, value in space.items() if _changed(value, old.get(name)))
        return result

    def __getstate__(self) -> dict[str, object]:
        return {"_function": None, "_pickled": dump_by_value(self._function)}


def load_function(data: bytes) -> Any:
    """Rebuild a function that was sent to this process, with what the initializer left for it."""
    function, spaces = load_with_globals(data)
    for space in spaces:
        space.update(_left)
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

"""What is known about a function in this process only, because the next process may find something better."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType
from weakref import ref

from ..state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FunctionSet", "unfit"]


class FunctionSet:
    """A set of functions about which something is known, each kept as long as its code lives.

    A function is found by its code, because a lambda or a partial is made anew for each call, while its code stays the
    same. This is not a set of weak references, because code objects are compared by their whole content, and a look-up
    would take longer than a short call.
    """

    def __init__(self) -> None:
        self._members: dict[int, ref[Any]] = {}
        register(self.clear)

    def add(self, function: Any) -> None:
        code = _code_of(function)
        place = id(code)

        def gone(_: ref[Any]) -> None:
            self._members.pop(place, None)

        try:
            self._members[place] = ref(code, gone)
        except TypeError:  # weak references to it are impossible
            return

    def discard(self, function: Any) -> None:
        self._members.pop(id(_code_of(function)), None)

    def __contains__(self, function: Any) -> bool:
        if not self._members:
            return False
        code = _code_of(function)
        found = self._members.get(id(code))
        return found is not None and found() is code

    def clear(self) -> None:
        self._members.clear()


def _code_of(function: Any) -> Any:
    """Return what stays the same when a function is made anew: its code, or itself if it has no Python code."""
    while issubclass(type(function), partial):
        function = function.func
    if type(function) is MethodType:
        function = function.__func__
    if type(function) is not FunctionType:
        calls = (vars(base)["__call__"] for base in type(function).__mro__ if "__call__" in vars(base))
        call = next(calls, None)
        if type(call) is not FunctionType:
            return function
        function = call
    return function.__code__


# These functions cannot be rebuilt in workers, or their results cannot be sent back, as earlier calls found.
unfit = FunctionSet()

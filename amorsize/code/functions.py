"""What is known of a function in this process alone, because the next one may do better."""

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
    """Functions that something is known of, as long as their code lives.

    A lambda or a partial is made anew for each call, but its code is the same. Not a set of weak references: code is
    compared by all that it is, and a look-up would take longer than a short call.
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
        except TypeError:  # cannot be referred to weakly
            return

    def __contains__(self, function: Any) -> bool:
        if not self._members:
            return False
        code = _code_of(function)
        found = self._members.get(id(code))
        return found is not None and found() is code

    def clear(self) -> None:
        self._members.clear()


def _code_of(function: Any) -> Any:
    """Return what of a function stays when it is made anew: its code, where it is Python's, or else itself."""
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


# Functions that workers were found not to be able to have, or not to give back the results of.
unfit = FunctionSet()

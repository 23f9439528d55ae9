"""Tell coroutine functions from others, without the import of `inspect`."""

from __future__ import annotations

from ..lean import FunctionType, MethodType, partial
from .functions import call_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_coroutine_function"]

_COROUTINE, _ITERABLE_COROUTINE = 0x80, 0x100  # bits of `__code__.co_flags`; the second is set by `types.coroutine`
_MARK = "_is_coroutine_mark"  # by which `inspect.markcoroutinefunction` tells, since CPython 3.12


def is_coroutine_function(function: Any) -> bool:
    """Say whether calling a function gives a coroutine.

    >>> async def fetch(address): ...
    >>> is_coroutine_function(fetch), is_coroutine_function(partial(fetch, "a")), is_coroutine_function(len)
    (True, True, False)
    """
    kind = type(function)
    if kind is FunctionType:
        return bool(function.__code__.co_flags & (_COROUTINE | _ITERABLE_COROUTINE)) or _MARK in function.__dict__
    if issubclass(kind, partial):
        return is_coroutine_function(function.func)
    if kind is MethodType:
        return is_coroutine_function(function.__func__)
    call = call_of(kind)
    return type(call) is FunctionType and bool(call.__code__.co_flags & _COROUTINE)

"""Is this the function that was measured? Sixteen hex digits over everything that decides its cost.

The digits are remembered per function object, next to what they were read from. A later look-up checks by identity
that all of it is still the same, which costs a microsecond or two; data changed in place is noticed by the next
process only. Partials and bound methods are made anew all the time, so they are not remembered, but composed from the
remembered digits of their function and a description of the rest.
"""

from __future__ import annotations

import sys
from functools import partial
from types import MethodType
from weakref import ref

from ..lean import NamedTuple, sha256
from ..state import register
from .describe import Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .describe import Facts

__all__ = ["DIGITS", "fingerprint", "remembers"]

DIGITS = 16
# Functions remembered at once. Fewer: a program that maps more functions describes them again, tens of microseconds
# each; more: some hundred bytes apiece stay longer.
_MAX_REMEMBERED = 1_024
_PYTHON = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}".encode()


class _Remembered(NamedTuple):
    function: ref[Any]
    digits: str
    facts: tuple[Facts, ...]


_remembered: dict[int, _Remembered] = {}
register(_remembered.clear)


def fingerprint(func: Any) -> str:
    """Return 16 hex digits that change when what decides the cost of `func` does, and that every process agrees on.

    They cover bytecode, constants, names, defaults, closure values, and the globals it refers to that are plain data
    or functions; partials and bound methods by their parts; other callables by module, qualified name and version; and
    the Python version. Comments, layout and docstring do not count, nor do variables that the function itself rebinds.

    Args:
        func: any callable.

    Raises:
        Exception: whatever the attributes of an unusual callable raise when they are read.

    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    True
    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 2)
    False
    """
    remembered = _remembered.get(id(func))
    if remembered is not None and remembered.function() is func:
        for facts in remembered.facts:
            if not facts.hold():
                break
        else:
            return remembered.digits
    kind = type(func)
    walk = Walk(getattr(func, "__module__", None))
    if kind is partial:
        return _digits(b"partial", fingerprint(func.func).encode(), walk.part(func.args), walk.part(func.keywords))
    if kind is MethodType:
        return _digits(b"method", fingerprint(func.__func__).encode(), walk.part(func.__self__))
    if hasattr(kind, "_amorsize_function"):  # a decorated function of ours costs what the plain one costs
        return fingerprint(func._amorsize_function)
    digits = _digits(walk.part(func))
    _remember(func, digits, tuple(walk.facts))
    return digits


def remembers(func: Any) -> bool:
    """Say whether this very function object was fingerprinted before, so that doing it again costs near nothing."""
    while type(func) is partial:
        func = func.func
    remembered = _remembered.get(id(func))
    return remembered is not None and remembered.function() is func


def _digits(*parts: bytes) -> str:
    return sha256(b"\n".join((_PYTHON, *parts))).hexdigest()[:DIGITS]


def _remember(func: Any, digits: str, facts: tuple[Facts, ...]) -> None:
    place = id(func)

    def dead(_: ref[Any]) -> None:
        # Called before the address can be reused, and not at all once the reference itself was dropped.
        _remembered.pop(place, None)

    try:
        reference = ref(func, dead)
    except TypeError:  # without a weak reference its death would go unnoticed
        return
    if len(_remembered) >= _MAX_REMEMBERED:
        # Rare, so that forgetting all is simpler than an order of use, and as cheap.
        _remembered.clear()
    _remembered[place] = _Remembered(reference, digits, facts)

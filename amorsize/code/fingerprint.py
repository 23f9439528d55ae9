"""Sixteen hex digits over everything that decides a function's cost, which tell whether it is the one measured before.

The digits are remembered per function object, next to what they were read from. A later look-up checks by identity
that all of this is still the same, which costs a microsecond or two; data changed in place is noticed only by the next
process. Partials and bound methods are made anew all the time, so their digits are not remembered, but composed from
the remembered digits of their function and a description of the rest.
"""

from __future__ import annotations

from _weakref import ref

from ..lean import MethodType, NamedTuple, partial
from ..state import register
from .functions import FunctionSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .describe import Facts

__all__ = ["fingerprint", "remembers"]

# At most so many functions are remembered at once. With a smaller value a program that maps many functions describes
# them again, in tens of microseconds each; with a larger one some hundred bytes for each function stay longer.
_MAX_REMEMBERED = 1_024


class _Remembered(NamedTuple):
    function: ref[Any]
    digits: str
    facts: tuple[Facts, ...]


_remembered: dict[int, _Remembered] = {}
# Functions that were described, whichever object stood for them.
_described = FunctionSet()
register(_remembered.clear)


def fingerprint(func: Any) -> str:
    """Return 16 hex digits that change when what decides the cost of `func` changes, and are the same in every process.

    They cover the Python version and the function's bytecode, constants, names, defaults and closure values, as well as
    the globals that it refers to if these are plain data or functions. Partials and bound methods are covered by their
    parts, other callables by module, qualified name and version. Comments, layout and docstring do not count, nor do
    variables that the function itself rebinds.

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
    from .describe import Walk, digits  # loaded for the first look-up

    kind = type(func)
    walk = Walk(getattr(func, "__module__", None))
    if kind is partial:
        _described.add(func)
        return digits(b"partial", fingerprint(func.func).encode(), walk.part(func.args), walk.part(func.keywords))
    if kind is MethodType:
        _described.add(func)
        return digits(b"method", fingerprint(func.__func__).encode(), walk.part(func.__self__))
    if hasattr(kind, "_amorsize_function"):  # our decorator does not change what a function costs
        return fingerprint(func._amorsize_function)
    told = digits(walk.part(func))
    _remember(func, told, tuple(walk.facts))
    return told


def remembers(func: Any) -> bool:
    """Say whether this function, or one made anew from the same code, was fingerprinted before.

    Something may be known of it then, and if it is the very same object, looking costs almost nothing.
    """
    remembered = _remembered.get(id(func))
    return (remembered is not None and remembered.function() is func) or func in _described


def _remember(func: Any, digits: str, facts: tuple[Facts, ...]) -> None:
    place = id(func)
    _described.add(func)

    def dead(_: ref[Any]) -> None:
        # Python calls this before the address can be reused, but not if the reference itself was dropped before.
        _remembered.pop(place, None)

    try:
        reference = ref(func, dead)
    except TypeError:  # without a weak reference nobody would notice that `func` is gone
        return
    if len(_remembered) >= _MAX_REMEMBERED:
        # This is rare, so forgetting all of them is as cheap as keeping an order of use, and simpler.
        _remembered.clear()
    _remembered[place] = _Remembered(reference, digits, facts)

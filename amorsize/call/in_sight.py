"""Keeps items and results in sight without keeping objects of the user's alive."""

from __future__ import annotations

from _weakref import ref  # `weakref`, without its classes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["GONE", "PLAIN", "in_sight", "seen"]

GONE = object()
PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None), list, tuple, dict, set, frozenset})


def in_sight(value: Any) -> Any:
    """Return what `seen` turns into the value again: plain data itself, a weak reference to others, or `GONE`."""
    if type(value) in PLAIN:
        return value
    try:
        return ref(value)
    except TypeError:  # its type has no weak references
        return GONE


def seen(kept: Any) -> Any:
    """Return the value that was kept, or `GONE` once nobody else has it."""
    if type(kept) is not ref:  # it is plain data, or `GONE`
        return kept
    found = kept()
    return GONE if found is None else found

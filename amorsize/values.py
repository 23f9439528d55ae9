"""What is an item made of? Told by types alone: nothing is pulled from it, pickled or called.

Items of an input that may not be read ahead as it is wait in one of two forms: exact immutable scalars, and exact
tuples of them, as they are; anything else as `Fixed`, its pickle from the moment it was read.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice
from types import MemberDescriptorType
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["SCALARS", "Fixed", "HeldIteratorError", "holds_iterator", "is_plain"]

SCALARS = frozenset({int, float, complex, str, bytes, bool, type(None)})
# So many elements of an item are looked at, spread over those of a longer container. More: a long list of numbers takes
# longer to look through than to pickle. Fewer: an iterator among many other things is met less often.
_LOOKED_AT = 512
_COMMON = frozenset({list, tuple, dict, set})
# Iterators may stand in items' tuples, as in `enumerate(groupby(...))`: so far down.
_DEPTH = 4


class Fixed:
    """Stands for an item that was pickled when it was read.

    Attributes:
        data: its pickle.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class HeldIteratorError(TypeError):
    """An item is or holds an iterator, which has the rest of its items from this process."""


# Of classes that were met: their slots.
_members: WeakKeyDictionary[type, tuple[Any, ...]] = WeakKeyDictionary()
_NO_ATTRIBUTES: tuple[Any, ...] = ("none at all",)


def is_plain(value: Any) -> bool:
    """Say whether nobody can change a value: an exact immutable scalar, or an exact tuple of such.

    >>> is_plain(1), is_plain(("a", 2.0)), is_plain([1]), is_plain(((1,),))
    (True, True, False, False)
    """
    kind = type(value)
    return kind in SCALARS or (kind is tuple and SCALARS.issuperset(map(type, value)))


def holds_iterator(value: Any) -> bool:
    """Say whether a value is an iterator, or holds one in an element or attribute, or in those of its containers.

    >>> holds_iterator(iter("ab")), holds_iterator((1, iter("ab"))), holds_iterator([1, "ab"])
    (True, True, False)
    """
    kind = type(value)
    if kind in SCALARS:
        return False
    # What most items are is told without a look into them one element at a time.
    if kind in _COMMON and len(value) <= _LOOKED_AT:
        elements = value.values() if kind is dict else value
        if SCALARS.issuperset(map(type, elements)):
            return False
    try:
        return _Look().holds(value, _DEPTH)
    except Exception:  # noqa: BLE001 - a class may make anything of its attributes; pickling will tell
        return False


class _Look:
    """One look at a value, which ends after a fixed number of elements."""

    def __init__(self) -> None:
        self._left = _LOOKED_AT

    def holds(self, value: object, depth: int) -> bool:
        kind = type(value)
        if kind in SCALARS:
            return False
        if hasattr(kind, "__next__"):
            return True
        return depth > 0 and (self._any(_elements(value), depth - 1) or self._attributes(value, depth - 1))

    def _any(self, elements: Iterable[object], depth: int) -> bool:
        chosen = list(islice(elements, max(0, self._left)))
        self._left -= len(chosen)
        if SCALARS.issuperset(map(type, chosen)):
            return False
        return any(self.holds(element, depth) for element in chosen if type(element) not in SCALARS)

    def _attributes(self, value: object, depth: int) -> bool:
        kind = type(value)
        members = _members.get(kind)
        if members is None:
            members = _members[kind] = _slot_members(kind)
        if members is _NO_ATTRIBUTES:
            return False
        held = getattr(value, "__dict__", None)
        if type(held) is dict and held and self._any(held.values(), depth):
            return True
        for member in members:
            try:
                element = member.__get__(value)
            except AttributeError:  # not set
                continue
            if self._any((element,), depth):
                return True
        return False


def _slot_members(kind: type) -> tuple[Any, ...]:
    """Return the descriptors of a class's slots."""
    if kind.__module__ == "builtins":
        return _NO_ATTRIBUTES
    return tuple(
        member for base in kind.__mro__ for member in base.__dict__.values() if type(member) is MemberDescriptorType
    )


def _elements(value: Any) -> Iterable[object]:
    """Return elements of a container, without asking a subclass of the user's."""
    kind: Any
    for kind in (list, tuple):
        if isinstance(value, kind):
            length = kind.__len__(value)
            if length <= _LOOKED_AT:
                return kind.__iter__(value)  # type: ignore[no-any-return]
            third = _LOOKED_AT // 3
            ends = kind.__getitem__(value, slice(third)), kind.__getitem__(value, slice(-third, None))
            return chain(*ends, kind.__getitem__(value, slice(None, None, length // third)))
    if isinstance(value, dict):
        return dict.values(value)
    for kind in (set, frozenset, deque):
        if isinstance(value, kind):
            return kind.__iter__(value)  # type: ignore[no-any-return]
    return ()

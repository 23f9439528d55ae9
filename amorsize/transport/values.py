"""Find out what an item is made of by types alone, without iterating over it, pickling it or calling its methods.

Where items that were read ahead might change while they wait, they wait in one of two forms. Exact immutable scalars,
and exact tuples of them, wait as they are; any other item waits as a `Fixed`, which is its pickle from the moment when
it was read.
"""

from __future__ import annotations

import sys
from itertools import chain, islice
from sys import getsizeof

from ..errors import let_signals_through
from ..lean import MemberDescriptorType, deque, lru_cache, map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

__all__ = ["SCALARS", "Fixed", "HeldIteratorError", "Rows", "held_iterator_error", "holds_iterator", "is_array"]
__all__ += ["holds_plain_arrays", "is_plain", "plainly_hold_none", "rough_size", "row_bytes"]

SCALARS = frozenset({int, float, complex, str, bytes, bool, type(None)})
# So many elements of an item are looked at; in a longer container they are spread over all of it. With a larger value,
# looking through a long list of numbers takes longer than pickling it; with a smaller one, an iterator among many other
# things is found less often.
_LOOKED_AT = 512
_PLACES = frozenset({list, tuple})
# Values that have at most so many elements each, on average, are looked at together.
_FEW = 32
# Iterators may stand in items' tuples, as in `enumerate(groupby(...))`; they are looked for so many levels down.
_DEPTH = 4


class Fixed:
    """Stands for an item that was pickled when it was read.

    Attributes:
        data: the item's pickle.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Rows:
    """Consecutive items of an input that is a NumPy array, as one array, which has their values from when it was made.

    They cross as one pickle. The items are made when they are asked for, as iterating over the input makes them:
    scalars, or views of rows, of which no two share memory.

    Args:
        array: the items; nobody else refers to it.
    """

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._array)

    def __getitem__(self, at: Any) -> Any:
        return Rows(self._array[at]) if type(at) is slice else self._array[at]

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (self._array,)

    @classmethod
    def of(cls, array: Any, start: int, stop: int) -> Rows:
        """Return rows of an array, copied one after another, whatever their order and strides there."""
        rows = array[start:stop].copy()
        rows.flags.writeable = array.flags.writeable
        return cls(rows)


# Kinds of NumPy's data types whose values are theirs alone: numbers, times, texts, bytes.
_ROW_KINDS = frozenset("biufcmMSU")


def row_bytes(array: object, most_bytes: int) -> int | None:
    """Return how many bytes an item of an array has, if its items can cross as `Rows`; None if each crosses alone.

    Args:
        array: any input.
        most_bytes: larger items cross alone, because then none of their bytes is pickled.
    """
    if not is_array(array):
        return None
    whole: Any = array
    kind = whole.dtype
    if not whole.ndim or kind.hasobject or kind.metadata or not (kind.kind in _ROW_KINDS or kind.names):
        return None
    nbytes = kind.itemsize
    for length in whole.shape[1:]:
        nbytes *= length
    return nbytes if nbytes < most_bytes else None


class HeldIteratorError(TypeError):
    """An item is or holds an iterator, which can get the rest of its own items only in this process."""


def rough_size(value: Any) -> int:
    """Return how many bytes a value takes, without what it refers to; 0 if it does not say.

    >>> rough_size(bytes(1000)) >= 1000
    True
    """
    try:
        return getsizeof(value, 0)
    except Exception as error:  # the user's class
        let_signals_through(error)
        return 0


def held_iterator_error(item: object) -> HeldIteratorError:
    """Return the error about an item that is or holds an iterator."""
    kind = type(item).__name__
    return HeldIteratorError(f"it is or holds an iterator ({kind}), which gets the rest of its items only here")


def is_plain(value: Any) -> bool:
    """Say whether a value cannot change, being an exact immutable scalar or an exact tuple of such scalars.

    >>> is_plain(1), is_plain(("a", 2.0)), is_plain([1]), is_plain(((1,),))
    (True, True, False, False)
    """
    kind = type(value)
    return kind in SCALARS or (kind is tuple and SCALARS.issuperset(map(type, value)))


def is_array(value: object) -> bool:
    """Say whether a value is exactly a NumPy array, whose items are its own code's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)


def holds_plain_arrays(value: object) -> bool:
    """Say whether a value is a NumPy array, or a plain container of arrays and scalars, so that none of it is a user's.

    Arrays of objects do not count, because their elements may be anything.
    """
    return _plain_arrays(value, _DEPTH, [_LOOKED_AT])


def _plain_arrays(value: Any, depth: int, left: list[int]) -> bool:
    kind = type(value)
    if kind in SCALARS:
        return True
    if is_array(value):
        return not value.dtype.hasobject
    if kind not in {list, tuple, dict} or not depth:
        return False
    left[0] -= len(value)
    elements = chain(value, value.values()) if kind is dict else value
    return left[0] >= 0 and all(_plain_arrays(element, depth - 1, left) for element in elements)


def holds_iterator(value: Any) -> bool:
    """Say whether a value is an iterator, or holds one in an element or attribute, or in those of its containers.

    >>> holds_iterator(iter("ab")), holds_iterator((1, iter("ab"))), holds_iterator([1, "ab"])
    (True, True, False)
    """
    # Most items are of these kinds, which need no further search.
    kind: Any = type(value)
    if kind is dict and len(value) <= _LOOKED_AT:
        if SCALARS.issuperset(map(type, value.values())):
            return False
    elif kind in _PLACES and len(value) <= _LOOKED_AT and SCALARS.issuperset(map(type, value)):
        return False
    try:
        return _holds(value, _DEPTH, [_LOOKED_AT])
    except Exception as error:  # the user's properties and containers may raise anything
        let_signals_through(error)
        return False


def plainly_hold_none(values: Sequence[Any]) -> bool:
    """Say quickly whether several values are all lists, all tuples or all dicts, of a few scalars each.

    >>> plainly_hold_none([{"a": 1}, {"a": 2}]), plainly_hold_none([[1], [iter("ab")]])
    (True, False)
    """
    kinds = set(map(type, values))
    if kinds == {dict}:
        elements: Iterable[Any] = chain.from_iterable(map(dict.values, values))
    elif kinds in ({list}, {tuple}):
        elements = chain.from_iterable(values)
    else:
        return False
    return sum(map(len, values)) <= _FEW * len(values) and SCALARS.issuperset(map(type, elements))


def _holds(value: Any, depth: int, left: list[int]) -> bool:
    """Say whether a value holds an iterator at most `depth` levels down, looking at `left[0]` more elements or so."""
    if type(value) in SCALARS:
        return False
    is_iterator, take, members = _facts(type(value))  # type: ignore[arg-type]  # a class can be hashed
    if is_iterator:
        return True
    if not depth or left[0] <= 0:
        return False
    if take is not None and _any_holds(take(value), depth - 1, left):
        return True
    if members is None:
        return False
    held = getattr(value, "__dict__", None)
    if type(held) is dict and held and _any_holds(list(islice(held.values(), _LOOKED_AT)), depth - 1, left):
        return True
    return any(_any_holds(_attribute(member, value), depth - 1, left) for member in members)


def _any_holds(elements: Sequence[Any], depth: int, left: list[int]) -> bool:
    if SCALARS.issuperset(map(type, elements)):
        return False
    left[0] -= len(elements)
    return any(_holds(element, depth, left) for element in elements)


@lru_cache(maxsize=128)
def _facts(kind: type) -> tuple[bool, Callable[[Any], Sequence[Any]] | None, tuple[Any, ...] | None]:
    """Return whether objects of a class are iterators, how to get their elements, and the descriptors of their slots.

    The second is None for a class that is no container. The third is None where there are no attributes to look at.
    """
    take = next((take for base, take in _CONTAINERS.items() if issubclass(kind, base)), None)
    if kind.__module__ == "builtins":
        return hasattr(kind, "__next__"), take, None
    slots = (member for base in kind.__mro__ for member in vars(base).values() if type(member) is MemberDescriptorType)
    return hasattr(kind, "__next__"), take, tuple(slots)


def _attribute(member: Any, value: Any) -> tuple[Any, ...]:
    try:
        return (member.__get__(value),)
    except AttributeError:  # the slot is not set
        return ()


def _places(kind: Any) -> Callable[[Any], Sequence[Any]]:
    """Return a function that gives elements of a list or tuple without calling methods of the user's subclass."""

    def take(value: Any) -> Sequence[Any]:
        length = kind.__len__(value)
        if length <= _LOOKED_AT:
            few: Sequence[Any] = kind.__getitem__(value, slice(None))
            return few
        third = _LOOKED_AT // 3
        ends = kind.__getitem__(value, slice(third)), kind.__getitem__(value, slice(-third, None))
        return list(chain(*ends, kind.__getitem__(value, slice(None, None, length // third))))

    return take


def _first(elements: Callable[[Any], Iterable[Any]]) -> Callable[[Any], Sequence[Any]]:
    return lambda value: list(islice(elements(value), _LOOKED_AT))


_CONTAINERS: dict[type, Callable[[Any], Sequence[Any]]] = {
    list: _places(list),
    tuple: _places(tuple),
    dict: _first(dict.values),
    set: _first(set.__iter__),
    frozenset: _first(frozenset.__iter__),
    deque: _first(deque.__iter__),
}

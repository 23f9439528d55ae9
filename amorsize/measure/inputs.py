"""How is an input sampled without losing any of it? Told by what the input is, never by trying it out.

A collection can be iterated again, so it is given back as it is, and one with places is sampled all over. Anything
else might be used up by a look at it (even one that knows its length, as a progress bar around a generator does), so
what was taken is put back in front of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from operator import length_hint

from ..lean import map
from .sampling import spread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["Input"]

_COLLECTIONS = (Sequence, AbstractSet, Mapping, MappingView)
_WITH_PLACES = (list, tuple, range)  # whose items are cheap to reach in any order


class Input:
    """An input to sample from.

    Args:
        data: any iterable.

    Attributes:
        n_items: its length, or None if it does not tell.

    >>> letters = Input(iter("abc"))
    >>> next(letters.items())
    'a'
    >>> "".join(letters.whole(["a"]))
    'abc'
    """

    def __init__(self, data: Iterable[Any]) -> None:
        self._data = data
        self._rest: Iterator[Any] | None = None
        self.n_items: int | None
        if isinstance(data, _WITH_PLACES):
            self.n_items = len(data)
            return
        kind = type(data)
        self.n_items = len(data) if hasattr(kind, "__len__") else None  # type: ignore[arg-type]
        comes_again = isinstance(data, _COLLECTIONS) or (self.n_items is not None and hasattr(kind, "__getitem__"))
        if hasattr(kind, "__next__") or not comes_again:
            self._rest = iter(data)

    def expected_items(self) -> int | None:
        """Return the length, or before anything was taken what the input says of it; None if it says nothing."""
        if self.n_items is not None:
            return self.n_items
        hint = length_hint(self._data, -1)
        return hint if hint >= 0 else None

    def items(self) -> Iterator[Any]:
        """Return an iterator over items to sample; see `place` for where they stand."""
        if self._rest is not None:
            return self._rest
        if isinstance(self._data, _WITH_PLACES):
            return map(self._data.__getitem__, spread(len(self._data)))
        return iter(self._data)

    def place(self, taken: int) -> int:
        """Return the position in the input of the item that was taken as number `taken`, from 0."""
        if isinstance(self._data, _WITH_PLACES):
            return next(place for number, place in enumerate(spread(len(self._data))) if number == taken)
        return taken

    def whole(self, taken: list[Any]) -> Iterable[Any]:
        """Return the whole input again, of which `taken` were taken through `items`."""
        return self._data if self._rest is None else chain(taken, self._rest)

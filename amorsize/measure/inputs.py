"""How is an input sampled without losing any of it? The type of the input decides this; nothing is tried out.

A collection can be iterated again, so it is given back as it is; a list, tuple or range is sampled all over its
length. Anything else might be used up by a look at it, even an input that knows its length, such as a progress bar
around a generator. The items taken from such an input are therefore put back in front of the rest, each as it was when
it was taken: some readers refill one record for every item, and the function that is sampled may change its item. An
item that cannot be kept in this way, or that is or holds an iterator, is not run at all.
"""

from __future__ import annotations

from collections.abc import Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from operator import length_hint

from ..errors import let_signals_through
from ..lean import map
from ..log import debug
from ..transport.values import Fixed, holds_iterator, is_plain
from .sampling import spread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["Input"]

_COLLECTIONS = (Sequence, AbstractSet, Mapping, MappingView)
_RUNS_ONCE = "it is or holds an iterator, which runs once only"
_WITH_PLACES = (list, tuple, range)  # the items of these are cheap to reach in any order


class Input:
    """An input to sample from.

    Args:
        data: any iterable.
        fix: pickles an item.
        load: rebuilds what `fix` pickled.

    Attributes:
        n_items: the length of the input, or None if the input does not tell it.
        rest: the iterator of an input that can be iterated once only; None for other inputs.
        kept: why an item must not be run, at which `items` therefore ended; empty if there was no such item.

    >>> import pickle
    >>> letters = Input(iter("abc"), pickle.dumps, pickle.loads)
    >>> next(letters.items())
    'a'
    >>> "".join(letters.whole())
    'abc'
    """

    def __init__(self, data: Iterable[Any], fix: Callable[[Any], bytes], load: Callable[[bytes], Any]) -> None:
        self._data = data
        self._fix = fix
        self._load = load
        self._taken: list[Any] = []
        self.kept = ""
        self.rest: Iterator[Any] | None = None
        self.n_items: int | None
        if isinstance(data, _WITH_PLACES):
            self.n_items = len(data)
            return
        kind = type(data)
        self.n_items = len(data) if hasattr(kind, "__len__") else None  # type: ignore[arg-type]
        comes_again = isinstance(data, _COLLECTIONS) or (self.n_items is not None and hasattr(kind, "__getitem__"))
        if hasattr(kind, "__next__") or not comes_again:
            self.rest = iter(data)

    def expected_items(self) -> int | None:
        """Return the length, else the input's hint of it, else None. It must be asked for before any item is taken."""
        if self.n_items is not None:
            return self.n_items
        hint = length_hint(self._data, -1)
        return hint if hint >= 0 else None

    def items(self) -> Iterator[Any]:
        """Return an iterator over items to sample; `place` tells where each one stands in the input."""
        if self.rest is not None:
            return self._items_to_put_back(self.rest)
        if isinstance(self._data, _WITH_PLACES):
            return self._items_that_last(map(self._data.__getitem__, spread(len(self._data))))
        return self._items_that_last(iter(self._data))

    def _items_that_last(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if holds_iterator(item):
                self._keep(item, _RUNS_ONCE)
                return
            yield item

    def _items_to_put_back(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if is_plain(item):
                self._taken.append(item)
            elif holds_iterator(item):
                self._taken.append(item)
                self._keep(item, _RUNS_ONCE)
                return
            else:
                try:
                    data = self._fix(item)
                    self._load(data)
                except Exception as error:  # noqa: BLE001 - pickling runs the user's code
                    let_signals_through(error)
                    self._taken.append(item)
                    self._keep(item, str(error))
                    return
                self._taken.append(Fixed(data))
            yield item

    def _keep(self, item: object, because: str) -> None:
        self.kept = f"an item, of type {type(item).__name__}, cannot be tried out: {because}"
        debug("sampling ends: %s", self.kept)

    def place(self, taken: int) -> int:
        """Return the position in the input of the item that was taken as number `taken`, from 0."""
        if isinstance(self._data, _WITH_PLACES):
            return next(place for number, place in enumerate(spread(len(self._data))) if number == taken)
        return taken

    def whole(self) -> Iterable[Any]:
        """Return the whole input again, with the items that were taken through `items` in front of the rest."""
        if self.rest is None:
            return self._data
        return chain((self._load(item.data) if type(item) is Fixed else item for item in self._taken), self.rest)

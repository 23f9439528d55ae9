"""How a call takes results from a journal, and adds those that it makes.

An item whose result is there travels as its key, which the function gives back at once. So positions, order, laziness,
seeds and the bounds on what is read ahead are those of any other call, and nothing is held in memory. Any other item
travels with its key, and its result comes back with it, so that results are written as soon as they are heard of, also
while others before them are still missing.
"""

from __future__ import annotations

from functools import partial

from ..code.whole import UntoldError, whole_digest
from ..errors import UnsupportedError
from ..hashing import sha256
from ..journal import Journal, Key
from ..lean import NamedTuple, map
from ..runners import runs_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..feed.order import Piece

__all__ = ["Recorder"]


class _New(NamedTuple):
    """An item that is to run, with its key and position; then its result with them."""

    key: Key
    position: int
    content: Any


class _Known(NamedTuple):
    """Stands for an item whose result is in the journal, and for that result."""

    key: Key


@runs_items()
def _recorded(function: Callable[..., Any], star: bool, item: Any) -> Any:
    """Run one item that has its key; of one that is known nothing runs."""
    if type(item) is _Known:
        return item
    return item._replace(content=function(*item.content) if star else function(item.content))


class Recorder:
    """The journal of one call.

    Args:
        given: the option `journal`: a path, or a `Journal`.
        function: the user's function.
        seed: the option `seed`.

    Attributes:
        function: runs one item, with its key.
        user: the user's function.
        reused: number of items whose results were in the journal.
        impure: what an audit has found; there is none beside a journal.

    Raises:
        UnsupportedError: the function cannot be told from others.
    """

    def __init__(self, given: Any, function: Callable[..., Any], seed: int | None, *, star: bool) -> None:
        self.impure: list[Any] = []
        self._journal = given if isinstance(given, Journal) else Journal(given)
        try:
            self._function = whole_digest(function)
        except UntoldError as error:
            text = f"journal= cannot tell {function!r} from a function that gives other results: {error}"
            raise UnsupportedError(text) from error
        self._seed = seed
        self._seen: dict[bytes, int] = {}
        self.reused = 0
        self.function = partial(_recorded, function, star)  # of a partial it is seen what the function reaches
        self.user = function

    def open(self) -> None:
        """Have the journal for this call; raises `JournalError`."""
        self._journal.open()

    def ended(self, error: BaseException | None) -> None:
        """Take in that the last result has come, or the error that ended the call: nothing is left to write."""

    def close(self) -> None:
        """Let others have the journal."""
        self._journal.close()

    def inputs(self, iterables: tuple[Iterable[Any], ...], *, strict: bool) -> Iterable[Any]:
        """Return the input of the call, in which every item has its key; `iter` is called on each iterable now."""
        return _Keyed(self, iterables, strict=strict)

    def item(self, index: int, content: Any) -> Any:
        """Return what travels for an item.

        Raises:
            UntoldError: it cannot be told from others.
        """
        try:
            told = whole_digest(content)
        except UntoldError as error:
            raise UntoldError(f"journal= cannot tell item {index} from others: {error}") from error
        if self._seed is not None:
            told = sha256(b"%b %d %d" % (told, self._seed, index)).digest()[:16]
        nth = self._seen.get(told, 0)
        self._seen[told] = nth + 1
        key = Key(self._function, told, nth)
        if self._journal.has(key):
            self.reused += 1
            return _Known(key)
        return _New(key, index, content)

    def taken(self, piece: Piece) -> Piece:
        """Write the new results among some that have come, and return them as the user gets them."""
        return piece._replace(values=self.values(piece.values))

    def values(self, results: list[Any]) -> list[Any]:
        """Write the new ones among some results, and return all as the user gets them."""
        new = [result for result in results if type(result) is _New]
        if new:
            self._journal.add(new)
        return list(map(self._value, results))

    def _value(self, result: Any) -> Any:
        if type(result) is _New:
            return result.content
        return self._journal.get(result.key) if type(result) is _Known else result  # or it is an error


class _Keyed:
    """An input whose items have their keys."""

    def __init__(self, recorder: Recorder, iterables: tuple[Iterable[Any], ...], *, strict: bool) -> None:
        self._recorder = recorder
        self._iterables = iterables
        iterators = tuple(map(iter, iterables))
        self._iterator: Iterator[Any] = iterators[0] if len(iterators) == 1 else zip(*iterators, strict=strict)

    def __len__(self) -> int:
        if any(hasattr(iterable, "__next__") for iterable in self._iterables):
            raise TypeError("an iterator has no length")
        sized: Any = self._iterables  # what has no length raises a TypeError
        return min(map(len, sized))

    def __iter__(self) -> Iterator[Any]:
        return map(self._recorder.item, _count(), self._iterator)


def _count() -> Iterator[int]:
    from itertools import count

    return count()

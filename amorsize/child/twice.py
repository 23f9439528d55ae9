"""Runs the items of an audited call (`call.audited`): the first time, wherever that is, and the second time.

The first run tells of the items that were chosen, and of those only, whether the function has changed them. The second
run takes pickles, and gives back pickles, so that what cannot be rebuilt or pickled is found here, item by item.
"""

from __future__ import annotations

from time import perf_counter

from ..errors import let_signals_through
from ..lean import NamedTuple
from ..plan.retry import NOT_OF_ITEMS
from ..runners import runs_items
from ..seeding import Seeded
from ..transport.blame import said_of
from ..transport.remote import pack_error
from ..transport.same import difference
from ..transport.serialize import dump, dump_item, load
from ..transport.values import holds_iterator, is_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Answer", "Chosen", "Copy", "Said", "first_run", "said_by", "second_run", "shown"]

# A text shows no more characters of a value than this, from its beginning and its end.
_SHOWN = 200


class Chosen(NamedTuple):
    """An item that is to run twice, with its position."""

    at: int
    content: Any


class Answer(NamedTuple):
    """The result of such an item.

    Attributes:
        at: the item's position.
        value: the result.
        changed: where the function has changed the item, what stood there, and what does now; None if it has not.
        seconds: how long the function ran.
    """

    at: int
    value: Any
    changed: tuple[str, str, str] | None
    seconds: float


class Copy(NamedTuple):
    """An item as it was before its first run, which waits for the second one.

    Attributes:
        at: the item's position.
        data: the item's pickle.
    """

    at: int
    data: bytes


class Said(NamedTuple):
    """What came of an item, as it was at that moment.

    Attributes:
        data: the pickled result, or the packed error; None if there is neither.
        raised: whether it is an error.
        untold: why there is neither; "" if there is.
    """

    data: bytes | None
    raised: bool = False
    untold: str = ""


@runs_items()
def first_run(function: Callable[..., Any], star: bool, item: Any) -> Any:
    """Run an item; the result of one that was chosen is an `Answer`."""
    if type(item) is not Chosen:
        return function(*item) if star else function(item)
    content = item.content
    before = None if is_plain(content) else _state(content)
    began = perf_counter()
    result = function(*content) if star else function(content)
    seconds = perf_counter() - began
    return Answer(item.at, result, None if before is None else _changed(before, content), seconds)


@runs_items("streams")
def second_run(function: Callable[[Any], Any] | Seeded, retries: int, copies: list[Copy]) -> list[Said]:
    """Run items again, one after another.

    Args:
        function: takes one item; as in the first run, but the items are themselves.
        retries: how often an item that fails is tried again.
        copies: the items.
    """
    streams, index = None, -1
    if isinstance(function, Seeded):
        streams, function = function.begin(lambda: index, keep=True)
    said = []
    for copy in copies:
        index = copy.at
        for tries in range(retries + 1):
            if streams is not None:
                streams.restart()
            try:
                found = said_by(function(load(copy.data)))
            except BaseException as error:  # an item's SystemExit counts as its error, like any other
                let_signals_through(error)
                found = Said(pack_error(error), raised=True)
                if tries < retries and not isinstance(error, NOT_OF_ITEMS):
                    continue
            break
        said.append(found)
    return said


def said_by(result: object) -> Said:
    """Return a result as it is now."""
    try:
        if holds_iterator(result):
            return Said(None, untold=f"a result is or holds an iterator ({type(result).__name__})")
        return Said(dump(result))
    except Exception as error:  # the user's classes
        let_signals_through(error)
        return Said(None, untold=f"a result cannot be pickled: {said_of(error, result)}")


def shown(value: object) -> str:
    """Return a short text for a value.

    >>> len(shown("x" * 1000))
    200
    """
    from reprlib import Repr

    short = Repr()
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 12
    short.maxlevel, short.maxstring, short.maxlong, short.maxother = 4, _SHOWN, _SHOWN, _SHOWN
    try:
        text = short.repr(value)
    except Exception as error:  # the user's class
        let_signals_through(error)
        return f"<{type(value).__name__} without a repr>"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def _state(content: Any) -> bytes | None:
    try:
        return dump_item(content)
    except Exception as error:  # the user's classes; what has no pickle is not compared
        let_signals_through(error)
        return None


def _changed(before: bytes, content: Any) -> tuple[str, str, str] | None:
    after = _state(content)
    if after is None or after == before:
        return None
    try:
        found = difference(load(before), load(after))
    except Exception as error:  # the user's classes, or `Incomparable`
        let_signals_through(error)
        return None
    return None if found is None else (found.where, shown(found.first), shown(found.again))

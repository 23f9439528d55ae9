"""How a call finds out whether its function gives an item the same answer at another place and time.

Items are chosen by their positions. Such an item is pickled when it is read, because the function may change it, and
travels as a `Chosen`; its result comes back as an `Answer`, whose value is pickled before the user gets it, because
anybody may change that, too. All other items travel as they are, and all that the user gets is of the first run. So
order, laziness and bounds are those of any other call.

The second run is not in the caller, nor on one of the call's workers, but in a worker process of its own (`again`),
wherever the first one was. In the caller it could change what later items find there, and so the user's results; and
nobody would learn that a function gives other answers in a worker before it is sent to one. The worker is ordered when
the call begins: the program is there as it was before the first item ran. A batch runs backwards, because a counter
counts the same items to the same numbers. The first batch is of two items, so that long calls tell soon; further ones
are longer, run beside the call, and the call waits for one only when the next is full. So what waits is bounded. Where
there is no such worker, the caller runs items again, at the end of the call or when very many wait.

An answer is compared as it was pickled, on both sides (`transport.same`). An exception is an answer as well. What
cannot be pickled is told once, and is not held against the function.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from functools import partial
from itertools import count

from ..child.twice import Answer, Chosen, Copy, Said, first_run, said_by, shown
from ..context import works_in_place
from ..errors import AmorsizeError, from_signal_handler, let_signals_through
from ..lean import NamedTuple, map
from ..log import debug
from ..transport.by_value import Outgoing
from ..transport.remote import pack_error, unpack_error
from ..transport.same import Incomparable, difference
from ..transport.serialize import dump_item, load
from ..transport.values import holds_iterator
from .again import Again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..feed.order import Piece
    from ..feed.source import Source
    from ..options import Options
    from .again import Ran

__all__ = ["Auditor", "Impure"]

# Positions are spread by the golden ratio: any share of them lies about evenly, and no period of the input meets them.
_GOLDEN, _BITS = 0x9E3779B97F4A7C15, 64
# The first two items are always chosen, so that short calls are audited, and an item that ran after another one is.
_ALWAYS = 2
# A batch has no more items, or bytes of items and results, than this. With larger values more memory is held, and the
# end of a call waits longer; with smaller ones there are more messages.
_BATCH_ITEMS = 64
_BATCH_BYTES = 8 << 20
# In the caller, items run again as late as can be, for what they change there is changed for the items to come.
_BATCH_HERE = 4096
# So many findings of a call are kept.
_MOST_KEPT = 100

OTHER_ANSWER = "gave another answer"
CHANGED = "changed its argument"


class Impure(NamedTuple):
    """An item whose function depends on more than the item, or changes it.

    Attributes:
        index: the item's position.
        item_repr: the item, as a short text.
        first: the first answer, as a short text; or what the function has found in its argument.
        again: the second answer; or what the function has left in its argument.
        where: the way to the part of the answer, or of the argument, that differs, such as "[2]['size']".
        kind: "gave another answer" or "changed its argument".
    """

    index: int  # type: ignore[assignment]  # shadows tuple.index, as in `Failed`
    item_repr: str
    first: str
    again: str
    where: str = ""
    kind: str = OTHER_ANSWER

    def __str__(self) -> str:
        at = f" (at {self.where})" if self.where else ""
        return f"{self.kind} at item {self.index}, {self.item_repr}{at}: first {self.first}, then {self.again}"


class Auditor:
    """The audit of one call. To the call it is as the recorder of a journal.

    Args:
        function: the user's function.
        options: those of the call.
        source: the input; items are chosen as they are read.
        star: whether an item is a tuple of arguments.

    Attributes:
        function: runs one item, for `Chosen` ones too.
        user: the user's function.
        options: those of the call, which must stay in the caller if its function must.
        impure: what was found, up to a hundred items of it.
        compared: how many answers were compared.
        reused: number of items that did not run: none.
    """

    reused = 0

    def __init__(self, function: Callable[..., Any], options: Options, source: Source, *, star: bool) -> None:
        self.function = partial(first_run, function, star)
        self._in_place = works_in_place(function)
        self.options = options._replace(n_jobs=1) if self._in_place and options.backend == "auto" else options
        self.impure: list[Impure] = []
        self.compared = 0
        self.user = function
        self._below = int(options.audit * (1 << _BITS))
        self._source = source
        source.through(map(self.item, source.iterator, count(source.index)))
        self._outgoing: Outgoing | None = None
        self._again = Again(self.function, options)
        self._copies: dict[int, Copy] = {}  # of the items that run, or wait, for the first time
        self._ready: list[Copy] = []  # of those that can run again
        self._first: dict[int, tuple[Copy, Said]] = {}
        self._bytes = self._seen = 0
        self._batch = 2
        self._total: int | None = None
        self._untold: dict[str, int] = {}
        self._warned = False

    def open(self) -> None:
        """Get ready, before the first item runs."""
        self._total = self._source.remaining()
        if not self._in_place and not self._again.open():
            self._batch = _BATCH_HERE

    def close(self) -> None:
        """Compare nothing more."""
        self._copies.clear()
        self._again.close()

    def ended(self, error: BaseException | None) -> None:
        """Take in that the last result has come, or the error that ended the call, and compare what is left."""
        if error is None:
            self._finish()
            return
        if not isinstance(error, Exception) or from_signal_handler(error):
            return  # the user wants out
        try:
            if not isinstance(error, AmorsizeError):
                self._take_error(error)
            self._finish()
        except Exception as refusal:  # such as our warning; the user's error is what counts
            let_signals_through(refusal)
            debug("the audit ended early: %r", refusal)

    # The first run.

    def item(self, content: Any, index: int) -> Any:
        """Return what travels for an item."""
        if (index * _GOLDEN & (1 << _BITS) - 1) >= self._below and index >= _ALWAYS:
            return content
        copy = self._copy(content, index)
        if copy is None:
            return content
        self._copies[index] = copy
        return Chosen(index, content)

    def _copy(self, content: Any, index: int) -> Copy | None:
        """Return an item's copy; None if there can be none."""
        reason = ""
        if self._in_place:
            reason = "the function is a method of an object of this process, for what it changes"
        elif holds_iterator(content):
            reason = "an item is or holds an iterator"
        if reason:
            self._untellable(reason)
            return None
        if self._outgoing is None:
            self._outgoing = Outgoing()
        try:
            return Copy(index, dump_item(content, self._outgoing))
        except Exception as error:  # the user's classes
            let_signals_through(error)
        try:
            return Copy(index, None, deepcopy(content))
        except Exception as error:  # as above
            let_signals_through(error)
            self._untellable(f"an item can be neither pickled nor copied: {error!r}")
            return None

    def _untellable(self, reason: str) -> None:
        self._untold[reason] = self._untold.get(reason, 0) + 1

    def taken(self, piece: Piece) -> Piece:
        """Note the answers among some results that have come, and return the results as the user gets them."""
        return piece._replace(values=self.values(piece.values))

    def values(self, results: list[Any]) -> list[Any]:
        """Note the answers among some results, and return the results as the user gets them."""
        self._seen += len(results)
        found = list(map(self._value, results))
        if self._seen == self._total:
            self._finish()  # whoever knows the number of results may not ask for more
        return found

    def _value(self, result: Any) -> Any:
        if type(result) is Answer:
            index, value, changed = result
            copy = self._copies.pop(index, None)
            if copy is not None:
                if changed is not None:
                    where, before, after = changed
                    self._find(copy, Impure(index, "", before, after, where, CHANGED))
                self._take(copy, said_by(value))
            return value
        if self._copies and isinstance(result, BaseException):
            self._take_error(result)
        return result

    def _take_error(self, error: BaseException) -> None:
        copy = self._copies.pop(getattr(error, "amorsize_index", -1), None)
        if copy is not None:
            self._take(copy, Said(pack_error(error), raised=True))

    def _take(self, copy: Copy, said: Said) -> None:
        if said.data is None:
            self._untellable(said.untold)
            return
        self._compare(self._again.ran(wait=False))
        self._ready.append(copy)
        self._first[copy.at] = copy, said
        self._bytes += len(said.data) + len(copy.data or b"")
        if len(self._ready) >= self._batch or self._bytes >= _BATCH_BYTES:
            self._give()

    # The second one.

    def _give(self) -> None:
        """Have what is ready run again, after what runs now."""
        self._compare(self._again.ran(wait=True))
        copies, self._ready, self._bytes = self._ready[::-1], [], 0
        self._batch = max(self._batch, min(2 * self._batch, _BATCH_ITEMS))
        if copies:
            self._again.give(copies)

    def _finish(self) -> None:
        """Compare all that can be compared."""
        self._give()
        self._compare(self._again.ran(wait=True))
        if self._untold:
            untold, self._untold = self._untold, {}
            reason = max(untold, key=untold.__getitem__)
            warnings.warn(
                f"audit= could not compare {sum(untold.values())} of the chosen items of {self.user!r}: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _compare(self, ran: list[Ran]) -> None:
        for index, again in ran:
            copy, first = self._first.pop(index)
            if again.data is None:
                self._untellable(again.untold)
                continue
            try:
                self._compare_one(copy, first, again)
            except Exception as error:  # the user's classes, or `Incomparable`
                let_signals_through(error)
                told = str(error) if isinstance(error, Incomparable) else f"results cannot be compared: {error!r}"
                self._untellable(told)

    def _compare_one(self, copy: Copy, first: Said, again: Said) -> None:
        self.compared += 1
        if first == again:
            return
        answers = _answer(first), _answer(again)
        if isinstance(answers[1], KeyboardInterrupt):
            raise answers[1]
        found = difference(*answers)
        if found is not None:
            self._find(copy, Impure(copy.at, "", shown(answers[0]), shown(answers[1]), found.where))

    def _find(self, copy: Copy, impure: Impure) -> None:
        """Keep a finding, and warn of the first one of the call."""
        if len(self.impure) >= _MOST_KEPT:
            return
        impure = impure._replace(item_repr=_shown_item(copy))
        self.impure.append(impure)
        if not self._warned:
            self._warned = True
            at = f" (at {impure.where})" if impure.where else ""
            told = f"{self.user!r} {impure.kind} at item {impure.index}, {impure.item_repr}{at}"
            advice = _ADVICE[impure.kind].format(impure)
            warnings.warn(f"audit: {told}: {advice}", RuntimeWarning, stacklevel=2)


_ADVICE = {
    OTHER_ANSWER: (
        "first {0.first}, then {0.again}. So it depends on more than its item: on earlier items (a global, a cache, "
        "a default argument, an iterator), on chance, or on where and when it runs (process, clock, folder, "
        "environment, id(), the order of a set). Have it depend on its item alone, pass seed= for random numbers, or "
        "keep it here with backend='serial'"
    ),
    CHANGED: (
        "it found {0.first}, and left {0.again}. What it changes in a worker is not seen here, and what it changes "
        "here is not seen in a worker: have it change a copy, and return that"
    ),
}


def _answer(said: Said) -> Any:
    assert said.data is not None
    return unpack_error(said.data) if said.raised else load(said.data)


def _shown_item(copy: Copy) -> str:
    try:
        return shown(copy.content if copy.data is None else load(copy.data))
    except Exception as error:  # the user's classes
        let_signals_through(error)
        return "<an item that cannot be rebuilt>"

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
there is no such worker, the caller runs some items again, after the last result was handed out.

An answer is compared as it was pickled, on both sides (`transport.same`). An exception is an answer as well. What
cannot be pickled is told once, and is not held against the function. Where a warning is an error, it comes after the
last result.
"""

from __future__ import annotations

import warnings
from functools import partial
from itertools import count
from time import perf_counter

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
# A second run may take so many times as long as the first, and these seconds in any case, also for a process to start;
# more of them if it has to run an initializer. With larger values a call hangs for longer whose function blocks
# elsewhere; with smaller ones less is compared on a busy machine.
_PATIENCE = 10
_LEAST_SECONDS = 10.0
_LEAST_INITIALIZED = 60.0
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
        # Of the items that run, or wait, for the first time, with the time when each was read.
        self._copies: dict[int, tuple[Copy, float]] = {}
        self._ready: list[Copy] = []  # of those that can run again
        self._first: dict[int, tuple[Copy, Said, float]] = {}  # with the seconds that it took
        self._bytes = self._seen = 0
        self._batch = 2
        self._total: int | None = None
        self._untold: dict[str, int] = {}
        self._to_tell: list[str] = []

    def open(self) -> None:
        """Get ready, before the first item runs."""
        self._total = self._source.remaining()
        if not self._in_place:
            self._again.open()

    def close(self) -> None:
        """Compare nothing more."""
        self._copies.clear()
        self._again.close()

    def ended(self, error: BaseException | None) -> None:
        """Take in that the last result has come, or the error that ended the call, and compare what is left."""
        if error is None:
            self._finish(over=True)
            self._tell()
            return
        if not isinstance(error, Exception) or from_signal_handler(error):
            return  # the user wants out
        try:
            if not isinstance(error, AmorsizeError):
                self._take_error(error)
            self._finish(over=True)
            self._tell()
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
        self._copies[index] = copy, perf_counter()
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
            self._untellable(f"an item cannot be pickled: {error!r}")
            return None

    def _untellable(self, reason: str) -> None:
        self._untold[reason] = self._untold.get(reason, 0) + 1

    def taken(self, piece: Piece) -> Piece:
        """Note the answers among some results of workers, and return the results as the user gets them."""
        self._again.here = False
        return piece._replace(values=self.values(piece.values))

    def values(self, results: list[Any]) -> list[Any]:
        """Note the answers among some results, and return the results as the user gets them."""
        self._seen += len(results)
        found = list(map(self._value, results))
        if self._seen == self._total:
            self._finish(over=False)  # whoever knows the number of results may not ask for more
        try:
            self._tell()
        except Exception as error:  # warnings may be errors; this one must not take these results away
            let_signals_through(error)
            debug("the audit tells later: %r", error)
        return found

    def _value(self, result: Any) -> Any:
        if type(result) is Answer:
            index, value, changed, seconds = result
            copy, _ = self._copies.pop(index, (None, 0.0))
            if copy is not None:
                if changed is not None:
                    where, before, after = changed
                    self._find(copy, Impure(index, "", before, after, where, CHANGED))
                self._take(copy, said_by(value), seconds * (self.options.retries + 1))
            return value
        if self._copies and isinstance(result, BaseException):
            self._take_error(result)
        return result

    def _take_error(self, error: BaseException) -> None:
        copy, read = self._copies.pop(getattr(error, "amorsize_index", -1), (None, 0.0))
        if copy is not None:
            self._take(copy, Said(pack_error(error), raised=True), perf_counter() - read)

    def _take(self, copy: Copy, said: Said, seconds: float) -> None:
        if said.data is None:
            self._untellable(said.untold)
            return
        self._compare(self._again.ran())
        if self._again.full:
            self._untellable("too many items wait for the end of the call, as no process of its own can run it")
            return
        self._ready.append(copy)
        self._first[copy.at] = copy, said, seconds
        self._bytes += len(said.data) + len(copy.data)
        if len(self._ready) >= self._batch or self._bytes >= _BATCH_BYTES:
            self._give()

    # The second one.

    def _give(self) -> None:
        """Have what is ready run again, after what runs now."""
        self._compare(self._again.ran(self._patience()))
        copies, self._ready = self._ready[::-1], []
        size, self._bytes = self._bytes, 0
        self._batch = min(2 * self._batch, _BATCH_ITEMS)
        if copies:
            self._again.give(copies, size)

    def _patience(self) -> float:
        """Return how many seconds the second runs may take that are still to come."""
        least = _LEAST_SECONDS if self.options.initializer is None else _LEAST_INITIALIZED
        return max(least, _PATIENCE * sum(seconds for _, _, seconds in self._first.values()))

    def _finish(self, *, over: bool) -> None:
        """Compare all that can be compared; only when all is over, items may run in the caller."""
        self._give()
        self._compare(self._again.ran(self._patience()))
        if over:
            self._compare(self._again.run_here(self._patience()))
        if self._untold:
            untold, self._untold = self._untold, {}
            reason = max(untold, key=untold.__getitem__)
            told = f"audit= could not compare {sum(untold.values())} of the chosen items of {self.user!r}: {reason}"
            self._to_tell.append(told)

    def _tell(self) -> None:
        while self._to_tell:
            warnings.warn(self._to_tell[0], RuntimeWarning, stacklevel=2)
            del self._to_tell[0]

    def _compare(self, ran: list[Ran]) -> None:
        for index, again in ran:
            copy, first, _ = self._first.pop(index)
            if again.data is None:
                self._untellable(again.untold)
                continue
            try:
                found = self._compare_one(copy, first, again)
            except Exception as error:  # the user's classes, or `Incomparable`
                let_signals_through(error)
                told = str(error) if isinstance(error, Incomparable) else f"results cannot be compared: {error!r}"
                self._untellable(told)
                continue
            if found is not None:
                self._find(copy, found)

    def _compare_one(self, copy: Copy, first: Said, again: Said) -> Impure | None:
        self.compared += 1
        if first == again:
            return None
        answers = _answer(first), _answer(again)
        if isinstance(answers[1], KeyboardInterrupt):
            raise answers[1]
        found = difference(*answers)
        if found is None:
            return None
        return Impure(copy.at, "", shown(answers[0]), shown(answers[1]), found.where)

    def _find(self, copy: Copy, impure: Impure) -> None:
        """Keep a finding, of which the first one of the call is to be told."""
        if len(self.impure) >= _MOST_KEPT:
            return
        impure = impure._replace(item_repr=_shown_item(copy))
        self.impure.append(impure)
        if len(self.impure) == 1:
            at = f" (at {impure.where})" if impure.where else ""
            told = f"{self.user!r} {impure.kind} at item {impure.index}, {impure.item_repr}{at}"
            advice = _ADVICE[impure.kind].format(impure)
            self._to_tell.append(f"audit: {told}: {advice}")


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
        return shown(load(copy.data))
    except Exception as error:  # the user's classes
        let_signals_through(error)
        return "<an item that cannot be rebuilt>"

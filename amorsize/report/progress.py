"""How far is a call? What is done is counted, and shown at most twenty times a second, without a thread.

`progress=True` shows a bar of tqdm's, in terminals and notebooks; where tqdm is not installed, a plain line on a
terminal, and nothing elsewhere. A callable is given the number of items that are done, and of all items, or None where
that is not known. An item counts when it has ended, wherever it ran, though its result may have to wait for others.

Whoever waits for workers asks when what was counted is to be shown (`shows_in`), so that nobody looks at an old number
while a long item runs there. While the caller itself runs an item, nothing can be shown.
"""

from __future__ import annotations

import sys
from threading import RLock
from time import perf_counter

from .. import context
from ..errors import let_signals_through
from ..lean import Protocol
from ..log import debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["Progress", "begin"]

# A smaller value costs more, where items are short; a larger one shows older numbers.
_INTERVAL_SECONDS = 0.05


class _Display(Protocol):
    def show(self, done: int, failed: int) -> None: ...

    def close(self) -> None: ...


class Progress:
    """Counts what is done of one call.

    Args:
        wanted: the option `progress`: True, or the user's callable.
        total: how many items there are; None if that is not known.
        failures: the items that failed for good; others add to this list.
        now: returns the time in seconds.
    """

    def __init__(
        self,
        wanted: bool | Callable[..., object],
        total: int | None,
        failures: Sequence[object],
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._display: _Display = _bar(total) if wanted is True else _Told(wanted, total)
        self._failures = failures
        self._now = now
        self._done = 0
        self._shown = -1
        self._next_at = 0.0
        self._closed = False
        self.show()

    def done(self, items: int) -> None:
        """Take in that so many more items have ended, or none, and show what was counted if it is time."""
        self._done += items
        if self._now() >= self._next_at:
            self.show()

    def shows_in(self) -> float | None:
        """Return in how many seconds what was counted is to be shown; None if all is shown."""
        return None if self._shown == self._done else max(0.0, self._next_at - self._now())

    def show(self) -> None:
        """Show what was counted."""
        if self._closed or self._shown == self._done:
            return
        self._shown = self._done
        self._display.show(self._done, len(self._failures))
        self._next_at = self._now() + _INTERVAL_SECONDS

    def close(self) -> None:
        """Show the last number, and nothing any more. It may be called twice."""
        if self._closed:
            return
        try:
            self.show()
        finally:
            self._closed = True
            self._display.close()


def begin(wanted: bool | Callable[..., object], total: int | None, failures: Sequence[object]) -> Progress | None:
    """Return what counts a call's items, as the option `progress` wants it; None in a worker, which shows nothing."""
    if wanted is False or context.worker_process or context.in_worker.get():
        return None
    return Progress(wanted, total, failures)


class _Told:
    """A callable of the user's, who shows it himself."""

    def __init__(self, tell: Any, total: int | None) -> None:
        self._tell = tell
        self._total = total

    def show(self, done: int, failed: int) -> None:
        self._tell(done, self._total)

    def close(self) -> None:
        return


class _Line:
    """A line on a terminal, written over and over; a file or a pipe gets nothing."""

    def __init__(self, total: int | None) -> None:
        self._of = "" if total is None else f" of {total:,}"
        self._wrote = False

    def show(self, done: int, failed: int) -> None:
        if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
            return
        failures = f", {failed:,} failed" if failed else ""
        sys.stderr.write(f"\r{done:,}{self._of} items{failures}")
        sys.stderr.flush()
        self._wrote = True

    def close(self) -> None:
        if self._wrote:
            sys.stderr.write("\n")


class _Bar:
    """A bar of tqdm's. Where it cannot be shown, because standard error is closed for example, the work goes on."""

    def __init__(self, total: int | None, tqdm: Any) -> None:
        # Its monitor would be a thread, beside which forking is not safe, and its lock one of processes, for which some
        # systems start a process.
        kind: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
        kind.set_lock(RLock())
        self._failed = 0
        self._bar: Any = None
        self._try(lambda: setattr(self, "_bar", kind(total=total, unit="item", mininterval=0, miniters=1)))

    def show(self, done: int, failed: int) -> None:
        bar = self._bar
        if bar is None:
            return
        if failed != self._failed:
            self._failed = failed
            self._try(lambda: bar.set_postfix(failed=failed, refresh=False))
        self._try(lambda: bar.update(done - bar.n))

    def close(self) -> None:
        if self._bar is not None:
            self._try(self._bar.close)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError, AttributeError, TypeError) as error:  # what a file raises that is closed, or None
            let_signals_through(error)
            debug("the progress bar cannot be shown: %r", error)
            self._bar = None


def _bar(total: int | None) -> _Display:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(total)
    return _Bar(total, tqdm)

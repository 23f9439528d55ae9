"""What a call shows besides results: what items have said in workers (`child/said.py`), and the pump's own warning.

It is shown as it comes, before the results that come behind it, by the thread that waits for results in `next()`. What
comes while the headstart's thread listens is kept until then, because that thread must not run code of the user's.

The streams, loggers and filters are those that the caller has at that moment. An item has run and has its result, so
nothing that goes wrong in showing what it said ends the call: a stream that is closed or missing shows nothing, what a
handler raises is printed as `logging` prints it, and a warning that a filter would make an error by now is shown.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections import deque
from time import sleep

from ..errors import let_signals_through
from ..log import debug
from ..state import register
from ..transport.relay import LOGGED, OUT, WARNED
from ..transport.remote import unpack_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..backends.events import Said

__all__ = ["Voice"]

# So many bytes are kept for `next()`; with more, the headstart's thread stops reading, and workers wait.
_KEPT_BYTES = 1 << 20


class Voice:
    """Shows what workers have said, now or later.

    Attributes:
        warning: the text of a warning to be given at the next `show`; None if there is none.
    """

    def __init__(self) -> None:
        self._kept: deque[Said] = deque()
        self.warning: str | None = None

    def take(self, said: Said, *, later: bool) -> None:
        """Show what a worker said, or keep it until `show`."""
        self._kept.append(said)
        if not later:
            self._show_kept()

    def show(self) -> None:
        """Show what was kept, and warn at the line that calls this: a warning may be made an error."""
        if self.warning is not None:
            text, self.warning = self.warning, None
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        self._show_kept()

    def _show_kept(self) -> None:
        while self._kept:
            for kind, *entry in _entries_of(self._kept.popleft()):
                if kind == LOGGED:
                    _log(*entry)
                elif kind == WARNED:
                    _warn(*entry)
                else:
                    _write("stdout" if kind == OUT else "stderr", *entry)

    def holds_back(self, seconds: float) -> bool:
        """Say whether so much is kept that no more should be read now; if so, let some time pass."""
        if sum(len(said.data) for said in self._kept) <= _KEPT_BYTES:
            return False
        sleep(seconds)
        return True


def _entries_of(said: Said) -> list[tuple[Any, ...]]:
    entries: list[tuple[Any, ...]] = pickle.loads(said.data)  # of plain values, whatever the items said
    return entries


def _write(name: str, text: str) -> None:
    stream = getattr(sys, name, None)
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    except Exception as error:  # it is closed, or its reader is gone, or it is an object of the user's
        let_signals_through(error)
        debug("what a worker wrote cannot be shown: %r", error)


def _log(fields: dict[str, Any], pickled: dict[str, bytes], handled: bool) -> None:
    """Have the caller's logger handle a record.

    Args:
        fields: attributes of the record.
        pickled: further ones, each pickled.
        handled: whether a handler that lives in the worker alone had it; then it is not one that nobody has handled.
    """
    import logging

    for name, data in pickled.items():
        try:
            fields[name] = pickle.loads(data)
        except Exception as error:  # rebuilding it runs code of the user's
            let_signals_through(error)
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    if handled and not logger.hasHandlers():
        return
    try:
        logger.handle(record)
    except Exception as error:  # a handler that does not show its errors itself
        let_signals_through(error)
        logging.Handler().handleError(record)


# What was shown of modules that the caller has not imported, as each module itself remembers it.
_shown: dict[str, dict[Any, Any]] = {}
register(_shown.clear)


def _warn(packed: bytes, builtin: type[Warning], text: str, filename: str, lineno: int, module: str | None) -> None:
    """Warn at the place where an item did; the module there remembers whether it was shown."""
    warning: Any = unpack_error(packed)
    if isinstance(warning, Warning):
        warning.__cause__ = None  # the worker's traceback
    else:
        warning = builtin(text)  # its class did not come over
    here = None if module is None else sys.modules.get(module)
    registry: Any = _shown.setdefault(module or filename, {})
    if here is not None:
        registry = vars(here).setdefault("__warningregistry__", {})
    try:
        try:
            warnings.warn_explicit(warning, type(warning), filename, lineno, module, registry)
        except Warning:  # of a filter that has become "error" since the item ran
            warnings.showwarning(warning, type(warning), filename, lineno)
    except Exception as error:  # of a `showwarning` of the user's
        let_signals_through(error)
        debug("a worker's warning cannot be shown: %r", error)

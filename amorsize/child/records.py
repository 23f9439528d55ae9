"""What items log and warn of in a worker, on its way to the caller.

**Log records.** Which handlers, filters and formats there are is the caller's business, so a record is taken where
`logging` would look for handlers, in `Logger.handle`, and the caller's logger of that name handles it. Its filters run
there, once. Handlers that a forked worker has inherited, or that importing the user's modules has made here as it has
in the caller, are the caller's twins and get nothing. Handlers that an item or an initializer has added in this process
get their records as well, as they would in one process.

If nobody has configured `logging` in the caller, the worker's is left as it is, which is not configured either: it
writes warnings to `sys.stderr`, which is relayed. So a worker needs to import `logging` only for a caller that uses it.

**Warnings.** They are taken where they would be shown. The filters that apply in a worker are the caller's (they travel
with the function), so an "error" filter raises in the item. Each worker shows a warning once a call; the caller, whose
modules remember what was shown, decides whether it was shown before.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress

from ..transport.relay import LOGGED, WARNED
from ..transport.remote import pack_error, said
from ..transport.serialize import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..transport.relay import Levels
    from .said import Relay

__all__ = ["Records"]

_SCALARS = frozenset((str, int, float, bool, bytes, type(None)))


class Records:
    """Takes log records and warnings.

    Args:
        relay: sends them.

    Attributes:
        warned: whether this process may remember that a warning was shown.
    """

    def __init__(self, relay: Relay) -> None:
        self.warned = True
        self._relay = relay
        self._twins = set(_handlers())  # those that the caller has as well
        self._before: list[Any] = []
        self._levels: Levels | None = None
        self._stock_handle: Any = None
        self._marker: Any = None
        self._found: dict[Any, tuple[int, bool]] = {}  # what levels were here before, by logger
        self._found_disabled = 0
        self._show: Any = None

    def begin(self, levels: Levels | None) -> None:
        """Take them from now on."""
        if self._show is None:
            self._show, warnings.showwarning = warnings.showwarning, self._warned
            self.warned = True
        if levels is None:
            self._leave_logging()
            return
        self._levels = levels
        import logging

        kind: Any = logging.Logger
        if self._stock_handle is None:
            self._stock_handle = kind.handle
            self._found_disabled = logging.root.manager.disable
            self._marker = self._marker or logging.NullHandler()
            self._twins.add(self._marker)
            kind.handle = self._handler()
        root: Any = logging.root
        if levels.has_handlers and not root.handlers:
            root.addHandler(self._marker)
        elif not levels.has_handlers:
            root.removeHandler(self._marker)
        self._set_levels()

    def end(self) -> None:
        """Leave all as it was."""
        if self._show is not None:
            warnings.showwarning, self._show = self._show, None
        self._leave_logging()

    def _leave_logging(self) -> None:
        if self._stock_handle is None:
            return
        import logging

        kind: Any = logging.Logger
        kind.handle, self._stock_handle = self._stock_handle, None
        logging.root.removeHandler(self._marker)
        logging.disable(self._found_disabled)
        for logger, (level, disabled) in self._found.items():
            logger.setLevel(level)
            logger.disabled = disabled
        self._found.clear()
        self._levels = None

    def _set_levels(self) -> None:
        """Give each logger the level that it has in the caller."""
        if self._levels is None:
            return
        import logging

        wanted = {name: (level, disabled) for name, level, disabled in self._levels.others}
        for known, _, _ in self._levels.others:
            logging.getLogger(known)
        logging.disable(self._levels.disabled)
        for name, logger in _loggers():
            level, disabled = (self._levels.root, False) if name is None else wanted.get(name, (0, False))
            if (logger.level, logger.disabled) != (level, disabled):
                self._found.setdefault(logger, (logger.level, logger.disabled))
                logger.setLevel(level)
                logger.disabled = disabled

    def before_loading(self) -> None:
        """Note which handlers there are."""
        self._before = list(_handlers())

    def after_loading(self) -> None:
        """Take the handlers that came with the user's modules for the caller's, and set the levels of new loggers."""
        self._twins.update(set(_handlers()).difference(self._before))
        self._before = []
        self.warned = True
        self._set_levels()

    def _handler(self) -> Any:
        """Return what stands for `logging.Logger.handle`."""
        stock, relay = self._stock_handle, self._relay

        def handle(logger: Any, record: Any) -> None:
            if not relay.on:
                stock(logger, record)
                return
            own = [handler for handler in _chain(logger) if handler not in self._twins]
            try:
                relay.say((LOGGED, *_packed(record, relay.index()), bool(own)))
            except Exception:  # the arguments do not fit the message, for example; `logging` shows that
                self._marker.handleError(record)
            if own and (kept := logger.filter(record)):
                for handler in own:
                    if record.levelno >= handler.level:
                        handler.handle(record if kept is True else kept)

        return handle

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        """Stand for `warnings.showwarning`."""
        if not self._relay.on or file is not None:
            self._show(message, category, filename, lineno, file, line)
            return
        self.warned = True
        warning = message if isinstance(message, Warning) else category(message)
        builtin = next(kind for kind in type(warning).__mro__ if kind.__module__ == "builtins")
        text = said(str, warning)
        self._relay.say((WARNED, pack_error(warning), builtin, text, filename, lineno, _module_of(filename)))


def _module_of(filename: str) -> str | None:
    """Return the name of the module whose code of this file is running; None if no such code is."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == filename:
            name = frame.f_globals.get("__name__")
            return name if isinstance(name, str) else None
        frame = frame.f_back
    return None


def _packed(record: Any, index: int | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what a record says in plain values, and its other attributes pickled; what cannot be pickled stays.

    As for `logging.handlers.QueueHandler`, the message is made here, where its arguments are, and so is the text of a
    traceback.
    """
    fields: dict[str, Any] = dict(vars(record))
    fields["msg"], fields["args"] = str(record.getMessage()), None
    if record.exc_info and not record.exc_text:
        from logging import Formatter

        fields["exc_text"] = Formatter().formatException(record.exc_info)
    fields["exc_info"] = None
    fields["amorsize_index"] = index
    others = {name: value for name, value in fields.items() if type(value) not in _SCALARS}
    pickled = {}
    for name, value in others.items():
        del fields[name]
        with suppress(Exception):  # one that cannot be pickled is left out
            pickled[name] = dump(value)
    return fields, pickled


def _chain(logger: Any) -> Iterator[Any]:
    """Yield the handlers that a logger's records go to."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _loggers() -> Iterator[tuple[str | None, Any]]:
    """Yield the loggers of this process with their names, the root's being None."""
    root: Any = getattr(sys.modules.get("logging"), "root", None)
    if root is None:
        return
    yield None, root
    for name, logger in list(root.manager.loggerDict.items()):
        if hasattr(logger, "handlers"):  # else it stands for one that nobody has asked for
            yield name, logger


def _handlers() -> Iterator[Any]:
    for _, logger in _loggers():
        yield from logger.handlers

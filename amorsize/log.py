"""Where does amorsize log? It has one logger, `amorsize`, and never imports `logging` itself.

Each decision about where a call runs is one line at level INFO; what lies behind it is at level DEBUG.
"""

from __future__ import annotations

import sys

__all__ = ["debug", "info"]


def debug(message: str, *args: object) -> None:
    """Log `message % args` to the logger `amorsize` at debug level.

    A program that has not imported `logging` has no handler that would show the message, so nothing is done then.
    """
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("amorsize").debug(message, *args)


def info(message: str, *args: object) -> None:
    """Log `message % args` to the logger `amorsize` at info level, as `debug` does."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("amorsize").info(message, *args)

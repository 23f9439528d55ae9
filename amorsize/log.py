"""Where does amorsize log? It has one logger, at debug level only, and never imports `logging` itself."""

from __future__ import annotations

import sys

__all__ = ["debug"]


def debug(message: str, *args: object) -> None:
    """Log `message % args` to the logger `amorsize` at debug level.

    A program that has not imported `logging` has no handler that would show the message, so nothing is done then.
    """
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("amorsize").debug(message, *args)

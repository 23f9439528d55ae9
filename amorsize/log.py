"""The one logger, at debug level only. A program that never imported logging pays nothing and hears nothing."""

from __future__ import annotations

import sys

__all__ = ["debug"]


def debug(message: str, *args: object) -> None:
    """Log `message % args` to the logger `amorsize` at debug level.

    Without `logging` imported no handler can exist that would show it, so it is not imported for this.
    """
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("amorsize").debug(message, *args)

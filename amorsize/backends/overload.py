"""Tell errors that say "too much at once" from others, so that fewer items are under way at a time.

Clients of many libraries raise them, and none of these libraries is imported here: an HTTP error is known by where it
keeps its status, as `urllib`, `requests`, `httpx` and `aiohttp` do.
"""

from __future__ import annotations

import errno

from ..errors import let_signals_through

__all__ = ["is_overload"]

# Too many requests, and service unavailable (RFC 6585 section 4, RFC 9110 section 15.6.4).
_STATUSES = frozenset({429, 503})
_ERRNOS = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ECONNREFUSED, errno.ECONNRESET,
        errno.ETIMEDOUT,
    }
)  # fmt: skip
# So many causes of an error are looked at, because clients wrap what the system told them.
_DEPTH = 6


def is_overload(error: BaseException | None) -> bool:
    """Say whether an error means that whoever serves the items, or this process, has too much to do at once.

    >>> is_overload(ConnectionRefusedError()), is_overload(TimeoutError()), is_overload(ValueError())
    (True, True, False)
    """
    try:
        return _says_so(error)
    except Exception as failure:  # looking at the user's error may run code of its class
        let_signals_through(failure)
        return False


def _says_so(error: BaseException | None) -> bool:
    for _ in range(_DEPTH):
        if error is None:
            return False
        if isinstance(error, (ConnectionRefusedError, ConnectionResetError, TimeoutError)):
            return True
        if type(error).__name__ == "TimeoutError":  # those of asyncio and concurrent.futures, before CPython 3.11
            return True
        if isinstance(error, OSError) and error.errno in _ERRNOS:
            return True
        if _status(error) in _STATUSES:
            return True
        # urllib's URLError keeps the system's error in `reason`.
        inner = getattr(error, "reason", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return False


def _status(error: BaseException) -> int | None:
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(owner, name, None)
            if type(value) is int:
                return value
    return None

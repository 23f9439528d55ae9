"""Imports what a call on workers needs before it is needed, in a thread that has time for it."""

from __future__ import annotations

from _thread import get_ident

from ..context import preloading
from ..log import debug

__all__ = ["preload"]


def preload() -> None:
    """Import what a call on workers imports, from any thread. It takes tens of milliseconds in a fresh process."""
    preloading.add(get_ident())
    try:
        from ..backends.processes import lease  # noqa: F401
        from ..backends.processes.start import serves_here

        if serves_here():
            from ..backends.processes import launch  # noqa: F401
        from ..feed import pump  # noqa: F401
    except Exception as error:  # this was only an attempt
        debug("what workers need was not imported: %r", error)
    finally:
        preloading.discard(get_ident())

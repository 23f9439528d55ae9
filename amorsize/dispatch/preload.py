"""Importing what workers need before they are needed, from a thread that has time for it."""

from __future__ import annotations

__all__ = ["preload"]


def preload() -> None:
    """Import what a call on workers imports, tens of milliseconds in a fresh process. For any thread."""
    from . import pool, run  # noqa: F401

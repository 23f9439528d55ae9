"""Where this code is running: in the user's program, or inside a worker."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["in_worker"]

# True while a worker runs an item, in threads too: a call made there runs serially.
in_worker: ContextVar[bool] = ContextVar("amorsize_in_worker", default=False)
# True in a worker process. A thread started by the user's function has a context of its own, but the same process.
worker_process = False

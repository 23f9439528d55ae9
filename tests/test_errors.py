from __future__ import annotations

import copy
import pickle

import pytest

from amorsize import (
    AmorsizeError,
    InitializerError,
    ItemTimeoutError,
    SerializationError,
    UnsupportedError,
    WorkerCrashError,
)


@pytest.mark.parametrize(
    ("ours", "nearest"),
    [
        (WorkerCrashError, RuntimeError),
        (ItemTimeoutError, TimeoutError),
        (UnsupportedError, NotImplementedError),
        (SerializationError, TypeError),
        (InitializerError, RuntimeError),
    ],
)
def test_each_error_is_ours_and_the_nearest_builtin(ours, nearest):
    """One `except AmorsizeError` catches all, and handlers written for the builtin still work."""
    assert issubclass(ours, AmorsizeError)
    assert issubclass(ours, nearest)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (WorkerCrashError(3, 1), "the worker running item 3 died (exit code 1)"),
        (WorkerCrashError(3, None), "the worker running item 3 died (exit code unknown)"),
        (WorkerCrashError(3, -11), "the worker running item 3 died (signal SIGSEGV)"),
        (WorkerCrashError(3, -250), "the worker running item 3 died (signal 250)"),
        (WorkerCrashError(3, 0, tries=1), "the worker running item 3 died (exit code 0)"),
        (WorkerCrashError(3, 1, tries=2), "the worker running item 3 died (exit code 1); it was tried 2 times"),
        (
            WorkerCrashError(3, -9, free_memory=1_234_567_890),
            (
                "the worker running item 3 died (signal SIGKILL); the system kills so when memory runs out "
                "(1,235 MB were free)"
            ),
        ),
        (
            WorkerCrashError(3, 1, lost=1),
            "the worker running item 3 died (exit code 1); 1 finished result of the same worker went with it",
        ),
        (
            WorkerCrashError(3, 1, lost=2),
            "the worker running item 3 died (exit code 1); 2 finished results of the same worker went with it",
        ),
        (ItemTimeoutError(4, 2.5), "item 4 ran longer than timeout=2.5 seconds"),
        (ItemTimeoutError(4, 60, tries=3), "item 4 ran longer than timeout=60 seconds; it was tried 3 times"),
    ],
    ids=str,
)
def test_the_text_says_what_happened(error, text):
    """The text names the item, the cause and what was lost."""
    assert str(error) == text


@pytest.mark.parametrize(
    "error",
    [
        WorkerCrashError(137, -9, lost=4, tries=2, free_memory=5_000_000),
        ItemTimeoutError(4, 2.5, tries=3),
        UnsupportedError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_errors_travel_whole(error, travel):
    """Pickled or copied, an error keeps its class, text, arguments and attributes."""
    arrived = travel(error)

    assert type(arrived) is type(error)
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, vars(error))


def test_the_attributes_are_the_arguments():
    """What a handler wants to know is an attribute."""
    crash = WorkerCrashError(137, -9, lost=4, tries=2, free_memory=5)
    late = ItemTimeoutError(4, 2.5, tries=3)

    assert (crash.index, crash.exitcode, crash.lost, crash.tries, crash.free_memory) == (137, -9, 4, 2, 5)
    assert (late.index, late.seconds, late.tries) == (4, 2.5, 3)

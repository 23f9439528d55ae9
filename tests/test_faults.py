"""An error, an exit, a crash and a hang, at each stage of an item's way: what the caller gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import fault_workers
import psutil
import pytest
from fault_workers import BAD, Squares

import amorsize
from amorsize import ItemTimeoutError, SerializationError, WorkerCrashError
from amorsize.backends.processes import handle as process
from amorsize.backends.processes import lease as pool

pytestmark = pytest.mark.slow

COUNT = 12
TIMEOUT_SECONDS = 0.25

# Of the faults that cost one item its result: the error that stands in its place.
ONE_ITEM = {
    ("run", "error"): (LookupError, "on purpose"),
    ("run", "exit"): (SystemExit, "3"),
    ("run", "crash"): (WorkerCrashError, f"the worker running item {BAD} died .signal SIGKILL"),
    ("run", "hang"): (ItemTimeoutError, f"item {BAD} ran longer than timeout=0.25 seconds"),
    ("pickle", "error"): (SerializationError, f"the result of item {BAD} cannot be pickled: on purpose"),
    ("pickle", "exit"): (SerializationError, f"the result of item {BAD} cannot be pickled: SystemExit.3"),
    ("pickle", "crash"): (WorkerCrashError, r"died .signal SIGKILL"),
    ("pickle", "hang"): (ItemTimeoutError, f"item {BAD} ran longer than timeout=0.25 seconds"),
    ("rebuild", "error"): (SerializationError, f"the result of item {BAD} could not be rebuilt.*on purpose"),
    ("rebuild", "exit"): (SerializationError, f"the result of item {BAD} could not be rebuilt.*SystemExit.3"),
}
# Of the faults that end the call: the error that the caller gets.
WHOLE_CALL = {
    ("load", "error"): (SerializationError, "the function could not be rebuilt in a worker: .*on purpose"),
    ("load", "exit"): (SerializationError, "the function could not be rebuilt in a worker: SystemExit"),
    ("load", "crash"): (WorkerCrashError, "signal SIGKILL"),
    ("load", "hang"): (SerializationError, "could not be rebuilt in a worker within 0.3 seconds"),
}


def options_for(fault, processes):
    """Return the call's options; a hang is seen only where items have deadlines."""
    return {**processes, "chunksize": 3, **({"timeout": TIMEOUT_SECONDS} if fault == "hang" else {})}


@pytest.mark.parametrize(("stage", "fault"), ONE_ITEM)
def test_one_item_pays(processes, stage, fault):
    """The item's place holds its error, every other place its result, and the failure is listed."""
    kind, text = ONE_ITEM[stage, fault]

    stream = amorsize.map(Squares(stage, fault), range(COUNT), on_error="return", **options_for(fault, processes))
    found = list(stream)

    assert found[:BAD] + found[BAD + 1 :] == [number**2 for number in range(COUNT) if number != BAD]
    with pytest.raises(kind, match=text):
        raise found[BAD]
    assert [(failed.index, failed.error, failed.tries) for failed in stream.failures] == [(BAD, found[BAD], 1)]


@pytest.mark.parametrize(("stage", "fault"), ONE_ITEM)
def test_one_item_ends_the_call(processes, stage, fault):
    """By default its error is raised in its place, after the results before it, and the next call works."""
    kind, text = ONE_ITEM[stage, fault]
    stream = amorsize.map(Squares(stage, fault), range(COUNT), **options_for(fault, processes))
    found = []

    with pytest.raises(kind, match=text):
        found.extend(stream)

    expected = [number**2 for number in range(BAD)]
    # What a dying worker had not sent yet went with it: the error stands at the first such place.
    assert found == (expected[: len(found)] if kind is WorkerCrashError else expected)
    assert list(amorsize.map(abs, [-1, -2], **processes)) == [1, 2]


@pytest.mark.parametrize(("stage", "fault"), WHOLE_CALL)
def test_the_call_ends(processes, stage, fault, monkeypatch):
    """Where no item is at fault the call ends, whatever is done about items' errors."""
    for module in (pool, process):
        monkeypatch.setattr(module, "LOADING_SECONDS", 0.3)
    kind, text = WHOLE_CALL[stage, fault]
    stream = amorsize.map(Squares(stage, fault), range(COUNT), on_error="return", **options_for(fault, processes))

    with pytest.raises(kind, match=text):
        list(stream)

    assert list(amorsize.map(abs, [-1, -2], **processes)) == [1, 2]


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import amorsize, psutil
from fault_workers import FAULTS, Squares, hang
FAULTS["hang"] = lambda: (print("hangs", flush=True), hang())
options = {options!r}
list(amorsize.map(abs, range(4), **options))
try:
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    list(amorsize.map(Squares("rebuild", {fault!r}), range({count}), **options))
except KeyboardInterrupt:
    print("interrupted")
"""


def program(fault, processes):
    """Return a program that tells its workers, and then meets the fault when it rebuilds a result."""
    tests = str(Path(fault_workers.__file__).parent)
    return textwrap.dedent(PROGRAM).format(tests=tests, fault=fault, count=COUNT, options={**processes, "chunksize": 1})


def test_a_crash_of_the_caller(processes, tmp_path):
    """A result that kills whoever rebuilds it kills the caller; its workers leave."""
    command = [sys.executable, "-c", program("crash", processes)]

    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    assert child.returncode == -signal.SIGKILL
    children = list(map(int, child.stdout.split()))
    assert len(children) >= 2
    assert not [pid for pid in children if _stays(pid)]


def test_a_hang_of_the_caller(processes, tmp_path):
    """A result that takes for ever to rebuild holds the caller, who is free to interrupt it."""
    command = [sys.executable, "-c", program("hang", processes)]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as child:
        try:
            child.stdout.readline()
            assert child.stdout.readline() == "hangs\n"
            os.kill(child.pid, signal.SIGINT)
            printed, errors = child.communicate(timeout=60)
        finally:
            child.kill()  # else a failure would wait for it

    assert (printed, errors, child.returncode) == ("interrupted\n", "", 0)


def _stays(pid):
    """Say whether a process outlives the one that started it."""
    try:
        psutil.Process(pid).wait(timeout=10)
    except psutil.NoSuchProcess:
        return False
    except psutil.TimeoutExpired:
        return True
    return False

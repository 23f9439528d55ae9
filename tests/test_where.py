"""Where are the items of a running call? Asked from outside, while they hang."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coroutine_workers
import psutil
import pytest
import where_workers
from where_workers import HANGS_AT, Hanging

import amorsize
from amorsize.backends import where
from amorsize.backends.processes import patrol, stacks
from amorsize.backends.processes.patrol import median_of

GUARD_SECONDS = 10
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="stacks of processes are read through /proc")
WITH_SIGNALS = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this platform has no such signal")


def until(found, seconds=GUARD_SECONDS):
    """Return what `found()` gives, once that is true."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)  # how often is looked
    return value


@contextlib.contextmanager
def beside(stream):
    """Have a thread iterate over a stream; give the list of results that it fills, and wait for its end."""
    results = []
    thread = threading.Thread(target=lambda: results.extend(stream))
    thread.start()
    try:
        yield results
    finally:
        thread.join(GUARD_SECONDS)
        assert not thread.is_alive()


def hangs_at(stream, index=HANGS_AT, stack=""):
    """Return the place of an item, once it is on a worker, and its stack has this text."""

    def found():
        return [place for place in stream.where() if place.index == index and stack in place.stack]

    return until(found)[0]


class TestProcesses:
    """Our own workers, under every start method where that makes a difference."""

    def test_the_item_is_told(self, processes, tmp_path):
        """By its position, its worker's process, and a growing number of seconds."""
        stream = amorsize.map(Hanging(tmp_path), range(6), **processes)
        with beside(stream) as results:
            first = hangs_at(stream)
            later = until(lambda: hangs_at(stream).seconds > first.seconds + 0.05 and hangs_at(stream))
            (tmp_path / "go").touch()

        assert first.worker == later.worker != os.getpid()
        assert 0 <= first.seconds < later.seconds < GUARD_SECONDS
        assert results == [*range(6)]

    @ON_LINUX
    def test_the_stack_begins_with_the_users_function(self, processes, tmp_path):
        """And has the lines of what it has called; nothing of ours, or of the program that was forked, is below."""
        stream = amorsize.map(Hanging(tmp_path), range(6), **processes)
        with beside(stream):
            stack = hangs_at(stream, stack="waits_for_the_gate").stack
            (tmp_path / "go").touch()

        assert stack.splitlines()[0].endswith("in __call__")
        assert "self.waits_for_the_gate()" in stack
        assert "amorsize" not in stack.replace(os.path.dirname(__file__), "")

    def test_seconds_are_those_of_the_item(self, one_method, tmp_path):
        """However long the items before it in its chunk took, to about 10 ms."""
        began = time.monotonic()
        stream = amorsize.map(Hanging(tmp_path), range(6), chunksize=6, **one_method)
        with beside(stream):
            until(lambda: HANGS_AT in where_workers.begun(tmp_path))
            begun_at = (tmp_path / f"begun-{HANGS_AT}").stat().st_mtime
            place = hangs_at(stream)
            since = time.time() - begun_at
            (tmp_path / "go").touch()

        assert place.seconds == pytest.approx(since, abs=0.1)
        assert place.seconds < time.monotonic() - began

    def test_a_deadline_still_ends_the_item(self, one_method, tmp_path):
        """Asking where it is gives it no more time."""
        stream = amorsize.map(Hanging(tmp_path), range(6), timeout=0.3, on_error="return", **one_method)
        with beside(stream) as results:
            place = hangs_at(stream)

        assert place.seconds < 1.0
        assert type(results[HANGS_AT]) is amorsize.ItemTimeoutError
        assert results[:HANGS_AT] == [*range(HANGS_AT)]

    @ON_LINUX
    def test_c_code_that_keeps_the_interpreter_is_told_without_a_stack(self, one_method, tmp_path):
        """It lets nobody in, and nobody waits for long."""
        stream = amorsize.map(where_workers.Matching(tmp_path), range(6), on_error="return", **one_method)
        with beside(stream) as results:
            until(lambda: not hangs_at(stream).stack)  # from now on it matches
            began = time.monotonic()
            place = hangs_at(stream)
            seconds = time.monotonic() - began
            psutil.Process(place.worker).kill()

        assert type(results[HANGS_AT]) is amorsize.WorkerCrashError
        assert place.stack == ""
        assert seconds < stacks._STACK_SECONDS + 1

    @ON_LINUX
    def test_c_code_that_calls_python_is_let_be(self, processes, tmp_path):
        """Frames that C code is just making are not looked at."""
        stream = amorsize.map(where_workers.Sorting(tmp_path), range(2), **processes)
        with beside(stream) as results:
            hangs_at(stream, 0, stack="__call__")
            shown = sum(bool(place.stack) for _ in range(50) for place in stream.where())
            (tmp_path / "go").touch()

        assert results == [0, 1]
        assert shown > 10

    @ON_LINUX
    def test_an_item_that_waits_for_a_signal_goes_on_waiting(self, one_method, tmp_path):
        """Asking sends none."""
        stream = amorsize.map(where_workers.Pausing(tmp_path), range(4), **one_method)
        with beside(stream) as results:
            worker = hangs_at(stream, stack="sigwait").worker
            for _ in range(20):
                assert "sigwait" in hangs_at(stream, stack="sigwait").stack
            os.kill(worker, signal.SIGUSR2)

        assert results == [*range(4)]

    @ON_LINUX
    def test_a_deep_stack_is_cut_at_its_lower_end(self, one_method, tmp_path):
        """The innermost calls are those that matter."""
        stream = amorsize.map(where_workers.Deep(tmp_path), range(6), **one_method)
        with beside(stream):
            stack = hangs_at(stream, stack="waits_for_the_gate").stack
            (tmp_path / "go").touch()

        assert "super().waits_for_the_gate()" in stack

    @ON_LINUX
    def test_a_function_of_the_script_shows_its_lines(self, python, tmp_path):
        """Although workers never have the script as a module."""
        script = tmp_path / "script.py"
        script.write_text(
            "import amorsize, pathlib, threading, time\n"
            "def hangs(number):\n"
            "    while number == 3 and not pathlib.Path('go').exists():\n"
            "        time.sleep(0.002)  # at the gate\n"
            "    return number\n"
            "if __name__ == '__main__':\n"
            "    stream = amorsize.map(hangs, range(5), backend='processes', n_jobs=2, start_method='forkserver')\n"
            "    thread = threading.Thread(target=list, args=(stream,))\n"
            "    thread.start()\n"
            "    end = time.monotonic() + 30\n"
            "    while not any('at the gate' in place.stack for place in stream.where()):\n"
            "        assert time.monotonic() < end\n"
            "        time.sleep(0.002)\n"
            "    pathlib.Path('go').touch()\n"
            "    thread.join()\n"
        )
        child = python(script, cwd=tmp_path)

        assert (child.returncode, child.stderr) == (0, "")

    def test_ten_workers_are_told_at_once(self, one_method, tmp_path):
        """Each with the item of its own."""
        stream = amorsize.map(Hanging(tmp_path, at=None), range(10), chunksize=1, **{**one_method, "n_jobs": 10})
        with beside(stream):
            until(lambda: where_workers.begun(tmp_path) == {*range(10)})
            until(lambda: {place.index for place in stream.where()} == {*range(10)})
            places = stream.where()
            (tmp_path / "go").touch()

        assert len({place.worker for place in places}) == 10
        if sys.platform == "linux":
            assert all("waits_for_the_gate" in place.stack for place in places)

    def test_between_two_results(self, one_method, tmp_path):
        """The user need not be waiting; a worker that has nothing to do is idle."""
        list(amorsize.map(pid_together, [str(tmp_path)] * 2, chunksize=1, **one_method))  # both workers are there now
        with amorsize.map(Hanging(tmp_path, at=1), range(2), chunksize=1, **one_method) as stream:
            assert next(stream) == 0
            hangs_at(stream, 1)
            idle = until(lambda: [place for place in stream.where() if place.index is None and place.seconds is None])
            (tmp_path / "go").touch()

        assert idle[0].stack == ""

    def test_before_and_after_the_call_nothing_runs(self, anywhere):
        """So there is nothing to tell."""
        stream = amorsize.map(where_workers.short, range(50), **anywhere)
        before = stream.where()
        results = list(stream)
        closed = amorsize.map(where_workers.short, range(50), **anywhere)
        next(closed)
        closed.close()

        assert before == stream.where() == closed.where() == []
        assert results[1] == 191

    @WITH_SIGNALS
    def test_a_signal_handler_may_ask(self, one_method, tmp_path):
        """In the thread that waits in `next()`, which goes on waiting."""
        stream = amorsize.map(Hanging(tmp_path), range(6), **one_method)
        told = []

        def ask(signum, frame):
            told[:] = [place for place in stream.where() if place.index == HANGS_AT and place.stack]
            if told or sys.platform != "linux":
                (tmp_path / "go").touch()

        before = signal.signal(signal.SIGALRM, ask)
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.1)
        try:
            results = list(stream)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

        assert results == [*range(6)]
        assert sys.platform != "linux" or "waits_for_the_gate" in told[0].stack

    def test_a_worker_that_was_killed_is_no_trouble(self, one_method, tmp_path):
        """Whether the caller knows of it yet or not."""
        list(amorsize.map(pid_together, [str(tmp_path)] * 2, chunksize=1, **one_method))  # both workers are there now
        stream = amorsize.map(Hanging(tmp_path, at=1), range(2), chunksize=1, on_error="return", **one_method)
        next(stream)
        worker = psutil.Process(hangs_at(stream, 1).worker)
        worker.kill()
        until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        (left,) = [place for place in stream.where() if place.worker == worker.pid]
        (result,) = stream

        assert left.stack == ""
        assert type(result) is amorsize.WorkerCrashError

    @ON_LINUX
    def test_a_stopped_worker_is_not_waited_for(self, one_method, tmp_path):
        """It has no stack until it goes on."""
        stream = amorsize.map(where_workers.Stopping(tmp_path), range(6), **one_method)
        with beside(stream) as results:
            worker = psutil.Process(hangs_at(stream).worker)
            until(lambda: worker.status() == psutil.STATUS_STOPPED)
            began = time.monotonic()
            place = hangs_at(stream)
            seconds = time.monotonic() - began
            worker.resume()

        assert place.stack == ""
        assert seconds < stacks._STACK_SECONDS + 1
        assert results == [*range(6)]

    @ON_LINUX
    def test_what_an_item_put_in_the_files_place_stays_empty(self, one_method, tmp_path):
        """The worker writes only into the file that it has made."""
        stream = amorsize.map(where_workers.Closing(tmp_path), range(6), **one_method)
        with beside(stream):
            until(lambda: HANGS_AT in where_workers.begun(tmp_path))  # which it notes after it has closed the file
            places = [hangs_at(stream) for _ in range(3)]
            (tmp_path / "go").touch()

        assert {place.stack for place in places} == {""}
        assert (tmp_path / "mine").read_bytes() == b""

    @ON_LINUX
    @pytest.mark.slow
    def test_asking_hundreds_of_times_leaves_nothing(self, processes, tmp_path):
        """No descriptor in the caller, no memory in the file, and the items do not notice."""
        stream = amorsize.map(where_workers.Spinning(tmp_path), range(2), **processes)
        before = len(os.listdir("/proc/self/fd"))
        with beside(stream) as results:
            pid = hangs_at(stream, 0, stack="__call__").worker
            hangs_at(stream, 1, stack="__call__")  # now both workers are there
            during = len(os.listdir("/proc/self/fd"))
            shown = sum(bool(place.stack) for _ in range(300) for place in stream.where() if place.worker == pid)
            assert len(os.listdir("/proc/self/fd")) == during
            held = sum(path.stat().st_blocks * 512 for path in files_of_stacks(pid))
            (tmp_path / "go").touch()

        assert results == [0, 1]
        assert shown  # how many of them is a matter of how busy the machine is
        assert held < 65_536
        assert before <= during

    @ON_LINUX
    def test_many_may_ask_at_once(self, one_method, tmp_path):
        """Each gets a stack or none, and never half of one."""
        stream = amorsize.map(Hanging(tmp_path), range(6), **one_method)
        with beside(stream):
            hangs_at(stream, stack="waits_for_the_gate")
            with ThreadPoolExecutor(4) as askers:
                found = list(askers.map(lambda _: hangs_at(stream).stack, range(100)))
            (tmp_path / "go").touch()

        assert any(found)
        assert {stack.splitlines()[0].rpartition(" in ")[2] for stack in found if stack} == {"__call__"}

    @ON_LINUX
    def test_a_program_that_an_item_starts_has_nothing_of_it(self, one_method):
        """Neither the file nor the pipe."""
        (found,) = amorsize.map(descriptors_of_a_child, range(1), **one_method)

        assert "memfd:amorsize" not in found


def pid_together(folder):
    """Return once two processes are here."""
    Path(folder, f"here-{os.getpid()}").touch()
    until(lambda: len([*Path(folder).glob("here-*")]) > 1)
    return os.getpid()


def descriptors_of_a_child(_):
    import subprocess

    return subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True).stdout  # noqa: S607


def files_of_stacks(pid):
    """Yield the files in memory that a worker has for itself alone."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "memfd:amorsize" in os.readlink(path) and path.stat().st_size < 1 << 40:
                yield path


class TestHere:
    """Threads of this process, the caller itself, and engines."""

    def test_threads(self, tmp_path):
        """Of each its name, the item and the stack above our own loop."""
        stream = amorsize.map(Hanging(tmp_path), range(6), backend="threads", n_jobs=2)
        with beside(stream) as results:
            place = hangs_at(stream, stack="waits_for_the_gate")
            (tmp_path / "go").touch()

        assert place.worker.startswith("amorsize-")
        assert 0 <= place.seconds < GUARD_SECONDS
        assert place.stack.splitlines()[0].endswith("in __call__")
        assert results == [*range(6)]

    @pytest.mark.parametrize("options", [{"backend": "serial"}, {"backend": "serial", "retries": 1}, {}], ids=str)
    @pytest.mark.parametrize("kind", [range, lambda n: [*range(n)], lambda n: (one for one in range(n))])
    def test_the_caller(self, options, kind, tmp_path):
        """An item that the caller runs itself is told without any cost to the others."""
        stream = amorsize.map(Hanging(tmp_path), kind(6), thread_safe=False, **options)
        with beside(stream):
            place = hangs_at(stream, stack="waits_for_the_gate")
            (tmp_path / "go").touch()

        assert place[:1] + place[2:3] == ("caller", None)
        assert place.stack.splitlines()[0].endswith("in __call__")

    def test_a_short_call(self, tmp_path):
        """One that runs as the builtin would, because the last ones were short."""
        hanging = Hanging(tmp_path)
        (tmp_path / "go").touch()
        for _ in range(3):
            list(amorsize.map(hanging, range(6)))
        (tmp_path / "go").unlink()
        stream = amorsize.map(hanging, range(6))
        with beside(stream):
            place = hangs_at(stream, stack="waits_for_the_gate")
            (tmp_path / "go").touch()

        assert place.worker == "caller"

    def test_an_item_behind_many_short_ones(self, tmp_path):
        """Even where a thread has ended the range that the caller reads."""
        stream = amorsize.map(Quick(Hanging(tmp_path, at=4000)), range(5000), thread_safe=False)
        with beside(stream):
            place = hangs_at(stream, 4000, stack="waits_for_the_gate")
            (tmp_path / "go").touch()

        assert place.worker == "caller"

    @WITH_SIGNALS
    def test_a_handler_in_the_item_itself(self, tmp_path):
        """What asks is not shown: the stack ends with the handler."""
        told = []

        def ask(signum, frame):
            told.append(stream.where())

        before = signal.signal(signal.SIGUSR1, ask)
        try:
            stream = amorsize.map(raise_usr1_at_three, range(6), backend="serial")
            assert list(stream) == [*range(6)]
        finally:
            signal.signal(signal.SIGUSR1, before)
        ((place,),) = told

        assert (place.worker, place.index) == ("caller", HANGS_AT)
        assert place.stack.rstrip().endswith("told.append(stream.where())")

    def test_asking_keeps_nothing(self):
        """The stack that is looked at may be the one that asks; it is not kept, and so the call ends when dropped."""
        gc.collect()
        gc.disable()
        try:
            streams = []
            asking = AsksItself(streams)
            streams.append(amorsize.map(asking, range(2), backend="serial"))
            gone = weakref.ref(streams[0])
            next(streams[0])
            streams.clear()
            assert gone() is None
        finally:
            gc.enable()

        assert asking.places[0].index == 0

    def test_an_executor(self, tmp_path):
        """What an engine runs is told by chunks, since it does not say more."""
        with ThreadPoolExecutor(2) as executor:
            stream = amorsize.map(Hanging(tmp_path), range(8), backend=executor, chunksize=2)
            with beside(stream):
                place = hangs_at(stream, 2)
                (tmp_path / "go").touch()

        assert (place.worker, place.index, place.last, place.stack) == (None, 2, 3, "")
        assert str(place).startswith("a worker: items 2 to 3, ")

    def test_a_pool(self, tmp_path):
        """The standard library's pool is such an engine."""
        stream = amorsize.map(Hanging(tmp_path), range(4), backend="pool", n_jobs=2, chunksize=1)
        with beside(stream):
            place = hangs_at(stream)
            (tmp_path / "go").touch()

        assert place.last == HANGS_AT


def raise_usr1_at_three(number):
    if number == HANGS_AT:
        signal.raise_signal(signal.SIGUSR1)
    return number


class AsksItself:
    """Callable that asks the only stream of a list where it is."""

    def __init__(self, streams):
        self.streams = streams

    def __call__(self, number):
        self.places = self.streams[0].where()
        return number


class Quick:
    """Callable that does what another does at one item, and nothing at others."""

    def __init__(self, other):
        self.other = other

    def __call__(self, number):
        return self.other(number) if number == self.other.at else number


class TestCoroutines:
    """Tasks, on the loop of the user or on our own."""

    def test_amap_shows_where_a_coroutine_waits(self):
        """In the innermost coroutine, for as long as it runs."""

        async def main():
            stream = amorsize.amap(where_workers.hangs, range(6), ordered=False)
            async for _ in stream:
                places = [place for place in stream.where() if place.index == HANGS_AT]
                if places and len(stream.where()) == 1:
                    break
            await stream.aclose()
            return places, stream.where()

        ((place,), closed) = coroutine_workers.run(main())

        assert place.stack.splitlines()[0].endswith("in hangs")
        assert "await asyncio.sleep(3600)" in place.stack
        assert 0 <= place.seconds < GUARD_SECONDS
        assert closed == []

    def test_map_over_coroutines(self, tmp_path):
        """From another thread, while the loop inside `next()` runs."""

        async def hangs(number):
            await comes(tmp_path / "go")
            return number

        async def comes(path):
            while not path.exists():  # noqa: ASYNC110 - another thread makes the file
                await asyncio.sleep(0.002)

        stream = amorsize.map(hangs, range(4))
        with beside(stream) as results:
            place = hangs_at(stream, stack="comes")
            (tmp_path / "go").touch()

        assert place.worker.startswith("Task-")
        assert results == [*range(4)]
        assert stream.where() == []

    def test_a_coroutine_that_blocks_the_loop(self, tmp_path):
        """Its stack is that of the thread that runs it."""
        hanging = Hanging(tmp_path)

        async def blocks(number):
            return hanging(number)

        stream = amorsize.map(blocks, range(6))
        with beside(stream):
            stack = hangs_at(stream, stack="waits_for_the_gate").stack
            (tmp_path / "go").touch()

        assert stack.splitlines()[0].endswith("in blocks")

    def test_amap_of_a_plain_function(self, tmp_path):
        """What it hands on is the stream of the thread beside the loop."""

        async def main():
            stream = amorsize.amap(Hanging(tmp_path), range(6), backend="threads", n_jobs=2)
            asked = asyncio.ensure_future(coroutine_workers.collect(stream))
            end = time.monotonic() + GUARD_SECONDS
            while not (found := [place for place in stream.where() if place.index == HANGS_AT]):
                assert time.monotonic() < end
                await asyncio.sleep(0.002)
            (tmp_path / "go").touch()
            return found[0], await asked

        place, results = coroutine_workers.run(main())

        assert place.worker.startswith("amorsize-")
        assert results == [*range(6)]


@WITH_SIGNALS
class TestOnSignal:
    """What is printed when a signal comes."""

    @pytest.fixture(autouse=True)
    def _no_streams_of_other_tests(self):
        """What other tests left in cycles would be found."""
        gc.collect()

    def test_all_running_calls_are_printed(self, one_method, tmp_path, capfd):
        """To standard error, with the text of each worker."""
        undo = amorsize.where_on_signal()
        try:
            stream = amorsize.map(Hanging(tmp_path), range(6), **one_method)
            with beside(stream):
                place = hangs_at(stream)
                signal.raise_signal(signal.SIGUSR1)
                (tmp_path / "go").touch()
        finally:
            undo()
        said = capfd.readouterr().err

        assert said.startswith("amorsize: 1 running call\ncall 1 of 1:\n")
        assert f"process {place.worker}: item {HANGS_AT}, " in said

    def test_nothing_runs(self, capfd):
        """It says so."""
        undo = amorsize.where_on_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR2)
        undo()

        assert capfd.readouterr().err == "amorsize: 0 running calls\n"

    def test_coroutines_are_printed(self, capfd):
        """Of their calls there is no other stream."""

        async def main():
            stream = amorsize.amap(where_workers.hangs, range(6))
            await anext(stream)
            signal.raise_signal(signal.SIGUSR1)
            await stream.aclose()

        undo = amorsize.where_on_signal()
        try:
            coroutine_workers.run(main())
        finally:
            undo()

        assert "in waits_long" in capfd.readouterr().err

    def test_the_handler_that_was_there_is_called_and_comes_back(self, capfd):
        """The signal may mean something else as well."""
        came = []

        def own(signum, frame):
            came.append(signum)

        before = signal.signal(signal.SIGUSR1, own)
        try:
            undo = amorsize.where_on_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            undo()
            assert signal.getsignal(signal.SIGUSR1) is own
        finally:
            signal.signal(signal.SIGUSR1, before)

        assert came == [signal.SIGUSR1]
        assert "amorsize" in capfd.readouterr().err

    def test_undoing_leaves_alone_who_came_later(self):
        """Their handler may refer to ours."""
        before = signal.getsignal(signal.SIGUSR1)
        undo = amorsize.where_on_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        undo()
        left = signal.signal(signal.SIGUSR1, before)

        assert left == signal.SIG_IGN

    def test_other_threads_are_refused(self):
        """As `signal.signal` refuses them."""
        with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="main thread"):
            executor.submit(amorsize.where_on_signal).result()


class TestSlowItems:
    """What is logged unasked."""

    def test_a_slow_item_is_logged_once(self, one_method, tmp_path, caplog, monkeypatch):
        """With its position, its worker, the seconds and what is usual."""
        monkeypatch.setattr(patrol, "_SLOW_SECONDS", 0.05)
        monkeypatch.setattr(patrol, "_LIVENESS_SECONDS", 0.02)
        caplog.set_level(logging.DEBUG, logger="amorsize")

        def said():
            return [record.getMessage() for record in caplog.records if "has run for" in record.message]

        stream = amorsize.map(Hanging(tmp_path, at=8), range(16), chunksize=1, **one_method)
        with beside(stream):
            place = hangs_at(stream, 8)
            until(said)
            until(lambda: hangs_at(stream, 8).seconds > place.seconds + 0.2)
            (tmp_path / "go").touch()
        (text,) = said()

        assert text.startswith("item 8 has run for ")
        assert f"in process {place.worker}" in text

    def test_the_median_is_that_of_the_items(self):
        """A message with many short items counts more than some with a long one each."""
        assert median_of([]) is None
        assert median_of([(2.0, 1)]) == 2.0
        assert median_of([(0.001, 1000), (5.0, 1), (6.0, 1)]) == 0.000001


class TestText:
    """What is shown of a place."""

    def test_what_a_place_looks_like(self):
        """One line of what it does, and the stack below."""
        stack = '  File "a.py", line 1, in f\n    g()\n'

        assert str(amorsize.Where(7, 3, 1.25, stack)) == f"process 7: item 3, 1.2 seconds\n{stack}".rstrip()
        assert str(amorsize.Where(7)) == "process 7: idle"
        assert str(amorsize.Where(7, None, 1.0)) == "process 7: on no item, 1.0 seconds"
        assert str(amorsize.Where("caller", 3)) == "caller: item 3"

    def test_a_stack_without_our_loop_has_nothing_of_the_users(self):
        """The worker was between two items."""
        assert where.above([("a.py", 1, "f")], where.LOOP) == []

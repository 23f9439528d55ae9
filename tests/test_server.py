"""The fork server loads what workers need once, holds nobody up, and is gone when nobody needs it."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pool_workers
import psutil
import pytest

import amorsize
from amorsize.backends.processes import idle
from amorsize.backends.processes.start import all_workers, serves_here
from amorsize.transport.payload import payload_of

if serves_here():  # these modules are for such systems alone
    from amorsize.backends.processes import launch, server
    from amorsize.child import server as child_server
pytestmark = pytest.mark.skipif(not serves_here(), reason="workers are never forked here")

OPTIONS = {"backend": "processes", "n_jobs": 2, "start_method": "forkserver", "chunksize": 1}
# What every module of these tests does when it is imported: it notes who imported it.
NOTES = """
import os
HERE = os.path.dirname(__file__)
with open(os.path.join(HERE, "notes"), "a") as file:
    file.write(f"{os.getpid()}\\n")
def once(name):
    try:
        os.close(os.open(os.path.join(HERE, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
CALLER = once("caller")
def where(number):
    return os.getpid(), os.getppid()
def other(number):
    return where(number)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Give a function that makes and imports a module with a text of its own, in a folder of its own."""
    made = []

    def make(text="", name="amorsize_test_served"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(NOTES + textwrap.dedent(text))
        monkeypatch.syspath_prepend(folder)
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


def importers(module):
    """Return who has imported a module, the caller not counted."""
    return [int(pid) for pid in pool_workers.notes(module.HERE)[1:]]


def call(function, count=8, **options):
    return list(amorsize.map(function, range(count), **OPTIONS, **options))


def release_workers():
    """End the idle workers, and leave the server."""
    with idle._lock:
        workers = [worker for _, worker, _ in idle._idle]
        idle._idle.clear()
    idle.dismiss(workers)


def order(function):
    """Order two workers for a function, and return them before they are there."""
    kind = idle.kind_for(function, n_jobs=2, start_method="forkserver", initializer=None, initargs=())
    taken = []
    idle.take(kind, 2, taken, function, payload_of(function).modules)
    return taken


GATE = """
if not CALLER:
    while not os.path.exists(os.path.join(HERE, "gate")):
        __import__("time").sleep(0.005)  # how often the folder is looked at
"""


class TestLoading:
    """What the server has loaded."""

    def test_modules_are_imported_once(self, module):
        """By the server, which is every worker's parent; no worker imports them again."""
        served = module()

        places = call(served.where)

        assert {parent for _, parent in places} == {server._current.pid}
        assert importers(served) == [server._current.pid]

    def test_another_function_of_the_same_modules(self, module):
        """New workers fork from the server that is there."""
        served = module()
        call(served.where)
        first = server._current.pid
        release_workers()
        call(served.other)

        assert importers(served) == [first]

    def test_more_modules(self, module):
        """The server is begun anew with the old ones and the new, and serves both from then on."""
        one, other = module(name="amorsize_test_one"), module(name="amorsize_test_other")
        call(one.where)
        release_workers()
        (_, parent), *_ = call(other.where)
        release_workers()
        (_, again), *_ = call(one.where)

        assert parent == again == server._current.pid
        assert importers(one)[1:] == importers(other) == [again]

    @pytest.mark.parametrize("what", ["path", "environment", "folder"])
    def test_another_program(self, what, module, monkeypatch, tmp_path):
        """What modules may depend on when they are imported is the caller's, now."""
        served = module()
        call(served.where)
        first = server._current.pid
        if what == "path":
            monkeypatch.syspath_prepend(tmp_path)
        elif what == "environment":
            monkeypatch.setenv("AMORSIZE_TEST_SERVED", "1")
        else:
            monkeypatch.chdir(tmp_path)
        call(served.where)

        assert importers(served) == [first, server._current.pid]
        assert first != server._current.pid

    def test_a_module_that_was_loaded_again(self, module):
        """Workers have its new code, and so has their server."""
        served = module("def told(number): return 'old'")
        old = call(served.told, 2)
        path = Path(served.__file__)
        path.write_text(path.read_text().replace("'old'", "'quite new'"))
        importlib.reload(served)

        assert (old, call(served.told, 2)) == (["old"] * 2, ["quite new"] * 2)

    def test_a_helper_that_was_loaded_again(self, module):
        """A new server has it too, though the function's own module is the old one."""
        helper = module("class Told: text = 'old'", name="amorsize_test_helper")
        served = module("import amorsize_test_helper\ndef told(number): return amorsize_test_helper.Told().text")
        old = call(served.told, 2)
        first = server._current.pid
        path = Path(helper.__file__)
        path.write_text(path.read_text().replace("'old'", "'quite new'"))
        importlib.reload(helper)
        release_workers()

        assert (old, call(served.told, 2)) == (["old"] * 2, ["quite new"] * 2)
        assert server._current.pid != first

    def test_what_a_module_prints_comes_once(self, tmp_path, python):
        """From the caller and from the server; no worker repeats it."""
        (tmp_path / "amorsize_test_loud.py").write_text("print('imported')\ndef work(number): return number\n")
        program = f"import amorsize, amorsize_test_loud\nlist(amorsize.map(amorsize_test_loud.work, [1], **{OPTIONS}))"

        child = python("-c", program, cwd=tmp_path)

        assert child.stderr == ""
        assert child.stdout.splitlines().count("imported") == 2

    def test_numerical_libraries_have_one_thread(self, module, monkeypatch):
        """So that loading them leaves the server fit to fork; in workers the caller's environment rules again."""
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        served = module(
            """
            if not CALLER:
                with open(os.path.join(HERE, "threads"), "w") as file:
                    file.write(f"{os.environ['OMP_NUM_THREADS']} {os.environ['MKL_NUM_THREADS']}")
            def seen(number): return os.environ["OMP_NUM_THREADS"]
            """
        )

        assert call(served.seen, 1) == ["3"]
        assert Path(served.HERE, "threads").read_text() == "3 1"

    def test_what_the_user_had_the_standard_server_load(self, tmp_path, python):
        """Counts here as well; the user's own server is not started."""
        (tmp_path / "amorsize_test_chosen.py").write_text("import os\nFROM = os.getpid()\n")
        program = textwrap.dedent(
            f"""
            import multiprocessing, os, sys
            import amorsize
            multiprocessing.set_forkserver_preload(["amorsize_test_chosen"])
            def work(number): return sys.modules["amorsize_test_chosen"].FROM == os.getppid()
            print(list(amorsize.map(work, [1, 2], **{OPTIONS})))
            from multiprocessing import forkserver
            print(forkserver._forkserver._forkserver_pid)
            """
        )

        child = python("-c", program, cwd=tmp_path)

        assert (child.stderr, child.stdout.splitlines()) == ("", ["[True, True]", "None"])


class TestTrouble:
    """Modules that cannot be loaded there, or make the server unfit."""

    @pytest.mark.parametrize("how", ["raise LookupError", "raise SystemExit(3)"])
    def test_an_import_that_fails(self, how, module):
        """The server goes on without the module, and workers import it."""
        served = module(f"if not CALLER and once('failed'): {how}")

        places = call(served.where)

        assert {parent for _, parent in places} == {server._current.pid}
        assert importers(served)[0] == server._current.pid
        assert {pid for pid, _ in places} <= set(importers(served))

    def test_an_import_that_ends_the_server(self, module):
        """A server that has not loaded the module takes its place, and the module is not tried again."""
        served = module("if not CALLER and once('ended'): os._exit(7)")

        places = call(served.where)
        release_workers()
        places += call(served.where)

        assert {parent for _, parent in places} == {server._current.pid}
        assert server._current.pid not in importers(served)
        assert {pid for pid, _ in places} <= set(importers(served))

    def test_an_import_that_starts_a_thread(self, module):
        """A fork would copy the thread's locks, so workers import the module themselves."""
        served = module(
            """
            import threading
            over = threading.Event()
            if not CALLER: threading.Thread(target=over.wait, daemon=True).start()
            """
        )

        places = call(served.where)

        assert server._current.wanted.modules == frozenset()
        assert {pid for pid, _ in places} <= set(importers(served))

    def test_no_server_is_safe(self, module, monkeypatch):
        """Then workers are fresh interpreters; their ends are told as ever."""
        monkeypatch.setattr(server.Server, "is_safe", lambda _: False)
        served = module()

        assert {parent for _, parent in call(served.where)} == {os.getpid()}
        assert server._current is None
        with pytest.raises(amorsize.WorkerCrashError) as caught:
            call(pool_workers.Always(3, pool_workers.leave))
        assert caught.value.exitcode == 3

    def test_threads_that_cannot_be_counted(self, module, monkeypatch):
        """Where the system does not tell, the server loads only what is ours, which starts none."""
        monkeypatch.setattr(server.platforms, "native_threads", lambda pid: None)
        served = module()

        places = call(served.where)

        assert server._current.wanted.modules == frozenset()
        assert {parent for _, parent in places} == {server._current.pid}

    def test_a_server_that_died(self, module):
        """Another one takes its place."""
        served = module()
        call(served.where)
        first = psutil.Process(server._current.pid)
        release_workers()
        first.kill()

        assert {parent for _, parent in call(served.where)} == {server._current.pid} != {first.pid}

    def test_a_server_that_dies_of_an_order(self, module, monkeypatch):
        """Nobody else has the worker's socket by then, so another server gets the same order."""
        served = module()
        call(served.where)
        first = server._current
        release_workers()
        monkeypatch.setattr(first, "has_ended", lambda: False)
        monkeypatch.setattr(first, "is_safe", lambda: True)
        psutil.Process(first.pid).kill()
        assert first.sock.recv(1) == b""

        assert {parent for _, parent in call(served.where)} == {server._current.pid} != {first.pid}

    def test_a_server_that_dies_as_it_forks(self):
        """If there may be a worker of which the caller knows nothing, no other one gets its socket."""
        (report_r, report_w), (data_r, data_w) = os.pipe(), os.pipe()
        os.close(report_w)
        with pytest.raises(OSError, match="ended as it forked"):
            launch._read_number(report_r, data_w)
        os.close(data_r)
        with pytest.raises(EOFError):
            launch._read_number(report_r, data_w)
        os.close(report_r)
        os.close(data_w)

    def test_nothing_can_be_started(self, module, monkeypatch):
        """The reason is the call's error; nothing is left of what was ordered."""

        def refuse(*_):
            raise BlockingIOError(11, "not now")

        monkeypatch.setattr(server, "_spawned", refuse)
        with pytest.raises(BlockingIOError, match="not now"):
            call(module().where)
        assert all_workers() == []

    @pytest.mark.parametrize("die", [pool_workers.die, pool_workers.leave])
    def test_the_exit_code_of_a_worker(self, die):
        """The server tells it."""
        with pytest.raises(amorsize.WorkerCrashError) as caught:
            call(pool_workers.Always(3, die))

        assert caught.value.exitcode == {pool_workers.die: -9, pool_workers.leave: 3}[die]


class TestOrders:
    """Workers that are not there yet."""

    def test_the_caller_does_not_wait(self, module):
        """An order returns while the server still imports; the workers come when it has."""
        served = module(GATE)
        workers = order(served.where)
        pool_workers.wait_for_notes(served.HERE, 2)

        assert [worker.process.pid for worker in workers] == [None, None]
        assert all(worker.process.is_alive() for worker in workers)
        Path(served.HERE, "gate").touch()
        assert [worker.settle() for worker in workers] == [None, None]
        assert all(worker.process.pid for worker in workers)
        idle.dismiss(workers)

    @pytest.mark.parametrize("kill", [True, False])
    def test_an_order_that_is_given_up(self, kill, module):
        """Ending such workers waits for nothing, and `shutdown` ends the server in the midst of its import."""
        served = module(GATE)
        workers = order(served.where)
        pool_workers.wait_for_notes(served.HERE, 2)
        for worker in workers:
            assert worker.end(kill=kill) is None
        amorsize.shutdown()

        assert all_workers() == []
        assert server._current is None
        assert not psutil.pid_exists(importers(served)[0])

    def test_an_order_given_up_while_its_server_stays(self, module):
        """The server serves the next call, and none of the first workers stays."""
        served = module(GATE)
        workers = order(served.where)
        pool_workers.wait_for_notes(served.HERE, 2)
        for worker in workers:
            worker.end(kill=True)
        Path(served.HERE, "gate").touch()
        places = call(served.where)

        assert importers(served) == [server._current.pid]
        assert {parent for _, parent in places} == {server._current.pid}

    def test_workers_that_are_given_back_before_they_are_there(self, module):
        """They become idle ones, which the next call finds."""
        served = module(GATE)
        workers = order(served.where)
        pool_workers.wait_for_notes(served.HERE, 2)
        kind = idle.kind_for(served.where, n_jobs=2, start_method="forkserver", initializer=None, initargs=())
        idle.give_back(kind, workers)
        Path(served.HERE, "gate").touch()

        assert {pid for pid, _ in call(served.where)} <= {worker.process.pid for worker in workers}

    def test_the_end_of_the_program(self, module, tmp_path, python):
        """Nothing waits for the import, and nothing is left."""
        served = module(GATE)
        program = textwrap.dedent(
            f"""
            import sys
            sys.path[:0] = [{str(Path(__file__).parent)!r}, {served.HERE!r}]
            import amorsize_test_served as served, pool_workers, test_server
            served_before = len(pool_workers.notes(served.HERE))
            test_server.order(served.where)
            pool_workers.wait_for_notes(served.HERE, served_before + 1)
            print("over")
            """
        )
        Path(served.HERE, "caller").unlink()  # so that the program is one

        child = python("-c", program, cwd=tmp_path)

        assert (child.stderr, child.stdout) == ("", "over\n")
        assert _gone(importers(served)[-1])


class TestEnds:
    """When the server leaves."""

    def test_shutdown(self, module):
        """Ends the server with the workers, and the next call has another one."""
        served = module()
        call(served.where)
        first = server._current.pid
        amorsize.shutdown()

        assert server._current is None
        assert not psutil.pid_exists(first)
        assert {parent for _, parent in call(served.where)} == {server._current.pid}

    def test_shutdown_beside_a_call(self, module):
        """A server with workers stays until they leave."""
        served = module()
        stream = amorsize.map(served.where, range(8), **OPTIONS)
        _, parent = next(stream)
        amorsize.shutdown()

        assert server._current.pid == parent
        assert {parent for _, parent in stream} == {parent}

    @pytest.mark.parametrize("end", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
    def test_the_end_of_the_caller(self, end, python):
        """However it comes, the server leaves."""
        program = f"""
import os
import amorsize
def where(number): return os.getppid()
print(*set(amorsize.map(where, range(4), **{OPTIONS})), flush=True)
{end}
"""
        child = python("-c", program)

        assert child.stderr == ""
        assert _gone(int(child.stdout))

    def test_idleness(self):
        """A server that gets no order, and has no worker, leaves by itself."""
        ours, theirs = socket.socketpair()
        program = (
            "from amorsize.child import server; server.IDLE_SECONDS = 0.001; "
            f"server.serve({theirs.fileno()}, ['no_such_module'], '/')"
        )
        environ = {**os.environ, "PYTHONPATH": str(Path(amorsize.__file__).parents[1])}
        with ours, theirs:
            left = subprocess.run(
                [sys.executable, "-c", program],
                pass_fds=[theirs.fileno()],
                timeout=pool_workers.GUARD_SECONDS,
                env=environ,
                check=False,
            )

        assert left.returncode == 0

    def test_a_server_that_has_left_is_replaced(self, monkeypatch, module):
        """The next call begins another."""
        served = module()
        call(served.where)
        first = server._current
        release_workers()
        first.sock.shutdown(socket.SHUT_WR)  # as good as the end of its patience

        assert {parent for _, parent in call(served.where)} == {server._current.pid} != {first.pid}

    def test_a_forked_child(self, module):
        """Forgets the server, which its parent goes on using."""
        served = module()
        call(served.where)
        first = server._current.pid
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=_report_server, args=(theirs, served.where))
        child.start()
        assert ours.poll(pool_workers.GUARD_SECONDS)
        before, after = ours.recv()
        child.join()
        release_workers()

        assert (before, child.exitcode) == (None, 0)
        assert first not in after
        assert {parent for _, parent in call(served.where)} == {first}

    def test_descriptors(self, module):
        """The server has the standard streams, its end of the socket and what it made; a worker's are closed."""
        served = module()
        call(served.where)
        held = psutil.Process(server._current.pid)
        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("this system does not list descriptors")
        sockets = [link for link in map(_link, Path(f"/proc/{held.pid}/fd").iterdir()) if link.startswith("socket:")]
        mine = [link for link in map(_link, Path("/proc/self/fd").iterdir()) if link.startswith("socket:")]

        assert len(sockets) == 1
        assert not set(sockets) & set(mine)

    def test_the_callers_present_streams(self, tmp_path, python):
        """What workers print goes where the caller's output goes now, not where it went when the server began."""
        program = textwrap.dedent(
            f"""
            import os, sys
            import amorsize
            def show(number): print("item", number)
            list(amorsize.map(abs, [1], **{OPTIONS}))
            import test_server
            test_server.release_workers()
            sys.stdout.flush()
            os.dup2(os.open("elsewhere", os.O_CREAT | os.O_WRONLY), 1)
            list(amorsize.map(show, [7], **{OPTIONS}))
            """
        )
        program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + program

        child = python("-c", program, cwd=tmp_path)

        assert (child.stderr, child.stdout) == ("", "")
        assert (tmp_path / "elsewhere").read_text() == "item 7\n"


def test_threads_at_once(module):
    """Calls in several threads share one server."""
    served = module()
    seen = []
    threads = [threading.Thread(target=lambda: seen.extend(call(served.where))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {parent for _, parent in seen} == set(importers(served)) == {server._current.pid}


def test_what_the_server_is_told_survives_any_name(tmp_path, monkeypatch):
    """Folders and paths of every encoding."""
    odd = tmp_path / os.fsdecode(b"odd '\"\\ \xff")
    odd.mkdir()
    monkeypatch.chdir(odd)
    monkeypatch.syspath_prepend(odd)

    assert [Path(folder) for folder in call(pool_workers.folder, 1)] == [odd]


def test_a_server_waits_for_no_orders_it_cannot_fill():
    """An order with the other end closed is no order."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        assert child_server._read_order(theirs) == []


def _report_server(pipe, function):
    before = server._current
    pipe.send((before, {parent for _, parent in call(function)}))


def _link(path):
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(path)
    return ""


def _gone(pid):
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    with contextlib.suppress(psutil.NoSuchProcess):
        return not psutil.wait_procs([process], timeout=pool_workers.GUARD_SECONDS)[1] or process.status() == "zombie"
    return True

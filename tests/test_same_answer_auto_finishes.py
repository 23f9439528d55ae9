"""Under "auto" nothing ends that the builtin would finish: what workers cannot do is done in the caller, once."""

from __future__ import annotations

import multiprocessing
import sys

import programs
import pytest

METHODS = multiprocessing.get_all_start_methods()
posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not counted so on Windows")

# What a program may say of its own work: how often each item was started, in whatever process.
NOTES = """
        def note(item):
            descriptor = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, b"%d\\n" % item)
            os.close(descriptor)
        NOTES = os.path.abspath("notes")
        def noted():
            return sorted(plain_map(int, open(NOTES).read().split())) if os.path.exists(NOTES) else []
        """

# Programs that run under the builtin as they do under ours.
PROGRAMS = {
    "no descriptor is left": """
        import resource
        def work(x):
            busy(.01)
            return x * x
        for spare in range(12):
            # The listing has a descriptor of its own.
            used = len(os.listdir("/proc/self/fd")) - 1 if os.path.isdir("/proc/self/fd") else 20
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, limits[1]))
            print(list(MAP(work, range(20))))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        """,
    "no descriptor is left beside a long first item": """
        import resource
        def work(x):
            busy(.3 if x == 0 else .001)
            return x * x
        used = len(os.listdir("/proc/self/fd")) - 1 if os.path.isdir("/proc/self/fd") else 20
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, limits[1]))
        print(list(MAP(work, range(20))))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        print(list(MAP(work, range(20))))
        """,
    "no process can be started": """
        import multiprocessing.process
        tried = []
        def start(process):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        start_before, multiprocessing.process.BaseProcess.start = multiprocessing.process.BaseProcess.start, start
        def work(x):
            busy(.3 if x == 0 else .003)
            note(x)
            return x * x
        print(list(MAP(work, range(60))), noted() == sorted(range(60)))
        print(list(MAP(work, iter(range(60)))), len(noted()))
        multiprocessing.process.BaseProcess.start = start_before
        print(list(MAP(work, iter(range(60)))), len(noted()))
        """,
    "memory is gone when workers are to start": """
        import multiprocessing.process
        def start(process):
            raise MemoryError
        multiprocessing.process.BaseProcess.start = start
        def work(x):
            busy(.003)
            return x * x
        print(list(MAP(work, range(60))))
        """,
    "workers that died cannot be replaced": """
        import multiprocessing, multiprocessing.process
        def work(x):
            busy(.003)
            note(x)
            return x * x
        print(list(MAP(work, range(100))), len(noted()))
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        def start(process):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        multiprocessing.process.BaseProcess.start = start
        print(list(MAP(work, range(100))), len(noted()))
        """,
    "the current folder is gone": """
        import shutil, tempfile
        NOTES = os.path.abspath("notes")
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)
        def work(x):
            busy(.3 if x == 0 else .003)
            note(x)
            return x * x
        print(list(MAP(work, range(60))), len(noted()))
        print(list(MAP(work, iter(range(60)))), len(noted()))
        """,
    "an item cannot be rebuilt elsewhere": """
        home = os.getpid()
        class Bound:
            def __init__(self, x): self.x = x
            def __reduce__(self): return bound_in, (self.x, home)
        def bound_in(x, home):
            if os.getpid() != home:
                raise RuntimeError("only there")
            return Bound(x)
        def work(item):
            x = item if type(item) is int else item.x
            busy(.003)
            note(x)
            return x * x
        items = [Bound(x) if x % 7 == 3 else x for x in range(100)]
        print(list(MAP(work, items)), noted() == list(range(100)))
        """,
    "objects that lie about their class": """
        import functools, weakref
        from unittest import mock
        class Liar:
            __class__ = property(lambda self: type(len))
            def __call__(self, x):
                busy(.003)
                return x * 3
        class Slow:
            def __call__(self, x):
                busy(.003)
                return x * 2
        slow = Slow()
        for function in (Liar(), functools.partial(Liar()), weakref.proxy(slow), mock.Mock(spec=len, side_effect=slow)):
            print(list(MAP(function, range(60))))
        class Never:
            @property
            def __class__(self): raise RuntimeError("nobody asks")
            def __call__(self, x): return x + 1
        print(list(MAP(Never(), range(3))))
        """,
    "an error of the user's that looks like ours": """
        def work(x):
            busy(.01)
            note(x)
            if x == 30:
                raise amorsize.SerializationError("the user's own")
            return x
        try:
            print(list(MAP(work, range(60))))
        except amorsize.SerializationError as error:
            print(error, noted().count(30))
        """,
}


def auto(method=None):
    """Return the options of "auto", with workers that start so."""
    return "" if method is None else f"start_method={method!r}"


@posix
@pytest.mark.slow
@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_builtin(name, method, tmp_path):
    """A program prints the same with the builtin and with "auto", whatever workers are started by."""
    programs.assert_same(NOTES + PROGRAMS[name], auto(method), tmp_path)


# Programs whose items may run twice, or that warn once: the builtin does neither, so what they print is written here.
LOST = """
        def work(x):
            note(x)
            busy(.02)
            return RESULT
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = list(MAP(work, range(70)))
        print(len(values), len(caught), caught[0].category.__name__)
        counts = [noted().count(x) for x in range(70)]
        print(min(counts), max(counts) <= 2, sum(counts) < 105, counts[-1])
        amorsize.shutdown()
        os.remove(NOTES)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = list(MAP(work, range(70)))
        from amorsize.backends.processes.start import all_workers
        print(len(values), len(caught), noted() == list(range(70)), len(all_workers()))
        """
RESULTS = {
    "a generator": "(digit for digit in str(x))",
    "a result with a lock": "[x, __import__('threading').Lock()]",
    "a result that cannot be rebuilt": "Bound(x)",
    "a result whose pickling exits": "Exiting()",
}
CLASSES = """
        home = os.getpid()
        class Bound:
            def __init__(self, x): self.x = x
            def __reduce__(self): return bound_in, (self.x, home)
        def bound_in(x, home):
            if os.getpid() == home:
                raise RuntimeError("never there")
            return Bound(x)
        class Exiting:
            def __reduce__(self): raise SystemExit(3)
        """


@posix
@pytest.mark.slow
@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("kind", RESULTS)
def test_results_that_cannot_come_back_are_made_again_here(kind, method, tmp_path):
    """One warning; only what was lost runs twice; the next call starts no workers, warns not, and runs each once."""
    program = NOTES + CLASSES + LOST.replace("RESULT", RESULTS[kind])

    printed = programs.run(program, auto(method), tmp_path)

    assert printed.splitlines() == ["70 1 RuntimeWarning", "1 True True 1", "70 0 True 0"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sent", "rebuilt"])
def test_a_function_that_workers_cannot_have_warns_once(what, tmp_path):
    """It is told once, not again at the next call, though the function is made anew; each item runs once."""
    program = """
        import threading
        def raising(*_):
            raise RuntimeError("not here")
        class Callee:
            def __init__(self, what): self.lock, self.what = threading.Lock(), what
            def __reduce__(self): return (raising, ()) if self.what == "rebuilt" else (Callee, (self.lock,))
        def make():
            callee = Callee(WHAT)
            def work(x):
                note(x)
                busy(.003)
                return callee and x * x
            return work
        for _ in range(3):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                values = list(MAP(make(), range(100)))
            print(values == [x * x for x in range(100)], len(caught), noted() == list(range(100)))
            os.remove(NOTES)
        """.replace("WHAT", repr(what))

    printed = programs.run(NOTES + program, "", tmp_path)

    assert printed.splitlines() == ["True 1 True", "True 0 True", "True 0 True"]


@pytest.mark.slow
def test_our_warning_as_an_error_leaves_nothing(tmp_path):
    """With warnings made errors, ours ends the call; no worker is held, and the next call runs."""
    program = """
        from amorsize.backends.processes import lease as pool
        from amorsize.backends.processes.start import all_workers
        def work(x):
            busy(.02)
            return (digit for digit in str(x))
        warnings.simplefilter("error")
        try:
            list(MAP(work, range(60)))
        except RuntimeWarning as error:
            print("a warning")
        print(len(all_workers()) == pool.warm_count(), len(list(MAP(work, range(60)))))
        """

    assert programs.run(program, "", tmp_path).splitlines() == ["a warning", "True 60"]


@posix
@pytest.mark.slow
def test_workers_that_die_as_they_start_are_done_without(tmp_path):
    """Where every worker dies before it takes anything, the caller does the work, without a warning."""
    program = """
        def work(x):
            busy(.003)
            note(x)
            return x
        os.environ["PYTHONHOME"] = "/nonexistent"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print(list(MAP(work, range(200))) == list(range(200)), noted() == list(range(200)))
            # The standard library's own helper cannot start either, and it says so.
            print([one.message for one in caught if "amorsize" in str(one.message)])
        """

    assert programs.run(NOTES + program, auto("spawn"), tmp_path) == "True True\n[]\n"


@posix
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_named_backend_goes_on_with_the_workers_that_are_left(method, tmp_path):
    """A worker that died and cannot be replaced is done without; where none is left, the error is the real one."""
    program = """
        import multiprocessing.process
        before = multiprocessing.process.BaseProcess.start
        def start(process):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        def dying(x):
            busy(.01)
            try:
                os.close(os.open("once", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return x
            os._exit(1)
        stream = amorsize.map(dying, range(40), backend="processes", n_jobs=2, retries=1, chunksize=1, OPTIONS)
        from amorsize.backends.processes import start as process
        workers = process.start_workers
        started = []
        def once(*arguments):
            if started:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            started.append(True)
            return workers(*arguments)
        from amorsize.backends.processes import idle as warm
        warm.start_workers = once
        print(list(stream) == list(range(40)))
        amorsize.shutdown()
        try:
            list(amorsize.map(dying, range(40), backend="processes", n_jobs=2, OPTIONS))
        except BlockingIOError as error:
            print(error)
        """.replace("OPTIONS", f"start_method={method!r}")

    printed = programs.run(program, "", tmp_path)

    assert printed.splitlines() == ["True", "[Errno 11] Resource temporarily unavailable"]

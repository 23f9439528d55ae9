"""Programs as people write them, without a main guard, under every start method."""

from __future__ import annotations

import textwrap

import pytest

METHODS = ["fork", "spawn", "forkserver"]
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("method", METHODS)]

PROGRAM = textwrap.dedent(
    """
    import amorsize
    print("body")
    OFFSET = 10
    class Point:
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(other) is Point and other.x == self.x
    def shift(number): return number + OFFSET
    def move(point): return Point(point.x + OFFSET)
    options = dict(backend="processes", n_jobs=2, start_method={method!r}, chunksize=1)
    print(list(amorsize.map(shift, [1, 2, 3], **options)))
    print(list(amorsize.map(lambda number: -number, [1, 2], **options)))
    moved = list(amorsize.map(move, [Point(1), Point(2)], **options))
    print(moved == [Point(11), Point(12)], all(isinstance(point, Point) for point in moved))
    """
)
PRINTED = ["body", "[11, 12, 13]", "[-1, -2]", "True True"]


def test_a_file(method, tmp_path, python):
    """A script's body runs once, its functions and classes are those of the script."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.format(method=method))

    child = python(script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == PRINTED


def test_standard_input(method, python):
    """A program that comes through standard input runs once, and right."""
    child = python("-", input=PROGRAM.format(method=method))

    assert child.stderr == ""
    assert child.stdout.splitlines() == PRINTED


def test_a_command(method, python):
    """`python -c` works too."""
    child = python("-c", PROGRAM.format(method=method))

    assert child.stderr == ""
    assert child.stdout.splitlines() == PRINTED


def test_a_prompt(method, python):
    """Functions typed at a prompt are mapped like others."""
    lines = [
        "import amorsize",
        "def shift(number): return number + 10",
        "",
        f"print(list(amorsize.map(shift, [1, 2], backend='processes', n_jobs=2, start_method={method!r})))",
    ]

    child = python("-i", "-q", input="\n".join(lines) + "\n")

    assert child.returncode == 0
    assert "[11, 12]" in child.stdout


def test_a_module_run_by_name(method, tmp_path, python):
    """`python -m package` runs the package's main module once."""
    package = tmp_path / "amorsize_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PROGRAM.format(method=method))

    child = python("-m", "amorsize_test_package", cwd=tmp_path)

    assert child.stderr == ""
    assert child.stdout.splitlines() == PRINTED


def test_a_call_at_import_time(method, tmp_path, python):
    """A module that maps its own function while it is imported gets right answers, and the program goes on."""
    (tmp_path / "amorsize_test_early.py").write_text(
        textwrap.dedent(
            f"""
            import amorsize
            def double(number): return 2 * number
            TABLE = list(amorsize.map(double, range(5), backend="processes", n_jobs=2, start_method={method!r}))
            """
        )
    )
    script = tmp_path / "script.py"
    script.write_text("import amorsize_test_early\nprint(amorsize_test_early.TABLE)\n")

    child = python(script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == ["[0, 2, 4, 6, 8]"]


def test_warnings_as_errors_beside_a_thread(method, tmp_path, python):
    """With another thread alive no warning comes, unless fork was forced: then it is the interpreter's own."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import threading
            import amorsize
            over = threading.Event()
            thread = threading.Thread(target=over.wait)
            thread.start()
            method = {method!r}
            options = dict(backend="processes", n_jobs=2, start_method=None if method == "fork" else method)
            print(list(amorsize.map(abs, [-1, -2, -3], chunksize=1, **options)))
            amorsize.shutdown()
            print(list(amorsize.map(abs, [-4], **options)))
            over.set()
            thread.join()
            """
        )
    )

    child = python("-W", "error", script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == ["[1, 2, 3]", "[4]"]


def test_the_global_start_method_is_obeyed(method, tmp_path, python):
    """A program that set another start method than the platform's default has its workers started so."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            import amorsize
            multiprocessing.set_start_method({method!r})
            print(len(list(amorsize.map(abs, range(4), backend="processes", n_jobs=2))))
            from amorsize.backends.processes.start import all_workers
            print({{worker.process._start_method for worker in all_workers()}})
            """
        )
    )

    child = python(script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == ["4", f"{{{method!r}}}"]


def test_what_is_printed_in_workers_is_not_lost(method, tmp_path, python):
    """Lines printed by items arrive, though workers are killed when the program ends, before its own next line."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import amorsize
            def show(number):
                print(f"item {{number}}\\n", end="")  # one write: lines of two workers do not mix
            print("before", flush=True)
            list(amorsize.map(show, range(20), backend="processes", n_jobs=2, start_method={method!r}))
            print("after")
            """
        )
    )

    child = python(script)

    assert child.stderr == ""
    lines = child.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert sorted(lines[1:-1]) == sorted(f"item {number}" for number in range(20))


def test_the_main_module_is_where_it_was(method, tmp_path, python):
    """Threads that start workers at the same time leave the main module in its place."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, threading
            import amorsize
            main = sys.modules["__main__"]
            def call():
                for _ in range(3):
                    list(amorsize.map(abs, range(4), backend="processes", n_jobs=2, start_method={method!r}))
                    amorsize.shutdown()
            threads = [threading.Thread(target=call) for _ in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sys.modules["__main__"] is main)
            """
        )
    )

    child = python("-W", "ignore::DeprecationWarning", script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == ["True"]


INITIALIZED = textwrap.dedent(
    """
    import amorsize
    model, cache, offset = None, {{}}, 1
    def load(value):
        global model
        model = cache["model"] = load.value = value
    def score(number): return number + offset, model, cache, load.value
    class Scorer:
        def __call__(self, number): return score(number)[0], model
    options = dict(
        backend={backend!r}, n_jobs=2, start_method={method!r}, chunksize=1, initializer=load, initargs=(7,),
    )
    print(list(amorsize.map(score, [1], **options)))
    offset = 2
    print(list(amorsize.map(score, [1], **options)))
    print(list(amorsize.map(Scorer(), [1], **options)), model, cache)
    """
)


@pytest.mark.parametrize("backend", ["processes", "pool"])
def test_an_initializer_sets_globals(method, backend, tmp_path, python):
    """Functions of the script find what its initializer set, filled or changed; other globals are the caller's, now."""
    script = tmp_path / "script.py"
    script.write_text(INITIALIZED.format(method=method, backend=backend))

    child = python(script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == [
        "[(2, 7, {'model': 7}, 7)]",
        "[(3, 7, {'model': 7}, 7)]",
        "[(3, 7)] None {}",
    ]

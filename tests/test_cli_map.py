"""`amorsize map` in real pipes: lines in, lines out, in order, at once where they are live, and every way it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import amorsize

pytestmark = pytest.mark.slow
GUARD_SECONDS = 60
ENDLESS = """
import sys
while True:
    sys.stdout.write("y\\n" * 1000)
"""
posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")


@pytest.fixture
def folder(tmp_path):
    """Give a folder with a module of functions."""
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    (tmp_path / "ours.py").write_text(
        "import os, time\n"
        "def double(line): return line + line\n"
        "def number(line): return int(line)\n"
        "def slowly(line): time.sleep(0.02); return line\n"
        "def forever(line): open('begun', 'w').close(); time.sleep(600)\n"
        "def total(row): return {'sum': sum(row['items'])}\n"
        "def unprintable(line):\n"
        "    class Odd(Exception):\n"
        "        def __str__(self): raise KeyError('no text')\n"
        "    raise Odd\n"
        "import threading\n"
        "barrier = threading.Barrier(4)\n"
        "def meets(line):\n"
        "    try: barrier.wait(20)\n"
        "    except threading.BrokenBarrierError: return 'alone'\n"
        "    return 'met'\n"
        "ONE = ValueError('one')\n"
        "def always_one(line):\n"
        "    if line in '135': raise ONE\n"
        "    return line\n"
        "def broken_pipe(line):\n"
        "    if line == '3': raise BrokenPipeError('my own')\n"
        "    return line\n"
        "def odd_text(line): return '\\ud800' + line\n"
        "def nan(line): return float('nan')\n"
        "def late(line):\n"
        "    if line == '3': time.sleep(600)\n"
        "    return line\n"
        "def noted(line):\n"
        "    with open('noted', 'a') as file: file.write(line)\n"
        "    return line * 2\n"
        "def exits(line): raise SystemExit(9)\n"
        "def draw(line):\n"
        "    import amorsize\n"
        "    return amorsize.item_rng().random()\n"
        "def fails_once(line):\n"
        "    if not os.path.exists('tried-' + line):\n"
        "        open('tried-' + line, 'w').close()\n"
        "        raise OSError('not yet')\n"
        "    return line\n"
        "class Things:\n"
        "    upper = str.upper\n"
        "    nothing = None\n"
    )
    return tmp_path


@pytest.fixture
def command(folder):
    """Give a function that starts the command in that folder."""
    # A module that is written twice within a second would else be taken for the same.
    environ = {**os.environ, "PYTHONPATH": str(Path(amorsize.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    started = []

    def start(*words, **given):
        given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
        words = [sys.executable, "-m", "amorsize", *map(str, words)]
        process = subprocess.Popen(words, cwd=folder, env=environ, **given)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def run(command):
    """Give a function that runs the command to its end; it returns the code, and what came out."""

    def run(*words, lines=""):
        process = command(*words)
        out, error = process.communicate(lines.encode(), timeout=GUARD_SECONDS)
        return process.returncode, out.decode(), error.decode()

    return run


class TestLines:
    """Each line is an item, and each result a line."""

    @pytest.mark.parametrize("backend", ["auto", "serial", "threads", "processes"])
    def test_results_come_in_order(self, run, backend):
        """On every backend."""
        lines = "".join(f"{number}\n" for number in range(3_000))

        code, out, error = run("map", "ours:double", "--backend", backend, "--jobs", 2, lines=lines)

        assert (code, error) == (0, "")
        assert out.splitlines() == [f"{number}{number}" for number in range(3_000)]

    def test_a_file(self, run, folder):
        """Its last line need not have an end; empty lines are items, too."""
        (folder / "lines.txt").write_bytes("a\n\nb ü".encode())

        assert run("map", "ours:double", "lines.txt") == (0, "aa\n\nb üb ü\n", "")

    def test_line_ends_of_other_systems(self, run, folder):
        """Belong to no line, wherever a block ends."""
        (folder / "lines.txt").write_bytes(b"a\r\n" + b"b" * 65_532 + b"\r\nc\rd\r\n")

        _, out, _ = run("map", "builtins:repr", "lines.txt")
        assert out.splitlines() == ["'a'", repr("b" * 65_532), "'c\\rd'"]

    def test_long_lines_keep_all_workers_busy(self, run):
        """Where a block ends, nobody waits for what is under way.

        Later on fewer threads may be tried, so the first ones count.
        """
        lines = "".join(f"{number:070000}\n" for number in range(20))
        code, out, _ = run("map", "ours:meets", "--backend", "threads", "--jobs", 4, lines=lines)

        assert (code, out.count("\n")) == (0, 20)
        assert out.startswith("met\n" * 4)

    def test_no_lines(self, run):
        """Nothing comes of nothing."""
        assert run("map", "ours:double") == (0, "", "")

    def test_bytes_that_are_no_text_come_out_as_they_went_in(self, command):
        """File names are such bytes."""
        process = command("map", "builtins:str.strip")

        assert process.communicate(b"\xff\xfe \n", timeout=GUARD_SECONDS)[0] == b"\xff\xfe\n"

    def test_json(self, run):
        """Values in, values out."""
        lines = '{"items": [1, 2]}\n{"items": []}\n'

        assert run("map", "ours:total", "--json", lines=lines) == (0, '{"sum": 3}\n{"sum": 0}\n', "")

    def test_a_function_deep_in_a_module(self, run):
        """A name with dots, in a module of the standard library or of one's own."""
        assert run("map", "ours:Things.upper", lines="a\n")[1] == "A\n"
        assert run("map", "os.path:basename", lines="a/b\n")[1] == "b\n"

    def test_unordered(self, run):
        """All lines, each once."""
        code, out, _ = run(
            "map", "ours:double", "--unordered", "--jobs", 2, "--backend", "processes", lines="a\nb\nc\n" * 100
        )

        assert code == 0
        assert sorted(out.split()) == sorted(["aa", "bb", "cc"] * 100)

    def test_a_seed(self, run):
        """The same numbers each time, wherever the lines are run."""
        lines = "a\n" * 5
        first = run("map", "ours:draw", "--seed", 3, lines=lines)

        assert len(set(first[1].split())) == 5
        assert run("map", "ours:draw", "--seed", 3, "--backend", "processes", "--jobs", 2, lines=lines) == first

    def test_retries(self, run):
        """A line that failed is tried again."""
        assert run("map", "ours:fails_once", "--retries", 1, lines="a\nb\n") == (0, "a\nb\n", "")

    def test_progress(self, run):
        """It is shown on standard error, and nowhere else."""
        pytest.importorskip("tqdm")
        code, out, error = run("map", "ours:double", "--progress", lines="a\n" * 20)

        assert (code, out) == (0, "aa\n" * 20)
        assert "20item" in error


class TestLive:
    """Who feeds it line by line is answered line by line."""

    @posix
    @pytest.mark.parametrize("backend", ["auto", "serial", "threads", "processes"])
    def test_a_line_is_answered_before_the_next_comes(self, command, backend):
        """Nothing waits in a buffer."""
        process = command("map", "ours:double", "--backend", backend)
        for number in range(20):
            process.stdin.write(f"{number}\n".encode())
            process.stdin.flush()

            assert process.stdout.readline() == f"{number}{number}\n".encode()
        process.stdin.close()
        assert process.wait(GUARD_SECONDS) == 0

    @posix
    def test_an_endless_input_is_mapped_in_constant_memory(self, command):
        """A pipe that nobody reads any more ends it quietly."""
        endless = subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE)
        process = command("map", "builtins:str.upper", stdin=endless.stdout)
        endless.stdout.close()
        try:
            for _ in range(200_000):
                assert process.stdout.readline() == b"Y\n"
            before = psutil.Process(process.pid).memory_info().rss
            for _ in range(1_000_000):
                process.stdout.readline()
            assert psutil.Process(process.pid).memory_info().rss < before + 20_000_000
            process.stdout.close()
            assert process.wait(GUARD_SECONDS) == 0
            assert process.stderr.read() == b""
        finally:
            endless.kill()
            endless.wait()


class TestFailures:
    """A line that fails ends it, or is told."""

    def test_the_traceback_and_the_line(self, run):
        """After the results before it, with code 1."""
        code, out, error = run("map", "ours:number", lines="1\n2\nx\n4\n")

        assert (code, out) == (1, "1\n2\n")
        assert "ValueError: invalid literal for int() with base 10: 'x'" in error
        assert "in number" in error
        assert error.splitlines()[-1] == "amorsize: line 3 of standard input failed (item 2, from 0)"

    def test_going_on(self, run):
        """Each failure is a line of JSON on standard error, and the code is 3."""
        code, out, error = run("map", "ours:number", "--on-error", "return", lines="1\nx\n3\ny\n")

        assert (code, out) == (3, "1\n3\n")
        told = [json.loads(line) for line in error.splitlines()]
        assert [(one["line"], one["error"]) for one in told] == [(2, "ValueError"), (4, "ValueError")]

    def test_bad_json_is_a_failure_of_its_line(self, run):
        """As the function's own would be."""
        code, out, error = run("map", "ours:total", "--json", "--on-error", "return", lines='{"items": []}\n{\n')

        assert (code, out) == (3, '{"sum": 0}\n')
        assert json.loads(error)["line"] == 2

    def test_a_late_line(self, run):
        """A deadline is an item's."""
        code, out, error = run("map", "ours:forever", "--timeout", 0.3, "--on-error", "return", lines="a\n")

        assert (code, out) == (3, "")
        assert json.loads(error)["error"] == "ItemTimeoutError"

    def test_a_function_that_exits_is_a_failure(self, run):
        """It does not choose the command's code."""
        code, _, error = run("map", "ours:exits", lines="a\n")

        assert code == 1
        assert "line 1 of standard input failed" in error

    @pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
    def test_a_broken_pipe_of_the_functions_own_is_its_failure(self, run, backend):
        """It is not taken for a closed standard output."""
        code, out, error = run("map", "ours:broken_pipe", "--backend", backend, lines="1\n2\n3\n4\n")

        assert (code, out) == (1, "1\n2\n")
        assert "BrokenPipeError: my own" in error

    def test_odd_errors_are_told_once_each(self, run):
        """One that has no text, and one that is raised again and again."""
        code, out, error = run("map", "ours:unprintable", "--on-error", "return", lines="1\n2\n")
        assert (code, out, [json.loads(line)["line"] for line in error.splitlines()]) == (3, "", [1, 2])

        code, out, error = run("map", "ours:always_one", "--on-error", "return", lines="1\n2\n3\n4\n5\n6\n")
        assert (code, out) == (3, "2\n4\n6\n")
        assert [json.loads(line)["line"] for line in error.splitlines()] == [1, 3, 5]

    def test_odd_results(self, run):
        """Text that has no bytes is escaped, and what is no JSON is its line's failure."""
        assert run("map", "ours:odd_text", lines="a\n") == (0, "\\ud800a\n", "")
        code, out, error = run("map", "ours:nan", "--json", "--on-error", "return", lines="1\n")
        assert (code, out, json.loads(error)["error"]) == (3, "", "ValueError")

    @posix
    def test_failures_that_nobody_reads_end_nothing(self, command):
        """The results come all the same."""
        reading, writing = os.pipe()
        os.close(reading)
        process = command("map", "ours:number", "--on-error", "return", stderr=writing)
        os.close(writing)
        out, _ = process.communicate(b"1\nx\ny\n4\n", timeout=GUARD_SECONDS)

        assert (process.returncode, out) == (3, b"1\n4\n")

    @posix
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="a platform without /dev/full")
    def test_a_full_disk_is_told_in_one_line(self, command):
        """With code 1."""
        with open("/dev/full", "wb") as full:
            process = command("map", "ours:double", stdout=full)
            _, error = process.communicate(b"1\n", timeout=GUARD_SECONDS)

        assert (process.returncode, error.count(b"\n")) == (1, 1)
        assert b"cannot be written" in error

    @posix
    def test_what_is_done_is_written_before_an_interrupt(self, command):
        """Nothing that was handed out is lost."""
        process = command("map", "ours:late")
        process.stdin.write(b"1\n2\n3\n")
        process.stdin.flush()
        assert (process.stdout.readline(), process.stdout.readline()) == (b"1\n", b"2\n")
        process.send_signal(signal.SIGINT)

        assert process.wait(GUARD_SECONDS) == 130

    @posix
    @pytest.mark.parametrize("backend", ["serial", "threads", "processes"])
    def test_an_interrupt_is_code_130(self, command, folder, backend):
        """With one line, and no traceback."""
        process = command("map", "ours:forever", "--backend", backend, "--jobs", 2)
        process.stdin.write(b"a\n")
        process.stdin.close()
        end = time.monotonic() + GUARD_SECONDS
        while not (folder / "begun").exists():
            assert time.monotonic() < end
            time.sleep(0.01)  # how often it is looked at
        process.send_signal(signal.SIGINT)

        assert process.wait(GUARD_SECONDS) == 130
        error = process.stderr.read().decode()
        assert error.splitlines()[-1] == "amorsize: interrupted"
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["double"], "'double' is not of the form MODULE:FUNC"),
        (["ours:"], "'ours:' is not of the form"),
        (["nowhere:double"], "the module 'nowhere' cannot be imported: ModuleNotFoundError"),
        (["ours:missing"], "'ours' has no 'missing'"),
        (["ours:Things.nothing"], "ours:Things.nothing is not a function, but NoneType"),
        (["leaves:double"], "the module 'leaves' cannot be imported: SystemExit"),
        (["ours:double", "."], ". is a folder"),
        (["ours:double", "nowhere.txt"], "nowhere.txt cannot be read: No such file"),
        (["ours:double", "--jobs", "0"], "n_jobs must not be 0"),
        (["ours:double", "--backend", "moon"], "backend must be one of"),
        (["ours:double", "--backend", "threads", "--timeout", "1"], "timeout= needs workers that can be stopped"),
        (["ours:double", "--timeout", "-1"], "timeout must be a positive"),
        (["ours:double", "--on-error", "stop"], "invalid choice: 'stop'"),
        (["ours:double", "--report", "run.txt"], "--report takes FILE.html, FILE.json, FILE.json.gz or -, not run.txt"),
        (["ours:double", "--report", "no/run.html"], "--report cannot write no/run.html: No such file"),
        (["ours:double", "--retries", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(run, words, complaint):
    """With code 2, and nothing on standard output."""
    code, out, error = run("map", *words)

    assert (code, out, error.count("\n")) == (2, "", 1)
    assert complaint in error


class TestJournal:
    """Results outlive the command."""

    def test_only_what_is_missing_runs(self, run, folder):
        """A line whose result is there is not run again; the output is whole."""
        first = run("map", "ours:noted", "--journal", "kept", lines="a\nb\n")
        second = run("map", "ours:noted", "--journal", "kept", lines="c\na\nb\nb\n")

        assert (first, second) == ((0, "aa\nbb\n", ""), (0, "cc\naa\nbb\nbb\n", ""))
        assert (folder / "noted").read_text() == "abcb"

    def test_a_changed_function_is_another_run(self, run, folder):
        """Unless it is said that it is not."""
        run("map", "ours:noted", "--journal", "kept", lines="a\n")
        text = (folder / "ours.py").read_text()
        (folder / "ours.py").write_text(text.replace("return line * 2", "return line * 3"))

        assert run("map", "ours:noted", "--journal", "kept", "--journal-any", lines="a\n")[1] == "aa\n"
        assert run("map", "ours:noted", "--journal", "kept", lines="a\n")[1] == "aaa\n"
        assert run("map", "ours:noted", "--journal-any", lines="a\n")[0] == 2

    def test_what_is_in_it(self, run, folder):
        """For people, counted, and as JSON."""
        run("map", "ours:double", "--journal", "kept", lines="a\nb\n")

        shown = run("journal", "show", "kept")[1].splitlines()
        assert [line.split()[-1] for line in shown] == ["result", '"aa"', '"bb"']
        assert run("journal", "stats", "kept")[1].startswith("2 results of 1 functions in ")
        exported = [json.loads(line) for line in run("journal", "export", "kept")[1].splitlines()]
        assert exported == [{"item": 0, "result": "aa"}, {"item": 1, "result": "bb"}]

    def test_a_file_that_is_none(self, run, folder):
        """Is told in one line, and left as it is."""
        (folder / "novel").write_text("my novel\n")
        for words in (["map", "ours:double", "--journal", "novel"], ["journal", "show", "novel"]):
            code, _, error = run(*words, lines="a\n")
            assert (code, error.count("\n")) == (2, 1)
            assert "not a journal" in error
        assert (folder / "novel").read_text() == "my novel\n"
        assert "nothing cannot be read" in run("journal", "stats", "nothing")[2]


class TestReport:
    """`--report` writes what was done."""

    def test_as_text(self, run):
        """On standard error, after the results."""
        code, out, error = run("map", "ours:double", "--report", "-", lines="a\nb\n")

        assert (code, out) == (0, "aa\nbb\n")
        assert error.startswith("double: 2 items, serial")

    @pytest.mark.parametrize(("name", "begins"), [("run.html", "<!DOCTYPE html>"), ("run.json", "{")])
    def test_as_a_page_or_a_trace(self, run, folder, name, begins):
        """By the name of the file."""
        code, out, error = run("map", "ours:double", "--backend", "processes", "--report", name, lines="a\nb\n")

        assert (code, out, error) == (0, "aa\nbb\n", "")
        assert (folder / name).read_text(encoding="utf-8").lower().startswith(begins.lower())

    def test_of_a_run_that_failed(self, run, folder):
        """It tells how far it was."""
        code, out, _ = run("map", "ours:number", "--report", "run.html", lines="1\nb\n3\n")

        assert (code, out) == (1, "1\n")
        assert "ValueError" in (folder / "run.html").read_text(encoding="utf-8")


class TestOthers:
    """What tells of functions and of the machine."""

    @posix
    @pytest.mark.parametrize("words", [["info"], ["map", "ours:double"]])
    def test_a_closed_output_is_told_in_one_line(self, folder, words):
        """Where it is closed from the beginning."""
        environ = {**os.environ, "PYTHONPATH": str(Path(amorsize.__file__).parents[1])}
        shell = ["sh", "-c", '"$0" -m amorsize "$@" >&- <&-', sys.executable, *words]
        child = subprocess.run(shell, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)

        assert "Traceback" not in child.stderr

    def test_explain(self, run):
        """The plan for these lines, the alternatives, and the reason."""
        code, out, error = run("explain", "ours:slowly", lines="a\n" * 50)

        assert (code, error) == (0, "")
        assert out.startswith("50 lines\n")
        assert "serial" in out
        assert "processes" in out

    def test_info(self, run):
        """For people, and as JSON."""
        code, out, error = run("info")
        assert (code, error) == (0, "")
        assert "cores_usable" in out

        found = json.loads(run("info", "--json")[1])
        assert found["versions"]["amorsize"] == amorsize.__version__
        assert found["machine"]["cores_usable"] >= 1
        assert "processes/spawn seconds_first_start" in found["costs"]

    def test_version(self, run):
        """In one line."""
        assert run("--version") == (0, f"amorsize {amorsize.__version__}\n", "")

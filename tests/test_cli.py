from __future__ import annotations

import subprocess
import sys

import pytest

from amorsize.cli import demo
from amorsize.cli import main as cli
from amorsize.errors import UnsupportedError


@pytest.fixture
def demo_runs(monkeypatch):
    """Replace the demo by one that notes what it was asked for."""
    runs = []

    def run(**asked):
        runs.append(asked)
        return 0

    monkeypatch.setattr(demo, "run", run)
    return runs


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], {"limit": None, "n_jobs": None}),
        (["--limit", "30"], {"limit": 30, "n_jobs": None}),
        (["--n-jobs", "-1"], {"limit": None, "n_jobs": -1}),
    ],
)
def test_demo_passes_its_arguments_on(demo_runs, words, asked):
    """The demo is asked for what the command line says."""
    assert cli.main(["demo", *words]) == 0
    assert demo_runs == [asked]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["demo", "more"], "unrecognized arguments: more"),
        (["demo", "--lim", "3"], "unrecognized arguments: --lim"),
        (["demo", "--limit", "0"], "--limit: must be at least 1, not 0"),
        (["demo", "--limit", "some"], "--limit: must be a whole number, not 'some'"),
        (["demo", "--n-jobs", "0"], "--n-jobs: n_jobs must not be 0"),
        (["demo", "--n-jobs", "1.5"], "--n-jobs: must be a whole number, not '1.5'"),
    ],
)
def test_bad_arguments_exit_2_with_one_line(demo_runs, capsys, words, complaint):
    """A wrong argument is answered by exit code 2 and one line that names it, and nothing runs."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    printed = capsys.readouterr()
    assert exit_.value.code == 2
    assert complaint in printed.err
    assert (printed.out, printed.err.count("\n"), demo_runs) == ("", 1, [])


def test_a_bad_environment_exits_2_with_one_line(demo_runs, capsys, monkeypatch):
    """An AMORSIZE_ variable with a wrong value is named before anything runs."""
    monkeypatch.setenv("AMORSIZE_N_JOBS", "many")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["demo"])
    printed = capsys.readouterr()
    assert exit_.value.code == 2
    assert printed.err.startswith("amorsize: AMORSIZE_N_JOBS must be a whole number, not 'many'")
    assert (printed.err.count("\n"), demo_runs) == (1, [])


def test_a_backend_that_cannot_do_it_exits_2_with_one_line(capsys, monkeypatch):
    """What a named backend refuses is a wrong wish, not a crash of the command."""

    def refuse(**asked):
        raise UnsupportedError("not on this backend")

    monkeypatch.setattr(demo, "run", refuse)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["demo"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "amorsize: not on this backend (see amorsize --help)\n"


def test_an_interrupt_exits_130_without_a_traceback(capsys, monkeypatch):
    """Ctrl-C ends the command with the shell's usual code and one line."""

    def interrupt(**asked):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupt)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "amorsize: interrupted\n"


@pytest.mark.slow
def test_the_module_runs_as_the_command():
    """`python -m amorsize` is the same command, under the same name."""
    child = subprocess.run(
        [sys.executable, "-m", "amorsize", "demo", "--help"], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith("usage: amorsize demo")


def test_cache_commands_are_reached(capsys, monkeypatch, tmp_path):
    """`amorsize cache path` answers with the folder that the environment names."""
    monkeypatch.setenv("AMORSIZE_CACHE_DIR", str(tmp_path))
    assert cli.main(["cache", "path"]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path))


@pytest.mark.parametrize("words", [["cache"], ["cache", "burn"], ["cache", "prune", "--days", "few"]])
def test_bad_cache_arguments_exit_2_with_one_line(capsys, words):
    """The subcommands of `cache` complain as the command itself does."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_shell_is_told_what_may_follow(python, tmp_path):
    """By argcomplete's protocol, which reads an environment and writes a file."""
    pytest.importorskip("argcomplete")
    told, line = tmp_path / "told", "amorsize map --rep"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": " ", "_ARGCOMPLETE_STDOUT_FILENAME": str(told)}
    run = f"import os; os.environ.update({asked | {'COMP_LINE': line, 'COMP_POINT': str(len(line))}!r})"
    child = python("-c", f"{run}; from amorsize.cli.main import main; main()")

    assert child.returncode == 0
    assert told.read_text(encoding="utf-8").split() == ["--report"]

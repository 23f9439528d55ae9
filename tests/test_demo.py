from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest

import amorsize
from amorsize.cli import demo
from amorsize.cli import main as cli

SOURCE = """\
class A:
    def f(self):
        if self:
            pass
        elif 1:
            for _ in ():
                pass

async def g():
    return lambda: 0
"""


@pytest.fixture
def module(tmp_path):
    """Write a source file and return its path as text."""

    def write(source):
        path = tmp_path / "module.py"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return str(path)

    return write


def test_survey_counts_what_a_module_holds(module):
    """Lines, functions, classes and the deepest nesting are counted; `elif` is no deeper than its `if`."""
    path = module(SOURCE)
    assert demo.survey(path) == (path, 10, 2, 1, 4, True)


def test_survey_counts_an_if_inside_else_as_deeper(module):
    """An `if` that stands inside an `else` is nested, unlike an `elif`."""
    path = module("if 1:\n    pass\nelse:\n    if 2:\n        pass\n")
    assert demo.survey(path).deepest == 2


@pytest.mark.parametrize(
    "head",
    ["def f():", "async def f():", "class C:", "if 1:", "for _ in ():", "while 0:", "with a:", "try:", "match a:"],
)
def test_survey_counts_every_compound_statement_as_nesting(module, head):
    """Each statement that holds statements is one level."""
    bodies = {"match a:": "    case _:\n        pass\n", "try:": "    pass\nfinally:\n    pass\n"}
    body = bodies.get(head, "    pass\n")
    assert demo.survey(module(f"{head}\n{body}")).deepest == 1


def test_survey_of_an_empty_module_counts_nothing(module):
    """A module without a line has no lines and no nesting."""
    path = module("")
    assert demo.survey(path) == (path, 0, 0, 0, 0, True)


@pytest.mark.parametrize("source", ["def (:\n", b"x = 0\0\n", b"# coding: no-such-encoding\n", b"'\xff'\n"])
def test_a_module_that_does_not_parse_is_a_result(module, source):
    """Bad syntax, a null byte and an undecodable text are counted, not raised."""
    figures = demo.survey(module(source))
    assert not figures.parsed
    assert figures.lines == 1


def test_survey_is_silent_about_other_peoples_code(module):
    """A warning of the parser, an error in this suite, does not leave the worker function."""
    assert demo.survey(module(r"'\d'")).parsed


def test_source_files_are_sorted_and_leave_installed_packages_out(tmp_path):
    """The input is the same every time, and is the standard library's alone."""
    for name in ("b.py", "a/z.py", "a/notes.txt", "site-packages/c.py", "a/dist-packages/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = [str(tmp_path / "a" / "z.py"), str(tmp_path / "b.py")]
    assert demo.source_files(tmp_path) == expected
    assert demo.source_files(tmp_path, limit=1) == expected[:1]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "processes"])
def test_the_demo_compares_times_and_names_the_largest(capsys, backend):
    """Thirty files are surveyed three times, with equal results, and the largest and most nested are listed."""
    with amorsize.config(backend=backend):
        assert cli.main(["demo", "--limit", "30", "--n-jobs", "2"]) == 0
    printed = capsys.readouterr()
    python = ".".join(map(str, sys.version_info[:3]))
    assert printed.err == ""
    assert printed.out.startswith(f"30 source files of Python {python}'s standard library")
    for part in ("builtin map", "amorsize.map, first", "amorsize.map, again", "All three gave equal results."):
        assert part in printed.out
    assert "Largest modules" in printed.out
    assert "Most nested modules" in printed.out


def test_the_demo_tells_the_plan_and_its_reason(capsys, monkeypatch):
    """The plan stands beside the seconds, and its reason in words below the table."""
    plan = amorsize.Plan("processes", 2, 7, predicted_seconds=1.0, serial_seconds=2.0, reason="two are faster")

    class Planned(itertools.chain):
        pass

    def planned_map(function, paths, **options):
        stream = Planned(map(function, paths))
        stream.plan = plan
        return stream

    monkeypatch.setattr(amorsize, "map", planned_map)
    assert demo.run(limit=1) == 0
    printed = capsys.readouterr().out
    assert printed.count("processes, n_jobs=2, chunksize=7") == 2
    assert "Why, amorsize.map, first: two are faster\n" in printed


def test_the_demo_fails_if_results_differ(capsys, monkeypatch):
    """A parallel map that answered differently would be said so, with exit code 1."""
    monkeypatch.setattr(amorsize, "map", lambda function, paths, **options: iter([]))
    assert demo.run(limit=3) == 1
    assert capsys.readouterr().err == "amorsize demo: amorsize.map, first gave other results than builtin map\n"


def test_the_demo_without_input_says_where_it_looked(capsys, monkeypatch, tmp_path):
    """A Python that ships no sources (a zipped standard library) gets a line that names the folder."""
    monkeypatch.setattr(demo.sysconfig, "get_path", lambda name: str(tmp_path))
    assert demo.run() == 1
    assert capsys.readouterr().err == f"amorsize demo: no Python source files below {tmp_path}\n"


def test_the_demo_leaves_the_users_cache_alone(monkeypatch, tmp_path):
    """What the demo learns goes to a folder of its own, which is gone afterwards."""
    monkeypatch.setenv("AMORSIZE_CACHE_DIR", str(tmp_path))
    seen = []

    def serial_map(function, paths, **options):
        seen.append(os.environ["AMORSIZE_CACHE_DIR"])
        return map(function, paths)

    monkeypatch.setattr(amorsize, "map", serial_map)
    assert demo.run(limit=1) == 0
    assert os.environ["AMORSIZE_CACHE_DIR"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in seen
    assert not any(Path(folder).exists() for folder in seen)

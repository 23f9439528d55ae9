from __future__ import annotations

import argparse
import os

import pytest

from amorsize.cache import disk
from amorsize.cache.entry import System
from amorsize.cache.lookup import store
from amorsize.cli import cache as command
from amorsize.plan.profile import WorkProfile

SYSTEM = System(8, "fork", 10**9, "linux", "3.11.7")


def work(x):
    return x


class Planned:
    """Stands for a plan, with the attributes that are kept of one."""

    n_jobs, chunksize, backend, estimated_speedup, reason, warnings = 2, 10, "processes", 1.8, "it pays", ()


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_path_prints_the_folder(capsys):
    """`path` prints where the entries are, and nothing else."""
    assert run("path") == 0
    assert capsys.readouterr().out == f"{disk.folder()}\n"


def test_list_prints_a_line_for_each_entry(capsys):
    """`list` shows function, length, time and plan, with dashes where no plan was made."""
    store(work, 500, WorkProfile(20, 0.0005), Planned(), SYSTEM)
    store(len, 5, WorkProfile(20, 0.0005), None, SYSTEM)
    assert run("list") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["function", "items", "per", "item", "backend", "n_jobs", "chunksize", "age"]
    assert [line.split()[:-2] for line in sorted(lines, key=len)] != []
    assert any(f"{__name__}.work" in line and "processes" in line and "0.5 ms" in line for line in lines)
    assert any("builtins.len" in line and " - " in line for line in lines)


def test_list_of_an_empty_cache_is_its_heading(capsys):
    """`list` before anything was stored is not an error."""
    assert run("list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_list_says_why_a_folder_cannot_be_used(capsys):
    """`list` of a folder that is not trusted fails with one line."""
    os.makedirs(os.path.dirname(disk.folder()), 0o700)
    with open(disk.folder(), "w"):
        pass
    assert run("list") == 1
    assert "not a folder" in capsys.readouterr().err


def test_stats_prints_number_and_length(capsys):
    """`stats` counts the files."""
    store(work, 500, WorkProfile(20, 0.0005), None, SYSTEM)
    assert run("stats") == 0
    assert capsys.readouterr().out.startswith("1 entries, ")


def test_prune_removes_old_entries(capsys):
    """`prune` takes an age in days, seven by default."""
    store(work, 500, WorkProfile(20, 0.0005), None, SYSTEM, clock=lambda: 1e9)
    assert run("prune", "--days", "1e9") == 0
    assert run("prune") == 0
    assert capsys.readouterr().out == "0 entries removed\n1 entries removed\n"


@pytest.mark.parametrize("days", ["-1", "nan", "x"])
def test_prune_refuses_what_is_no_age(days, capsys):
    """A wrong age is refused by the parser."""
    with pytest.raises(SystemExit):
        run("prune", f"--days={days}")
    assert "--days" in capsys.readouterr().err


def test_clear_removes_every_entry(capsys):
    """`clear` says how many entries there were."""
    store(work, 500, WorkProfile(20, 0.0005), None, SYSTEM)
    assert run("clear") == 0
    assert capsys.readouterr().out == "1 entries removed\n"

"""Whole programs, run once with the builtin and once with `amorsize.map`: what they print must be the same."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import amorsize

# Every backend under every start method; "auto" with work that is worth moving must be the programs' own.
MAPS = {
    "auto": "",
    "fork": "backend='processes', n_jobs=2, start_method='fork'",
    "spawn": "backend='processes', n_jobs=2, start_method='spawn'",
    "forkserver": "backend='processes', n_jobs=2, start_method='forkserver'",
    "pool": "backend='pool', n_jobs=2, start_method='spawn'",
}
ABSENT_HERE = {"fork", "forkserver"}  # on some platforms
PRELUDE = """
import os, sys, time, warnings
from builtins import map as plain_map
import amorsize

def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(100))

def put(name, text):
    # Its own folder first on the path, and nothing cached: files are edited within one second.
    sys.dont_write_bytecode = True
    with open(name + ".py", "w") as file:
        file.write(text)

"""


def choices():
    """Return the options of every map, for `parametrize`."""
    available = multiprocessing.get_all_start_methods()
    return [
        pytest.param(
            options,
            id=name,
            marks=pytest.mark.skipif(name in ABSENT_HERE - {*available}, reason=f"this platform cannot {name}"),
        )
        for name, options in MAPS.items()
    ]


def run(program, options, folder, *, check=True):
    """Run a program in which `MAP` is the map, `None` standing for the builtin; return what it printed."""
    mapper = "MAP = plain_map\n"
    if options is not None:
        mapper = f"def MAP(function, *inputs): return amorsize.map(function, *inputs, {options})\n"
    script = Path(folder, "program.py")
    script.write_text(PRELUDE + mapper + textwrap.dedent(program), encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(amorsize.__file__).parents[1])])}
    child = subprocess.run(
        [sys.executable, "-B", script.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environ,
    )
    if check:
        assert child.returncode == 0, child.stderr
    return child.stdout


def assert_same(program, options, tmp_path):
    """Compare what a program prints with the builtin's `map` and with ours."""
    folders = [tmp_path / "builtin", tmp_path / "ours"]
    for folder in folders:
        folder.mkdir()
    expected = run(program, None, folders[0])

    assert expected
    assert run(program, options, folders[1]) == expected

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amorsize.cache import lookup

pytestmark = pytest.mark.slow

WRITER = """
import functools, sys
from amorsize.cache.entry import System
from amorsize.cache.lookup import store
from amorsize.plan.profile import WorkProfile

def work(n, x):
    return x * n

sys.stdin.readline()  # so that all start together
for turn in range(5):
    for n in range(10):
        profile = WorkProfile(10, (1 + turn) * 1e-4 * (1 + int(sys.argv[1]) / 10))
        store(functools.partial(work, n), 500, profile, None, System(8, "fork", 10**9, "linux", "3"))
"""

QUERY = """
import sys
from amorsize.cache.entry import System
from amorsize.cache.lookup import find, store
from amorsize.plan.profile import WorkProfile

def work(x):
    return x

SYSTEM = System(8, "fork", 10**9, "linux", "3")
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_processes_that_write_at_once_leave_whole_entries():
    """Eight processes storing the same ten functions leave ten readable entries and nothing aside."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(number)], stdin=subprocess.PIPE) for number in range(8)
    ]
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0] * 8
    names = [name for name in os.listdir(lookup.get_cache_dir()) if not name.startswith(".")]
    assert len(lookup.entries()) == len(names) == 10


def test_a_profile_crosses_from_one_process_to_the_next():
    """What one process stored, another finds, without having measured anything."""
    run(QUERY + "store(work, 500, WorkProfile(10, 0.0005), None, SYSTEM)")
    assert run(QUERY + "print(find(work, 500, SYSTEM).profile.seconds_per_item)") == "0.0005\n"


def test_a_look_up_imports_nothing_heavy():
    """With the folder named, a hit from disk needs none of the slow modules."""
    run(QUERY + "store(work, 500, WorkProfile(10, 0.0005), None, SYSTEM)")
    code = "before = set(sys.modules)\nassert find(work, 500, SYSTEM).profile\nprint(sorted(set(sys.modules) - before))"
    assert run(QUERY + code) == "[]\n"
    heavy = {"platformdirs", "psutil", "pathlib", "tempfile", "inspect", "dis", "logging", "pickle", "dataclasses"}
    there = "import sys\nprint(*sys.modules)"  # what start-up itself imports, under coverage for example
    extra = set(run(QUERY + "find(work, 500, SYSTEM)\n" + there).split()) - set(run(there).split())
    assert not heavy & extra


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_starts_afresh():
    """A child of a fork has no entries, counts or held lock of its parent's, and still finds the files."""
    code = """
import os
from amorsize.cache.memory import memory
store(work, 500, WorkProfile(10, 0.0005), None, SYSTEM)
memory._lock.acquire()  # as a thread would that the child does not have
if os.fork() == 0:
    print(memory.counts(), len(memory._groups), find(work, 500, SYSTEM).reason, flush=True)
    os._exit(0)
os.wait()
"""
    assert run(QUERY + code) == "(0, {}) 0 hit\n"


def test_the_fixture_isolates_a_users_test(tmp_path):
    """With `pytest_plugins` naming our module, each test of a user starts with an empty cache."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["amorsize.testing"]\n')
    test = "def test_{0}(amorsize_cache):\n    assert find(work, 500, SYSTEM).profile is None\n"
    test += "    store(work, 500, WorkProfile(10, 0.0005), None, SYSTEM)\n    assert find(work, 500, SYSTEM).profile\n"
    test += "    assert amorsize_cache.is_dir()\n"
    (tmp_path / "test_user.py").write_text(QUERY + "".join(test.format(name) for name in ("one", "other")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(lookup.__file__).parents[2])},
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_importing_amorsize_does_not_import_pytest():
    """The fixture's module is the only one that needs pytest."""
    assert run("import sys, amorsize, amorsize.cache.lookup\nprint('pytest' in sys.modules)") == "False\n"

"""What `journal=` keeps and gives back: after a kill at any moment, only what is missing runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import journal_workers as workers
import pytest

import amorsize
from amorsize import journal
from amorsize.journal import Journal, JournalError, Key

GUARD_SECONDS = 60


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def noted(tmp_path):
    """Give a function that notes each item it runs for."""
    return workers.Noting(tmp_path)


class TestReuse:
    """A result that is there is not made again."""

    def test_only_what_is_missing_runs(self, anywhere, path, noted):
        """Also when items were added, removed or reordered."""
        assert list(amorsize.map(noted, range(20), journal=path, **anywhere)) == [n**2 for n in range(20)]
        assert sorted(noted.items()) == list(range(20))

        items = [25, *range(19, 4, -1), 30]
        assert list(amorsize.map(noted, items, journal=path, **anywhere)) == [n**2 for n in items]
        assert sorted(noted.items()) == [*range(20), 25, 30]

    def test_equal_items_are_told_apart_by_their_number(self, path, noted):
        """Each ran once, and a further one runs."""
        list(amorsize.map(noted, [1, 1, 2], journal=path))
        list(amorsize.map(noted, [1, 2, 1, 1], journal=path))

        assert sorted(noted.items()) == [1, 1, 1, 2]

    def test_another_function_is_another_run(self, path):
        """By its code and by what it carries."""
        for by in (1, 2, 1):
            assert list(amorsize.map(lambda number, by=by: number + by, [1, 2], journal=path)) == [1 + by, 2 + by]

        assert list(amorsize.map(lambda number: -number, [1, 2], journal=path)) == [-1, -2]
        kept = Journal(path, any_function=True)
        assert list(amorsize.map(lambda number: number * 100, [1, 2, 3], journal=kept)) == [-1, -2, 300]

    def test_an_error_is_not_kept(self, anywhere, path):
        """What failed runs again; what came before it does not."""
        with pytest.raises(ZeroDivisionError):
            list(amorsize.map(workers.inverse, [1, 2, 0, 4], journal=path, **anywhere))
        results = list(amorsize.map(workers.inverse, [1, 2, 0, 4], journal=path, on_error="return", **anywhere))

        assert [type(result).__name__ for result in results] == ["float", "float", "ZeroDivisionError", "float"]
        assert results[:2] == [1.0, 0.5]

    def test_several_inputs_and_starmap(self, path):
        """The arguments of an item count together."""
        assert list(amorsize.map(pow, [2, 3], [3, 2], journal=path)) == [8, 9]
        assert list(amorsize.starmap(pow, [(2, 3), (3, 3)], journal=path)) == [8, 27]
        with pytest.raises(ValueError, match=r"shorter|longer"):
            list(amorsize.map(pow, [2, 3], [3], journal=path, strict=True))

    def test_unordered(self, anywhere, path, noted):
        """All results, each once."""
        for items in (range(10), range(15)):
            results = list(amorsize.map(noted, items, journal=path, ordered=False, **anywhere))
            assert sorted(results) == [n**2 for n in items]

        assert sorted(noted.items()) == list(range(15))

    def test_seeds_count_with_the_position(self, seedable, path):
        """An equal item at another place draws other numbers; the same call draws the same."""
        first = list(amorsize.map(workers.draw, [0] * 5, seed=3, journal=path, **seedable))

        assert first == list(amorsize.map(workers.draw, [0] * 5, seed=3, backend="serial"))
        assert list(amorsize.map(workers.draw, [0] * 7, seed=3, journal=path, **seedable))[:5] == first
        assert list(amorsize.map(workers.draw, [0] * 5, seed=4, journal=path, **seedable)) != first

    @pytest.mark.parametrize(
        "result",
        [
            None, True, 1, 10**40, 1.5, float("inf"), "ü\n", "\ud800", b"1", (1, 2), [1, [2]], {"a": [None]}, {1: 2},
            {1, 2}, 1j,
        ],
        ids=repr,
    )
    def test_results_come_back_as_they_were(self, path, result):
        """By value and type, be they JSON or not."""
        for _ in range(2):
            (found,) = amorsize.map(workers.same, [result], journal=path)

            assert (found, type(found)) == (result, type(result))

    def test_reading_ahead_is_bounded(self, path):
        """What is there is not read into memory at once, and the call stays lazy."""
        list(amorsize.map(abs, range(10_000), journal=path))
        pulled = []

        stream = amorsize.map(abs, (pulled.append(n) or n for n in range(10_000)), journal=path, backend="serial")
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
        assert len(pulled) == 3
        stream.close()

    def test_progress_counts_all(self, path):
        """Those that were there as well."""
        told = []
        list(amorsize.map(abs, range(10), journal=path))
        list(amorsize.map(abs, range(15), journal=path, progress=lambda done, total: told.append((done, total))))

        assert told[-1] == (15, 15)


class TestRefusals:
    """What cannot be told from something else is refused."""

    def test_a_function_that_cannot_be_told(self, path):
        """At the call; nothing runs, and no file is made."""
        import threading

        lock = threading.Lock()
        with pytest.raises(amorsize.UnsupportedError, match="journal= cannot tell"):
            amorsize.map(lambda number: lock, [1], journal=path)
        assert not path.exists()

    def test_an_item_that_cannot_be_told(self, path):
        """After the results before it, with its position."""
        stream = amorsize.map(str, [1, open], journal=path)
        assert next(stream) == "1"
        assert "open" in next(stream)
        stream.close()

        with pytest.raises(TypeError, match="item 1 "):
            list(amorsize.map(str, [1, sys.stdout], journal=path))

    def test_coroutines(self, path):
        """They are refused, and say why."""

        async def wait(number):
            return number

        with pytest.raises(amorsize.UnsupportedError, match="journal="):
            amorsize.map(wait, [1], journal=path)

    @pytest.mark.parametrize("value", [1, b"x", True, object()])
    def test_no_path(self, value):
        """What else is given is a TypeError that says so."""
        with pytest.raises(TypeError, match="journal must be a path or a Journal"):
            amorsize.map(abs, [1], journal=value)


class TestFile:
    """The file survives what may come."""

    def test_a_file_that_is_no_journal_is_left_alone(self, path):
        """It may be something that the user needs."""
        path.write_text("my novel\n")

        with pytest.raises(JournalError, match="not a journal"):
            list(amorsize.map(abs, [1], journal=path))
        assert path.read_text() == "my novel\n"

    def test_a_torn_line_is_cut_off(self, path, noted):
        """Wherever a kill has torn it, what is whole is used and what comes next is whole again."""
        list(amorsize.map(noted, range(3), journal=path))
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert list(amorsize.map(noted, range(3), journal=path)) == [0, 1, 4]
            assert path.read_bytes().count(b"\n") == 4
            assert len(list(journal.read(path))) == 3

    def test_a_line_that_is_not_understood_is_passed_over(self, path, noted):
        """What stands around it counts."""
        list(amorsize.map(noted, range(3), journal=path))
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], b"\x00garbage\n", b"[]\n", *lines[3:]]))

        assert list(amorsize.map(noted, range(3), journal=path)) == [0, 1, 4]
        assert sorted(noted.items()) == [0, 1, 1, 2]

    def test_one_writes_at_a_time(self, path):
        """A second call gets a clear error, and the first goes on; afterwards the file is free."""
        first = amorsize.map(abs, range(5), journal=path, backend="serial")
        next(first)
        with pytest.raises(JournalError, match="being written by another call"):
            list(amorsize.map(abs, range(5), journal=path))
        assert list(first) == [1, 2, 3, 4]
        assert list(amorsize.map(abs, range(5), journal=path)) == [0, 1, 2, 3, 4]
        assert not Path(f"{path}.lock").exists()

    def test_nor_does_another_process(self, path, python, tmp_path):
        """The lock is the system's."""
        first = amorsize.map(abs, range(5), journal=path, backend="serial")
        next(first)
        script = tmp_path / "script.py"
        script.write_text(f"import amorsize\nprint(list(amorsize.map(abs, [1], journal={str(path)!r})))\n")

        child = python(script)
        assert "is being written by another process" in child.stderr
        first.close()
        assert python(script).stdout == "[1]\n"

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_workers_do_not_inherit_the_lock(self, path, tmp_path, python):
        """They stay when the call is over, and the next process has the file."""
        list(amorsize.map(abs, range(50), journal=path, backend="processes", n_jobs=2, start_method="fork"))
        script = tmp_path / "script.py"
        script.write_text(f"import amorsize\nprint(list(amorsize.map(abs, [1], journal={str(path)!r})))\n")

        assert python(script).stdout == "[1]\n"

    def test_a_display_that_fails_does_not_keep_it(self, path):
        """What the callable raises comes out, what ran is there, and the file is free."""

        def tell(done, total):
            if done:
                raise LookupError("enough")

        with pytest.raises(LookupError):
            list(amorsize.map(abs, [-1, -2], journal=path, progress=tell, backend="serial"))
        assert next(journal.read(path)).result == 1
        assert list(amorsize.map(abs, [-1, -2], journal=path)) == [1, 2]

    def test_readers_may_come_any_time(self, path):
        """While it is being written."""
        stream = amorsize.map(abs, range(5), journal=path, backend="serial")
        next(stream)
        (entry,) = journal.read(path)
        assert (entry.position, journal.own_value(path, entry)) == (0, 0)
        stream.close()

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="a platform without owners")
    def test_pickles_are_read_from_own_files_only(self, path, monkeypatch):
        """Somebody else's might do anything; JSON cannot."""
        list(amorsize.map(workers.same, [1, (2,)], journal=path))
        monkeypatch.setattr(os, "geteuid", lambda: 12345)

        stream = amorsize.map(workers.same, [1, (2,)], journal=path)
        assert next(stream) == 1
        with pytest.raises(JournalError, match="belongs to another user"):
            next(stream)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="a platform without /dev/full")
    def test_a_full_disk_ends_nothing(self, path, monkeypatch):
        """The call goes on without the journal, with one warning."""
        real = os.write

        def write(file, data):
            if file == kept._file and b'"x":' in bytes(data):
                raise OSError(28, "No space left on device")
            return real(file, data)

        kept = Journal(path)
        monkeypatch.setattr(os, "write", write)
        with pytest.warns(RuntimeWarning, match="cannot be written") as warned:
            assert list(amorsize.map(abs, range(5), journal=kept)) == list(range(5))
        assert len(warned) == 1
        monkeypatch.undo()  # somebody makes room
        assert list(amorsize.map(abs, range(5), journal=kept)) == list(range(5))
        assert len(list(journal.read(path))) == 5

    def test_a_result_that_cannot_be_pickled_is_warned_of(self, path):
        """And handed out all the same."""
        with pytest.warns(RuntimeWarning, match="cannot be kept"):
            (result,) = amorsize.map(workers.unpicklable, [1], journal=path)
        assert result(1) == 1

    def test_keys_are_the_same_in_every_process(self, path, tmp_path, python):
        """Whatever the hash seed."""
        script = tmp_path / "script.py"
        script.write_text(
            f"import amorsize\ndef show(item): print('ran'); return sorted(item)\n"
            f"print(list(amorsize.map(show, [{{'a', 'b', 'c'}}], journal={str(path)!r})))\n"
        )

        assert python("-R", script).stdout == "ran\n[['a', 'b', 'c']]\n"
        for _ in range(3):
            assert python("-R", script).stdout == "[['a', 'b', 'c']]\n"


def test_a_key_finds_its_result(path):
    """And no other does."""
    kept = Journal(path)
    kept.open()
    key = Key(b"f" * 16, b"i" * 16, 0)
    kept.add([(key, 7, "result")])
    kept.close()
    kept.open()

    assert kept.get(key) == "result"
    assert not kept.has(key._replace(nth=1))
    assert not kept.has(key._replace(function=b"g" * 16))
    kept.close()


KILLED = """
import sys, os, amorsize
folder, backend = sys.argv[1:3]
def work(number):
    with open(os.path.join(folder, "begun"), "ab") as file:
        file.write(b"%d\\n" % number)
    total = 0
    for turn in range(2000):
        total += turn * number
    return total
with open(os.path.join(folder, "out"), "w") as out:
    for result in amorsize.map(work, range(2000), journal=os.path.join(folder, "journal"), backend=backend, n_jobs=2):
        out.write(f"{result}\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="it is killed by signal")
@pytest.mark.parametrize("backend", ["serial", "processes"])
def test_killed_twenty_times(backend, tmp_path):
    """Each item runs once, and once more at most for each kill at which it was under way; the output is whole."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED))
    environ = {**os.environ, "PYTHONPATH": str(Path(amorsize.__file__).parents[1])}
    command = [sys.executable, str(script), str(tmp_path), backend]
    chance = random.Random(5)
    kept = 0
    for _ in range(20):
        process = subprocess.Popen(command, env=environ, start_new_session=True)
        end = time.monotonic() + GUARD_SECONDS
        aim = kept + chance.randrange(2000 // 21)
        while process.poll() is None and _lines(tmp_path / "journal") <= aim:
            assert time.monotonic() < end
            time.sleep(0.001)  # how often it is looked at
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept = _lines(tmp_path / "journal")
    subprocess.run(command, env=environ, check=True, timeout=GUARD_SECONDS)

    expected = [str(sum(turn * number for turn in range(2000))) for number in range(2000)]
    assert (tmp_path / "out").read_text().split() == expected
    begun = (tmp_path / "begun").read_text().split()
    assert set(begun) == {str(number) for number in range(2000)}
    assert len(list(journal.read(tmp_path / "journal"))) == 2000
    # Read ahead on two workers: chunks of items whose results had not come when the kill struck.
    assert len(begun) <= 2000 + 20 * (1 if backend == "serial" else 200)


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_the_lines_are_json(path):
    """Other tools can read them."""
    list(amorsize.map(str, [1, 2], journal=path))
    header, *lines = map(json.loads, path.read_text().splitlines())

    assert header == {"amorsize": "journal", "format": 1}
    assert [line["j"] for line in lines] == ["1", "2"]

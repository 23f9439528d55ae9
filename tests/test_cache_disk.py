from __future__ import annotations

import os
import sys

import pytest

from amorsize.cache import disk
from amorsize.cache.entry import Key

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")

NOW = 1e9


def name(number=0):
    return Key(f"{number:016x}", "medium", "fast").filename


def put(number=0, timestamp=NOW, data=b"{}"):
    path = disk.usable_folder(create=True)
    disk.write(path, name(number), data, timestamp)
    return path


def test_the_variable_names_the_folder(monkeypatch, tmp_path):
    """AMORSIZE_CACHE_DIR overrides the platform's cache folder."""
    monkeypatch.setenv("AMORSIZE_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert disk.folder() == str(tmp_path / "elsewhere" / "optimization_cache")


def test_the_platform_names_the_folder_otherwise(monkeypatch):
    """Without the variable, platformdirs is asked, once."""
    import platformdirs

    monkeypatch.delenv("AMORSIZE_CACHE_DIR")
    expected = os.path.join(platformdirs.user_cache_dir("amorsize", appauthor=False), "optimization_cache")
    assert disk.folder() == expected
    monkeypatch.setattr(platformdirs, "user_cache_dir", None)
    assert disk.folder() == expected


def test_a_platform_without_a_home_has_no_folder(monkeypatch):
    """A place that is not absolute is not used."""
    monkeypatch.setattr(disk, "folder", lambda: "~/.cache/amorsize/optimization_cache")
    with pytest.raises(FileNotFoundError, match="no absolute place"):
        disk.usable_folder(create=True)


def test_reading_creates_nothing():
    """A folder that is not there is an error, unless it is to be made."""
    with pytest.raises(FileNotFoundError):
        disk.usable_folder()
    assert not os.path.exists(disk.folder())


@posix
def test_folders_are_private_to_the_user():
    """Both folders and the files in them are for their owner alone."""
    path = put()
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    assert os.stat(os.path.join(path, name())).st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_not_trusted(mode):
    """Write permission for group or others is enough to leave the folder alone."""
    os.chmod(put(), mode)
    with pytest.raises(PermissionError, match="others may write"):
        disk.usable_folder()


@posix
def test_a_parent_that_everyone_may_write_to_is_not_trusted():
    """Whoever may rename the folder could replace it; a sticky parent such as /tmp forbids that."""
    parent = os.path.dirname(put())
    os.chmod(parent, 0o777)  # noqa: S103
    with pytest.raises(PermissionError, match="everyone may rename"):
        disk.usable_folder()
    os.chmod(parent, 0o1777)  # noqa: S103
    assert disk.usable_folder() == disk.folder()


@posix
def test_a_folder_of_another_user_is_not_trusted(monkeypatch):
    """The owner must be the user who runs the process."""
    put()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(PermissionError, match="belongs to another user"):
        disk.usable_folder()


@posix
def test_a_parent_of_another_user_is_not_trusted(tmp_path):
    """The parent must belong to the user, or to the system's administrator."""
    with pytest.raises(PermissionError, match="belongs to another user"):
        disk._check_parent(str(tmp_path), os.stat(tmp_path).st_uid + 1) if os.geteuid() else _as_stranger(tmp_path)


def _as_stranger(path):
    os.chown(path, 12_345, -1)
    disk._check_parent(str(path), 0)


def test_systems_without_user_numbers_are_trusted(monkeypatch):
    """On Windows the user's profile is private by its own rules."""
    put()
    monkeypatch.delattr(os, "geteuid", raising=False)
    assert disk.usable_folder() == disk.folder()


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path, amorsize_cache):
    """The folder itself must be one, not a link to one."""
    amorsize_cache.mkdir()
    (tmp_path / "target").mkdir()
    os.symlink(tmp_path / "target", disk.folder())
    with pytest.raises(NotADirectoryError):
        disk.usable_folder(create=True)


def test_a_file_in_place_of_the_folder_is_refused(amorsize_cache):
    """A file where a folder should be is an error of its own."""
    amorsize_cache.mkdir()
    (amorsize_cache / "optimization_cache").write_text("")
    with pytest.raises(NotADirectoryError):
        disk.usable_folder()


def test_a_file_in_place_of_the_parent_is_refused(amorsize_cache):
    """A file where the platform's folder should be is an error too."""
    amorsize_cache.write_text("")
    with pytest.raises(NotADirectoryError):
        disk.usable_folder(create=True)
    with pytest.raises(FileExistsError):
        disk._make_private(str(amorsize_cache))


def test_a_folder_made_by_another_process_meanwhile_is_used(monkeypatch, tmp_path):
    """Losing the race to create the folder is no error."""
    answers = iter([False, True])
    monkeypatch.setattr(os.path, "isdir", lambda path: next(answers))
    disk._make_private(str(tmp_path))
    assert list(answers) == []


def test_a_file_is_read_back():
    """What was written is read, with its date."""
    path = put(data=b"content")
    assert disk.read(path, name()) == b"content"
    assert disk.files(path) == [disk.StoredFile(name(), 7, NOW)]


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path):
    """A file of ours is never read through a link."""
    path = put()
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", os.path.join(path, name(1)))
    with pytest.raises(OSError, match=r"."):
        disk.read(path, name(1))


def test_writing_replaces_a_link_and_not_its_target(tmp_path):
    """A link in place of a file is replaced, and what it points to is left alone."""
    path = put()
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", os.path.join(path, name(1)))
    put(1, data=b"new")
    assert (tmp_path / "secret").read_text() == "secret"
    assert disk.read(path, name(1)) == b"new"


def test_only_plain_files_of_an_entrys_length_are_read():
    """A folder, a pipe and a huge file in place of an entry are refused without waiting or filling memory."""
    path = put()
    os.mkdir(os.path.join(path, name(1)))
    put(2, data=b"x" * 16_385)
    for number in (1, 2):
        with pytest.raises(OSError, match=r"not a plain file|longer than|directory|denied"):
            disk.read(path, name(number))
    if hasattr(os, "mkfifo"):
        os.mkfifo(os.path.join(path, name(3)))
        with pytest.raises(OSError, match="not a plain file"):
            disk.read(path, name(3))


@pytest.mark.parametrize("call", ["write", "utime", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(monkeypatch, call):
    """A full disk costs the new entry only."""
    path = put(data=b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            put(data=b"new")
    assert os.listdir(path) == [name()]
    assert disk.read(path, name()) == b"old"


def test_a_write_in_part_is_a_failure(monkeypatch):
    """Half an entry is never put in place."""
    path = put(data=b"old")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-1]))
        with pytest.raises(OSError, match="in part"):
            put(data=b"new")
    assert disk.read(path, name()) == b"old"


def test_pruning_removes_what_is_out_of_date():
    """Entries older than the limit go, and those from as far in the future; the rest stay."""
    put(0, NOW - 101)
    put(1, NOW - 100)
    put(2, NOW + 100)
    path = put(3, NOW + 101)
    assert disk.prune(path, now=NOW, ttl_seconds=100) == {name(0), name(3)}
    assert {file.name for file in disk.files(path)} == {name(1), name(2)}


def test_pruning_to_a_limit_removes_the_oldest():
    """Beyond the limit the oldest go first."""
    for number in range(5):
        path = put(number, NOW + number)
    assert disk.prune(path, now=NOW, ttl_seconds=100, limit=2) == {name(0), name(1), name(2)}
    assert disk.prune(path, now=NOW, ttl_seconds=100, limit=2) == set()


def test_pruning_removes_files_that_a_stopped_writer_left():
    """A file still aside after an hour goes, and is not counted; a fresh one stays."""
    path = put()
    for age, token in ((3_601, "aa"), (10, "bb")):
        aside = os.path.join(path, f"{name()}.{token}.tmp")
        with open(aside, "w"):
            pass
        os.utime(aside, (NOW - age, NOW - age))
    assert disk.prune(path, now=NOW, ttl_seconds=100) == set()
    assert sorted(os.listdir(path)) == [name(), f"{name()}.bb.tmp"]


def test_only_our_own_files_are_touched():
    """Clearing leaves other files and folders in the folder alone, whatever they are called."""
    path = put()
    disk.count_write(path)
    aside = f"{name()}.aa.tmp"
    strangers = ["notes.json", "a.tmp", name(1)]
    for stranger in ("notes.json", "a.tmp", aside):
        with open(os.path.join(path, stranger), "w"):
            pass
    os.mkdir(os.path.join(path, name(1)))
    assert disk.clear(path) == {name()}
    assert sorted(os.listdir(path)) == sorted(strangers)


def test_files_that_vanish_meanwhile_do_not_matter(monkeypatch):
    """Another process may prune at the same time."""
    path = put()

    class Listing:
        def __init__(self, path):
            pass

        def __enter__(self):
            return iter([Vanished()])

        def __exit__(self, *error):
            pass

    class Vanished:
        name = name(7)

        def stat(self, *, follow_symlinks):
            raise FileNotFoundError

    assert disk._remove(path, [name(7)]) == set()
    monkeypatch.setattr(os, "scandir", Listing)
    assert disk.files(path) == []


def test_each_hundredth_write_is_time_to_prune():
    """The count is kept in the folder, so that short processes share it."""
    path = put()
    assert [disk.count_write(path) for _ in range(200)] == ([False] * 99 + [True]) * 2
    assert disk.ROOM_ENTRIES + 100 == 1_000


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_in_place_of_the_counter_is_not_followed(tmp_path):
    """The counter is not written through a link either."""
    path = put()
    os.symlink(tmp_path / "victim", os.path.join(path, ".writes"))
    with pytest.raises(OSError, match=r"."):
        disk.count_write(path)
    assert not (tmp_path / "victim").exists()

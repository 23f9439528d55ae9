"""Where are the files, and can they be trusted? There is one file for each entry, in a folder private to the user.

Every function raises `OSError` for what the disk refuses and for what must not be trusted; `lookup` turns that into a
miss. A file is written under another name and then renamed over the old one, so that readers in other processes see
either the old or the new one whole. Nothing here follows a link out of the folder, or reads more of a file than an
entry could fill.
"""

from __future__ import annotations

import os
import stat

from ..lean import NamedTuple
from ..state import register
from .entry import Key, is_outdated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "COSTS",
    "LEAST_REWRITE_SECONDS",
    "ROOM_ENTRIES",
    "StoredFile",
    "clear",
    "count_write",
    "files",
    "folder",
    "prune",
    "read",
    "usable_folder",
    "write",
]

# The most files that are kept. A smaller value means that a user of many functions measures again; a larger one means
# that pruning takes longer (`prune` in benchmarks/cache.py).
_MAX_ENTRIES = 1_000
# The number of writes, by all processes together, from one pruning to the next. A smaller value means that listing the
# folder costs every write more; a larger one means that each pruning must leave room for more new entries.
_WRITES_PER_PRUNING = 100
ROOM_ENTRIES = _MAX_ENTRIES - _WRITES_PER_PRUNING  # a pruning leaves so many, so that the bound holds until the next
# A file is not written again within this time, because a write takes as long as a short call, and what is measured
# varies from call to call.
LEAST_REWRITE_SECONDS = 1.0
_MAX_FILE_BYTES = 16_384  # an entry takes 1 KB, and at most 4 KB with the longest texts
_ABANDONED_SECONDS = 3_600.0  # a file not yet renamed after this belongs to a process that was stopped in mid-write
_ASIDE = ".tmp"
_COUNTER = ".writes"
COSTS = ".costs.json"  # it is no function's, so it does not count as an entry

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NO_LINK  # a named pipe must not make a reader wait
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINK

_platform_base: list[str] = []  # empty until platformdirs was asked
register(_platform_base.clear)


class StoredFile(NamedTuple):
    """A file of the cache: its name, its length in bytes, and the time of writing in seconds since the epoch."""

    name: str
    size_bytes: int
    timestamp: float


def folder() -> str:
    """Return the absolute path of the folder of entries, whether it is there or not."""
    chosen = os.environ.get("AMORSIZE_CACHE_DIR")
    if chosen:
        base = os.path.abspath(os.path.expanduser(chosen))
    else:
        if not _platform_base:
            from platformdirs import user_cache_dir  # this takes 10 ms, which are saved where the variable is set

            _platform_base.append(user_cache_dir("amorsize", appauthor=False))
        base = _platform_base[0]
    return os.path.join(base, "optimization_cache")


def usable_folder(*, create: bool = False) -> str:
    """Return the folder's path after making sure that only this user can write to it.

    Args:
        create: whether to make the folder, private to the user, if it is not there.

    Raises:
        FileNotFoundError: the folder is not there, and `create` is false.
        OSError: the folder cannot be used or must not be trusted.
    """
    path = folder()
    base = os.path.dirname(path)
    if not os.path.isabs(base):  # the platform knows no home folder
        raise FileNotFoundError(f"no absolute place for a cache: {path}")
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if not create:
            raise
        os.makedirs(os.path.dirname(base), exist_ok=True)
        _make_private(base)
        _make_private(path)
        found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"not a folder: {path}")
    user = os.geteuid() if hasattr(os, "geteuid") else None
    if user is not None:  # on Windows the user's profile is private by its own rules
        if found.st_uid != user:
            raise PermissionError(f"the folder belongs to another user: {path}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"others may write to the folder: {path}")
        _check_parent(base, user)
    return path


def _make_private(path: str) -> None:
    if not os.path.isdir(path):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):  # else another process was faster
                raise


def _check_parent(base: str, user: int) -> None:
    # Anyone who can rename entries of the parent folder can put another folder in the place of the cache. A sticky
    # folder such as /tmp does not let them. Write permission for the group is accepted, because it is the default of
    # many systems on which each user has a group of their own.
    above = os.stat(base)
    if above.st_uid not in {user, 0}:
        raise PermissionError(f"the folder belongs to another user: {base}")
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise PermissionError(f"everyone may rename what is in the folder: {base}")


def read(path: str, name: str) -> bytes:
    """Return the content of the file `name` in the folder `path`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read, is not a plain file, or is too long for an entry.
    """
    descriptor = os.open(os.path.join(path, name), _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"not a plain file: {name}")
        data = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > _MAX_FILE_BYTES:
        raise OSError(f"longer than {_MAX_FILE_BYTES} bytes: {name}")
    return data


def write(path: str, name: str, data: bytes, timestamp: float) -> None:
    """Put `data` in place as the file `name`, dated `timestamp`.

    Raises:
        OSError: the file could not be written; an older file of that name is as it was.
    """
    aside = f"{name}.{os.urandom(6).hex()}{_ASIDE}"
    aside_path = os.path.join(path, aside)
    descriptor = os.open(aside_path, _CREATE, 0o600)
    try:
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(f"written in part only, the disk may be full: {name}")
        finally:
            os.close(descriptor)
        os.utime(aside_path, (timestamp, timestamp))  # so that pruning need not open files to learn their age
        os.replace(aside_path, os.path.join(path, name))
    except BaseException:  # an interrupt must not leave the file lying about either
        _remove(path, [aside])
        raise


def count_write(path: str) -> bool:
    """Count a write, and say whether it is time to `prune`, as it is at each hundredth write of all processes.

    The count is the length of a file, to which several processes can append at once without a lock.
    """
    counter = os.path.join(path, _COUNTER)
    descriptor = os.open(counter, _APPEND, 0o600)
    try:
        os.write(descriptor, b".")
        writes = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if writes < _WRITES_PER_PRUNING:
        return False
    _remove(path, [_COUNTER])
    return True


def files(path: str) -> list[StoredFile]:
    """Return the entries' files in the folder `path`, in no order. Files that are not the cache's are left out."""
    return [found for found in _listed(path) if not found.name.endswith(_ASIDE)]


def prune(path: str, *, now: float, ttl_seconds: float, limit: int | None = None) -> set[str]:
    """Remove files that are out of date, abandoned or too many, and return the names of the removed entries' files.

    Args:
        path: the folder.
        now: the time, in seconds since the epoch.
        ttl_seconds: entries older than this are removed, and so are entries dated as far in the future.
        limit: how many entries may stay, which are the newest; None for any number.
    """
    gone = []
    kept = []
    abandoned = []
    for found in _listed(path):
        age_seconds = abs(now - found.timestamp)
        if found.name.endswith(_ASIDE):
            if age_seconds > _ABANDONED_SECONDS:
                abandoned.append(found.name)
        elif age_seconds > ttl_seconds or is_outdated(found.name):
            gone.append(found.name)
        else:
            kept.append(found)
    if limit is not None and len(kept) > limit:
        kept.sort(key=lambda found: found.timestamp)
        gone += [found.name for found in kept[: len(kept) - limit]]
    _remove(path, abandoned)
    return _remove(path, gone)


def clear(path: str) -> set[str]:
    """Remove every file of the cache, and return the names of the entries' files among them."""
    names = [found.name for found in _listed(path)]
    removed = _remove(path, names)
    _remove(path, [_COUNTER, COSTS])
    return {name for name in removed if not name.endswith(_ASIDE)}


def _listed(path: str) -> list[StoredFile]:
    found = []
    with os.scandir(path) as listing:
        for item in listing:
            name = item.name
            entry_name = name.rsplit(".", 2)[0] if name.endswith(_ASIDE) else name
            is_entry = Key.of_filename(entry_name) is not None
            if not (is_entry or (entry_name == COSTS and name != COSTS)):
                continue
            try:
                state = item.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process was faster
                continue
            if not stat.S_ISDIR(state.st_mode):
                found.append(StoredFile(name, state.st_size, state.st_mtime))
    return found


def _remove(path: str, names: Iterable[str]) -> set[str]:
    removed = set()
    for name in names:
        try:
            os.unlink(os.path.join(path, name))
        except FileNotFoundError:  # another process was faster
            continue
        removed.add(name)
    return removed

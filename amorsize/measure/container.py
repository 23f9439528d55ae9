"""What does the container grant this process? Only this module reads Linux control groups, versions 1 and 2.

A limit may stand at any level between the process's own group and the root of the mount, and the least one counts, so
every level is read. A file that is missing, empty or odd is skipped as if it set no limit; it never raises an error.
"""

from __future__ import annotations

import os

from ..errors import let_signals_through

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cpu_limit", "free_memory"]

_MOUNT = "sys/fs/cgroup"
_DEFAULT_PERIOD_MICROSECONDS = 100_000  # the kernel uses this when cpu.max gives a quota alone
_NO_LIMIT_BYTES = 2**60  # version 1 says "none" with the largest whole number of pages
_READ_BYTES = 65_536  # far more than any of these files holds
# By version: the files of the limit and of the usage, and the field of memory.stat that counts the cache which is given
# back under pressure. memory.high throttles and memory.max kills, so work must fit under both.
_MEMORY_FILES = {
    1: (("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),),
    2: (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.high", "memory.current", "inactive_file"),
    ),
}


def cpu_limit(root: str = "/") -> int | None:
    """Return how many cores the CPU quota keeps busy, rounded up; None without a quota.

    A quota limits time, not parallelism, so a quota of one and a half cores is used best by two workers.

    Args:
        root: folder that holds `proc` and `sys`; tests build their own.

    >>> cpu_limit("/nowhere") is None
    True
    """
    limits = []
    for version, folder in _folders(root, "cpu"):
        quota, period = _quota(version, folder)
        if quota is not None and quota > 0 and period > 0:
            limits.append(max(1, -(-quota // period)))
    return min(limits, default=None)


def free_memory(root: str = "/") -> int | None:
    """Return the bytes the container still grants, with the page cache it would give back; None without a limit.

    Args:
        root: folder that holds `proc` and `sys`; tests build their own.
    """
    free = []
    for version, folder in _folders(root, "memory"):
        for limit_name, usage_name, cache_field in _MEMORY_FILES[version]:
            limit = _number(_words(folder + limit_name))
            if limit is None or limit >= _NO_LIMIT_BYTES:
                continue
            usage = _number(_words(folder + usage_name))
            if usage is not None:
                free.append(max(0, min(limit, limit - usage + _field(folder + "memory.stat", cache_field))))
    return min(free, default=None)


def _folders(root: str, controller: str) -> Iterator[tuple[int, str]]:
    """Yield the version and path of every group that may limit this process, from its own up to the mount's root."""
    for line in _lines(f"{root}/proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version, mounts = 2, (_MOUNT, f"{_MOUNT}/unified")
        elif controller in controllers.split(","):
            version, mounts = 1, (f"{_MOUNT}/{controllers}", f"{_MOUNT}/{controller}")
        else:
            continue
        names = [name for name in path.split("/") if name]
        if ".." in names:
            names = []  # the group lies outside this namespace, so only what is mounted here can be read
        for mount in dict.fromkeys(mounts):
            for depth in range(len(names), -1, -1):
                yield version, "/".join((root, mount, *names[:depth], ""))


def _quota(version: int, folder: str) -> tuple[int | None, int]:
    """Return the CPU microseconds granted per period, None without a quota, and the period in microseconds."""
    if version == 2:
        words = _words(folder + "cpu.max")
        quota, period = _number(words), _number(words[1:])
    else:
        quota, period = _number(_words(folder + "cpu.cfs_quota_us")), _number(_words(folder + "cpu.cfs_period_us"))
    return quota, _DEFAULT_PERIOD_MICROSECONDS if period is None else period


def _field(path: str, name: str) -> int:
    for line in _lines(path):
        words = line.split()
        if words and words[0] == name:
            return max(0, _number(words[1:]) or 0)
    return 0


def _number(words: list[str]) -> int | None:
    try:
        return int(words[0])
    except (IndexError, ValueError):  # the file is empty, says "max", or holds what no kernel writes
        return None


def _words(path: str) -> list[str]:
    lines = _lines(path)
    return lines[0].split() if lines else []


def _lines(path: str) -> list[str]:
    try:
        # This costs half as much as open(), for files that are read every second and mostly do not exist.
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        let_signals_through(error)
        return []
    try:
        return os.read(descriptor, _READ_BYTES).decode(errors="replace").splitlines()
    except OSError as error:
        let_signals_through(error)
        return []
    finally:
        os.close(descriptor)

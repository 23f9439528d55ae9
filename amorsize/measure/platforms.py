"""What does the operating system say, and how is it asked? Systems differ in this module only.

Every function has one name for all systems and remembers nothing; `machine` remembers what is worth it. A function
asks for a capability rather than for the system's name where it can, and reads the system's own files rather than
asking psutil, whose import alone costs 20 ms.
"""

from __future__ import annotations

import os
import sys
import time

from ..errors import let_signals_through

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "child_cpu_seconds",
    "cpu_clock_step",
    "descriptors_left",
    "free_memory",
    "global_start_method",
    "has_fork",
    "has_forkserver",
    "has_thread_clocks",
    "native_threads",
    "physical_cores",
    "process_memory",
    "thread_cpu_seconds",
    "usable_cores",
]


def usable_cores() -> int:
    """Return how many logical cores this process may run on, given its affinity; at least 1."""
    # The affinity lies within the logical cores, and reading it costs 0.4 us where counting them costs 7 us. The newer
    # process_cpu_count heeds PYTHON_CPU_COUNT, which here may narrow the affinity but not widen it.
    counted: int | None = None
    if sys.version_info >= (3, 13):
        counted = os.process_cpu_count()
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        return min(counted or allowed, allowed)
    return counted or os.cpu_count() or 1


def physical_cores(root: str = "/") -> int | None:
    """Return how many physical cores the machine has; None where nothing tells.

    Args:
        root: folder that holds `sys` and `proc` on Linux; tests build their own.
    """
    if sys.platform == "linux":
        return _cores_in_topology(root) or _cores_in_cpuinfo(root)
    import psutil

    return psutil.cpu_count(logical=False)


def free_memory(root: str = "/") -> int | None:
    """Return the bytes of memory that new processes could take without swapping; None where nothing tells.

    Args:
        root: folder that holds `proc` on Linux; tests build their own.
    """
    if sys.platform == "linux":
        return _kilobytes(_text(f"{root}/proc/meminfo"), "MemAvailable:")
    import psutil

    return int(psutil.virtual_memory().available)


def process_memory(root: str = "/") -> tuple[int, int] | None:
    """Return this process's resident bytes now and at their peak; None where nothing tells.

    Args:
        root: folder that holds `proc` on Linux; tests build their own.
    """
    if sys.platform == "linux":
        status = _text(f"{root}/proc/self/status")
        now, peak = _kilobytes(status, "VmRSS:"), _kilobytes(status, "VmHWM:")
        return None if now is None or peak is None else (now, peak)
    import psutil

    facts = psutil.Process().memory_info()
    return int(facts.rss), int(getattr(facts, "peak_wset", facts.rss))


def native_threads(root: str = "/", pid: int | None = None) -> int | None:
    """Return how many threads a process has, those of C libraries included; None where nothing tells.

    Args:
        root: folder that holds `proc` on Linux; tests build their own.
        pid: the number of the process; None for this one.
    """
    if sys.platform == "linux":
        try:
            # The kernel counts each thread as a link of this folder, so one call is enough; listing it takes more.
            threads = os.stat(f"{root}/proc/{pid or 'self'}/task").st_nlink - 2
        except OSError as error:
            let_signals_through(error)
            return None
        return threads if threads > 0 else None
    import psutil

    try:
        return int(psutil.Process(pid).num_threads())
    except psutil.Error:
        return None


def cpu_clock_step() -> float:
    """Return by how much the clock of a process's CPU time advances at a time, in seconds."""
    return 0.016 if os.name == "nt" else 0.0  # Windows counts whole ticks


def has_thread_clocks() -> bool:
    """Say whether one thread can be asked for the CPU time of another one."""
    return hasattr(time, "pthread_getcpuclockid")


def descriptors_left() -> int | None:
    """Return how many more files this process may open; None where nothing tells, or where there is no limit."""
    if sys.platform == "win32":
        return None  # its limit is far away
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return None
    try:
        return max(0, most - len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")))
    except OSError as error:
        let_signals_through(error)
        return None


def child_cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended and been waited for; 0 where nothing tells."""
    times = os.times()
    return times.children_user + times.children_system


def thread_cpu_seconds(ident: int) -> float:
    """Return the CPU seconds that a thread of this process has used; 0 where nothing tells, or if it has ended."""
    clocks: Any = time
    if not has_thread_clocks():
        return 0.0
    try:
        return float(clocks.clock_gettime(clocks.pthread_getcpuclockid(ident)))
    except OSError as error:
        let_signals_through(error)
        return 0.0


def thread_ready_seconds(native_id: int) -> float:
    """Return how long a thread of this process was ready and had no processor; 0 where nothing tells.

    Linux counts it in nanoseconds, in the second field (Documentation/scheduler/sched-stats).
    """
    try:
        with open(f"/proc/self/task/{native_id}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError) as error:
        let_signals_through(error)
        return 0.0


def has_fork() -> bool:
    """Return whether a fork is safe here in a process with one thread. macOS's own libraries forbid it there."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def has_forkserver() -> bool:
    """Return whether multiprocessing has a forkserver here.

    It has one where it can both fork and hand descriptors over a socket. Every system that can do the first can do the
    second, and asking `socket` itself would cost its import, 3 ms.
    """
    return hasattr(os, "fork")


def global_start_method() -> str | None:
    """Return multiprocessing's start method if it was set to another than the platform's default, else None.

    A start method that was set to the default cannot be told from one that was never set. A program that has not
    imported multiprocessing cannot have set its start method, so multiprocessing is not imported to ask.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None or not hasattr(multiprocessing, "get_start_method"):  # its import has not ended
        return None
    chosen: str | None = multiprocessing.get_start_method(allow_none=True)
    default = multiprocessing.get_all_start_methods()[0]
    return chosen if chosen != default else None


def _cores_in_topology(root: str) -> int | None:
    """Count the different sets of logical processors that share a core; older kernels list them under another name."""
    folder = f"{root}/sys/devices/system/cpu"
    try:
        names = [name for name in os.listdir(folder) if name.startswith("cpu") and name[3:].isdigit()]
    except OSError as error:
        let_signals_through(error)
        return None
    cores = set()
    for name in names:
        text = _text(f"{folder}/{name}/topology/core_cpus_list") or _text(
            f"{folder}/{name}/topology/thread_siblings_list"
        )
        if text.strip():  # a processor that is switched off has no topology
            cores.add(text.strip())
    return len(cores) or None


def _cores_in_cpuinfo(root: str) -> int | None:
    cores = set()
    package = ""
    for line in _text(f"{root}/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "physical id":
            package = value.strip()
        elif name.strip() == "core id":
            cores.add((package, value.strip()))
    return len(cores) or None


def _kilobytes(text: str, name: str) -> int | None:
    """Return the bytes in the line that starts with `name` and counts kilobytes."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1]) * 1024
    return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        let_signals_through(error)
        return ""

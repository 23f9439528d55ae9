"""On what machine were these figures taken? Lines for the head of a benchmark's results."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import sys

__all__ = ["facts", "usable_cores"]


def usable_cores() -> int:
    """Return the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts(*packages: str) -> list[str]:
    """Return lines that name interpreter, machine, load and the versions of `packages`."""
    versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    load = ", ".join(f"{figure:.2f}" for figure in os.getloadavg()) if hasattr(os, "getloadavg") else "not told"
    start_method = multiprocessing.get_context().get_start_method()
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    return [
        f"{interpreter}, {platform.system()} {platform.release()}, start method {start_method}",
        f"{usable_cores()} usable cores of {os.cpu_count()}: {_cpu_model()}; load (1, 5, 15 minutes): {load}",
        *([versions] if versions else []),
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cpu_model() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    return platform.processor() or platform.machine()

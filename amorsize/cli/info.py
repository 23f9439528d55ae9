"""What does `amorsize info` tell? What a report of a fault needs: machine, limits, costs, cache, options, versions."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import TYPE_CHECKING, Any

from ..cache import lookup
from ..measure import machine
from ..options import resolve
from ..version import __version__

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["add_arguments", "facts", "run"]

# What the package uses, and what it may use.
_PACKAGES = ("cloudpickle", "platformdirs", "psutil", "numpy", "tqdm", "distributed", "ray")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `amorsize info` to `parser`."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(parsed: Namespace) -> int:
    """Print the facts, and return the exit code."""
    found = facts()
    if parsed.json:
        print(json.dumps(found, indent=2))
        return 0
    for title, group in found.items():
        print(title)
        for name, value in group.items():
            print(f"  {name:<34} {_shown(value)}")
    return 0


def facts() -> dict[str, dict[str, Any]]:
    """Return what is known, in groups."""
    stats = lookup.cache_stats()
    return {
        "versions": {
            "amorsize": __version__,
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "system": platform.platform(),
            **{name: version for name in _PACKAGES if (version := _version(name)) is not None},
        },
        "machine": {
            "cores_usable": machine.cores(),
            "cores_physical": machine.physical_cores(),
            "bytes_available": machine.available_memory(),
            "threads_of_this_process": machine.native_threads(),
            "start_method": machine.start_method(resolve().start_method),
        },
        "costs": machine.known_costs(),
        "cache": {"folder": str(lookup.get_cache_dir()), "entries": stats.entries, "bytes": stats.bytes},
        "options": {name: _plain(value) for name, value in resolve()._asdict().items()},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plain(value: object) -> Any:
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


def _shown(value: Any) -> str:
    return f"{value:,}" if type(value) is int else f"{value:.3g}" if type(value) is float else str(value)

"""What can the command line show of the cache, and do to it? This is `amorsize cache path|list|stats|prune|clear`."""

from __future__ import annotations

import sys
import time

from ..cache import lookup
from ..cache.entry import TTL_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ..cache.entry import Entry

__all__ = ["add_arguments", "run"]

_DAY_SECONDS = 24 * 3600.0
_ROW = "{:<40.40} {:>10} {:>11} {:>10} {:>6} {:>9} {:>7}"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the subcommands of `amorsize cache` to `parser`."""
    commands = parser.add_subparsers(dest="cache_command", required=True, metavar="command")
    commands.add_parser("path", help="print the folder of the entries")
    commands.add_parser("list", help="print one line for each function and size that was measured, newest first")
    commands.add_parser("stats", help="print how many entries there are, and their size")
    prune = commands.add_parser("prune", help="remove the entries that are too old")
    prune.add_argument(
        "--days",
        type=_days,
        default=TTL_SECONDS / _DAY_SECONDS,
        help="age in days beyond which an entry goes (default: %(default)g)",
    )
    commands.add_parser("clear", help="remove every entry")


def run(args: Namespace) -> int:
    """Do what was asked, print the outcome, and return the exit code.

    Args:
        args: what a parser that `add_arguments` extended has parsed.
    """
    command: str = args.cache_command
    if command == "path":
        print(lookup.get_cache_dir())
    elif command == "list":
        return _list()
    elif command == "stats":
        stats = lookup.cache_stats()
        print(f"{stats.entries} entries, {stats.bytes:,} bytes in {lookup.get_cache_dir()}")
    elif command == "prune":
        print(f"{lookup.prune_expired_cache(args.days * _DAY_SECONDS)} entries removed")
    else:
        print(f"{lookup.clear_cache()} entries removed")
    return 0


def _days(text: str) -> float:
    days = float(text)
    if not days >= 0:
        raise ValueError(f"an age is 0 or more, not {text}")
    return days


def _list() -> int:
    try:
        entries = lookup.entries()
    except FileNotFoundError:
        entries = []
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(_ROW.format("function", "items", "per item", "backend", "n_jobs", "chunksize", "age"))
    now = time.time()
    for entry in entries:
        print(_line(entry, now))
    return 0


def _line(entry: Entry, now: float) -> str:
    plan = entry.plan
    return _ROW.format(
        entry.function,
        entry.n_items,
        f"{entry.profile.seconds_per_item * 1e3:.4g} ms",
        plan.backend if plan else "-",
        plan.n_jobs if plan else "-",
        plan.chunksize if plan else "-",
        f"{(now - entry.timestamp) / 3600:.1f} h",
    )

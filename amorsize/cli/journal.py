"""What can the command line show of a journal? This is `amorsize journal show|stats|export FILE`."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING

from .. import journal
from .arguments import WrongArgument

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

__all__ = ["add_arguments", "run"]

_ROW = "{:>10}  {:<16.16}  {:>5}  {:<.80}"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the subcommands of `amorsize journal` to `parser`."""
    commands = parser.add_subparsers(dest="journal_command", required=True, metavar="command")
    for name, text in (
        ("show", "print one line for each result: its item's position, the function, how many equal items came before"),
        ("stats", "print how many results there are, and of how many functions"),
        ("export", "print the results as JSON lines; what is no JSON as its text"),
    ):
        commands.add_parser(name, help=text).add_argument("file", metavar="FILE")


def run(parsed: Namespace) -> int:
    """Do what was asked, print the outcome, and return the exit code.

    Raises:
        WrongArgument: the file cannot be read.
    """
    command: str = parsed.journal_command
    {"show": _show, "stats": _stats, "export": _export}[command](parsed.file)
    return 0


def _entries(file: str) -> Iterator[journal.Entry]:
    try:
        yield from journal.read(file)
    except journal.JournalError:
        raise
    except OSError as error:
        raise WrongArgument(f"{file} cannot be read: {error.strerror}") from error


def _show(file: str) -> None:
    print(_ROW.format("item", "function", "equal", "result"))
    for entry in _entries(file):
        shown = json.dumps(entry.result) if entry.is_json else "(pickled)"
        print(_ROW.format(entry.position, entry.key.function.hex(), entry.key.nth, shown))


def _stats(file: str) -> None:
    functions = Counter(entry.key.function.hex() for entry in _entries(file))
    print(f"{functions.total():,} results of {len(functions)} functions in {os.path.getsize(file):,} bytes")
    for function, count in functions.most_common():
        print(f"{count:>10,}  {function}")


def _export(file: str) -> None:
    for entry in _entries(file):
        content = {"item": entry.position, "result": entry.result}
        if not entry.is_json:
            content["result"] = repr(journal.own_value(file, entry))
        print(json.dumps(content))

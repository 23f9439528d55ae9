"""What does `amorsize explain MODULE:FUNC [FILE]` do? It tells where the function should run over lines, and why."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING

import amorsize

from .arguments import find_function, open_input
from .lines import Lines
from .map import OfLines

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `amorsize explain` to `parser`."""
    parser.add_argument("function", metavar="MODULE:FUNC", help="the function, as for `amorsize map`")
    parser.add_argument("file", nargs="?", metavar="FILE", help="the lines; standard input if it is left out, or -")
    parser.add_argument("--json", action="store_true", help="each line is JSON")
    parser.add_argument("--lines", type=_count, metavar="N", help="read N lines at most")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(f"at least 1 line, not {text}")
    return count


def run(parsed: argparse.Namespace) -> int:
    """Explain the plan, and return the exit code. The function runs on some of the lines."""
    function = find_function(parsed.function)
    with open(open_input(parsed.file), "rb", closefd=bool(parsed.file)) as file:
        lines = list(islice(Lines(file.fileno(), sys.stdout.flush), parsed.lines))
    plan = amorsize.optimize(OfLines(function, as_json=parsed.json), lines, profile=True)
    print(f"{len(lines):,} lines")
    print(plan.explain())
    return 0

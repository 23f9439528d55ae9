"""What does the command `amorsize` do? It reads the arguments, runs one subcommand, and tells an error in one line.

Each subcommand is a module of its name, listed in `_COMMANDS`, with `add_arguments` and `run`. The demo and its imports
are loaded only when it runs, so that the other commands stay quick.

The exit code is 0 if the command did its work, 1 if it failed, 2 if the arguments or the environment are wrong, 3 if
lines failed that may, and 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UnsupportedError
from ..journal import JournalError
from ..options import check, resolve
from ..version import __version__
from .arguments import WrongArgument, forget

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after the program's name; None takes them from `sys.argv`.

    Raises:
        SystemExit: with code 2 if the arguments are wrong, with code 0 after `--help`.

    >>> from amorsize.cli.main import main
    >>> main(["demo", "--limit", "10"])  # doctest: +SKIP
    0
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser)
    parsed = parser.parse_args(arguments)
    try:
        resolve()  # only the environment can be wrong here
    except ValueError as error:
        parser.error(str(error))
    try:
        code: int = parsed.run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (UnsupportedError, WrongArgument, JournalError) as error:
        parser.error(str(error))
    except BrokenPipeError:  # whoever read it has all that was wanted
        forget(sys.stdout)
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"amorsize: the results cannot be written: {error.strerror}", file=sys.stderr)
        forget(sys.stdout)
        return 1
    except KeyboardInterrupt:
        print("amorsize: interrupted", file=sys.stderr)
        return 130
    return code


def _complete(parser: argparse.ArgumentParser) -> None:
    """Tell a shell what may follow, and exit; without the extra "completion" there is nothing to tell."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and leaves the usage to `--help`."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="amorsize", description="A drop-in parallel map that tunes itself.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"amorsize {__version__}")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (summary, description) in _COMMANDS.items():
        _add_command(subcommands, name, summary, description)
    _add_demo(subcommands)
    return parser


def _add_demo(subcommands: argparse._SubParsersAction[Any]) -> None:
    parser = subcommands.add_parser(
        "demo",
        allow_abbrev=False,
        help="survey the standard library's source files, with the builtin map and with amorsize.map",
        description="Surveys the source files of Python's standard library three times: with the builtin map, with "
        "amorsize.map knowing nothing, and with what it learnt. Compares the results, and shows seconds and plans.",
    )
    parser.add_argument("--limit", type=_file_count, metavar="N", help="survey only the first N files")
    parser.add_argument("--n-jobs", type=_worker_count, metavar="N", help="number of workers, as the option n_jobs")
    parser.set_defaults(run=_run_demo)


def _run_demo(parsed: argparse.Namespace) -> int:
    from .demo import run

    return run(limit=parsed.limit, n_jobs=parsed.n_jobs)


def _add_command(
    subcommands: argparse._SubParsersAction[Any], name: str, summary: str, description: str
) -> None:
    """Add the subcommand of the module of that name, which has `add_arguments` and `run`."""
    module: Any = importlib.import_module(f".{name}", __package__)
    parser = subcommands.add_parser(name, allow_abbrev=False, help=summary, description=description)
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _file_count(text: str) -> int:
    count = _whole_number(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return count


def _worker_count(text: str) -> int:
    count = _whole_number(text)
    try:
        check({"n_jobs": count})
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return count


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


_COMMANDS = {
    "map": (
        "map a function over lines",
        ("Maps a function over the lines of a file, or of standard input, and writes its results in order, one a line. "
        "Exit codes: 0, 1 if the function failed, 2 for wrong arguments, 3 if lines failed with --on-error=return, 130 "
        "if it was interrupted."),
    ),
    "explain": (
        "run a function on sample lines, and tell where it should run",
        ("Runs a function on some lines of a file, or of standard input, and tells the plan for so many lines as there "
        "are, the alternatives, and the reason."),
    ),
    "info": (
        "tell what a report of a fault needs",
        "Tells cores, memory, limits, start method, what things cost here, the cache, and versions.",
    ),
    "journal": (
        "show what is in a journal",
        "Shows the results in a journal of `amorsize map --journal`, which may be being written.",
    ),
    "cache": (
        "show, prune or clear what was measured and remembered",
        "Shows, prunes or clears what amorsize measured of your functions and keeps for later calls.",
    ),
}

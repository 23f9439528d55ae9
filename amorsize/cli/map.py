"""What does `amorsize map MODULE:FUNC [FILE]` do? It maps a function over lines, in order, in constant memory.

The function is looked for in the current folder, too. A line is text without its end, or JSON with `--json`; a result
is written as its text, or as JSON.

A function that fails ends it with the traceback, the number of the line, and code 1. With `--on-error=return` the rest
goes on, each failure is a line of JSON on standard error, and the code is 3 if there were any.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import amorsize

from ..call.request import name_of
from ..errors import let_signals_through
from ..journal import Journal
from ..options import check
from ..transport.remote import said
from .arguments import WrongArgument, find_function, forget, open_input, open_output
from .lines import Lines, NobodyReadsError, Output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..call.stream import Stream
    from ..plan.retry import Failed

__all__ = ["OfLines", "add_arguments", "run"]

_FAILED, _SOME_FAILED = 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `amorsize map` to `parser`."""
    parser.add_argument("function", metavar="MODULE:FUNC", help="the function: a module, and a name in it with dots")
    parser.add_argument("file", nargs="?", metavar="FILE", help="the lines; standard input if it is left out, or -")
    parser.add_argument("--json", action="store_true", help="each line is JSON, and so is each result")
    parser.add_argument("--unordered", action="store_true", help="write results as they are done")
    parser.add_argument("--jobs", dest="n_jobs", type=int, metavar="N", help="number of workers, as n_jobs")
    parser.add_argument("--chunksize", type=int, metavar="N", help="lines sent to a worker at once")
    parser.add_argument("--backend", metavar="NAME", help="where it runs: auto, serial, threads, processes, dask, ray")
    parser.add_argument("--progress", action="store_true", help="show how many lines are done, on standard error")
    parser.add_argument("--on-error", choices=["raise", "return"], help="return: go on after a line that failed")
    parser.add_argument("--retries", type=int, metavar="N", help="how often a line that failed is tried again")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="how long one line may take")
    parser.add_argument("--journal", metavar="FILE", help="keep each result in a file, and run what is missing there")
    parser.add_argument("--journal-any", action="store_true", help="take results of an earlier version of the function")
    parser.add_argument("--seed", type=int, metavar="N", help="makes random numbers repeat")
    told = "write what was done: a page (FILE.html), a trace (FILE.json, FILE.json.gz), or text (- is standard error)"
    parser.add_argument("--report", metavar="FILE", help=told)


def run(parsed: argparse.Namespace) -> int:
    """Map the function over the lines, and return the exit code.

    Raises:
        WrongArgument: an argument is wrong; the text says which one.
    """
    options = _options(parsed)
    function = OfLines(find_function(parsed.function), as_json=parsed.json)
    tell = None if parsed.report is None else _teller(parsed.report)
    descriptor = open_input(parsed.file)
    output = Output(open_output())
    try:
        with amorsize.map(function, Lines(descriptor, output.flush), **options) as stream:
            try:
                return _write(stream, output, parsed.file or "standard input")
            finally:
                output.flush()
                if tell is not None:
                    tell(stream)
    except NobodyReadsError:
        forget(sys.stdout)  # whoever read it has all that was wanted
        return 0
    finally:
        if descriptor:
            os.close(descriptor)


class OfLines:
    """Callable that applies a function to a line, and returns a line."""

    def __init__(self, function: Callable[[Any], Any], *, as_json: bool = False) -> None:
        self.function = function
        self.as_json = as_json
        self.__qualname__ = name_of(function)  # what a report calls it

    def __call__(self, line: str) -> str:
        if self.as_json:
            return json.dumps(self.function(json.loads(line)), allow_nan=False)
        result = self.function(line)
        return result if type(result) is str else str(result)


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    given = {
        name: getattr(parsed, name)
        for name in ("n_jobs", "chunksize", "backend", "on_error", "retries", "timeout", "seed")
        if getattr(parsed, name) is not None
    }
    if parsed.unordered:
        given["ordered"] = False
    if parsed.progress:
        given["progress"] = True
    if parsed.report is not None and parsed.report != "-":
        given["record"] = True
    if parsed.journal is not None:
        given["journal"] = Journal(parsed.journal, any_function=parsed.journal_any)
    elif parsed.journal_any:
        raise WrongArgument("--journal-any needs --journal FILE")
    try:
        check(given)
    except (TypeError, ValueError) as error:
        raise WrongArgument(str(error)) from None
    return given


def _teller(file: str) -> Callable[[Stream[Any]], None]:
    """Return what writes a report at the end.

    Raises:
        WrongArgument: the file cannot be written, or its name does not say what it is to hold.
    """
    if file == "-":
        return lambda stream: print(stream.report.explain(), file=sys.stderr)
    if not file.endswith((".html", ".json", ".json.gz")):
        raise WrongArgument(f"--report takes FILE.html, FILE.json, FILE.json.gz or -, not {file}")
    try:
        with open(file, "ab"):
            pass
    except OSError as error:
        raise WrongArgument(f"--report cannot write {file}: {error.strerror}") from error
    if file.endswith(".html"):
        return lambda stream: stream.report.timeline(file)
    return lambda stream: stream.report.trace(file)


def _write(stream: Stream[Any], output: Output, name: str) -> int:
    """Write the results of a stream; return the exit code."""
    failures = _Failures(stream.failures)
    count = 0
    try:
        for result in stream:
            if failures.has_new():
                output.flush()
                failures.tell()
            if type(result) is str:  # otherwise it is the error of a line that failed
                output.write(result)
            count += 1
    except NobodyReadsError:
        raise
    except (Exception, SystemExit) as error:  # the function's own, or ours about its line
        index = getattr(error, "amorsize_index", getattr(error, "index", None))
        if index is None and not isinstance(error, SystemExit):
            raise
        output.flush()
        traceback.print_exception(error)
        index = count if index is None else index
        print(f"amorsize: line {index + 1} of {name} failed (item {index}, from 0)", file=sys.stderr)
        return _FAILED
    failures.tell()
    return _SOME_FAILED if failures.all else 0


class _Failures:
    """The lines that failed, and how many of them were told."""

    def __init__(self, failures: list[Failed]) -> None:
        self.all = failures
        self._told = 0

    def has_new(self) -> bool:
        """Say whether there are some that nobody was told of."""
        return len(self.all) > self._told

    def tell(self) -> None:
        """Write those that nobody was told of; where standard error is closed, they count all the same."""
        for failed in self.all[self._told :]:
            self._told += 1
            error = failed.error
            content = {"line": failed.index + 1, "error": type(error).__name__, "message": said(str, error)}
            try:
                print(json.dumps(content), file=sys.stderr, flush=True)
            except (OSError, ValueError) as closed:
                let_signals_through(closed)
                forget(sys.stderr)

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

from ..options import check
from .arguments import WrongArgument, find_function, open_input
from .lines import Lines, Output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..call.stream import Stream
    from ..plan.retry import Failed

__all__ = ["add_arguments", "run"]

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
    parser.add_argument("--seed", type=int, metavar="N", help="makes random numbers repeat")


def run(parsed: argparse.Namespace) -> int:
    """Map the function over the lines, and return the exit code.

    Raises:
        WrongArgument: an argument is wrong; the text says which one.
    """
    options = _options(parsed)
    function = find_function(parsed.function)
    descriptor = open_input(parsed.file)
    output = Output(sys.stdout.fileno())
    lines = Lines(descriptor, output.flush)
    stream = amorsize.map(OfJson(function) if parsed.json else function, lines, **options)
    try:
        with stream:
            return _write(stream, output, parsed.file)
    except BrokenPipeError:
        # Nobody reads any more, who has all that was wanted. What Python itself flushes at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        if descriptor:
            os.close(descriptor)


class OfJson:
    """Callable that applies a function to JSON, and returns JSON."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, line: str) -> str:
        return json.dumps(self.function(json.loads(line)))


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
    try:
        check(given)
    except (TypeError, ValueError) as error:
        raise WrongArgument(str(error)) from None
    return given


def _write(stream: Stream[Any], output: Output, file: str | None) -> int:
    """Write the results of a stream; return the exit code."""
    failures = stream.failures
    told: set[int] = set()  # the identities of their errors, which `failures` keeps
    count = 0
    try:
        for count, result in enumerate(stream, 1):  # noqa: B007 - an error is of the line behind it
            if len(told) != len(failures):
                output.flush()
                _tell(failures, told)
            if not (told and id(result) in told):
                output.write(result if type(result) is str else str(result))
        output.flush()
    except BrokenPipeError:
        raise
    except (Exception, SystemExit) as error:
        index = getattr(error, "amorsize_index", getattr(error, "index", None))
        if index is None:
            if not isinstance(error, SystemExit):
                raise
            index = count
        output.flush()
        traceback.print_exception(error)
        print(f"amorsize: line {index + 1} of {file or 'standard input'} failed", file=sys.stderr)
        return _FAILED
    _tell(failures, told)
    return _SOME_FAILED if failures else 0


def _tell(failures: list[Failed], told: set[int]) -> None:
    """Write the failures that nobody was told of yet, and add them to `told`."""
    for failed in failures[len(told) :]:
        text = {"line": failed.index + 1, "error": type(failed.error).__name__, "message": str(failed.error)}
        print(json.dumps(text), file=sys.stderr, flush=True)
        told.add(id(failed.error))

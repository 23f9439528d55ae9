"""What does amorsize do on real work? The demo surveys the standard library's source files three times and compares.

Every machine with Python has this input. The files are of very different lengths, so items differ in cost, and the
results are small enough that the work is worth sending to workers. The job runs with the builtin `map`, then with
`amorsize.map` knowing nothing, and then with `amorsize.map` again, using what it learnt. All three must agree.
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import amorsize

from ..lean import map
from ..measure.machine import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..call.stream import Stream
    from ..plan.planner import Plan

__all__ = ["ModuleFigures", "run", "source_files", "survey"]

SHOWN_MODULES = 5  # lines in each of the two closing tables; more would push the timings off a small screen
# The kinds of block are asked of `ast` rather than listed here, as later Pythons add some (`except*` came with 3.11).
_BLOCKS = tuple(kind for kind in ast.stmt.__subclasses__() if {"body", "cases"}.intersection(kind._fields))


class ModuleFigures(NamedTuple):
    """What one source file holds. All counts but `lines` are 0 if `parsed` is False."""

    path: str
    lines: int
    functions: int = 0
    classes: int = 0
    deepest: int = 0
    parsed: bool = True


class Timing(NamedTuple):
    """One way to run the job, and what it took."""

    name: str
    seconds: float
    figures: list[ModuleFigures]
    plan: Plan | None


def source_files(folder: Path, limit: int | None = None) -> list[str]:
    """List the Python source files below `folder`, sorted by path, without installed packages.

    Args:
        folder: the folder to look in, with everything below it.
        limit: the most files to list; None lists all.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*.py"))
    own = sorted(path.parts for path in found if not {"site-packages", "dist-packages"}.intersection(path.parts))
    return [str(folder.joinpath(*parts)) for parts in own[:limit]]


def survey(path: str) -> ModuleFigures:
    """Read and parse one source file, and count what it holds. This is the function that the demo maps.

    A file that does not parse gives a result like any other; Python's own tests keep some such files on purpose.

    >>> import os
    >>> survey(os.__file__).classes > 0
    True
    """
    source = Path(path).read_bytes()
    lines = len(source.splitlines())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some files warn, such as one that tests invalid escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # for bad syntax, a null byte, or too deep nesting
        return ModuleFigures(path, lines, parsed=False)
    functions = classes = deepest = 0
    pending: list[tuple[ast.AST, int]] = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, _BLOCKS):
            deepest = max(deepest, depth)
            functions += isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            classes += isinstance(node, ast.ClassDef)
        for child in ast.iter_child_nodes(node):
            deeper = isinstance(child, _BLOCKS) and not _is_elif(node, child)
            pending.append((child, depth + deeper))
    return ModuleFigures(path, lines, functions, classes, deepest)


def run(limit: int | None = None, n_jobs: int | None = None) -> int:
    """Run the demo, print what it found, and return the exit code: 1 if the three results differ or there is no input.

    Args:
        limit: the most files to survey; None surveys all.
        n_jobs: the option of `amorsize.map`.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    paths = source_files(folder, limit)
    if not paths:
        print(f"amorsize demo: no Python source files below {folder}", file=sys.stderr)
        return 1
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"{len(paths):,} source files of Python {python}'s standard library; {cores()} cores to use\n")
    with _nothing_remembered():
        timings = _time_all(paths, n_jobs)
    for timing in timings[1:]:
        if timing.figures != timings[0].figures:
            print(f"amorsize demo: {timing.name} gave other results than {timings[0].name}", file=sys.stderr)
            return 1
    print("\nAll three gave equal results.")
    for timing in timings[1:]:
        if timing.plan is not None:
            print(f"Why, {timing.name}: {timing.plan.reason}")
    figures = timings[0].figures
    lines = sum(module.lines for module in figures)
    print(f"\nLines in all: {lines:,}; files that do not parse: {sum(not module.parsed for module in figures)}")
    _print_modules("Largest modules", figures, lambda module: module.lines, folder)
    _print_modules("Most nested modules", figures, lambda module: module.deepest, folder)
    return 0


def _time_all(paths: list[str], n_jobs: int | None) -> list[Timing]:
    for path in paths:
        Path(path).read_bytes()  # so that no run, and above all not the first, pays for a cold disk

    def tuned() -> Stream[ModuleFigures]:
        return amorsize.map(survey, paths, n_jobs=n_jobs)

    contenders: tuple[tuple[str, Callable[[], Iterable[ModuleFigures]]], ...] = (
        ("builtin map", lambda: map(survey, paths)),
        ("amorsize.map, first", tuned),
        ("amorsize.map, again", tuned),
    )
    print(_COLUMNS.format("run", "seconds", "speed-up", "plan"))
    timings: list[Timing] = []
    for name, start in contenders:
        began = time.perf_counter()
        stream = start()
        figures = list(stream)
        timing = Timing(name, time.perf_counter() - began, figures, getattr(stream, "plan", None))
        timings.append(timing)
        speed_up = timings[0].seconds / timing.seconds
        # Each line is shown as soon as it is known, because all runs together take seconds.
        print(_COLUMNS.format(name, f"{timing.seconds:.2f}", f"{speed_up:.2f}", _in_words(timing)), flush=True)
    return timings


@contextmanager
def _nothing_remembered() -> Iterator[None]:
    """Give the block its own cache folder, so that the first run knows nothing and the user's cache is left alone."""
    variable = "AMORSIZE_CACHE_DIR"
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory(prefix="amorsize-demo-") as folder:
        os.environ[variable] = folder
        try:
            yield
        finally:
            amorsize.shutdown()
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    # The tree holds an `elif` as an If inside an If; only the column tells it from a nested `if`.
    return isinstance(node, ast.If) and isinstance(child, ast.If) and child.col_offset == node.col_offset


def _in_words(timing: Timing) -> str:
    plan = timing.plan
    if plan is None:
        return "-"
    if plan.backend == "serial":
        return "serial"
    return f"{plan.backend}, n_jobs={plan.n_jobs}, chunksize={plan.chunksize}"


def _print_modules(
    title: str, figures: Sequence[ModuleFigures], key: Callable[[ModuleFigures], int], folder: Path
) -> None:
    print(f"\n{_MODULES.format(title, 'lines', 'functions', 'classes', 'nesting')}")
    # The sort is stable, so modules with equal counts stand in the order of their paths.
    for module in sorted(figures, key=key, reverse=True)[:SHOWN_MODULES]:
        counts = (f"{count:,}" for count in (module.lines, module.functions, module.classes, module.deepest))
        print(_MODULES.format(os.path.relpath(module.path, folder), *counts))


_COLUMNS = "{:<20} {:>8} {:>9}  {}"
_MODULES = "{:<44} {:>7} {:>10} {:>8} {:>8}"

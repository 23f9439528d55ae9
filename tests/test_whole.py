"""The digest of whole values and code: the same in any process, and different for whatever may give other results."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading

import pytest

import amorsize
from amorsize.code.whole import UntoldError, whole_digest


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    """An object with a dictionary."""

    x: int
    y: float = 0.0

    def moved(self, by):
        return Point(self.x + by, self.y)


class Slotted:
    """An object without one."""

    __slots__ = ("part",)

    def __init__(self, part):
        self.part = part


DIFFERENT = [
    None, True, False, 0, 1, 1.0, -0.0, 0.0, 1j, "", "1", b"1", bytearray(b"1"), (), [], {}, set(), frozenset(), (1,),
    [1], {1}, frozenset({1}), {1: 1}, {1: None}, range(3), range(4), "a" * 10_000, "a" * 9_999 + "b", b"a" * 10_000,
    [[1], 2], [1, [2]], float("nan"), float("inf"), Ellipsis, int, str, len, os.path.join, Colour.RED, Colour.BLUE,
    Point(1), Point(2), Slotted(1), Slotted(2), dt.date(2020, 1, 1), dt.date(2020, 1, 2), array.array("i", [1]),
    decimal.Decimal("1.0"), decimal.Decimal("1.00"), fractions.Fraction(1, 2), pathlib.PurePosixPath("a"),
    re.compile("a"), re.compile("a", re.IGNORECASE), collections.Counter("ab"), collections.deque([1]),
    functools.partial(int), functools.partial(int, base=2), lambda number: number + 1, lambda number: number + 2,
    Point(1).moved, Point(2).moved,
    list(range(30_000)), [*range(29_999), 0], functools.cache(len), 10**50,
]  # fmt: skip


def test_what_differs_is_told_apart():
    """Every value from every other one, by its type too."""
    digests = [whole_digest(value) for value in DIFFERENT]

    assert len(set(digests)) == len(DIFFERENT)


@pytest.mark.parametrize("value", DIFFERENT, ids=lambda value: repr(value)[:20])
def test_it_is_the_same_each_time(value):
    """And nothing about the value changes."""
    assert whole_digest(value) == whole_digest(value)


def test_arrays_count_with_all_their_data():
    """One number in millions makes another array."""
    numpy = pytest.importorskip("numpy")
    first = numpy.zeros(1_000_000)
    second = first.copy()
    second[543_211] = 1.0

    assert whole_digest(first) == whole_digest(first.copy())
    assert whole_digest(first) != whole_digest(second)
    assert whole_digest(first) != whole_digest(first.reshape(1000, 1000))
    assert whole_digest(numpy.array([1, "a"], dtype=object)) != whole_digest(numpy.array([1, "b"], dtype=object))


@pytest.mark.parametrize("value", [threading.Lock(), sys.stdout, (number for number in "a"), [threading.Lock()]])
def test_what_cannot_be_told_is_refused(value):
    """Rather than taken for another of its type."""
    with pytest.raises(UntoldError, match="cannot be told"):
        whole_digest(value)


PROGRAM = """
import {module} as helpers
THRESHOLD = {threshold}
def scale(number): return number * {factor}
def unused(number): return {unused}
class Model:
    def __init__(self): self.weights = {{"a", "b", "c", "d"}}
    def __call__(self, number): return self.step(number)
    def step(self, number): return number + {step}
def function(number):
    return helpers.shift(scale(number)) if number > THRESHOLD else max([number])
import amorsize
from amorsize.code.whole import whole_digest
print(whole_digest(function).hex(), whole_digest(Model()).hex())
"""


@pytest.fixture
def digests(tmp_path):
    """Return the digests of a function and of an object in a fresh process, with another hash seed each time."""
    count = iter(range(100))

    def run(threshold=1, factor=2, unused=0, step=1, shift=1, comment=""):
        number = next(count)
        (tmp_path / "helpers.py").write_text(f"{comment}\ndef shift(number): return number + {shift}\n")
        script = tmp_path / "script.py"
        text = PROGRAM.format(module="helpers", threshold=threshold, factor=factor, unused=unused, step=step)
        script.write_text(comment + textwrap.dedent(text))
        environ = {**os.environ, "PYTHONHASHSEED": str(number + 1), "PYTHONDONTWRITEBYTECODE": "1"}
        environ["PYTHONPATH"] = str(pathlib.Path(amorsize.__file__).parents[1])
        command = [sys.executable, str(script)]
        return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.split()

    return run


@pytest.mark.slow
def test_code_counts_with_what_it_refers_to(digests):
    """A helper, a constant, a method, a function of another own module; comments and unused code do not."""
    function, model = digests()

    assert digests() == [function, model]
    assert digests(comment="# a comment\n\n") == [function, model]
    assert digests(unused=5) == [function, model]
    assert digests(threshold=2)[0] != function
    assert digests(factor=3)[0] != function
    assert digests(shift=2)[0] != function
    assert digests(step=2)[0] == function
    assert digests(step=2)[1] != model

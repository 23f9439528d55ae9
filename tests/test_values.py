"""What is an item made of? Told by types, and quickly."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass

import pytest

from amorsize.transport.values import holds_iterator, is_plain, plainly_hold_none

Pair = namedtuple("Pair", "first second")  # noqa: PYI024 - the plain kind


@dataclass
class Holder:
    """Holds rows in an attribute."""

    rows: object


class Slotted:
    """Holds rows in a slot."""

    __slots__ = ("rows", "unset")

    def __init__(self, rows):
        self.rows = rows


class Hiding(list):
    """Has an element, and does not show it."""

    def __iter__(self):
        raise AssertionError("asked")


class Awkward:
    """Makes something of each attribute."""

    def __getattr__(self, name):
        raise ZeroDivisionError(name)


def rows():
    return iter("ab")


@pytest.mark.parametrize(
    "value",
    [
        rows(), (1, rows()), [rows()], {"rows": rows()}, deque([rows()]), OrderedDict(rows=rows()), Pair(1, rows()),
        Holder(rows()), Slotted(rows()), Hiding([rows()]), {rows()}, (1, (2, rows())), Holder([rows()]),
        (number for number in ()), next(itertools.groupby("a")), [*range(5000), rows()], zip(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_iterators_are_found(value):
    """In an item itself, its elements, attributes and slots."""
    assert holds_iterator(value)


@pytest.mark.parametrize(
    "value",
    [1, None, "ab", [1, [2]], {"a": {"b": [1]}}, Holder([1]), Slotted(1), Hiding([1]), Awkward(), range(3), len, list],
    ids=lambda value: type(value).__name__,
)
def test_other_values_hold_none(value):
    """Nor does what makes iterators without being one."""
    assert not holds_iterator(value)


def test_a_value_that_holds_itself():
    """The look ends."""
    value = []
    value.append(value)
    assert not holds_iterator(value)


def test_nothing_is_pulled():
    """An iterator is as it was after the look."""
    iterator = rows()
    holds_iterator([iterator])
    assert list(iterator) == ["a", "b"]


@pytest.mark.parametrize("value", [1, 1.5, 1j, "a", b"a", True, None, (), (1, "a")], ids=repr)
def test_what_nobody_can_change(value):
    """Exact scalars, and exact tuples of them."""
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [[1], ([1],), ((1,),), Pair(1, 2), bytearray(b"a"), type("Number", (int,), {})(1), threading.Lock()],
    ids=lambda value: type(value).__name__,
)
def test_what_somebody_may_change(value):
    """Subclasses, too, may have attributes."""
    assert not is_plain(value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([{"a": 1}, {"b": "c"}], True), ([[1], [2, 3]], True), ([(1,), ("a", None)], True),
        ([{"a": [1]}], False), ([[1], [rows()]], False), ([(1, rows())], False), ([[1], (1,)], False),
        ([Holder(1)], False), ([list(range(100))], False),
    ],
)  # fmt: skip
def test_a_quick_look_at_many(values, expected):
    """Only what is plainly no iterator's holder passes; the rest is looked at one by one."""
    assert plainly_hold_none(values) is expected

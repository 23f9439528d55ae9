"""Before which pulls may a list that grows have nothing left?"""

from __future__ import annotations

import itertools
from collections import UserList

import pytest

from amorsize.feed.ends import Ends

todo = [1, 2]


def over_global():
    for node in todo:  # noqa: UP028 - the loop is what is tested
        yield node


def over_pairs():
    for node in todo:
        for other in range(2):
            yield node, other


def over_argument(nodes):
    for node in nodes:  # noqa: UP028
        yield node


def over_own():
    nodes = [1, 2]
    for node in nodes:  # noqa: UP028
        yield node


def over_batches(batches):
    for batch in batches:
        for node in batch:  # noqa: UP028
            yield node


def over_streams(nodes):
    for _ in nodes:
        yield from map(str, itertools.repeat(1, 2))


def delegating():
    yield from over_argument(todo)


class Sized:
    """Has the length that it is given."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length()

    def __iter__(self):
        return iter(())


def looks(iterable):
    """Return a mark for each pull of an input: X where a list may be near its end."""
    iterator = iter(iterable)
    ends = Ends((iterable,), (iterator,))
    marks = ""
    for index in itertools.count():
        marks += ".X"[ends.may_be_near(index)]
        if next(iterator, None) is None:
            break
    return marks


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: todo, "..X"),
        (lambda: iter(todo), "..X"),
        (lambda: enumerate(todo), "..X"),
        (lambda: zip(todo, itertools.count(), strict=False), "..X"),
        (lambda: map(str, filter(None, todo)), "..X"),
        (lambda: itertools.islice(todo, 9), "..X"),
        (lambda: (node for node in todo), "..X"),
        (lambda: (node for node in (other for other in todo)), "..X"),
        (lambda: (node for node in enumerate(todo)), "..X"),
        (over_global, "..X"),
        (over_pairs, "....X"),
        (lambda: over_argument(todo), "..X"),
        (delegating, "..X"),
        (lambda: itertools.chain(todo, [3]), "..XX"),
        (lambda: UserList(todo), "..X"),
    ],
)
def test_before_the_pull_that_would_end_a_list(make, expected):
    """A list that others may extend is told just when it has nothing left."""
    assert looks(make()) == expected


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: (1, 2), "..."),
        (lambda: range(2), "..."),
        (lambda: "ab", "..."),
        (over_own, "..."),
        (lambda: (number for number in range(2)), "..."),
        (lambda: over_batches([[1, 2], [3, 4]]), "....X"),
        (lambda: itertools.chain.from_iterable([[1, 2], [3, 4]]), "....X"),
        (lambda: itertools.chain(*[[1]] * 9), ".........X"),
    ],
)
def test_nothing_is_held_up_that_cannot_grow(make, expected):
    """Neither what has a fixed length, nor what only a generator has, nor each of many parts."""
    assert looks(make()) == expected


def test_a_list_around_other_iterators():
    """While an inner iterator that does not tell goes on, the outer list is not asked."""
    assert looks(over_streams([1]))[:2] == ".."


def test_a_length_that_fails_says_nothing():
    """It is only a hint."""

    def fail():
        raise OSError("gone")

    assert looks(Sized(fail)) == "."


def test_a_length_is_asked_again_only_near_the_end():
    """It may be dear."""
    asked = []
    ends = Ends((Sized(lambda: asked.append(1) or 5),), (iter(()),))

    assert [ends.may_be_near(index) for index in range(6)] == [False] * 5 + [True]
    assert len(asked) == 2


def test_a_length_that_was_wrong_is_no_more_asked():
    """There was an item though the length said otherwise."""
    ends = Ends((Sized(lambda: 1),), (iter(()),))
    assert ends.may_be_near(1)

    ends.disbelieve()

    assert not ends.may_be_near(2)


def test_a_list_that_grew_behind():
    """Of lists that were being read when the input ended, a longer one is told."""
    nodes = [1, 2]
    generator = (node for node in nodes if node < 2)
    ends = Ends((generator,), (generator,))
    next(generator)
    ends.look()
    assert list(generator) == []
    ends.note()
    assert not ends.has_grown()

    nodes.append(0)

    assert ends.has_grown()

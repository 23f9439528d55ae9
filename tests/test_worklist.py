"""Which inputs show in their code that they take items off something that results may add to?"""

from __future__ import annotations

import itertools
from collections import deque
from functools import partial
from queue import Queue

import pytest

from amorsize.code.worklist import worklist_call

todo = [1]
jobs: Queue[int] = Queue()
table = {1: 2}
take = todo.pop


class Client:
    """Gets and puts, as web clients do."""

    def get(self, address):
        return address

    def put(self, address):
        return address


class Crawler:
    """Takes nodes off a list of its own, to which others are added."""

    def __init__(self):
        self.nodes = deque([1])

    def each(self):
        nodes = self.nodes
        while nodes:
            yield nodes.popleft()

    def one(self):
        return self.nodes.pop()

    def each_by_method(self):
        while self.nodes:
            yield self.one()

    def __iter__(self):
        return self

    def __next__(self):
        return self.nodes.pop()


client = Client()


def popping():
    while todo:
        yield todo.pop()


def of_argument(nodes):
    while nodes:
        yield nodes.popleft()


def by_helper():
    while todo:
        yield helper()


def helper():
    return todo.pop()


def delegating():
    yield from of_argument(todo)


def by_nested(nodes):
    def one():
        return nodes.pop()

    while nodes:
        yield one()


def by_global_method():
    while todo:
        yield take()


def of_queue():
    while True:
        yield jobs.get(timeout=1)


def until_none():
    yield from iter(jobs.get, None)


def of_pairs():
    while table:
        yield table.popitem()


def of_own():
    stack = [1]
    while stack:
        yield stack.pop()


def of_table():
    for key in (1, 2):
        yield table.get(key)


def of_client():
    for key in (1, 2):
        yield client.get(key)


def of_keywords(**options):
    yield options.pop("first", None)


def of_own_that_is_named_like_an_argument(nodes):
    nodes = list(nodes)
    while nodes:
        yield nodes.pop()


SHOWING = {
    "popping": (popping, "todo.pop"),
    "argument": (lambda: of_argument(deque()), "nodes.popleft"),
    "helper": (by_helper, "todo.pop"),
    "delegating": (delegating, "nodes.popleft"),
    "nested": (lambda: by_nested(todo), "nodes.pop"),
    "global method": (by_global_method, "list.pop"),
    "queue": (of_queue, "jobs.get"),
    "until none": (until_none, "jobs.get"),
    "pairs": (of_pairs, "table.popitem"),
    "attribute": (lambda: Crawler().each(), "self.nodes.popleft"),
    "method": (lambda: Crawler().each_by_method(), "self.nodes.pop"),
    "class": (Crawler, "self.nodes.pop"),
    "bound method": (lambda: iter(todo.pop, 0), "list.pop"),
    "lambda": (lambda: iter(lambda: jobs.get(timeout=1), None), "jobs.get"),
    "partial": (lambda: iter(partial(jobs.get, timeout=1), None), "Queue.get"),
    "wrapped": (lambda: enumerate(map(str, popping())), "todo.pop"),
    "expression": (lambda: (node for node in popping()), "todo.pop"),
    "own expression": (lambda: (todo.pop() for _ in range(3)), "todo.pop"),
}


@pytest.mark.parametrize("name", SHOWING)
def test_what_shows(name):
    """The call is named as it stands in the code."""
    make, call = SHOWING[name]
    assert worklist_call(make()) == call


def test_one_that_has_begun():
    """What it delegates to is then at hand."""

    def outer(inner):
        yield from inner

    generator = outer(popping())
    todo.append(1)
    next(generator)
    assert worklist_call(generator) == "todo.pop"


@pytest.mark.parametrize(
    "make",
    [
        of_own, of_table, of_client, of_keywords, lambda: of_own_that_is_named_like_an_argument(todo),
        lambda: iter(todo), lambda: (node for node in todo), itertools.count, lambda: [1], lambda: None,
        lambda: iter(partial("text".partition, "e"), ""),
    ],
)  # fmt: skip
def test_what_shows_nothing(make):
    """Nobody else adds to what is a generator's own, and a look-up takes nothing off."""
    assert worklist_call(make()) is None


def test_what_an_executor_gives_is_no_worklist():
    """The standard library takes its results off a list of its own."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor:
        results = executor.map(str, [1, 2])
        assert worklist_call(results) is None
        assert list(results) == ["1", "2"]

"""Random programs give the builtin's answers: their records, lists, settings, patches and reloads in any order."""

from __future__ import annotations

import importlib
import itertools
import sys
from builtins import map as plain_map

import pytest

import amorsize

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SOURCE = """
SCALE = 1
CONFIG = {{"x": 1}}
NAMES = []

class Tool:
    step = 1
    def run(self, number):
        return "method {version}", self.step * number

def helper(number):
    return "helper {version}", SCALE * number, CONFIG["x"], tuple(NAMES)

def through(number):
    return helper(number)

def work(record):
    numbers = list(record) if hasattr(record, "__iter__") else [record]
    return [(through(number), Tool().run(number)) for number in numbers]
"""


class World:
    """A module on disk, and what programs do to it."""

    def __init__(self, folder):
        self.file = folder / "amorsize_test_world.py"
        self.versions = itertools.count()
        self.write()
        self.module = importlib.import_module("amorsize_test_world")

    def write(self):
        self.file.write_text(SOURCE.format(version=next(self.versions)))

    def scale(self, number):
        self.module.SCALE = number

    def config(self, number):
        self.module.CONFIG["x"] = number

    def name(self, number):
        self.module.NAMES.append(number)

    def step(self, number):
        self.module.Tool.step = number

    def method(self, number):
        self.module.Tool.run = lambda self, other: (number, other)

    def helper(self, number):
        self.module.helper = lambda other: (number, other)

    def edit(self, number):
        self.write()

    def reload(self, number):
        importlib.reload(self.module)

    def edit_and_reload(self, number):
        self.write()
        importlib.reload(self.module)


def records(count):
    """Yield one list again and again, filled anew."""
    record = []
    for number in range(count):
        record[:] = [number, number + 1]
        yield record



INPUTS = {
    "range": range,
    "list": lambda count: list(range(count)),
    "records": records,
    "tuples": lambda count: [(number, number) for number in range(count)],
    "generator": lambda count: (number for number in range(count)),
}
MAPPED = {
    "by name": lambda module: module.work,
    "by value": lambda module: lambda record: (module.SCALE, module.work(record)),
}


def growing(mapper, function, count):
    """Feed a list that grows with what comes back."""
    todo, done = [1], []
    for result in mapper(function, todo):
        done.append(result)
        if len(todo) < count:
            todo += [len(todo) + 1, len(todo) + 2]
    return done


ACTS = st.one_of(
    st.tuples(
        st.sampled_from(["scale", "config", "name", "step", "method", "helper", "edit", "reload", "edit_and_reload"]),
        st.integers(0, 3),
    ),
    st.tuples(st.just("call"), st.sampled_from(sorted(MAPPED)), st.sampled_from([*sorted(INPUTS), "growing"])),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, min_size=2, max_size=12), count=st.integers(1, 12))
def test_any_program_gives_the_builtins_answers(one_method, tmp_path, acts, count):
    """Whatever was changed between two calls, workers that stayed see what the caller sees."""
    before = sys.dont_write_bytecode, list(sys.path)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tmp_path))
    try:
        world = World(tmp_path)
        importlib.reload(world.module)
        for kind, *details in [*acts, ("call", "by name", "range")]:
            if kind != "call":
                getattr(world, kind)(*details)
                continue
            function = MAPPED[details[0]](world.module)

            def ours(function, items):
                return amorsize.map(function, items, **one_method)

            if details[1] == "growing":
                assert growing(ours, function, count) == growing(plain_map, function, count)
            else:
                make = INPUTS[details[1]]
                assert list(ours(function, make(count))) == list(plain_map(function, make(count)))
    finally:
        sys.dont_write_bytecode = before[0]
        sys.path[:] = before[1]
        sys.modules.pop("amorsize_test_world", None)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 60), size=st.integers(1, 5))
def test_items_that_are_gone_with_the_next_stay(count, size):
    """Groups that share their input are the builtin's, wherever the work runs."""

    def made():
        return ((key, group) for key, group in itertools.groupby(range(count), lambda number: number // size))

    def total(item):
        return item[0], sum(item[1])

    assert list(amorsize.map(total, made())) == list(plain_map(total, made()))

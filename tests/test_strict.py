"""The digest that is the same for the same thing in any process, and the walk over what a function refers to."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import functools
import importlib
import math
import pathlib
import subprocess
import sys
import textwrap

import pytest

from amorsize.code import reach
from amorsize.code.strict import ABSENT, class_content, class_shape, digest, is_foreign, own_place


def shift(number, by=1):
    return number + by


def make_adder(offset):
    return lambda number: number + offset


class Plain:
    """A class with a method and a number."""

    unit = 1

    def run(self):
        return self.unit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, True),
        (1, 1.0),
        ("a", b"a"),
        ([1, 2], [2, 1]),
        ([1], (1,)),
        ({"x": 1}, {"x": 2}),
        ({1}, {2}),
        ("a" * 10_000, "a" * 9_999 + "b"),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (dt.date(2020, 1, 1), dt.date(2020, 1, 2)),
        (pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b")),
        (collections.deque([1]), collections.deque([2])),
        (lambda x: x, lambda x: x + 1),
        (lambda x, y=1: x, lambda x, y=2: x),
        (make_adder(1), make_adder(2)),
        (functools.partial(shift, by=1), functools.partial(shift, by=2)),
        (staticmethod(lambda: 1), staticmethod(lambda: 2)),
        (property(lambda self: 1), property(lambda self: 2)),
        (functools.lru_cache(lambda: 1), functools.lru_cache(lambda: 2)),
        (math.sin, math.cos),
        (ABSENT, None),
    ],
    ids=repr,
)
def test_different_things_differ(one, other):
    """Values, types, order, code and what functions hold all count."""
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, {"a": (2.5, None)}], [1, {"a": (2.5, None)}]),
        ({"b", "a", "c"}, {"c", "b", "a"}),
        (make_adder(1), make_adder(1)),
        (functools.partial(shift, by=1), functools.partial(shift, by=1)),
    ],
    ids=repr,
)
def test_equal_things_made_anew_are_the_same(one, other):
    """Nothing comes from where a thing lies in memory."""
    assert digest(one) == digest(other)


def test_cycles_end():
    """A list that holds itself has a digest."""
    one, other = [1], [1]
    one.append(one)
    other.append(other)

    assert digest(one) == digest(other)


def test_every_process_agrees():
    """Hash seeds and memory count for nothing."""
    program = """
        import sys
        from amorsize.code.strict import digest
        print(digest([{"a", "b", "c", "d"}, frozenset({1.5, "x", None}), lambda x: x in {"p", "q", "r"}]).hex())
        """
    printed = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in range(3)
    }

    assert len(printed) == 1


def test_a_class_is_told_by_what_it_defines():
    """Content tells two definitions apart by values as well, shape by code alone."""

    def make(value, answer):
        return type("Made", (), {"value": value, "run": lambda self: answer})

    assert class_content(make(1, 2)) == class_content(make(1, 2))
    assert class_content(make(1, 2)) != class_content(make(3, 2))
    assert class_shape(make(1, 2)) == class_shape(make(3, 2))
    assert class_content(make(object(), 2)) == class_content(make(object(), 2))


def test_where_things_stand():
    """What can be imported has a place; what is hidden, local or of the main module has none."""
    assert own_place(shift) == (__name__, "shift")
    assert own_place(Plain.run) == (__name__, "Plain.run")
    assert own_place(make_adder(1)) is None
    assert own_place(3) is None


@pytest.mark.parametrize(("module", "foreign"), [("os.path", True), ("pytest", True), (__name__, False)])
def test_foreign_modules(module, foreign):
    """The standard library and installed packages are, the user's own modules are not."""
    assert is_foreign(module) is foreign


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Give a module of the user's, on disk."""
    source = """
        import os
        SCALE = 1
        TABLE = {"x": [1]}
        class Base:
            def name(self): return "base"
        class Tool(Base):
            step = 1
            def run(self): return self.step
        def low(): return SCALE
        HANDLERS = {"low": low}
        def work(x): return HANDLERS["low"]() + Tool().run() + TABLE["x"][0] + len(os.sep)
        """
    (tmp_path / "amorsize_test_reach.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("amorsize_test_reach")
    del sys.modules["amorsize_test_reach"]


def places(function):
    return {f"{entry.module}.{entry.path}" for entry in reach.surroundings(function).entries}


def test_what_a_function_reaches(module):
    """Its helpers, also in tables, classes with their bases and attributes, settings, and names of other modules."""
    name = module.__name__
    expected = ["work", "HANDLERS", "low", "SCALE", "Tool", "Tool.run", "Tool.step", "Base", "Base.name", "TABLE"]

    assert {f"{name}.{path}" for path in expected} <= places(module.work)
    assert {"os.sep", "builtins.len"} <= places(module.work)
    assert not {place for place in places(module.work) if place.startswith("amorsize.")}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda module: setattr(module, "SCALE", 2), "SCALE"),
        (lambda module: setattr(module, "low", lambda: 5), "low"),
        (lambda module: setattr(module.Tool, "step", 2), "Tool.step"),
        (lambda module: setattr(module.Tool, "run", lambda self: 2), "Tool.run"),
        (lambda module: setattr(module.Base, "name", lambda self: "x"), "Base.name"),
        (lambda module: module.TABLE["x"].append(3), "TABLE"),
        (lambda module: delattr(module, "SCALE"), "SCALE"),
    ],
    ids=["setting", "function", "class attribute", "method", "base", "data in place", "deleted"],
)
def test_a_change_is_seen(module, change, place):
    """Here by a look at the same function, and in another process by the places."""
    before = reach.surroundings(module.work)
    assert reach.surroundings(module.work) is before
    assert reach.different(before.entries) == []

    change(module)

    assert (module.__name__, place) in reach.different(before.entries)
    if place != "low":  # the table still holds the old one
        assert reach.surroundings(module.work).digest != before.digest


def test_large_data_are_not_looked_at_each_time(module):
    """A change deep inside is not noticed where looking would take longer than it is worth."""
    module.TABLE["x"] = list(range(1_000))
    before = reach.surroundings(module.work)
    module.TABLE["x"][500] = -1

    assert reach.surroundings(module.work, 64) is before
    assert reach.surroundings(module.work, 5_000) is not before


@pytest.mark.parametrize(
    "statement",
    [
        "from multiprocessing import shared_memory",
        "from multiprocessing.shared_memory import SharedMemory",
        "import multiprocessing.shared_memory",
    ],
)
def test_code_that_imports_shared_memory_is_told(statement):
    """Also where a function only calls, or is a method of, what does so."""
    space = {"__name__": "__main__"}
    text = f"""
        def plain(x): return x
        def low(x):
            {statement}
        def work(x): return low(x)
        class Tool:
            def run(self, x): return work(x)
        """
    exec(textwrap.dedent(text), space)  # noqa: S102

    assert reach.surroundings(space["work"]).shares
    assert reach.surroundings(space["Tool"]().run).shares
    assert not reach.surroundings(space["plain"]).shares


def test_callables_made_of_parts(module):
    """Partials, bound methods and instances reach what their parts reach."""
    bound, partial = module.Tool().run, functools.partial(module.work)

    assert f"{module.__name__}.Tool.step" in places(bound)
    assert places(partial) == places(module.work)
    assert places(abs) == places(enum) == set()


class Reached:
    """Has methods that may be mapped by themselves."""

    @staticmethod
    def static(item):
        return item + LIMIT

    @classmethod
    def of_class(cls, item):
        return cls.static(item)

    def plain(self, item):
        return item


LIMIT = 3


@pytest.mark.parametrize("function", [Reached.static, Reached.of_class, Reached.plain, Reached().plain])
def test_a_method_is_entered_as_it_is_stored(function):
    """What stands at its place may be a static method around it, and that is what another process finds there."""
    entries = reach.surroundings(function).entries

    assert entries
    assert reach.different(entries) == []

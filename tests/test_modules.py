"""Which modules a function needs is read from its parts and its code; none of its own code runs."""

from __future__ import annotations

import math
import sys
import tracemalloc
import types
from functools import partial
from importlib.machinery import ModuleSpec

import item_programs
import pool_workers
import pytest
import workers

import amorsize
from amorsize.code import modules
from amorsize.code.modules import modules_to_load, wanted_modules
from amorsize.seeding import Seeded


@pytest.fixture
def main_function():
    """Give a function that compiles a text as if it were the main module, and returns what it calls `work`."""

    def compiled(text):
        space = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(text, space)  # noqa: S102 - a test's own text
        return space["work"]

    return compiled


class Held:
    """Has a method, which is no class of the main module."""

    def method(self, number):
        return number


@pytest.mark.parametrize(
    "function",
    [
        workers.square,
        partial(workers.square, 3),
        partial(map, workers.square),
        amorsize.parallelize(workers.square),
        Seeded(workers.square, 3, draws=True, numpy=False, asks=False),
    ],
    ids=["function", "partial", "argument", "decorated", "seeded"],
)
def test_the_functions_own_module(function):
    """Whatever is around the function."""
    assert wanted_modules(function) == {"workers"}


def test_a_methods_object():
    """The module of its class, which is not the method's when it is inherited."""
    here = Held()

    assert wanted_modules(here.method) == {__name__}
    assert wanted_modules(pool_workers.Once(".", 1, workers.square)) == {"pool_workers"}


@pytest.mark.parametrize(
    "text",
    [
        "import workers\ndef work(x): return workers.square(x)",
        "from workers import square\ndef work(x): return square(x)",
        "def work(x):\n import workers\n return workers.square(x)",
        "def work(x): return [__import__('os') for _ in x]\nimport workers\nwork = lambda x: (lambda: workers)()",
        "from workers import square\ndef helper(x): return square(x)\ndef work(x): return helper(x)",
        "import workers\nclass Held: pass\nheld = Held()\nheld.part = workers.square\ndef work(x): return held",
        "import workers\nparts = [workers.square]\ndef work(x): return parts",
        "import workers\ndef outer():\n part = workers.square\n return lambda x: part(x)\nwork = outer()",
        "import workers\nclass Base:\n def go(self, x): return workers\nclass Held(Base): pass\nwork = Held().go",
    ],
    ids=["global", "name", "import", "nested", "helper", "attribute", "list", "closure", "class"],
)
def test_code_of_the_main_module(text, main_function):
    """Its globals, helpers, imports and enclosing variables count, as they travel with it."""
    assert wanted_modules(main_function(text)) == {"workers"}


def test_parts_of_packages_that_the_code_names(main_function, monkeypatch):
    """A module within a package is wanted if the code mentions it and it is loaded."""
    for name in ("amorsize_test_pack", "amorsize_test_pack.inner", "amorsize_test_pack.other"):
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["amorsize_test_pack"].inner = sys.modules["amorsize_test_pack.inner"]

    wanted = wanted_modules(main_function("import amorsize_test_pack\ndef work(x): return amorsize_test_pack.inner.f"))

    assert wanted == {"amorsize_test_pack", "amorsize_test_pack.inner"}


def test_modules_that_cannot_be_imported_by_name(main_function, monkeypatch):
    """Those made by hand, those still being imported, the standard library's and ours do not count."""
    made = types.ModuleType("amorsize_test_made")
    early = types.ModuleType("amorsize_test_early")
    early.__spec__ = ModuleSpec("amorsize_test_early", None)
    early.__spec__._initializing = True
    for module in (made, early):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    imported = "amorsize_test_made as a, amorsize_test_early as b, json as c, amorsize as d"
    text = f"import {imported}\ndef work(x): return a, b, c, d"

    assert wanted_modules(main_function(text)) == frozenset()
    assert wanted_modules(len) == frozenset()


def test_no_code_runs():
    """An object that answers every question with an error is as good as any."""

    class Wild:
        def __getattr__(self, name):
            raise LookupError(name)

        def __call__(self, number):
            return number

    with pytest.raises(LookupError):
        _ = Wild().anything
    assert wanted_modules(Wild()) == {__name__}
    assert item_programs.__name__ in wanted_modules(partial(workers.square, item_programs))


@pytest.fixture
def installed(monkeypatch):
    """Give a way to pretend that a module is installed and loaded."""

    def make(name, **names):
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


class TestModulesToLoad:
    """How many modules a fresh interpreter would load."""

    def test_none_of_the_standard_library(self):
        """They take little time each."""
        assert modules_to_load(math.sqrt) == 0

    def test_those_that_modules_refer_to(self, installed, main_function):
        """As modules, by functions and by classes; with their packages, and each once."""
        installed("low_package")
        low = installed("low_package.low")
        other = installed("other")
        kind = type("Kind", (), {"__module__": "other"})
        installed("unrelated")
        top = installed("top", low=low, Kind=kind, sqrt=math.sqrt)
        vars(other)["top"] = top
        work = main_function("def work(n): import top; return top.low")

        assert modules_to_load(work) == 4

    def test_all_in_a_program_with_very_many_names(self, installed, main_function, monkeypatch):
        """Looking at all would take longer than it is worth."""
        monkeypatch.setattr(modules, "_MOST_NAMES", 10)
        installed("unrelated")
        installed("top", **{f"name{number}": number for number in range(20)})
        work = main_function("def work(n): import top; return n")

        assert modules_to_load(work) >= 2 + len({"pytest"} & sys.modules.keys())

    def test_a_module_that_is_loaded_later_counts(self, installed, main_function):
        """What was counted holds as long as nothing was loaded."""
        top = installed("top")
        work = main_function("def work(n): import top; return n")
        assert modules_to_load(work) == 1
        vars(top)["late"] = installed("late")

        assert modules_to_load(work) == 2

    def test_large_data_are_not_copied(self, main_function):
        """A table of the main module may have millions of entries."""
        work = main_function("TABLE = dict.fromkeys(range(300_000))\ndef work(n): return TABLE[n]")
        tracemalloc.start()
        try:
            modules_to_load(work)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_odd_names_are_passed_over(self, installed, main_function):
        """Modules without a name, and classes that say anything of their module."""
        nameless = types.ModuleType("nameless")
        del vars(nameless)["__name__"]
        odd = type("Odd", (), {"__module__": ["unhashable"]})
        installed("top", nameless=nameless, Odd=odd)
        work = main_function("def work(n): import top; return n")

        assert modules_to_load(work) == 1

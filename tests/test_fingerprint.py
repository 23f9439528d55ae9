from __future__ import annotations

import functools
import gc
import math
import os
import subprocess
import sys
import textwrap
import types
import weakref

import pytest

from amorsize import parallelize
from amorsize.code import bytecode, describe, fingerprint
from amorsize.state import reset_all


def made(source, name="work", **names):
    """Return the function `name` that `source` defines in a module of its own."""
    module = types.ModuleType("usercode")
    vars(module).update(names)
    exec(compile(textwrap.dedent(source), "usercode.py", "exec"), vars(module))  # noqa: S102
    return vars(module)[name]


def digits(source, name="work", **names):
    return fingerprint.fingerprint(made(source, name, **names))


BASE = """
    def work(x):
        return x * 2
"""


def test_it_is_sixteen_hex_digits():
    """A fingerprint is 16 lower-case hex digits."""
    found = digits(BASE)
    assert len(found) == 16
    assert set(found) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "same",
    [
        "# a comment\n\n\ndef work(x):\n    # another\n    return x * 2\n",
        "def work(x):\n\n\n    return x * 2",
        "def work(y): return (y\n * 2)",
        "other = 3\ndef work(x):\n    return x * 2",
    ],
)
def test_layout_does_not_count(same):
    """Comments, blank lines, line breaks, local names and unrelated globals change nothing."""
    assert digits(same) == digits(BASE)


def test_the_docstring_does_not_count():
    """Another docstring is still the same work."""
    assert digits('def work(x):\n "one"\n return x * 2') == digits('def work(x):\n "two"\n return x * 2')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BASE, "def work(x):\n return x * 3"),
        (BASE, "def work(x):\n return x + 2"),
        ("def work(x): return abs(x)", "def work(x): return len(x)"),
        ("def work(x): return x.real", "def work(x): return x.imag"),
        ("def work(x, n=1): return x", "def work(x, n=2): return x"),
        ("def work(x, *, n=1): return x", "def work(x, *, n=2): return x"),
        ("def work(x): return [y * 2 for y in x]", "def work(x): return [y * 3 for y in x]"),
        ("N = 1\ndef work(x): return x * N", "N = 2\ndef work(x): return x * N"),
        ("N = 1\ndef work(x): return x * N", "N = 1.0\ndef work(x): return x * N"),
        ("N = (1, 2)\ndef work(x): return N", "N = (1, 3)\ndef work(x): return N"),
        ("N = [1]\ndef work(x): return N", "N = (1,)\ndef work(x): return N"),
        ("N = {'a': 1}\ndef work(x): return N", "N = {'a': 2}\ndef work(x): return N"),
        ("N = {1, 2}\ndef work(x): return N", "N = {1, 3}\ndef work(x): return N"),
        ("N = 'a'\ndef work(x): return N", "N = 'b'\ndef work(x): return N"),
        ("N = b'a'\ndef work(x): return N", "N = bytearray(b'a')\ndef work(x): return N"),
        ("N = 1j\ndef work(x): return N", "N = 2j\ndef work(x): return N"),
        ("N = range(3)\ndef work(x): return N", "N = range(4)\ndef work(x): return N"),
        ("N = None\ndef work(x): return N", "N = ...\ndef work(x): return N"),
        ("N = 10**5000\ndef work(x): return N", "N = 10**5001\ndef work(x): return N"),
        ("N = 'a' * 9000\ndef work(x): return N", "N = 'a' * 9001\ndef work(x): return N"),
        ("N = b'a' * 9000\ndef work(x): return N", "N = b'a' * 9001\ndef work(x): return N"),
        ("N = [0] * 999\ndef work(x): return N", "N = [0] * 998 + [1]\ndef work(x): return N"),
        ("N = set(range(999))\ndef work(x): return N", "N = set(range(998))\ndef work(x): return N"),
        ("N = dict.fromkeys(range(999))\ndef work(x): return N", "N = dict.fromkeys(range(9))\ndef work(x): return N"),
        ("def h(x): return 1\ndef work(x): return h(x)", "def h(x): return 2\ndef work(x): return h(x)"),
        (
            "def g(x): return 1\ndef h(x): return g(x)\ndef work(x): return h(x)",
            "def g(x): return 2\ndef h(x): return g(x)\ndef work(x): return h(x)",
        ),
        (
            "class C:\n def __init__(self): self.a = 1\ndef work(x): return C()",
            "class C:\n def __init__(self): self.a = 2\ndef work(x): return C()",
        ),
        (
            "def work(x):\n class C:\n  a = N\n return C\nN = 1",
            "def work(x):\n class C:\n  a = N\n return C\nN = 2",
        ),
        (
            "import functools\ndef h(n, x): return x\np = functools.partial(h, 1)\ndef work(x): return p(x)",
            "import functools\ndef h(n, x): return x\np = functools.partial(h, 2)\ndef work(x): return p(x)",
        ),
    ],
)
def test_what_decides_the_cost_counts(one, other):
    """A change of bytecode, constants, names, defaults, globals or called helpers changes the fingerprint."""
    assert digits(one) != digits(other)


def test_a_closure_value_counts():
    """The same inner function over another value is other work."""
    source = "def outer(n):\n def work(x): return x * n\n return work"
    outer = made(source, "outer")
    assert fingerprint.fingerprint(outer(1)) == fingerprint.fingerprint(outer(1))
    assert fingerprint.fingerprint(outer(1)) != fingerprint.fingerprint(outer(2))


def test_an_empty_cell_is_a_value_of_its_own():
    """A closure variable that is not assigned yet neither fails nor equals one that is."""
    source = """
        def outer(assign):
            def work(x): return later
            if assign:
                later = 1
            return work
    """
    outer = made(source, "outer")
    assert fingerprint.fingerprint(outer(False)) != fingerprint.fingerprint(outer(True))


def test_a_cell_that_is_filled_later_is_noticed():
    """The remembered answer is given up when an empty cell gets its value."""
    outer = made("def outer():\n def work(x): return n\n yield work\n n = 1\n yield work", "outer")
    steps = outer()
    before = fingerprint.fingerprint(next(steps))
    assert fingerprint.fingerprint(next(steps)) != before


def test_variables_that_the_function_rebinds_do_not_count():
    """A counter kept in a global or an enclosing variable does not make every call new."""
    work = made("count = 0\ndef work(x):\n global count\n count += 1\n return x")
    before = fingerprint.fingerprint(work)
    work(1)
    reset_all()
    assert fingerprint.fingerprint(work) == before
    counter = made("def outer():\n n = 0\n def work(x):\n  nonlocal n\n  n += 1\n  return n\n return work", "outer")()
    before = fingerprint.fingerprint(counter)
    counter(1)
    reset_all()
    assert fingerprint.fingerprint(counter) == before


def test_variables_of_its_own_do_not_count():
    """A local that an inner function uses is not taken for a global of the same name."""
    source = "n = {}\ndef work(x):\n n = x\n return lambda: n"
    assert digits(source.format(1)) == digits(source.format(2))


def test_it_is_told_whether_a_function_is_remembered():
    """`remembers` tells whether the next fingerprint of this object costs near nothing."""
    work = made(BASE)
    assert not fingerprint.remembers(work)
    fingerprint.fingerprint(work)
    assert fingerprint.remembers(work)
    assert not fingerprint.remembers(made(BASE))


def test_a_changed_global_is_noticed_on_a_remembered_function():
    """Rebinding a global, a helper, the code or the defaults gives another answer at the next look-up."""
    work = made("N = 1\ndef h(x): return x\ndef work(x, n=1): return h(x) * N")
    answers = [fingerprint.fingerprint(work)]
    work.__globals__["N"] = 2
    answers.append(fingerprint.fingerprint(work))
    work.__globals__["h"].__code__ = (lambda x: x + 1).__code__
    answers.append(fingerprint.fingerprint(work))
    work.__globals__["h"] = abs
    answers.append(fingerprint.fingerprint(work))
    work.__defaults__ = (2,)
    answers.append(fingerprint.fingerprint(work))
    del work.__globals__["h"]
    answers.append(fingerprint.fingerprint(work))
    work.__kwdefaults__ = {"n": 1}
    answers.append(fingerprint.fingerprint(work))
    assert len(set(answers)) == len(answers)


def test_a_changed_closure_value_is_noticed_on_a_remembered_function():
    """Rebinding an enclosing variable from outside gives another answer at the next look-up."""
    source = "def outer(n):\n def work(x): return n\n def change(m):\n  nonlocal n\n  n = m\n return work, change"
    work, change = made(source, "outer")(1)
    before = fingerprint.fingerprint(work)
    change(2)
    assert fingerprint.fingerprint(work) != before


def test_a_helper_that_died_is_noticed():
    """A remembered function whose helper was replaced and freed is described anew."""
    work = made("def h(x): return x\ndef work(x): return h(x)")
    before = fingerprint.fingerprint(work)
    work.__globals__["h"] = None
    gc.collect()
    assert fingerprint.fingerprint(work) != before


def test_a_helper_that_is_gone_is_noticed():
    """A function reached through another one is checked even after its death."""
    work = made("def h(x): return x\nclass C:\n def __init__(self): pass\ndef work(x): return h, C")
    before = fingerprint.fingerprint(work)
    del work.__globals__["C"].__init__
    gc.collect()
    assert fingerprint.fingerprint(work) != before


def test_an_unchanged_function_is_not_described_again(monkeypatch):
    """A second look-up answers from what is remembered."""
    work = made("N = [1]\ndef h(x): return x\ndef work(x): return h(x), N, len(x)")
    before = fingerprint.fingerprint(work)
    monkeypatch.setattr(describe, "Walk", None)
    assert fingerprint.fingerprint(work) == before


def test_remembering_keeps_no_function_alive():
    """A function that refers to itself is freed with its last outside reference, and forgotten."""
    work = made("def work(x): return work(x - 1) if x else 0")
    fingerprint.fingerprint(work)
    place, dead = id(work), weakref.ref(work)
    del work
    gc.collect()
    assert dead() is None
    assert place not in fingerprint._remembered


def test_a_reused_address_never_answers_for_another():
    """Functions that come and go at one address each get their own fingerprint."""
    found = {n: digits(f"def work(x): return x * {n}") for n in range(100)}
    assert len(set(found.values())) == 100


def test_memory_of_functions_is_bounded(monkeypatch):
    """More functions than the bound do not grow the memory beyond it."""
    monkeypatch.setattr(fingerprint, "_MAX_REMEMBERED", 3)
    reset_all()
    functions = [made(f"def work(x): return {n}") for n in range(10)]
    for function in functions:
        fingerprint.fingerprint(function)
    assert len(fingerprint._remembered) <= 3


def test_partials_count_by_their_parts():
    """Function, arguments and keywords of a partial decide; its identity does not."""
    work = made("def work(x, y=0, z=0): return x")
    same = fingerprint.fingerprint(functools.partial(work, 1, z=2))
    assert fingerprint.fingerprint(functools.partial(work, 1, z=2)) == same
    others = [functools.partial(work, 2, z=2), functools.partial(work, 1, z=3), functools.partial(abs, 1, z=2), work]
    assert same not in {fingerprint.fingerprint(other) for other in others}


def test_bound_methods_count_by_their_parts():
    """A method's function and its object's class decide."""
    source = "class C:\n def m(self, x): return {0}\n def n(self, x): return {0} + x"
    one, other = made(source.format(1), "C"), made(source.format(2), "C")
    found = fingerprint.fingerprint(one().m)
    assert fingerprint.fingerprint(one().m) == found
    assert fingerprint.fingerprint(other().m) != found
    assert fingerprint.fingerprint(one().n) != found


def test_a_bound_method_that_is_called_counts():
    """A global that is a bound method is walked by its parts."""
    source = "class C:\n def m(self, x): return {}\nm = C().m\ndef work(x): return m(x)"
    assert digits(source.format(1)) == digits(source.format(1))
    assert digits(source.format(1)) != digits(source.format(2))


def test_native_functions_count_by_name():
    """Functions written in C are told apart by module and name."""
    functions = [abs, len, math.sqrt, math.floor, str.upper, str.lower, [].append, int, float]
    assert len({fingerprint.fingerprint(function) for function in functions}) == len(functions)
    assert fingerprint.fingerprint([1].append) == fingerprint.fingerprint([].append)


def test_callable_objects_count_by_class_and_version(monkeypatch):
    """An object is known by its class, what its `__call__` does, and the version of its package."""
    source = "class C:\n __slots__ = ()\n def __call__(self, x): return {}"
    one, other = made(source.format(1), "C")(), made(source.format(2), "C")()
    assert fingerprint.fingerprint(one) == fingerprint.fingerprint(type(one)())
    assert fingerprint.fingerprint(one) != fingerprint.fingerprint(other)
    package = types.ModuleType("somepackage")
    monkeypatch.setitem(sys.modules, "somepackage", package)
    type(one).__module__ = "somepackage.part"
    found = set()
    for version in (None, "1.0", "1.1", 2):
        package.__version__ = version
        reset_all()
        found.add(fingerprint.fingerprint(one))
    assert len(found) == 3  # a version that is not text says nothing


def test_a_wrapper_counts_with_what_it_wraps():
    """A cached function is other work than the plain one, and changes with it."""
    one, other = made(BASE), made("def work(x): return x * 3")
    found = {fingerprint.fingerprint(f) for f in (one, functools.lru_cache(one), functools.lru_cache(other))}
    assert len(found) == 3


def test_our_decorator_does_not_count():
    """A decorated function of ours is the same work as the plain one."""
    work = made(BASE)
    assert fingerprint.fingerprint(parallelize(work)) == fingerprint.fingerprint(work)


def test_mutual_recursion_ends():
    """Functions and classes that refer to each other are each described once."""
    source = "class C:\n def __init__(self, x): work(x)\ndef h(x): return work(x)\ndef work(x): return h(x), C"
    assert digits(source) == digits(source)


def test_a_value_that_contains_itself_ends():
    """Depth is bounded, so a list within itself is described in bounded time."""
    nested = []
    nested.append(nested)
    assert digits("def work(x): return N", N=nested) == digits("def work(x): return N", N=nested)


def test_the_number_of_parts_is_bounded(monkeypatch):
    """A function that reaches very much is still described in bounded time."""
    monkeypatch.setattr(describe, "_MAX_PARTS", 50)
    wide = [[0] * 100] * 100
    walk = describe.Walk("usercode")
    walk.part(made("def work(x): return N", N=wide))
    assert digits("def work(x): return N", N=wide) == digits("def work(x): return N", N=wide)


def test_the_standard_library_counts_by_name():
    """A helper from the standard library, or from another package with a version, is not walked into."""
    work = made("import textwrap\nfrom textwrap import dedent\ndef work(x): return dedent(x), textwrap.fill")
    fingerprint.fingerprint(work)
    owners = [facts.owner() for facts in fingerprint._remembered[id(work)].facts]
    assert owners == [work]


def test_a_helper_reached_through_a_module_counts():
    """`helpers.part(x)` is followed through a module of the user's own, and its change is noticed."""
    helpers = types.ModuleType("helpers")
    exec("def part(x): return 1", vars(helpers))  # noqa: S102
    work = made("def work(x): return helpers.part(x)", helpers=helpers)
    before = fingerprint.fingerprint(work)
    assert fingerprint.fingerprint(work) == before
    exec("def part(x): return 2", vars(helpers))  # noqa: S102
    assert fingerprint.fingerprint(work) != before


def test_unusual_names_do_not_matter():
    """A function without a module name, and text that is no valid Unicode, are described too."""
    work = made("def work(x): return N", N="\udc80")
    work.__module__ = None
    assert len(fingerprint.fingerprint(work)) == 16


def test_long_argument_numbers_are_read_whole():
    """A function with more than 256 names still tells which of them it rebinds."""
    many = "\n".join(f"    g{n}" for n in range(300))
    source = f"def work(x):\n    global last\n{many}\n    last = 1\n    return first"
    names = bytecode.outer_names(made(source).__code__)
    assert {"g0", "g299", "first"} <= names.read
    assert "last" not in names.read


def test_tracing_does_not_count():
    """A debugger or a coverage tool that watches the function changes nothing."""
    work = made(BASE)
    before = fingerprint.fingerprint(work)
    previous = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        for _ in range(100):
            work(1)
        reset_all()
        assert fingerprint.fingerprint(work) == before
    finally:
        sys.settrace(previous)


def test_specialised_bytecode_does_not_count():
    """What the interpreter makes of a hot function is not what is described."""
    work = made("def h(x): return x\ndef work(x): return h(x) + x.real")
    before = fingerprint.fingerprint(work)
    for _ in range(5_000):
        work(1)
    reset_all()
    assert fingerprint.fingerprint(work) == before


@pytest.mark.slow
def test_every_process_agrees():
    """The fingerprint is the same under every hash seed."""
    code = """if True:
        from amorsize.code.fingerprint import fingerprint
        S = {"a", "b", "c", ("d", 1)}
        D = {name: {name} for name in S}
        def helper(x): return x in {"x", "y", "z"}
        def work(x, n=frozenset("abc")): return helper(x), S, D
        print(fingerprint(work))
    """
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(found) == 1

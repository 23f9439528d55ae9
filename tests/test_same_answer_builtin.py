"""A program may put `amorsize.map` in the place of the builtin: it runs as before."""

from __future__ import annotations

import ast
import itertools
import multiprocessing
import operator
import textwrap
from builtins import map as builtin_map
from pathlib import Path

import pytest

import amorsize
from amorsize import lean

PACKAGE = Path(amorsize.__file__).parent
PROGRAM = """
import builtins, sys, time
import amorsize
builtins.map = amorsize.map

def busy(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(100))

"""


def uses_of_map(path):
    """Yield the lines that read the name `map` in a module that does not import it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "map" for alias in node.names) for node in ast.walk(tree)
    )
    if not imported:
        yield from (node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "map")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_takes_the_builtin_from_one_place(path):
    """No module of ours reads a name that may mean something else by then."""
    if path.name not in {"lean.py", "api.py"}:
        assert list(uses_of_map(path)) == []


def test_the_captured_one_is_the_builtin():
    """Whatever stands in its place."""
    assert lean.map is builtin_map


def test_it_is_found_where_it_was_replaced_before(tmp_path, python):
    """A second import, or one after a plugin, finds the builtin all the same."""
    script = tmp_path / "script.py"
    script.write_text(
        "import builtins\n"
        "real = builtins.map\n"
        "builtins.map = lambda *given: real(*given)\n"
        "import amorsize\n"
        "from amorsize import lean\n"
        "print(lean.map is real, list(amorsize.map(abs, [-1, 2])))\n"
    )

    child = python(script)

    assert child.stdout == "True [1, 2]\n", child.stderr


PROGRAMS = {
    "short and long work": """
def work(x):
    busy(.003)
    return sum(map(int, str(x)))
print(list(map(work, range(60))))
print(list(map(str, range(5))), list(map(pow, [2, 3], [3, 2])), max(map(len, ["a", "bb"])))
print(sum(map(lambda x: x + 1, range(1000))))
""",
    "named workers": """
def work(x): return list(map(abs, [x, -x]))
for method in ["fork", "spawn", "forkserver"]:
    if method in __import__("multiprocessing").get_all_start_methods():
        print(list(amorsize.map(work, range(6), backend="processes", n_jobs=2, start_method=method)))
""",
    "the standard library": """
import statistics, ipaddress, inspect, enum, argparse, json, fractions
print(statistics.mean([1, 2, 3]), ipaddress.ip_address("10.0.0.1"), fractions.Fraction("1/3"))
print(inspect.signature(busy), argparse.ArgumentParser(prog="x").format_usage().strip())
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(2) as executor:
    print(list(executor.map(abs, [-1, -2])))
""",
    "a class whose pickling maps": """
class Item:
    def __init__(self, x): self.x = x
    def __reduce__(self): return Item, tuple(map(int, [self.x]))
def work(item):
    busy(.003)
    return item.x
print(list(map(work, [Item(x) for x in range(60)])))
""",
    "threads": """
import threading
found = []
def run(): found.append(list(map(abs, range(-50, 0))))
threads = [threading.Thread(target=run) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(found), found[0] == found[3] == list(range(50, 0, -1)))
""",
}


PROGRAMS |= {
    "what the name is used for": """
import itertools, functools, pickle, types
class Mine(map):
    def more(self): return 1
class Holder:
    mapper = map
@functools.singledispatch
def kind(x): return "something else"
kind.register(map, lambda x: "a map")
def matched(x):
    match x:
        case map(): return True
    return False
made = map(abs, [-1])
print(isinstance(made, map), isinstance(types.SimpleNamespace(), map), isinstance(map, type), kind(made), kind([]))
print(issubclass(Mine, map), isinstance(Mine(abs, []), map), issubclass(list, map), list(Mine(abs, [-1])))
print(Mine(abs, []).more(), list(Holder().mapper(abs, [-1])), matched(made), matched([]))
print(bool(map | None), map.__name__, pickle.loads(pickle.dumps(map)) is map)
print([list(part) for part in itertools.tee(map(abs, [-1, 2]))])
""",
    "wrong arguments": """
for given in [(), (abs,), (abs, 3), (abs, [1], 3)]:
    try:
        map(*given)
    except TypeError as error:
        print(len(given), "TypeError")
try:
    list(map(None, [1]))
except TypeError as error:
    print(error)
""",
    "items that map": """
import functools
def work(x, y=0): busy(.003); return sum(map(abs, [x, -y]))
print(list(map(work, range(60))), list(map(work, range(60), range(60))))
print(list(map(functools.partial(work, y=2), range(60))))
print(list(map(list, map(map, [abs] * 2, [[-1], [-2]]))))
""",
}

@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("backend", ["", "serial"])
def test_a_program_runs_as_before(name, backend, tmp_path, python, monkeypatch):
    """Its answers are those that it has with the builtin."""
    if backend and name == "named workers":
        pytest.skip("it names its backend itself")
    if backend:
        monkeypatch.setenv("AMORSIZE_BACKEND", backend)
    script = tmp_path / "script.py"
    script.write_text(PROGRAM + PROGRAMS[name])
    child = python(script)
    script.write_text(PROGRAM.replace("builtins.map = amorsize.map\n", "") + PROGRAMS[name])
    plain = python(script)

    assert child.stderr == ""
    assert child.stdout == plain.stdout
    assert plain.stdout


@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("kind", ["slow first", "many short", "many long"])
def test_mapping_while_a_module_is_imported(replaced, kind, tmp_path, python):
    """A helper thread never waits for an import that the caller is in the middle of."""
    items = {"slow first": "[0.5, 0, 0]", "many short": "[0.00002] * 4000 + [0.05] * 3", "many long": "[0.01] * 40"}
    (tmp_path / "amorsize_test_importing.py").write_text(
        "import builtins, time\n"
        "import amorsize\n"
        + ("builtins.map = amorsize.map\n" if replaced else "from amorsize import map\n")
        + "def wait(seconds):\n"
        "    until = time.perf_counter() + seconds\n"
        "    while time.perf_counter() < until: pass\n"
        "    return seconds\n"
        f"DONE = list(map(wait, {items[kind]}))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        f"import amorsize_test_importing as m\nprint(m.DONE == {items[kind]})\n", encoding="utf-8"
    )

    child = python("-W", "ignore", script)

    assert child.stdout == "True\n", child.stderr


def test_an_iterator_can_be_split():
    """`itertools.tee` takes ours as it takes the builtin's."""
    one, other = itertools.tee(amorsize.map(operator.neg, [1, 2, 3]))

    assert (list(one), list(other)) == ([-1, -2, -3], [-1, -2, -3])


def test_results_are_let_go_as_the_builtin_does():
    """What was handed out and dropped is gone before the next result is made."""
    alive = []

    class Result:
        def __init__(self, number):
            alive.append(number)
            self.number = number

        def __del__(self):
            alive.remove(self.number)

    counts = [len(alive) for _ in itertools.islice(amorsize.map(Result, range(20)), 20)]

    assert counts == [len(alive) + 1 for _ in counts]


CALLERS = """
import builtins, functools, sys, types
import amorsize

stdlib = types.ModuleType("json.somewhere")  # its name alone tells whose it is
exec("def call(f, xs): return type(map(f, xs)).__name__", vars(stdlib))

def wrapper(f, *xs): return inner(f, *xs)
def inner(f, *xs): return amorsize.map(f, *xs, n_jobs=1)
class Wrapper:
    def __call__(self, f, *xs): return amorsize.map(f, *xs)
class Made:
    def __new__(cls, f, *xs): return amorsize.map(f, *xs)

def kind_of_inner(x, y=0): return type(map(abs, [x])).__name__
class Item:
    def __reduce__(self): return str, (kind_of_inner(1),)
class Input:
    def __iter__(self): return iter([kind_of_inner(1)])

partly = functools.partial(amorsize.map, n_jobs=1)
for stands in [amorsize.map, wrapper, partly, Wrapper(), Made, lambda *all: wrapper(*all)]:
    builtins.map = stands
    print(stdlib.call(abs, [1]), type(map(abs, [1])).__name__, end="; ")
print()
# Who names options knows us, wherever the call comes from.
builtins.map = amorsize.map
exec("def named(): return type(map(abs, [1], n_jobs=1)).__name__", vars(stdlib))
print(stdlib.named())
ours = amorsize.map
workers = {"backend": "processes", "start_method": METHOD}
for options in [{}, {"retries": 1}, {"on_error": "return"}, {"seed": 1}, workers]:
    print(set(ours(kind_of_inner, [1, 2], **options)), set(ours(kind_of_inner, [1], [2], **options)), end="; ")
print()
print(amorsize.parallelize(kind_of_inner)(1), amorsize.parallelize(over="y")(kind_of_inner)(1, y=[2]))
print(list(ours(str, [Item()], **workers)), list(ours(str, Input())))
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_who_gets_the_builtin(method, tmp_path, python):
    """The standard library and what runs because of us, through whatever wrapper; and the user's items do not."""
    script = tmp_path / "script.py"
    script.write_text(f"METHOD = {method!r}\nif __name__ == '__main__':\n" + textwrap.indent(CALLERS, "    "))

    child = python(script)

    assert child.stderr == ""
    assert child.stdout.splitlines() == [
        "map Stream; " * 6,
        "Stream",
        "{'Stream'} {'Stream'}; " * 5,  # a worker has what the caller has in the builtin's place
        "Stream ['Stream']",
        "['map'] ['map']",
    ]


def test_a_class_of_the_same_name_is_not_taken_for_the_builtin(tmp_path, python):
    """Neither in its place nor among the classes: what a statement made may call itself anything."""
    script = tmp_path / "script.py"
    script.write_text(
        "import builtins, collections, enum, functools, re, typing, weakref\n"
        "real = builtins.map\n"
        "class map: __module__ = 'builtins'\n"
        "class Deceiving(type):\n"
        "    __flags__ = 0\n"
        "other = Deceiving('map', (), {'__module__': 'builtins'})\n"
        "builtins.map = map\n"
        "from amorsize import lean\n"
        "print(lean.map is real)\n"
    )

    child = python(script)

    assert child.stdout == "True\n", child.stderr


IMPORTED = """
import concurrent.futures, time
import amorsize
class Result:
    def __init__(self, x): self.x = x
def work(x):
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until: pass
    return Result(x)
def mapped(): return [result.x for result in amorsize.map(work, range(COUNT), **OPTIONS)]
with open("imports.txt", "a") as file: file.write("x")
"""
WAITING = """
with concurrent.futures.ThreadPoolExecutor(1) as executor:
    FIRST = executor.submit(mapped).result()
    AGAIN = executor.submit(mapped).result()
"""
HERE = """
FIRST = mapped()
AGAIN = mapped()
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["a thread that it waits for", "itself"])
@pytest.mark.parametrize("kind", ["slow first", "many long"])
@pytest.mark.parametrize("method", [None, "spawn"])
def test_an_import_maps(where, kind, method, tmp_path, python, monkeypatch):
    """It ends, and is not done again by workers, whether it maps itself or waits for a thread that does."""
    seconds, count = {"slow first": (0.3, 4), "many long": (0.004, 150)}[kind]
    body = IMPORTED + (HERE if where == "itself" else WAITING)
    for name, value in {"SECONDS": seconds, "COUNT": count, "OPTIONS": {"start_method": method}}.items():
        body = body.replace(name, repr(value))
    (tmp_path / "amorsize_test_waiting.py").write_text(body)
    script = tmp_path / "script.py"
    script.write_text(
        "import faulthandler\n"
        "faulthandler.dump_traceback_later(60, exit=True)\n"
        "import amorsize_test_waiting as m\n"
        f"print(m.FIRST == m.AGAIN == list(range({count})), open('imports.txt').read())\n"
    )
    monkeypatch.chdir(tmp_path)

    child = python(script)

    assert child.stdout == "True x\n", child.stderr

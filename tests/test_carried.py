"""What a function carries: told from a quick look, which runs none of the user's code."""

from __future__ import annotations

import array
import pickle
import sys
import threading
import time
from collections import deque
from functools import partial, wraps
from types import ModuleType

import pytest
import workers

from amorsize.code.bytecode import outer_names
from amorsize.hashing import hash_of
from amorsize.seeding import Seeded
from amorsize.transport.carried import _MOST_VISITS, _SAMPLE, Carried, _Look, carried, carrying_seconds
from amorsize.transport.serialize import dump_function

LARGE = 1_000_000


class Holder:
    """Holds data in an attribute."""

    def __init__(self, data):
        self.data = data

    def look(self, _):
        return self.data


class Slotted:
    """Holds data in a slot, and has one that is not set."""

    __slots__ = ("data", "unset")

    def __init__(self, data):
        self.data = data


class OfBytes(bytearray):
    """A subclass of a builtin."""


class Callable:
    """Is a function itself."""

    def __init__(self, data):
        self.data = data

    def __call__(self, _):
        return self.data


def closing_over(data):
    return lambda _: data


def with_default(data):
    return lambda _, held=data: held


def with_keyword_default(data):
    return lambda _, *, held=data: held


def with_attribute(data):
    def function(_):
        return None

    function.data = data
    return function


def in_a_frozen_set(data):
    return partial(max, frozenset({data}))


@pytest.mark.parametrize(
    "bind",
    [
        lambda data: partial(max, data),
        lambda data: partial(partial(max, key=data), 1),
        lambda data: Seeded.of(partial(max, data), 7),
        lambda data: Holder(data).look,
        Callable,
        Slotted,
        lambda data: OfBytes(data).count,
        lambda data: bytearray(data).count,
        lambda data: {1: data}.get,
        lambda data: {1: data}.__contains__,
        lambda data: {1: data}.__len__,
        closing_over,
        with_default,
        with_keyword_default,
        with_attribute,
        in_a_frozen_set,
        lambda data: partial(max, array.array("b", data)),
        lambda data: partial(max, deque([1, [data]])),
        lambda data: partial(max, {"a": (data, 1)}),
        lambda data: partial(max, data.decode()),
        lambda data: partial(max, [0] * 500_000),
    ],
)
def test_each_kind_of_carrier(bind):
    """A megabyte is found wherever a function may hold it."""
    assert 0.9 * LARGE < carried(bind(bytes(LARGE))).nbytes < 1.1 * LARGE + 10_000


@pytest.mark.parametrize("kind", ["float64", "int8", "object"])
def test_arrays(kind):
    """NumPy's arrays, views included, by their bytes; arrays of objects by what they hold."""
    numpy = pytest.importorskip("numpy")
    held = numpy.zeros(200_000, dtype=kind) if kind != "object" else numpy.array([1.5] * 200_000, dtype=object)

    for data in (held, held[::2], held.view(type("Own", (numpy.ndarray,), {}))):
        assert carried(partial(max, data)).nbytes == pytest.approx(len(dump_function(partial(max, data))), rel=0.3)


def a_main_module(source):
    module = ModuleType("__main__")
    exec(source, module.__dict__)  # noqa: S102 - a main module
    return module


class TestGlobals:
    """What code names."""

    SOURCE = """
        TABLE = bytes(1_000_000)
        OTHER = bytes(10_000_000)
        class Settings: table = TABLE
        class Base: limits = {1: TABLE}
        class Derived(Base): pass
        def direct(x): return TABLE[x]
        def nested(x): return [lambda: TABLE for _ in x]
        def through(x): return direct(x)
        def by_class(x): return Settings.table
        def by_base(x): return Derived
        def attribute(x): return TABLE, x.OTHER
        def rebinding(x):
            global TABLE
            TABLE = x
        def circular(x): return circular(x), TABLE
        def nothing(x): return x
    """

    @pytest.fixture
    def module(self):
        return a_main_module("\n".join(line[8:] for line in self.SOURCE.splitlines()))

    @pytest.mark.parametrize(
        "name", ["direct", "nested", "through", "by_class", "by_base", "attribute", "rebinding", "circular"]
    )
    def test_of_the_main_module_travel(self, module, name):
        """They go by value with the function, and with the functions and classes that it names."""
        assert 0.9 * LARGE < carried(getattr(module, name)).nbytes < 1.1 * LARGE

    def test_that_are_not_named_do_not(self, module):
        """Only what the code names goes."""
        assert carried(module.nothing).nbytes < 2_000

    def test_of_a_module_that_workers_import_do_not(self, monkeypatch):
        """A function that is found by its name carries nothing, and one that is not found carries them."""
        module = ModuleType("some_module")
        exec("TABLE = bytes(1_000_000)\ndef direct(x): return TABLE\nhidden = lambda: TABLE", vars(module))  # noqa: S102
        monkeypatch.setitem(sys.modules, "some_module", module)

        assert carried(module.direct).nbytes < 100
        assert carried(module.hidden).nbytes > LARGE

    def test_of_a_decorated_function_do_not(self, monkeypatch):
        """The original goes by the name of what stands for it."""

        def decorate(function):
            return wraps(function)(lambda x: function(x) + b"")

        module = ModuleType("some_module")
        vars(module)["decorate"] = decorate
        exec("TABLE = bytes(1_000_000)\n@decorate\ndef direct(x): return TABLE", vars(module))  # noqa: S102
        monkeypatch.setitem(sys.modules, "some_module", module)

        assert carried(module.direct.__wrapped__).nbytes < 100
        assert carried(workers.area.__wrapped__).nbytes < 100
        assert carried(workers.area).nbytes < 1_000


def test_what_is_shared_counts_once():
    """As a pickle has it once."""
    data = bytes(LARGE)
    holders = [Holder(data) for _ in range(5_000)]

    assert carried(partial(max, data, [data], Holder(data))).nbytes < 1.1 * LARGE
    assert carried(partial(max, [data] * 100_000)).nbytes < 1.5 * LARGE
    assert carried(partial(max, holders)).nbytes < 2 * LARGE


def test_cycles_end():
    """Objects that hold themselves."""
    loop = [bytes(LARGE)]
    loop.append(loop)
    holder = Holder(loop)
    loop.append(holder)
    holder.again = {"self": holder}

    assert 0.9 * LARGE < carried(holder.look).nbytes < 1.1 * LARGE


class Hostile(type):
    """A metaclass whose methods must not run."""

    def __hash__(cls):
        raise AssertionError("hash of the class")

    def __eq__(cls, other):
        raise AssertionError("comparison of the class")

    def __getattribute__(cls, name):
        raise AssertionError(f"{name} of the class")


def _refuse(self, *args):
    raise AssertionError("the user's code ran")


REFUSING = dict.fromkeys(
    [
        "__getattr__", "__getattribute__", "__len__", "__iter__", "__contains__", "__getitem__", "__reduce_ex__",
        "__hash__", "__eq__", "__bool__", "__sizeof__", "__getstate__", "keys", "values", "items", "__repr__",
    ],
    _refuse,
)  # fmt: skip


@pytest.mark.parametrize("base", [object, list, dict, set, tuple, bytes, str, deque, partial, int, float])
def test_no_code_of_the_users_runs(base):
    """Neither an object's, nor a property's, nor a metaclass's."""
    names = {**REFUSING, "__dict__": property(_refuse), "data": property(_refuse), "__class__": property(_refuse)}
    kind = Hostile("Kind", (base,), names)
    value = base.__new__(kind, max) if base is partial else base.__new__(kind)

    assert carried(partial(max, value, [value, value])).parts > 0
    assert carried(value).parts > 0


def test_iterators_are_not_used_up():
    """They are left alone."""
    numbers = iter([1, 2, 3])
    generator = (number for number in (1, 2))
    carried(partial(max, numbers, generator))

    assert (list(numbers), list(generator)) == ([1, 2, 3], [1, 2])


def tree(depth):
    return {"value": depth, "children": [tree(depth - 1) for _ in range(4)]} if depth else None


NESTED = [[[[number, str(number)] for number in range(20)] for _ in range(30)] for _ in range(20)]


@pytest.mark.parametrize("data", [tree(7), NESTED, [Holder([1, 2]) for _ in range(20_000)], [[i] for i in range(9999)]])
def test_huge_nested_data_are_sampled(data, monkeypatch):
    """So the look is over soon, and yet tells about how much it is."""
    visits = []
    at = _Look.at
    monkeypatch.setattr(_Look, "at", lambda self, *args: visits.append(1) or at(self, *args))
    told = carried(partial(max, data))

    assert len(visits) < 2 * (_MOST_VISITS + _SAMPLE)
    assert told.nbytes == pytest.approx(len(pickle.dumps(data)), rel=0.6)


def test_a_long_chain_ends():
    """The look goes only so deep, so the stack holds."""
    chain = None
    for _ in range(10_000):
        chain = Holder(chain)

    assert carried(chain).parts > 100


def test_arrays_of_unlike_sizes_are_all_asked():
    """As the layers of a model, one of which is most of it."""
    layers = {f"layer {number}": bytes(1000 if number != 70 else LARGE) for number in range(100)}

    assert carried(partial(max, layers)).nbytes == pytest.approx(len(pickle.dumps(layers)), rel=0.1)


def test_containers_that_change_meanwhile():
    """Another thread's changes are no errors."""
    changing = {number: number for number in range(1000)}
    over = threading.Event()

    def change():
        number = 1000
        while not over.is_set():
            changing[number] = changing.pop(number - 1000)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            carried(changing.get)
    finally:
        over.set()
        thread.join()


def test_what_cannot_be_looked_at():
    """A view without its memory, a module and a lock count little."""
    view = memoryview(b"abc")
    view.release()

    assert carried(partial(max, view, threading.Lock(), threading, ...)).nbytes < 500


@pytest.mark.parametrize(
    ("data", "times"),
    [
        (lambda: bytes(range(256)) * 80_000, 3),  # zeros may have no memory of their own
        (lambda: list(map(float, range(500_000))), 3),
        (lambda: dict(zip(range(500_000), range(500_000), strict=True)), 3),
        (lambda: [[number] for number in range(100_000)], 3),
    ],
)
def test_the_seconds_are_about_right(data, times):
    """A machine that is busy, or much faster, may be off; so this asks for the order of magnitude."""
    function = partial(max, data())
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        hash_of([dump_function(function)]).digest()
        best = min(best, time.perf_counter() - began)

    assert best / 20 < carrying_seconds(carried(function)) < best * 20


def test_it_is_quick_for_ordinary_functions():
    """Some ten microseconds; this leaves room for a busy machine."""
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        carried(partial(workers.add, 1))
        best = min(best, time.perf_counter() - began)

    assert best < 200e-6
    assert carrying_seconds(carried(workers.square)) < 10e-6
    assert carrying_seconds(Carried(0, 0)) == 0


def test_names_that_are_rebound_are_told():
    """For a function by value carries what stood there."""

    def function():
        global LARGE
        LARGE = 1

    assert outer_names(function.__code__).rebound == {"LARGE"}

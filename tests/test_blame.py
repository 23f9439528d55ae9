from __future__ import annotations

import collections
import copyreg
import functools
import operator
import threading
from typing import Any, NamedTuple

import pytest

import amorsize
from amorsize.transport.blame import where_unpicklable

LOCK = threading.Lock()


class Box:
    """Has attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def method(self, item):
        return item


class Slotted:
    """Has slots and attributes."""

    __slots__ = ("__dict__", "first", "second")


class Pair(NamedTuple):
    """Is made of elements that have names."""

    left: Any
    right: Any


class WithState:
    """Says itself what its state is."""

    lock = LOCK

    def __init__(self):
        self.harmless = LOCK

    def __getstate__(self):
        return {"kept": [0, LOCK]}


class Reduced:
    """Says itself how it is made anew."""

    def __reduce__(self):
        return Reduced, (0, LOCK)


class ReducedWithAttributes(Reduced):
    """Gives its attributes as its state."""

    def __reduce__(self):
        return Reduced, (), self.__dict__


class ReducedWithOddState(Reduced):
    """Gives something else as its state."""

    def __reduce__(self):
        return Reduced, (), [LOCK]


class Registered:
    """Is registered with `copyreg` below."""


class Refuses:
    """Cannot be pickled as a whole."""

    def __reduce__(self):
        raise ValueError("not this one")


class Named:
    """Is a global of another process."""

    def __reduce__(self):
        return "nowhere"


class OwnDict(dict):
    """Is pickled as an object that has entries."""


class OwnList(list):
    """Is pickled as an object that has elements."""


class Marked(tuple):
    """Is pickled as an object that is made of elements."""

    __slots__ = ()


def uses_global(item):
    return LOCK, item


@functools.lru_cache(1)
def by_value(lock):
    """Return functions that no module has, each with a lock somewhere."""

    def with_default(item, _spare=0, lock=lock):
        return item, lock

    def with_keyword_default(item, *, lock=lock):
        return item, lock

    def with_attribute(item):
        return item

    with_attribute.lock = lock
    box = Box(lock=lock)

    def with_closure(item):
        return item, box

    def with_function(item):
        return with_closure(item)

    return with_default, with_keyword_default, with_attribute, with_closure, with_function


DEFAULT, KEYWORD, ATTRIBUTE, CLOSURE, NESTED = by_value(LOCK)


def slotted(**attributes):
    made = Slotted()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


copyreg.pickle(Registered, lambda _: (Registered, (LOCK,)))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([LOCK], "[0]: _thread.lock"),
        ((1, {"socket": LOCK}), "[1]['socket']: _thread.lock"),
        ({1: 2, None: {2.5: LOCK}}, "[None][2.5]: _thread.lock"),
        ({(1, 2): LOCK}, "[<key 0>]: _thread.lock"),
        ({"long" * 40: LOCK}, "[<key 0>]: _thread.lock"),
        ({0: 0, LOCK: 1}, "key 1: _thread.lock"),
        ([{LOCK}], "[0], an element: _thread.lock"),
        (frozenset([LOCK]), "an element: _thread.lock"),
        (Box(a=1, conn=LOCK), "self.conn: _thread.lock"),
        (Box(a=Box(b=[0, LOCK])), "self.a.b[1]: _thread.lock"),
        ([Box(conn=LOCK)], "[0].conn: _thread.lock"),
        (slotted(first=1, second=LOCK), "self.second: _thread.lock"),
        (slotted(first=1, other=LOCK), "self.other: _thread.lock"),
        (Pair(1, LOCK), "self[1]: _thread.lock"),
        (Marked([1, LOCK]), "self[1]: _thread.lock"),
        (OwnDict(a=LOCK), "self['a']: _thread.lock"),
        (OwnList([1, LOCK]), "self[1]: _thread.lock"),
        (collections.deque([1, LOCK]), "self[1]: _thread.lock"),
        (collections.OrderedDict(a=LOCK), "self['a']: _thread.lock"),
        (WithState(), "self.__getstate__()['kept'][1]: _thread.lock"),
        (Reduced(), "self.__reduce__()[1][1]: _thread.lock"),
        (ReducedWithOddState(), "self.__reduce__()[2][0]: _thread.lock"),
        (Registered(), "self.__reduce__()[1][0]: _thread.lock"),
        ([Refuses()], "[0]: test_blame.Refuses"),
        ([Named()], "[0]: test_blame.Named"),
        ([1, (item for item in "ab")], "[1]: generator"),
        (Box(conn=LOCK).method, "self.conn: _thread.lock"),
        (functools.partial(Box(conn=LOCK).method, 1), "self.conn: _thread.lock"),
        (functools.partial(operator.add, 1, LOCK), "argument 1: _thread.lock"),
        (functools.partial(operator.add, spare=LOCK), "argument 'spare': _thread.lock"),
        (DEFAULT, "default of 'lock': _thread.lock"),
        (KEYWORD, "default of 'lock': _thread.lock"),
        (ATTRIBUTE, "attribute 'lock': _thread.lock"),
        (CLOSURE, "closure variable 'box'.lock: _thread.lock"),
        (NESTED, "closure variable 'with_closure', closure variable 'box'.lock: _thread.lock"),
        ([lambda item: (item, LOCK)], "[0], global 'LOCK': _thread.lock"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_part_at_fault_is_named(value, found):
    """The path goes through whatever pickling would take, down to the part that fails by itself."""
    assert where_unpicklable(value) == found


def test_attributes_of_a_class_that_reduces_itself_are_named():
    """Where the state is attributes, they are called so."""
    value = ReducedWithAttributes()
    value.conn = LOCK

    assert where_unpicklable(value) == "self.conn: _thread.lock"


MAIN = """
import threading
from amorsize import parallelize
from amorsize.transport.blame import where_unpicklable

lock = threading.Lock()

class Base:
    __slots__ = ()
    guard = lock

class Derived(Base):
    def __init__(self):
        self.number = 1

def read(item):
    return lock, item

def mention(item):
    global lock
    lock = item.lock

@parallelize
def decorated(item):
    return read(item)

for value in (read, mention, decorated, Base, Derived, Derived(), [Derived().__init__]):
    print(where_unpicklable(value))
"""


def test_what_only_the_main_module_has_is_searched(python, tmp_path):
    """Functions and classes of the main module go by value, and so do the parts they have."""
    script = tmp_path / "script.py"
    script.write_text(MAIN)

    finished = python(script)

    assert finished.stderr == ""
    assert finished.stdout.splitlines() == [
        "global 'lock': _thread.lock",
        "global 'lock': _thread.lock",
        "self, global 'read', global 'lock': _thread.lock",
        "Base.guard: _thread.lock",
        "Derived.__bases__[0].guard: _thread.lock",
        "self.__class__.__bases__[0].guard: _thread.lock",
        "[0], self.__class__.__bases__[0].guard: _thread.lock",
    ]


@pytest.mark.parametrize(
    "value", [LOCK, 1, [1, 2], Box(a=1), uses_global, operator.add, Refuses(), amorsize.map], ids=lambda value: ""
)
def test_nothing_is_named_where_no_part_is_at_fault(value):
    """A value that can be pickled, and one that is itself what cannot, give nothing."""
    assert where_unpicklable(value) is None


def test_a_cycle_is_not_mistaken_for_the_fault():
    """A child that fails only because it leads back to its parent is passed over."""
    parent = Box()
    parent.child = Box(parent=parent, brothers=[parent])
    parent.lock = LOCK

    assert where_unpicklable(parent) == "self.lock: _thread.lock"


def test_a_list_within_itself_is_searched_once():
    """Containers may contain themselves."""
    value = []
    value += [value, {"again": value}, LOCK]

    assert where_unpicklable(value) == "[2]: _thread.lock"


def test_an_empty_closure_variable_is_passed_over():
    """A variable that is not assigned yet has no content to blame."""

    def inner(_item, _lock=LOCK):
        return later

    assert where_unpicklable(inner) == "default of '_lock': _thread.lock"
    later = 1


def test_a_search_too_deep_says_how_far_it_came():
    """Nesting beyond the bound is named roughly."""
    value = LOCK
    for _ in range(100):
        value = [value]

    found = where_unpicklable(value)

    assert found == f"somewhere in {'[0]' * 24}: list"


def test_a_search_too_long_says_how_far_it_came():
    """When the time is over, the way so far is named; nothing more is tried."""
    reads = iter([0.0, 0.0, 0.0, 9.0])

    found = where_unpicklable([Box(a=1), Box(conn=LOCK)], clock=lambda: next(reads))

    assert found == "somewhere in [1]: test_blame.Box"


def test_a_search_without_any_time_names_nothing():
    """Where no part could be looked at, there is nothing to tell beyond the error."""
    reads = iter([0.0, 9.0])

    assert where_unpicklable([Box(conn=LOCK)], clock=lambda: next(reads)) is None


def test_parts_that_misbehave_end_the_search():
    """Whatever a part raises, the search gives nothing and does not raise."""

    class Odd(dict):
        def __reduce__(self):
            return dict, (), None, None, iter([LOCK])

    assert where_unpicklable(Odd()) is None

"""The stand-ins for `typing`: what programs see of them."""

from __future__ import annotations

import collections
import copy
import functools
import pickle
import subprocess
import sys
import types
from pathlib import Path

import pytest

import amorsize
from amorsize import lean
from amorsize.lean import Generic, NamedTuple, TypeVar, overload

T = TypeVar("T")


class Point(NamedTuple):
    """A place."""

    x: int
    y: int = 0

    @property
    def size(self):
        return self.x + self.y


class Place(Point):
    """A point with a name that is no field."""

    name: str = ""


class Box(Generic[T]):
    """Holds something."""


def test_fields_stand_in_order_by_name_and_with_defaults():
    """A record is made as typing's is."""
    assert Point(1) == Point(x=1) == Point(1, y=0) == (1, 0)
    assert Point(y=2, x=1) == Point(1, 2)
    assert (Point(1, 2).x, Point(1, 2).y, Point(1, 2).size) == (1, 2, 3)


@pytest.mark.parametrize(
    ("values", "named", "text"),
    [
        ((), {"y": 1}, "missing 1 required positional argument: 'x'"),
        ((1, 2, 3), {}, "positional arguments"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        ((1, 2), {"y": 1}, "multiple values for argument 'y'"),
        ((), {"y": 1, "z": 1}, "unexpected keyword argument 'z'"),
    ],
)
def test_wrong_fields_are_refused(values, named, text):
    """What would leave a field out, or fill it twice, is an error."""
    with pytest.raises(TypeError, match=text):
        Point(*values, **named)

    class New(NamedTuple):
        x: int
        y: int = 0

    with pytest.raises(TypeError, match=text):  # before its quick constructor is made
        New(*values, **named)


def test_the_first_records_of_a_class_are_like_the_others():
    """The quick constructor is made when several records were."""

    class New(NamedTuple):
        x: int
        y: int = 0

    for _ in range(20):
        assert (New(1), New(1, 2), New(y=3, x=1), New(1, y=4)) == ((1, 0), (1, 2), (1, 3), (1, 4))
        assert type(New(1)) is New


def test_a_record_has_the_methods_of_named_tuples():
    """What users of named tuples call is there."""
    point = Point(1, 2)
    assert point._replace(y=5) == (1, 5)
    assert point._asdict() == {"x": 1, "y": 2}
    assert Point._make([3, 4]).y == 4
    with pytest.raises(TypeError, match="2 fields, not 3"):
        Point._make([3, 4, 5])
    assert Point._fields == Point.__match_args__ == ("x", "y")
    assert repr(point) == "Point(x=1, y=2)"
    with pytest.raises(AttributeError):
        point.x = 3
    with pytest.raises(AttributeError):
        point.z = 3


def test_a_record_is_copied_and_pickled_as_itself():
    """It crosses to workers."""
    for other in (pickle.loads(pickle.dumps(Point(1, 2))), copy.deepcopy(Point(1, 2))):
        assert type(other) is Point
        assert other == (1, 2)


def test_a_subclass_of_a_record_is_a_class_like_any_other():
    """Its annotations are no fields, and it may hold more."""
    place = Place(1, 2)
    place.name = "here"
    assert (place, place.name, Place._fields) == ((1, 2), "here", ("x", "y"))


def test_generic_classes_take_parameters():
    """Annotations that are evaluated do not fail."""
    assert Box[int]().__class__ is Box
    assert overload(len) is len


def test_what_others_have_as_well_is_the_same():
    """Objects of the user's are told apart by these, and pickled by their names."""
    for module, names in (
        (types, [name for name in lean.__all__ if name.endswith("Type")]),
        (functools, ["partial"]),
        (collections, ["deque"]),
    ):
        assert [name for name in names if getattr(lean, name) is not getattr(module, name)] == []
    assert sorted(lean._COPIED) == sorted(functools.WRAPPER_ASSIGNMENTS)


def test_a_wrapper_gets_what_functools_gives_it():
    """Also of something that has no name."""

    def wrapped(x: int) -> int:
        """Documented."""
        return x

    wrapped.mark = 1
    for inner in (wrapped, functools.partial(wrapped, 1)):
        ours, theirs = types.SimpleNamespace(), types.SimpleNamespace()
        lean.update_wrapper(ours, inner)
        functools.update_wrapper(theirs, inner)
        assert vars(ours) == vars(theirs)


def test_what_was_asked_lately_is_not_asked_again():
    """As with the standard library's cache, the oldest answer goes first."""
    asked = []

    @lean.lru_cache(2)
    def ask(number):
        asked.append(number)
        return -number

    assert [ask(number) for number in (1, 2, 1, 3, 1, 2)] == [-1, -2, -1, -3, -1, -2]
    assert asked == [1, 2, 3, 2]


@pytest.mark.parametrize("count", [1, 40])
def test_a_record_is_the_same_however_many_there_were(count):
    """The first ones are made in another way than those of classes that have many."""

    class Few(NamedTuple):
        x: int
        y: int = 0

    assert {Few(1, y=2) for _ in range(count)} == {(1, 2)}
    assert (Few(1), Few(y=2, x=1), Few(1, 2)) == ((1, 0), (1, 2), (1, 2))
    for wrong, named in [((), {"y": 1}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]:
        with pytest.raises(TypeError):
            Few(*wrong, **named)


def test_the_import_does_without_typing():
    """What the stand-ins are for."""
    code = "import sys, amorsize; print({'typing', 're', 'json', 'enum'} & set(sys.modules))"
    command = [sys.executable, "-S", "-c", code]
    environ = {"PYTHONPATH": str(Path(amorsize.__file__).parents[1])}

    child = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    assert child.stdout == "set()\n", child.stderr

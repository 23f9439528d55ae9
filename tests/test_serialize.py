from __future__ import annotations

import operator
import pickle
import sys
import threading
from functools import partial
from hashlib import sha256
from types import ModuleType

import pytest
import workers

import amorsize
from amorsize.child import initialize
from amorsize.child.initialize import ByValue
from amorsize.hashing import hash_of
from amorsize.transport.by_value import Space, enter, load_function
from amorsize.transport.payload import payload_of
from amorsize.transport.serialize import (
    Undumpable,
    Unpicklable,
    dump,
    dump_function,
    dump_values,
    function_pieces,
    load_values,
)


@pytest.fixture(autouse=True)
def _the_caller_again(monkeypatch):
    """Rebuild as a worker does, and be the caller again afterwards."""
    monkeypatch.setattr(initialize, "_first", None)
    yield
    enter(None)


def back(values):
    """Return a batch as the other side gets it."""
    return load_values(memoryview(b"".join(dump_values(values).pieces())))


def refuse():
    raise LookupError("will not be rebuilt")


class NoReturn:
    """Can be pickled, and not be rebuilt."""

    def __reduce__(self):
        return refuse, ()


class TestBatches:
    """Items and results, many at once."""

    @pytest.mark.parametrize(
        "values",
        [
            [],
            [1, 2.5, "text", b"bytes", None, True, 1j],
            [(1, "a"), (2, None)],
            [(), (1,)],
            [[1, [2]], {"key": {3}}, ...],
            [(1, [2]), (3, [4])],
            [True, [False]],
        ],
        ids=str,
    )
    def test_values_come_back_as_they_went(self, values):
        """Whatever form a batch takes, values and their types are the same afterwards."""
        again = back(values)

        assert again == values
        assert list(map(type, again)) == list(map(type, values))

    def test_a_range_stays_one(self):
        """A range is sent as such, however long."""
        assert back(range(0, 10**12, 7)) == range(0, 10**12, 7)
        assert dump_values(range(10**12)).nbytes() < 100

    def test_one_that_cannot_be_rebuilt_fails_alone(self):
        """The others of its batch are not harmed."""
        first, failed, last = back([[1], NoReturn(), [3]])

        assert (first, last) == ([1], [3])
        assert type(failed) is Unpicklable
        assert type(failed.error) is LookupError

    def test_the_culprit_is_found(self):
        """The first value that cannot be pickled is named, with its error."""
        with pytest.raises(Undumpable) as caught:
            dump_values([1, [2], threading.Lock(), threading.Lock()])

        assert caught.value.position == 2
        assert isinstance(caught.value.error, TypeError)

    def test_a_subclass_of_a_scalar_keeps_its_class(self):
        """Only exact scalars take the short way."""
        (again,) = back([Half(7)])

        assert type(again) is Half


class Half(int):
    """A number of another class."""


class TestFunctions:
    """What goes by name, and what by value."""

    def test_an_importable_function_goes_by_name(self):
        """The other side gets its own module's function."""
        assert pickle.loads(dump(workers.square)) is workers.square

    def test_an_original_behind_its_decorated_name_goes_by_name(self):
        """A function that its decorated self hides is found through it."""
        original = workers.area.__wrapped__

        assert b"amorsize" in dump(original)
        assert pickle.loads(dump(original)) is original

    def test_what_refers_to_the_main_module_goes_by_value(self, monkeypatch):
        """A process with another main module can rebuild a function of this one."""
        module = ModuleType("__main__")
        exec("offset = 5\ndef shift(number): return number + offset", module.__dict__)  # noqa: S102 - a main module
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "__main__", module)
            data = dump_function(module.shift)

        assert load_function(data, Space())(2) == 7


class Counting:
    """Counts how often it is pickled."""

    pickled = 0

    def __reduce__(self):
        Counting.pickled += 1
        return Counting, ()


class TestPieces:
    """A function with large data."""

    def test_large_data_are_not_copied(self):
        """Bytes stay where they are; what may change is copied."""
        data, changing = bytes(1_000_000), bytearray(1_000_000)
        pieces = function_pieces(partial(max, data, changing))
        changing[:] = b"x" * len(changing)

        assert any(piece is data for piece in pieces)
        assert set(map(type, pieces)) == {bytes}
        assert pickle.loads(b"".join(pieces)).args == (data, bytes(1_000_000))

    @pytest.mark.parametrize("size", [10, 70_000, 200_000])
    @pytest.mark.parametrize("kind", [bytes, bytearray, str])
    def test_they_are_the_pickle(self, size, kind):
        """Whatever the pickler writes."""
        data = "a" * size if kind is str else kind(size)
        function = partial(max, data, [[number] for number in range(size)], b"__main__" * size)

        assert b"".join(function_pieces(function)) == dump_function(function)
        assert pickle.loads(dump_function(function)).args == function.args

    @pytest.mark.parametrize("before", [0, 1_000_000])
    def test_what_names_the_main_module_goes_by_value(self, before, monkeypatch):
        """Wherever in the pickle the name is, and nothing behind it is pickled by name in vain."""
        module = ModuleType("__main__")
        exec("class Item: pass\ndef shift(held, number): return len(held)", module.__dict__)  # noqa: S102 - as above
        monkeypatch.setitem(sys.modules, "__main__", module)
        monkeypatch.setattr(Counting, "pickled", 0)
        held = [bytes(before), module.Item(), [[number] for number in range(50_000)], Counting()]

        again = load_function(dump_function(partial(module.shift, held)), Space())

        assert again(0) == 4
        assert Counting.pickled == 1

    @pytest.mark.parametrize("sizes", [(), (0,), (5, 7), (300_000,), (100, 300_000, 5), (200_000, 200_000)])
    def test_their_hash_is_that_of_the_whole(self, sizes):
        """However they are cut, and by whichever library it is computed."""
        pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
        whole = b"".join(pieces)

        assert hash_of(pieces).digest() == hash_of([whole]).digest() == sha256(whole).digest()

    def test_the_digest_of_a_payload_tells_its_content(self):
        """Equal content, equal digest; data changed in place, another."""
        data = bytearray(1_000_000)
        first, same = payload_of(partial(max, data)), payload_of(partial(max, bytearray(data)))
        data[500_000] = 1

        assert first.digest == same.digest == first.with_items_of(frozenset()).digest
        assert first.digest != payload_of(partial(max, data)).digest
        assert len(first) == len(dump_function(partial(max, data)))
        assert first.with_items_of(frozenset({Half})).parts()[2:] == first.parts()[2:]


@pytest.mark.parametrize("size", [100, 60_000, 3_000_000])
def test_data_changed_in_place_arrive_changed(size, one_method):
    """At workers that have the function already."""
    data = bytearray(size)
    function = partial(operator.getitem, data)
    seen = []
    for value in (1, 2, 2, 1):
        data[-1] = value
        seen.append(set(amorsize.map(function, [size - 1] * 20, **one_method)))

    assert seen == [{1}, {2}, {2}, {1}]


class TestByValue:
    """What crosses a process start."""

    def test_it_is_rebuilt_when_it_is_called(self):
        """Unpickling it does not unpickle the function, which may fail or import what heeds the environment."""
        again = pickle.loads(pickle.dumps(ByValue(NoReturn())))

        with pytest.raises(LookupError):
            again()

    def test_it_calls_the_function(self):
        """It is the function for whoever calls it, before and after the crossing."""
        one = ByValue(lambda: 5)

        assert one() == 5
        assert pickle.loads(pickle.dumps(one))() == 5


def test_an_envelope_tells_what_is_in_it():
    """How much it is, and whether all can be rebuilt for certain."""
    plain, parts = dump_values([1, 2]), dump_values([[1], [2]])

    assert (plain.plain, parts.plain) == (True, False)
    assert parts.nbytes() == sum(map(len, parts.parts))
    assert parts._replace(buffers=[memoryview(b"more")]).nbytes() == parts.nbytes() + 4

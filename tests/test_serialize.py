from __future__ import annotations

import pickle
import sys
import threading
from types import ModuleType

import pytest
import workers

from amorsize.child import initialize
from amorsize.child.initialize import ByValue
from amorsize.transport.by_value import Space, enter, load_function
from amorsize.transport.serialize import Undumpable, Unpicklable, dump, dump_function, dump_values, load_values


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
    """How much it is, whether all can be rebuilt for certain, and what stands for the content."""
    plain, parts, again = dump_values([1, 2]), dump_values([[1], [2]]), dump_values([[1], [2]])

    assert (plain.plain, parts.plain) == (True, False)
    assert parts.nbytes() == len(b"".join(parts.pieces()))
    assert parts.digest() == again.digest() != plain.digest()
    assert parts._replace(buffers=[memoryview(b"more")]).digest() != parts.digest()

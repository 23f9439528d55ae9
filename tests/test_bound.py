"""Large data that are bound to a function: what is sent, when it is sent anew, and what stays here for it."""

from __future__ import annotations

import sys
from functools import partial

import pytest

import amorsize
from amorsize.backends.processes.handle import all_workers
from amorsize.seeding import Seeded
from amorsize.transport import bound
from amorsize.transport.bound import pieces_of, settled, unpacked
from amorsize.transport.by_value import LARGE_BYTES, Space, load_function
from amorsize.transport.carried import Carried, price
from amorsize.transport.payload import payload_of

SIZE = 2 * LARGE_BYTES


@pytest.fixture(autouse=True)
def nothing_kept():
    bound.forget()
    yield
    bound.forget()


def loaded(function):
    """Return a function as a worker gets it."""
    pieces, _ = settled(pieces_of(function))
    data, beside = unpacked(memoryview(b"".join(pieces)))
    return load_function(data, Space(), beside)


def data_and_item(data, item):
    return len(data) + item


class TestDigest:
    """What tells a worker's function from the caller's."""

    @pytest.mark.parametrize("make", [bytes, bytearray], ids=["that cannot change", "that can"])
    def test_equal_data_have_the_same(self, make):
        """Whichever object holds them."""
        first = payload_of(partial(max, make(SIZE))).digest

        assert payload_of(partial(max, make(SIZE))).digest == first
        assert payload_of(partial(max, make(b"x" * SIZE))).digest != first
        assert payload_of(partial(max, make(SIZE))).digest == first
        assert payload_of(partial(max, make(SIZE), 1)).digest != first
        assert payload_of(partial(max, make(SIZE + 1))).digest != first

    def test_data_changed_in_place_have_another(self):
        """Were it a single bit, and back again; what was fixed before stays."""
        data = bytearray(SIZE)
        first = payload_of(partial(max, data))
        data[SIZE // 2] ^= 1
        second = payload_of(partial(max, data))
        data[SIZE // 2] ^= 1

        assert first.digest != second.digest
        assert payload_of(partial(max, data)).digest == first.digest
        assert sum(b"".join(first.parts()[2:]).count(bytes([byte])) for byte in (0,)) >= SIZE
        assert len(b"".join(first.parts()[2:])) == len(first)

    def test_two_pieces_are_not_taken_for_one(self):
        """Nor for each other."""
        one, other = b"a" * SIZE, b"b" * SIZE
        digests = {payload_of(partial(max, *args)).digest for args in [(one, other), (other, one), (one, one)]}

        assert len(digests) == 3


class TestKept:
    """Copies of what was sent, for the next call to be compared with."""

    def test_their_memory_is_bounded(self, monkeypatch):
        """The oldest go first; what is larger than all is hashed, as small data are."""
        monkeypatch.setattr(bound, "MOST_KEPT_BYTES", 2 * SIZE + 1000)
        data = [bytes([number]) * SIZE for number in range(3)]
        first = [payload_of(partial(max, each)).digest for each in data]
        again = [payload_of(partial(max, each)).digest for each in reversed(data)]

        assert len(bound._kept) == 2
        assert [a == b for a, b in zip(reversed(first), again, strict=True)] == [True, True, False]
        payload_of(partial(max, bytes(3 * SIZE)))
        payload_of(partial(max, 5))
        assert sum(kept.nbytes for kept in bound._kept.values()) == 2 * SIZE

    def test_of_data_that_change_two_states_are_kept(self):
        """Each call would leave a copy otherwise."""
        data = bytearray(SIZE)
        for byte in range(5):
            data[0] = byte
            payload_of(partial(max, data))

        assert len(bound._kept) == 2

    def test_none_is_left_when_all_workers_have_died(self):
        """Nobody has what it could be compared with."""
        data = bytearray(SIZE)
        list(amorsize.map(partial(data_and_item, data), range(2), backend="processes", n_jobs=1))
        assert bound._kept
        for worker in all_workers():
            worker.end(kill=True)

        assert not bound._kept

    def test_none_is_left_without_workers(self):
        """Nothing could be spared by them."""
        payload_of(partial(max, bytes(SIZE)))
        from amorsize.backends.processes import idle

        idle.shutdown()
        assert not bound._kept


class TestArrays:
    """Arrays that a partial binds."""

    @pytest.fixture(autouse=True)
    def numpy(self):
        self.np = pytest.importorskip("numpy")

    def test_their_memory_is_not_in_the_pickle(self):
        """It is copied once, and not at all where it is as it was."""
        array = self.np.arange(SIZE // 8, dtype=float)
        for _ in range(2):
            pieces = pieces_of(partial(max, array, [array, 1], key=None))
            assert sum(map(len, pieces)) < SIZE + 2000
            copies, _ = settled(pieces)
        again, _ = settled(pieces_of(partial(max, array, [array, 1], key=None)))
        assert max(copies, key=len) is max(again, key=len)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("writeable", [True, False])
    def test_they_arrive_as_they_were(self, order, writeable):
        """In their order, to be written to or not, and in each function of its own."""
        array = self.np.asarray(self.np.arange(SIZE // 4).reshape(1024, -1), order=order)
        array.flags.writeable = writeable
        function = partial(max, array, b"x" * SIZE, key=len)
        seeded = loaded(Seeded.of(function, 5)).function
        there = loaded(function)

        for found in (there, seeded):
            assert (found.args[0] == array).all()
            assert found.args[0].flags.writeable == writeable
            assert found.args[0].flags.c_contiguous == array.flags.c_contiguous
            assert (found.args[1], found.keywords) == (function.args[1], {"key": len})
            assert not self.np.shares_memory(found.args[0], array)

    def test_in_parts_of_others_memory_and_of_objects(self):
        """A part with gaps, a subclass and an array of objects are pickled as they were before."""
        array = self.np.arange(SIZE // 4)
        for data in (array[::2], array.view(self.np.matrix), array[:3].astype(object), array[:0]):
            found = loaded(partial(max, data)).args[0]
            assert type(found) is type(data)
            assert (found == data).all()

    def test_changes_in_place_arrive(self):
        """Between calls on workers that have the function, and in what a script defines."""
        array = self.np.zeros(SIZE // 8)
        function = partial(sum_of, array)
        found = []
        for number in range(3):
            array[-1] = number
            found.append(list(amorsize.map(function, range(4), backend="processes", n_jobs=2)))
        assert found == [[number + item for item in range(4)] for number in range(3)]

    def test_by_value(self, monkeypatch):
        """A function of the main module is pickled by value, and its array not at all."""
        monkeypatch.setattr(sys.modules["__main__"], "sum_of_main", None, raising=False)
        space = {"__name__": "__main__"}
        exec("def sum_of_main(array, item): return float(array.sum()) + item", space)  # noqa: S102 - of this test
        array = self.np.ones(SIZE // 8)
        pieces = pieces_of(partial(space["sum_of_main"], array))

        assert any(type(piece) is memoryview for piece in pieces)
        assert loaded(partial(space["sum_of_main"], array))(2) == SIZE // 8 + 2


def sum_of(array, item):
    """Add an item to what is bound."""
    return float(array.sum()) + item


def test_a_later_call_is_priced_by_a_look_at_the_data():
    """Sending them is paid once."""
    first = price(Carried(80_000_000, 100))

    assert first.each < 0.3 * first.once
    assert price(Carried(800_000_000, 100)).each > 10 * first.each
    assert price(Carried(0, 0)) == (0, 0)

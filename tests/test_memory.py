"""Large data: they cross in shared memory as they are, own their memory, and leave nothing behind."""

from __future__ import annotations

import array as arrays
import mmap
import os
import pickle
import sys
import time
from dataclasses import dataclass
from functools import partial

import memory_workers
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import amorsize
from amorsize.backends.processes import start
from amorsize.backends.processes.handle import all_workers
from amorsize.transport import envelope, memory
from amorsize.transport.memory import Store, create_file, shares_memory
from amorsize.transport.serialize import dump_items, dump_values, load_lazily, load_values

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(not shares_memory(), reason="there is no shared memory")
LARGE = 20_000  # numbers, which is more than crosses in a message


@pytest.fixture
def pair():
    """Give the caller's and the worker's side of one file."""
    made = []

    def make(free_memory=lambda: None):
        descriptor = create_file()
        made.append(Store(descriptor, is_caller=True, free_memory=free_memory))
        made.append(Store(os.dup(descriptor), is_caller=False, free_memory=free_memory))
        return made[-2:]

    yield make
    for store in made:
        store.close()


@dataclass
class Holder:
    """An object of the user's with arrays in it."""

    name: str
    parts: list


def crossed(value, writer, reader):
    """Return a value after its way through shared memory, as an item and as a result."""
    data = memoryview(b"".join(dump_items([value]).pieces(writer)))
    (item,) = list(load_lazily(data, reader))
    back = memoryview(b"".join(dump_values([item]).pieces(reader)))
    (result,) = load_values(back, writer)
    return item, result


def equal(one, other):
    """Say whether two values are the same, arrays bit for bit, with type, shape, order and permissions."""
    if isinstance(one, numpy.ndarray):
        flags = "C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE"
        return (
            type(one) is type(other)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and all(one.flags[flag] == other.flags[flag] for flag in flags)
            and one.tobytes() == other.tobytes()
            and (not isinstance(one, numpy.ma.MaskedArray) or one.mask.tobytes() == other.mask.tobytes())
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(equal, one.values(), other.values()))
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def contiguous(draw, count):
    dtype = draw(st.sampled_from(["f8", "i4", "u1", "c16", "?", "M8[s]", "S7", "U3", [("a", "i4"), ("b", "f8", (2,))]]))
    array = numpy.zeros(count, dtype)
    raw = array.view("u1") if array.dtype.kind != "U" else None
    if raw is not None:
        raw[:] = numpy.arange(len(raw)) % 2 if dtype == "?" else numpy.arange(len(raw)) % 251
    return array


@st.composite
def some_arrays(draw):
    """Arrays of many kinds, small and large, among them views, empty, masked and read-only ones."""
    array = contiguous(draw, draw(st.sampled_from([0, 1, 7, LARGE, LARGE + 1])))
    way = draw(st.sampled_from(["plain", "strided", "fortran", "reversed", "masked", "read only", "transposed"]))
    if way == "strided":
        return array[::2]
    if way == "reversed":
        return array[::-1]
    if way == "masked":
        return numpy.ma.masked_array(array, mask=numpy.arange(len(array)) % 3 == 0)
    if way == "read only":
        array.flags.writeable = False
    elif way in {"fortran", "transposed"} and len(array) == LARGE:
        square = array.reshape(100, -1)
        return numpy.asfortranarray(square) if way == "fortran" else square.T
    return array


values = st.recursive(
    some_arrays()
    | st.sampled_from([bytes(70_000), bytearray(b"x" * 70_000), "y" * 70_000, arrays.array("d", range(LARGE))])
    | st.integers()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


class TestRoundTrip:
    """What arrives is what was sent."""

    @given(value=values)
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_nest_of_large_and_small_things(self, pair, value):
        """Items and results alike, whatever is in them."""
        plainly = pickle.loads(pickle.dumps(value, 5))
        item, result = crossed(value, *pair())

        assert equal(item, plainly)
        assert equal(result, pickle.loads(pickle.dumps(plainly, 5)))

    @given(batch=st.lists(values, min_size=2, max_size=4))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_batch_in_a_message(self, batch):
        """Where there is no shared memory, buffers follow the pickles."""
        again = load_values(memoryview(b"".join(dump_items(batch).pieces())))

        assert equal(again, [pickle.loads(pickle.dumps(value, 5)) for value in batch])

    def test_a_data_frame(self, pair):
        """Columns of several types."""
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(
            {"number": numpy.arange(LARGE), "share": numpy.linspace(0, 1, LARGE), "name": ["x"] * LARGE}
        )

        item, result = crossed(frame, *pair())

        pandas.testing.assert_frame_equal(item, frame)
        pandas.testing.assert_frame_equal(result, frame)

    def test_objects_of_the_users(self, pair):
        """Their pickles hold all, and cross in shared memory as a whole."""
        item, result = crossed(Holder("x", [numpy.arange(LARGE)]), *pair())

        assert equal(item.parts, [numpy.arange(LARGE)])
        assert equal(result.parts, [numpy.arange(LARGE)])

    def test_many_scalars(self, pair):
        """A long list of numbers is one pickle, which is read where it lies."""
        writer, reader = pair()
        numbers = [float(number) for number in range(LARGE)]
        pieces = dump_items(numbers).pieces(writer)

        assert sum(map(len, pieces)) < 100
        assert list(load_lazily(memoryview(b"".join(pieces)), reader)) == numbers


class TestOwnership:
    """Whose memory it is."""

    def test_an_item_is_built_where_it_lies(self, pair):
        """No copy is made for the reader, and it may write there."""
        writer, reader = pair()
        data = memoryview(b"".join(dump_items([numpy.ones(LARGE)]).pieces(writer)))
        (item,) = load_lazily(data, reader)
        region = next(iter(reader._read.values()))

        assert item.flags.writeable
        assert item.flags.aligned
        assert region.is_referred_to() == memory.lends()

    def test_a_region_is_used_again_when_nothing_refers_to_it(self, pair):
        """Otherwise each item would take new memory."""
        writer, reader = pair()
        offsets = set()
        for _ in range(5):
            pieces = dump_items([numpy.ones(LARGE)]).pieces(writer)
            offsets.add(envelope.region_of(memoryview(pieces[0])).offset)
            list(load_lazily(memoryview(pieces[0]), reader))
            reader.sweep()

        assert len(offsets) == 1

    def test_how_fast_memory_is_written_is_told_by_memory_that_is_used_again(self, pair):
        """New memory tells only where there was no other, because later calls find it used."""
        caller, worker = pair()
        data = bytes(1_000_000)

        def write():
            place = caller.put([data], [0], len(data))
            worker.free(place.number)

        write()
        assert caller.crossed_lately()[0].nbytes == 1_000_000
        write()
        write()
        assert caller.crossed_lately()[0].nbytes == 2_000_000
        large = bytes(4_000_000)
        write()
        caller.put([large], [0], len(large))
        assert caller.crossed_lately()[0].nbytes == 1_000_000
        assert caller.crossed_lately()[0].nbytes == 0

    @pytest.mark.parametrize("part", [slice(None), slice(1, 3)], ids=["an array", "a view of a part"])
    def test_a_region_that_is_referred_to_is_not_written_again(self, pair, part):
        """Neither an array nor a view that somebody keeps ever changes."""
        writer, reader = pair()
        pieces = dump_items([numpy.zeros(LARGE)]).pieces(writer)
        (item,) = load_lazily(memoryview(pieces[0]), reader)
        kept = item[part]
        del item
        reader.sweep()
        for _ in range(3):
            list(load_lazily(memoryview(dump_items([numpy.ones(LARGE)]).pieces(writer)[0]), reader))
            reader.sweep()

        assert not kept.any()
        del kept
        reader.sweep()
        assert reader.bytes_lent == 0

    @pytest.mark.parametrize("locked", [False, True])
    def test_what_an_item_wrote_does_not_cover_the_next_one(self, pair, monkeypatch, locked):
        """Not even where the system cannot forget it, as it cannot for memory that is locked."""
        writer, reader = pair()
        if locked:
            monkeypatch.setattr(memory, "_forget_writes", lambda _: False)
        for number in range(3):
            pieces = dump_items([numpy.full(LARGE, float(number))]).pieces(writer)
            (item,) = load_lazily(memoryview(pieces[0]), reader)
            assert (item == number).all()
            item[:] = -1.0
            del item
            reader.sweep()

    def test_a_result_owns_its_memory(self, pair):
        """It stays what it is when the next ones come."""
        writer, reader = pair()
        (first,) = load_values(memoryview(dump_values([numpy.zeros(LARGE)]).pieces(writer)[0]), reader)
        (second,) = load_values(memoryview(dump_values([numpy.ones(LARGE)]).pieces(writer)[0]), reader)

        assert not first.any()
        assert second.all()
        assert first.flags.writeable

    def test_what_several_items_share_crosses_once_and_is_rebuilt_for_each(self, pair):
        """Changing it in one item does not show in the next."""
        writer, reader = pair()
        shared = numpy.zeros(LARGE)
        packed = dump_items([(shared, number) for number in range(5)])
        data = memoryview(b"".join(packed.pieces(writer)))

        assert len(packed.buffers) == 1
        assert [memory_workers.first_and_number(item) for item in load_lazily(data, reader)] == [
            (0.0, number) for number in range(5)
        ]

    def test_what_waits_does_not_change_with_the_callers_arrays(self):
        """An envelope that has to wait takes copies."""
        array = numpy.zeros(LARGE)
        waiting = dump_items([array]).settled()
        array[:] = 1.0

        (again,) = load_values(memoryview(b"".join(waiting.pieces())))
        assert not again.any()


class TestLimits:
    """Where there is no memory, or not enough, data cross in messages."""

    def test_too_little_memory(self, pair):
        """Nothing is reserved that is not to be had."""
        writer, _ = pair(lambda: 1000)
        pieces = dump_items([numpy.ones(LARGE)]).pieces(writer)

        assert envelope.region_of(memoryview(b"".join(pieces))) is None
        assert load_values(memoryview(b"".join(pieces)))[0].all()

    def test_the_system_refuses(self, pair, monkeypatch):
        """As a container without memory does."""
        writer, _ = pair()

        def refuse(*_):
            raise OSError(28, "no space left")

        monkeypatch.setattr(memory.os, "posix_fallocate", refuse)

        assert writer.put([b"x" * 100_000], [0], 100_000) is None

    def test_too_many_regions_in_use(self, pair, monkeypatch):
        """Their number is bounded."""
        monkeypatch.setattr(memory, "_MOST_REGIONS", 2)
        writer, _ = pair()
        put = [writer.put([b"x" * 70_000], [0], 70_000) for _ in range(3)]

        assert [place is None for place in put] == [False, False, True]

    def test_a_region_cannot_be_mapped_by_its_reader(self, pair, monkeypatch):
        """For example because it has no descriptor left: it is copied, and given up at once."""
        writer, reader = pair()
        pieces = [dump_items([numpy.ones(LARGE)]).pieces(writer)[0] for _ in range(2)]

        def refuse(*_, **options):
            raise OSError(24, "too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(memory, "_map", refuse)
            (lent,) = load_lazily(memoryview(pieces[0]), reader)
            (loaded,) = load_values(memoryview(pieces[1]), reader)

        assert lent.all()
        assert loaded.all()
        assert writer._states[writer._out] == writer._states[writer._out + 1] == 0

    def test_free_regions_are_given_back(self, pair):
        """Of a worker that waits, and where a larger one is made."""
        writer, reader = pair()
        place = writer.put([bytes(1 << 20)], [0], 1 << 20)
        reader.free(place.number)
        before = os.fstat(writer.descriptor).st_blocks
        writer.trim(0)

        assert os.fstat(writer.descriptor).st_blocks < before
        assert writer.put([b"y" * 100_000], [0], 100_000) is not None

    def test_there_is_none(self, one_method, monkeypatch):
        """Then all goes as it always did."""
        monkeypatch.setattr("amorsize.transport.slots.create_file", lambda: None)
        items = [numpy.full(LARGE, float(number)) for number in range(6)]

        results = list(amorsize.map(memory_workers.same, items, **one_method))

        assert all(map(equal, results, items))


class TestWorkers:
    """Whole calls."""

    def items(self, count=12):
        return [numpy.full(LARGE, float(number)) for number in range(count)]

    def test_items_and_results(self, processes):
        """Arrays there and back."""
        for _ in range(3):
            results = list(amorsize.map(memory_workers.same, self.items(), **processes))
            assert all(map(equal, results, self.items()))
        assert all(result.flags.writeable for result in results)

    def test_changing_an_item_reaches_nobody(self, processes):
        """Neither the caller nor another item."""
        items = self.items()
        expected = [(LARGE * number, LARGE * (number + 1.0)) for number in range(12)]

        for _ in range(3):
            assert list(amorsize.map(memory_workers.changed, items, **processes)) == expected
        assert all(map(equal, items, self.items()))

    @pytest.mark.parametrize("function", [memory_workers.keep, memory_workers.kept_slice])
    def test_what_a_worker_keeps_never_changes(self, processes, function):
        """Not by later items, nor by later calls."""
        for _ in range(4):
            assert all(amorsize.map(function, self.items(40), **processes))

    def test_views_that_a_worker_keeps(self, one_method):
        """Of bytes, which are rebuilt, too."""
        items = [bytes([number]) * 100_000 for number in range(30)]

        assert all(amorsize.map(memory_workers.kept_view, items, **one_method))

    def test_a_second_try_sees_what_the_first_saw(self, processes, tmp_path):
        """A worker that dies takes its changes with it."""
        dying = partial(memory_workers.die_once, str(tmp_path))

        results = list(amorsize.map(dying, self.items(6), retries=1, **processes))

        assert results == [LARGE * float(number) for number in range(6)]

    def test_an_error_after_a_change(self, one_method):
        """The caller's item is what it was."""
        items = self.items(3)
        with pytest.raises(ValueError, match="after the change"):
            list(amorsize.map(memory_workers.fail_after, items, **one_method))

        assert all(map(equal, items, self.items(3)))

    def test_circles_of_references(self, one_method):
        """What only the garbage collector frees is not written again before that."""
        results = list(amorsize.map(memory_workers.in_cycle, self.items(60), **one_method))

        assert results == [float(number) for number in range(60)]

    def test_a_function_with_large_data(self, processes):
        """It crosses once to each worker, and the next call needs nothing of it."""
        data = [numpy.ones(400_000)]
        function = partial(memory_workers.total_of, 2.0)
        carrying = partial(_total, numpy.arange(400_000.0))

        assert list(amorsize.map(function, [data] * 3, **processes)) == [800_000.0] * 3
        for _ in range(2):
            assert list(amorsize.map(carrying, range(8), **processes)) == [
                float(numpy.arange(400_000.0).sum()) + number for number in range(8)
            ]

    @pytest.mark.parametrize("chunksize", [1, 3])
    def test_memory_that_pickling_fills_anew(self, one_method, chunksize):
        """Each item, and each result, is what it was when it was pickled."""
        items = [memory_workers.FillsOneArray(float(number)) for number in range(6)]
        options = {**one_method, "chunksize": chunksize}

        numbers = list(amorsize.map(memory_workers.number_of, items, **options))
        back = list(amorsize.map(memory_workers.FillsOneArray, numbers, **options))

        assert numbers == [float(number) for number in range(6)]
        assert [item.number for item in back] == numbers

    @pytest.mark.parametrize("data", [bytes, bytearray])
    @pytest.mark.parametrize("length", [100, 100_000])
    def test_memory_that_objects_offer(self, one_method, data, length):
        """It comes as the type that any pickle gives, whatever its size."""
        items = [memory_workers.OffersMemory(data(length))] * 2

        assert list(amorsize.map(memory_workers.type_of_data, items, **one_method)) == [data.__name__] * 2
        back = list(amorsize.map(memory_workers.same, items, **one_method))
        assert {type(item.data) for item in back} == {data}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_process_that_an_item_forks_has_memory_of_its_own(self, one_method):
        """What it writes shows nowhere."""
        results = list(amorsize.map(memory_workers.fork_and_change, self.items(4), **one_method))

        assert results == [LARGE * float(number) for number in range(4)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_process_that_an_item_leaves_behind_keeps_what_it_has(self, one_method, tmp_path):
        """Later items do not show in its memory."""
        options = {**one_method, "n_jobs": 1, "chunksize": 1}
        list(amorsize.map(partial(memory_workers.fork_and_read, str(tmp_path)), self.items(4), **options))
        (tmp_path / "over").touch()
        until = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < 5 or list(tmp_path.glob("*.part")):
            assert time.monotonic() < until
            time.sleep(0.01)

        found = [float((tmp_path / str(number)).read_text()) for number in range(4)]
        assert found == [LARGE * float(number) for number in range(4)]

    def test_dropped_results_leave_the_workers_fit(self, one_method):
        """Items that were sent ahead and are not wanted give their memory back."""
        for _ in range(8):
            stream = amorsize.map(memory_workers.same, self.items(40), chunksize=1, **one_method)
            next(stream)
            stream.close()

        results = list(amorsize.map(memory_workers.same, self.items(), **one_method))
        assert all(map(equal, results, self.items()))
        assert max(len(worker.store._regions) for worker in all_workers()) < 8

    def test_memory_of_idle_workers_is_bounded(self, one_method):
        """What one call has needed for its items is not held until the next."""
        list(amorsize.map(len, [numpy.ones(20_000_000)] * 4, chunksize=1, **one_method))

        held = [os.fstat(worker.store.descriptor).st_blocks * 512 for worker in all_workers()]
        assert held
        assert min(held) < 100_000_000

    def test_each_worker_has_its_own_only(self, processes):
        """A worker that held another's would keep that memory when the other is gone."""
        assert set(amorsize.map(memory_workers.mapped_files, range(6), chunksize=1, **processes)) == {1}

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_the_system_has_the_call_and_forbids_it(self, monkeypatch, method):
        """Workers start all the same."""

        def forbidden(*_):
            raise PermissionError(1, "not permitted")

        monkeypatch.setattr(os, "memfd_create", forbidden)
        options = {"backend": "processes", "n_jobs": 2, "start_method": method}

        assert all(map(equal, amorsize.map(memory_workers.same, self.items(3), **options), self.items(3)))

    def test_an_interrupted_start_leaves_nothing(self, one_method, monkeypatch):
        """Whatever was made by then is closed."""
        list(amorsize.map(abs, range(2), **one_method))
        amorsize.shutdown()
        before = len(os.listdir("/proc/self/fd"))

        def interrupted(*_, **options):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(start, "Worker", interrupted)
            with pytest.raises(KeyboardInterrupt):
                list(amorsize.map(abs, range(2), **one_method))

        assert len(os.listdir("/proc/self/fd")) <= before


def _total(bound, number):
    return float(bound.sum()) + number


@pytest.mark.skipif(sys.platform != "linux", reason="it counts what the system lists")
def test_nothing_is_left(processes, tmp_path):
    """No descriptor, mapping or file, after errors and deaths as well."""
    list(amorsize.map(abs, range(4), **processes))
    amorsize.shutdown()
    descriptors = len(os.listdir("/proc/self/fd"))
    items = [numpy.full(LARGE, float(number)) for number in range(8)]
    for _ in range(3):
        list(amorsize.map(memory_workers.same, items, **processes))
        with pytest.raises(ValueError, match="after"):
            list(amorsize.map(memory_workers.fail_after, items, **processes))
    dying = partial(memory_workers.die_once, str(tmp_path))
    list(amorsize.map(dying, items, retries=1, **processes))
    amorsize.shutdown()

    assert len(os.listdir("/proc/self/fd")) <= descriptors
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert "memfd:amorsize" not in maps.read()


def test_a_region_lies_where_both_can_map_it():
    """Offsets are multiples of what the system maps by."""
    assert memory.HEADER_BYTES % mmap.ALLOCATIONGRANULARITY == 0
    assert memory._rounded(1) % mmap.ALLOCATIONGRANULARITY == 0

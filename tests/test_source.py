"""The input of one call: read once, counted, and never asked again after its end."""

from __future__ import annotations

import itertools
import pickle
import threading
from itertools import pairwise

import pytest

from amorsize.feed.source import Source
from amorsize.transport.serialize import dump_items, load_values
from amorsize.transport.values import Fixed, Rows


class Scripted:
    """An iterator that gives, raises or ends (None) as scripted, and counts how often it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        answer = self.answers.pop(0)
        if answer is None:
            raise StopIteration
        if isinstance(answer, Exception):
            raise answer
        return answer


class Hinting(Scripted):
    """The same, with a length hint; an exception is raised."""

    def __init__(self, hint, *answers):
        super().__init__(*answers)
        self.hint = hint

    def __length_hint__(self):
        if isinstance(self.hint, Exception):
            raise self.hint
        return self.hint


class Sized:
    """Has a length that it computes, or fails to, and iterates by a generator."""

    def __init__(self, items, length):
        self.items = items
        self.length = length

    def __iter__(self):
        return (item for item in self.items)

    def __len__(self):
        return self.length()


class TestReading:
    """Items come out once, in order."""

    def test_iter_is_all_that_is_called_at_first(self):
        """Making a source asks no iterator for anything."""
        first, second = Scripted(1), Scripted(2)

        Source((first, second))

        assert (first.asked, second.asked) == (0, 0)

    def test_what_cannot_be_iterated_is_the_builtins_error(self):
        """The error is that of `iter`."""
        with pytest.raises(TypeError, match="'int' object is not iterable"):
            Source(([1], 2))

    def test_take_goes_on_where_it_stopped(self):
        """Each `take` gives the next items, and counts them."""
        source = Source((iter("abcde"),))

        assert (source.take(2), source.index) == (["a", "b"], 2)
        assert (source.take(2), source.index) == (["c", "d"], 4)
        assert (source.take(2), source.index) == (["e"], 5)

    def test_take_pulls_no_more_than_asked(self):
        """Nothing is read ahead."""
        iterator = Scripted(*range(1, 10))

        Source((iterator,)).take(3)

        assert iterator.asked == 3

    def test_several_iterables_give_tuples(self):
        """Items of several iterables are tuples, as many as the shortest has."""
        source = Source(("ab", itertools.count()))

        assert not source.single
        assert source.take(5) == [("a", 0), ("b", 1)]

    def test_one_iterable_gives_bare_items(self):
        """Items of one iterable are what it gives."""
        source = Source(("ab",))

        assert source.single
        assert source.take(5) == ["a", "b"]

    def test_strict_lengths_differ_after_the_items_before(self):
        """With `strict`, the items before the short end come first, and then the error is zip's."""
        source = Source(("abc", "ab"), strict=True)

        assert source.take(5) == [("a", "a"), ("b", "b")]
        assert isinstance(source.error, ValueError)

    @pytest.mark.parametrize("count", [4, 5])
    def test_the_end_is_met_once(self, count):
        """An iterator that has ended is not asked again: it might wait for ever, or go on."""
        iterator = Scripted(1, 2, 3, None, 4, None)
        source = Source((iterator,))

        assert source.take(count) == [1, 2, 3]
        assert source.take(count) == []
        assert list(source.iterator) == []
        assert iterator.asked == 4

    def test_items_before_an_error_are_returned(self):
        """What came before an error is not lost, and the error is kept."""
        error = OSError("gone")
        source = Source((Scripted(1, 2, error),))

        assert source.take(5) == [1, 2]
        assert source.error is error
        assert source.index == 2

    def test_an_error_is_met_once_by_whoever_reads_next(self):
        """After an error the input is not asked again; `take` gives nothing, and iterating gives the error."""
        error = OSError("gone")
        iterator = Scripted(1, error, 2)
        source = Source((iterator,))
        source.take(5)

        assert source.take(5) == []
        with pytest.raises(OSError, match="gone") as caught:
            next(source.iterator)
        assert caught.value is error
        assert iterator.asked == 2

    def test_an_interrupt_is_not_kept(self):
        """What is not an `Exception` passes straight through."""

        def interrupted():
            yield 1
            raise KeyboardInterrupt

        source = Source((interrupted(),))

        with pytest.raises(KeyboardInterrupt):
            source.take(5)
        assert source.error is None

    def test_end_drops_the_rest(self):
        """After `end` there are no more items, whatever the input has."""
        source = Source(([1, 2, 3],))
        source.take(1)

        source.end()

        assert source.take(5) == []
        assert list(source.iterator) == []
        assert source.remaining() == 0
        assert source.index == 1


class TestReadingAhead:
    """What may wait as it is, what is fixed, and when the end is believed."""

    def test_items_are_fixed_before_the_next_is_pulled(self):
        """What nobody can change waits as it is, anything else as its pickle."""
        record = []

        def items():
            yield 1
            record.append("a")
            yield record
            record.append("b")
            yield "text", 2.0

        first, second, third = Source((items(),)).take(3, fix=lambda item: Fixed(pickle.dumps(item)))

        assert (first, third) == (1, ("text", 2.0))
        assert type(second) is Fixed
        assert pickle.loads(second.data) == ["a"]

    def test_an_item_that_cannot_be_fixed_ends_the_reading(self):
        """It is there with its error, and nothing behind it was read."""
        lock = threading.Lock()
        iterator = Scripted(1, lock, 3, None)
        source = Source((iterator,))

        assert source.take(9, fix=pickle.dumps) == [1]
        assert source.unfixed.item is lock
        assert isinstance(source.unfixed.error, TypeError)
        assert (iterator.asked, source.index) == (2, 2)
        assert source.take(9, fix=pickle.dumps) == [3]
        assert source.unfixed is None

    @pytest.mark.parametrize("items", [[[1], [2]], ([1], [2])], ids=["list", "tuple"])
    def test_lists_and_tuples_are_read_as_they_are(self, items):
        """Their items are objects of their own."""
        assert Source((items,)).take(2, fix=pickle.dumps) == [[1], [2]]

    def test_a_list_is_not_asked_at_its_end_before_all_is_handed_out(self):
        """It may grow until then."""
        items = [1, 2]
        source = Source((items,))

        assert (source.take(5, to_end=False), source.held) == ([1, 2], True)
        assert (source.take(5, to_end=False), source.held) == ([], True)
        items.append(3)
        assert source.take(5, to_end=False) == [3]
        assert (source.take(5), source.held) == ([], False)
        items.append(4)
        assert source.take(5) == []

    def test_an_end_that_was_met_is_not_held(self):
        """A dict has a length, and no more than that."""
        source = Source((dict.fromkeys("ab"),))

        assert (source.take(5, to_end=False), source.held) == (["a", "b"], True)
        assert (source.take(5), source.held) == ([], False)
        assert (source.take(5, to_end=False), source.held) == ([], False)

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_only_plain_items(self, kind):
        """Reading stops before the first item that is none, and goes on with it."""
        source = Source((kind([1, (2, "b"), [3], 4]),))

        assert source.take(9, to_end=False, plain_only=True) == [1, (2, "b")]
        assert source.take(9, to_end=False, plain_only=True) == []
        assert source.take(2) == [[3], 4]


class TestRemaining:
    """How many items are left, as far as anybody can tell."""

    @pytest.mark.parametrize(
        "items",
        [[5, 4, 3, 2, 1], (5, 4, 3, 2, 1), range(5), dict.fromkeys("abcde"), set("abcde"), "abcde", iter(range(5))],
        ids=lambda items: type(items).__name__,
    )
    def test_what_is_left_of_an_input_with_a_length(self, items):
        """The number shrinks as items are taken."""
        source = Source((items,))
        assert source.remaining() == 5

        source.take(2)

        assert source.remaining() == 3

    def test_unknown_for_generators(self):
        """A generator does not tell."""
        assert Source(((number for number in range(5)),)).remaining() is None

    def test_the_shortest_input_counts(self):
        """Of several inputs the shortest counts, and one that does not tell makes all unknown."""
        assert Source(([1, 2, 3], range(2))).remaining() == 2
        assert Source(([1, 2, 3], itertools.count())).remaining() is None

    def test_items_read_without_being_counted(self):
        """What is read from a plain sequence by iterating counts too."""
        source = Source(([1, 2, 3, 4],))

        next(source.iterator)

        assert source.remaining() == 3

    def test_the_hint_of_an_iterator(self):
        """An iterator's own hint is believed."""
        assert Source((Hinting(7),)).remaining() == 7

    @pytest.mark.parametrize("hint", [ValueError("broken"), OSError("gone"), -3, "many", 1 << 70], ids=repr)
    def test_a_broken_hint_is_no_hint(self, hint):
        """A hint that fails, or is no sensible number, only means that the number is unknown."""
        assert Source((Hinting(hint),)).remaining() is None

    @pytest.mark.parametrize("length", [lambda: 1 / 0, lambda: -1, lambda: 1 << 70], ids=["fails", "negative", "huge"])
    def test_a_broken_length_is_no_length(self, length):
        """Neither does a `__len__` that fails matter."""
        assert Source((Sized([1, 2], length),)).remaining() is None

    def test_a_length_beyond_the_machine_is_unknown(self):
        """A range longer than any list is an input like an endless one."""
        source = Source((range(10**30),))

        assert source.remaining() is None
        assert source.take(2) == [0, 1]

    def test_a_length_too_small_gives_nothing_negative(self):
        """An input that has more than it said leaves 0, and its items come all the same."""
        source = Source((Sized([1, 2, 3], lambda: 1),))

        assert source.take(2) == [1]
        assert source.held
        assert source.remaining() == 0
        assert source.take(2) == [2, 3]
        assert source.remaining() == 0

    def test_a_length_is_asked_for_once(self):
        """A `__len__` may be dear."""
        asked = []
        source = Source((Sized([1, 2], lambda: asked.append(1) or 2),))

        source.remaining()
        source.remaining()

        assert asked == [1]


class TestCount:
    """Nobody needs to count who reads a source that keeps its own count."""

    @pytest.mark.parametrize(
        "iterables",
        [
            ([1, 2, 3],),
            ((1, 2, 3),),
            (range(3),),
            (iter([1, 2, 3]),),
            ((i for i in range(3)),),
            ({1: 2, 3: 4, 5: 6},),
            ("abc",),
            ([1, 2, 3], [2, 3, 4, 5]),
            (type("Listlike", (list,), {})([1, 2, 3]),),
        ],
        ids=["list", "tuple", "range", "iterator", "generator", "dict", "str", "several", "subclass"],
    )
    def test_every_kind_of_input(self, iterables):
        """The index is right half-way, after items that were counted, and at the end."""
        source = Source(iterables)
        next(source.iterator)
        source.index += 1
        source.keep_count()

        next(source.iterator)
        source.recount()
        assert source.index == 2
        source.keep_count()  # once more changes nothing

        assert len(source.take(1)) == 1
        assert source.index == 3
        assert list(source.iterator) == []
        source.recount()
        assert source.index == 3

    def test_plain_sequences_need_no_keeping(self):
        """Lists, tuples and ranges tell by themselves."""
        source = Source(([1, 2, 3],))
        iterator = source.iterator
        source.keep_count()

        next(iterator)
        source.recount()

        assert source.iterator is iterator
        assert source.index == 1

    def test_a_count_that_is_not_kept(self):
        """What is not known is left as it is."""
        source = Source((iter([1]),))
        next(source.iterator)
        source.recount()
        assert source.index == 0

    def test_an_error_of_the_input(self):
        """The item that did not come is not counted."""
        source = Source(((1 // item for item in (1, 0)),))
        source.keep_count()

        with pytest.raises(ZeroDivisionError):
            list(source.iterator)

        source.recount()
        assert source.index == 1

    def test_a_list_that_grows(self):
        """Items appended while a list is read are no step back."""
        items = [1, 2, 3]
        source = Source((items,))

        for item in source.iterator:
            if len(items) < 9:
                items.extend([item, item])
            source.recount()

        assert source.index == len(items)

    def test_a_list_that_shrinks(self):
        """Items removed in the meantime do not make the index fall."""
        items = list(range(10))
        source = Source((items,))
        source.take(6)

        del items[2:]
        source.recount()

        assert source.index == 6
        assert list(source.iterator) == []


class TestArrays:
    """NumPy arrays are read ahead as they are."""

    @pytest.mark.parametrize("shape", [(7,), (7, 3), (0,), (3, 0)])
    def test_their_items_are_the_builtins(self, shape):
        """Numbers of their own type, or views."""
        numpy = pytest.importorskip("numpy")
        array = numpy.arange(numpy.prod(shape), dtype=float).reshape(shape)
        source = Source((array,))
        found = [*source.take(2, to_end=False), *source.take(100, to_end=False)]

        assert source.exact
        assert source.is_drained()
        assert [type(item) for item in found] == [type(item) for item in array]
        assert str(found) == str(list(array))

    @pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 3, 2), (1,), (0,), (3, 0)])
    @pytest.mark.parametrize("order", ["C", "F", "strided", "backwards", "read-only"])
    def test_they_cross_as_one_array(self, shape, order):
        """Where a pump sends them; what it gives there is what the builtin's loop gives here, whatever the strides."""
        numpy = pytest.importorskip("numpy")
        array = numpy.arange(numpy.prod(shape), dtype=float).reshape(shape)
        if order == "F":
            array = numpy.asfortranarray(array)
        if order in {"strided", "backwards"}:
            array = numpy.repeat(array, 2, axis=0)[:: 2 if order == "strided" else -2]
        array.flags.writeable = order != "read-only"
        source = Source((array,))
        source.crosses = True
        found = [source.take(2, fix=Fixed), source.take(3, fix=Fixed), source.take(100, fix=Fixed)]
        before = [*array.copy()]
        if array.flags.writeable:
            array[...] = -1  # what was read stays

        assert {type(rows) for rows in found} <= {Rows, list}
        sent = [item for rows in found for item in load_values(memoryview(b"".join(dump_items(rows).pieces())))]
        assert [type(item) for item in sent] == [type(item) for item in before]
        assert str(sent) == str(before)
        assert source.over
        assert source.index == len(array)
        for item in sent:
            if array.ndim > 1 and item.size:
                assert item.flags.writeable == array.flags.writeable
        assert not any(numpy.shares_memory(one, other) for one, other in pairwise(sent) if array.ndim > 1)

    def test_every_kind_of_number_crosses_so(self):
        """Records, times and texts as well; objects, subclasses and large rows cross alone."""
        numpy = pytest.importorskip("numpy")
        together = [
            numpy.arange(3).astype(kind) for kind in ("i1", ">f8", "c16", "M8[s]", "m8[D]", "u8")
        ] + [
            numpy.array(["a", "bc"]), numpy.array([b"a", b""]), numpy.array([True, False]),
            numpy.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
            numpy.broadcast_to(numpy.arange(3.0), (4, 3)),
        ]
        alone = [
            numpy.array([1, None], dtype=object), numpy.zeros((2, 8192)), numpy.zeros(2).view(numpy.matrix),
            numpy.ma.zeros(3), numpy.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), numpy.zeros(2, dtype="V8"),
        ]
        for array in together + alone:
            source = Source((array,))
            source.crosses = True
            items = source.take(2, fix=lambda item: item)
            assert (type(items) is Rows) == any(array is each for each in together), array.dtype
            assert str([*items]) == str([*array[:2]])

    def test_they_stay_themselves_in_this_process(self):
        """For threads, and for the caller, whose items may change the array that they are rows of."""
        numpy = pytest.importorskip("numpy")
        array = numpy.zeros((4, 2))
        source = Source((array,))
        source.take(1, fix=Fixed)[0][:] = 1
        source.crosses = True
        source.take(1)[0][:] = 2

        assert array.tolist() == [[1, 1], [2, 2], [0, 0], [0, 0]]

    def test_pieces_of_them_are_the_same(self):
        """A chunk is cut where a worker hands back what it has not begun."""
        numpy = pytest.importorskip("numpy")
        rows = Rows.of(numpy.arange(10.0), 2, 8)

        assert len(rows) == 6
        assert [*rows[1:3]] == [3.0, 4.0]
        assert type(rows[1:3]) is Rows
        assert (rows[-1], [*rows[:0]]) == (7.0, [])

    def test_a_subclass_is_not(self):
        """It may run code of its own."""
        numpy = pytest.importorskip("numpy")

        class Own(numpy.ndarray):
            pass

        assert not Source((numpy.zeros(3).view(Own),)).exact

    def test_how_many_are_left(self):
        """As many as it has rows, less those that were read."""
        numpy = pytest.importorskip("numpy")
        source = Source((numpy.zeros((5, 2)),))
        source.take(2)

        assert source.remaining() == 3
        source.seek(4)
        assert len(source.take(9)) == 1

    def test_another_sequence_is_not_asked_for_its_length(self):
        """What only has `__getitem__` has the same iterator, and code of its own."""

        class Own:
            def __getitem__(self, index):
                if index > 2:
                    raise IndexError
                return index

            def __len__(self):
                raise AssertionError("asked")

        assert not Source((Own(),)).is_drained()

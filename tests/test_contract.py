"""What `map` promises wherever its items run, compared with the builtin: one suite over all backends."""

from __future__ import annotations

import functools
import itertools
import operator
import textwrap
import threading
from builtins import map as plain_map

import pytest
import workers

import amorsize
from amorsize.backends import rows

READ_AHEAD = 5_000  # items; the most that may be pulled beyond the results that were asked for
LARGE = 300_000  # bytes; far beyond a pipe's buffer, both ways


class Counting:
    """An endless iterator that counts what was pulled from it."""

    def __init__(self):
        self.pulled = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.pulled += 1
        return self.pulled - 1


class Fallible:
    """An iterator that raises after some items."""

    def __init__(self, count):
        self.left = count

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise OSError("the input broke")
        self.left -= 1
        return self.left


def drain(iterator):
    """Return the results before an error, and the error; None if there was none."""
    results = []
    try:
        for result in iterator:
            results.append(result)  # noqa: PERF402 - what came before the error counts
    except Exception as error:  # noqa: BLE001 - whatever the function raises is compared
        return results, error
    return results, None


class TestValues:
    """The results are the builtin's."""

    @pytest.mark.parametrize(
        "inputs",
        [
            ([3, 1, 2],),
            (range(200),),
            (range(50, -50, -7),),
            ((),),
            ([],),
            ([5],),
            ((number for number in range(30)),),
            ({4: "four", 2: "two"},),
            ([1, 2, 3], [10, 20], [100, 200, 300]),
            (range(10), (number for number in range(8))),
            ([1.5, float("inf")], [True, False]),
        ],
        ids=lambda inputs: ",".join(type(one).__name__ for one in inputs),
    )
    def test_values_and_order_are_the_builtins(self, anywhere, inputs):
        """Every kind of input gives the builtin's results in the builtin's order; the shortest input ends it."""
        copies = [itertools.tee(one) if hasattr(one, "__next__") else (one, one) for one in inputs]
        expected = list(plain_map(workers.add, *(first for first, _ in copies)))

        assert list(amorsize.map(workers.add, *(second for _, second in copies), **anywhere)) == expected

    def test_starmap_is_itertools_starmap(self, anywhere):
        """Argument tuples are spread, whatever iterables they are and however long."""
        arguments = [(1, 2), [3], (), range(5)]

        assert list(amorsize.starmap(workers.add, arguments, **anywhere)) == [3, 3, 0, 10]

    def test_none_and_odd_values_cross_unchanged(self, anywhere):
        """None, unhashable and nested values, and the exceptions a function returns, come back as they went."""
        items = [None, [1, [2]], {"key": {1}}, workers.Unhashable(3), "", b"\0", Ellipsis, -(2**80)]

        assert list(amorsize.map(workers.echo, items, **anywhere)) == items

    def test_a_returned_exception_is_a_result(self, anywhere):
        """An exception that was returned and not raised is handed out like any value."""
        (result,) = amorsize.map(ValueError, ["text"], **anywhere)

        assert isinstance(result, ValueError)
        assert result.args == ("text",)

    def test_large_items_and_results_cross_both_ways(self, anywhere):
        """Items and results beyond a pipe's buffer neither block nor change."""
        texts = [chr(ord("a") + position) * LARGE for position in range(12)]

        results = amorsize.map(workers.lengthen, texts, chunksize=1, **anywhere)

        assert [(text[0], len(text)) for text in results] == [(text[0], 2 * LARGE) for text in texts]

    def test_any_chunk_length_gives_the_same(self, backend):
        """A fixed chunk length changes nothing in the results, whether or not it divides the input."""
        expected = list(plain_map(workers.square, range(25)))

        assert list(amorsize.map(workers.square, range(25), chunksize=7, **backend)) == expected
        assert list(amorsize.map(workers.square, iter(range(25)), chunksize=100, **backend)) == expected

    def test_unordered_is_the_same_multiset(self, anywhere):
        """`ordered=False` gives bare values, each once."""
        results = amorsize.map(workers.square, range(300), ordered=False, **anywhere)

        assert sorted(results) == [number**2 for number in range(300)]


class TestStrict:
    """`strict=True` is the builtin's of 3.14, and zip's before that."""

    @pytest.mark.parametrize("inputs", [("ab", "a"), ("a", "ab"), ("ab", "ab", "a"), ("a", "a", "abc")])
    def test_unequal_lengths_are_zips_error(self, anywhere, inputs):
        """Results before the short end come first, and then the error has the type and text of zip's."""
        zipped, expected = drain(zip(*inputs, strict=True))

        results, error = drain(amorsize.map(workers.add_text, *inputs, strict=True, **anywhere))

        assert results == ["".join(row) for row in zipped]
        assert type(error) is ValueError
        assert str(error).removeprefix("map").removeprefix("zip") == str(expected).removeprefix("zip")

    def test_equal_lengths_are_no_error(self, anywhere):
        """Equal lengths, and one input alone, are fine."""
        assert list(amorsize.map(workers.add, [1, 2], [3, 4], strict=True, **anywhere)) == [4, 6]
        assert list(amorsize.map(workers.add, [1, 2], strict=True, **anywhere)) == [1, 2]


class TestErrors:
    """A failing item is the builtin's error, in the builtin's place."""

    def test_results_before_the_error_come_first(self, anywhere):
        """The error has its type and arguments, comes after the results before it, and ends the iterator."""
        stream = amorsize.map(workers.fail_at_seven, range(20), **anywhere)

        results, error = drain(stream)

        assert results == list(range(7))
        assert type(error) is KeyError
        assert error.args == ("seven", 7)
        assert list(stream) == []

    def test_stop_iteration_ends_as_the_builtins_does(self, anywhere):
        """A StopIteration of the function's ends a loop over the results."""
        expected = list(plain_map(workers.stop_at_seven, range(20)))

        assert list(amorsize.map(workers.stop_at_seven, range(20), **anywhere)) == expected

    def test_an_input_that_raises_gives_earlier_results_first(self, anywhere):
        """The input's own error arrives after the results of the items before it."""
        results, error = drain(amorsize.map(workers.square, Fallible(5), **anywhere))

        assert results == [16, 9, 4, 1, 0]
        assert type(error) is OSError

    def test_an_exception_with_an_odd_constructor_arrives(self, anywhere):
        """An exception that cannot be rebuilt from its arguments is not a hang, and tells its type and text."""
        results, error = drain(amorsize.map(workers.raise_odd, range(3), **anywhere))

        assert results == []
        assert "OddError" in f"{type(error).__name__} {error!r}"
        assert "salt and 0" in str(error)

    def test_an_unpicklable_result_names_its_item(self, processes):
        """A result that cannot come back is an error that says which item made it, after the results before it."""
        results, error = drain(amorsize.map(workers.unpicklable_at_three, range(10), **processes))

        assert results == [0, 1, 2]
        assert isinstance(error, amorsize.SerializationError)
        assert "item 3" in str(error)

    def test_an_unpicklable_item_is_named(self, processes):
        """An item that cannot be sent is an error that says which one, after the results before it."""
        results, error = drain(amorsize.map(workers.echo, [0, 1, threading.Lock(), 3], **processes))

        assert results == [0, 1]
        assert isinstance(error, amorsize.SerializationError)
        assert "item 2" in str(error)

    def test_unpicklable_results_do_not_matter_here(self):
        """In serial work nothing is pickled."""
        results = list(amorsize.map(workers.unpicklable_at_three, range(5), backend="serial"))

        assert type(results[3]) is type(threading.Lock())

    def test_returned_errors_stand_in_their_items_places(self, anywhere):
        """With `on_error="return"` every other item has its result."""
        results = list(amorsize.map(workers.fail_at_seven, range(10), on_error="return", **anywhere))

        assert isinstance(results[7], KeyError)
        assert results[:7] + results[8:] == [0, 1, 2, 3, 4, 5, 6, 8, 9]

    @pytest.mark.parametrize(
        "items",
        [list(range(10)), range(10), iter, [(number,) for number in range(10)]],
        ids=["list", "range", "iterator", "tuples"],
    )
    @pytest.mark.parametrize("on_error", ["raise", "return"])
    def test_an_error_says_which_item_it_is_of(self, anywhere, items, on_error):
        """Raised or returned, it has a note and `amorsize_index`, also where results come as they are done."""
        star = isinstance(items, list) and isinstance(items[0], tuple)
        given = iter(list(range(10))) if items is iter else items
        mapper = amorsize.starmap if star else amorsize.map
        options = {**anywhere, "on_error": on_error, "ordered": False}

        results, error = drain(mapper(workers.fail_at_seven, given, **options))
        if error is None:
            (error,) = (result for result in results if isinstance(result, Exception))

        assert error.__notes__ == ["amorsize: raised by item 7"]
        assert error.amorsize_index == 7

    @pytest.mark.parametrize("many", [400, 100_000])
    def test_a_late_error_says_so_too(self, many):
        """The index is right after items that nobody counted, whatever the input."""
        for given in (range(many + 1), (number for number in range(many + 1))):
            _, error = drain(amorsize.map(lambda number: 1 // (many - number), given))

            assert error.amorsize_index == many

    @pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt])
    def test_wishes_to_leave_are_not_returned(self, anywhere, kind):
        """What is no failure of an item ends the call, whatever is done about errors."""
        stream = amorsize.map(workers.Raising(kind), range(5), on_error="return", retries=1, **anywhere)

        with pytest.raises(kind):
            list(stream)

    def test_not_callable_is_the_builtins_error_at_the_first_item(self, backend):
        """What cannot be called fails as it does for the builtin, when the first result is asked for."""
        with pytest.raises(TypeError, match="not callable"):
            next(amorsize.map(None, [1], **backend))


class TestLaziness:
    """Nothing runs before it must."""

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [((), "argument"), ((42,), "'int' object is not iterable"), (([1], None), "'NoneType' object is not iterable")],
    )
    def test_bad_inputs_fail_at_the_call(self, anywhere, inputs, message):
        """No input at all, or one that is not iterable, is a TypeError of the call itself."""
        with pytest.raises(TypeError, match=message):
            amorsize.map(workers.square, *inputs, **anywhere)

    def test_the_call_only_makes_iterators(self, anywhere):
        """`map` calls `iter` on each input, and nothing else happens before the first `next`."""
        source = Counting()

        stream = amorsize.map(workers.square, source, **anywhere)

        assert source.pulled == 0
        stream.close()
        assert source.pulled == 0

    def test_serial_pulls_and_runs_one_item_at_a_time(self):
        """In serial work each `next` pulls one item and runs it."""
        ran = []
        source = Counting()
        stream = amorsize.map(ran.append, source, backend="serial")

        for count in range(1, 5):
            next(stream)

            assert source.pulled == count
            assert ran == list(range(count))

    def test_an_endless_input_is_read_a_bounded_way_ahead(self, anywhere):
        """Results of an endless input come as they are asked for, and the input is pulled only so much further."""
        source = Counting()
        with amorsize.map(workers.square, source, **anywhere) as stream:
            for count in (1, 10, 400):
                results = list(itertools.islice(stream, count))

                assert len(results) == count
                assert source.pulled <= 411 + READ_AHEAD

    def test_a_finished_iterator_stays_finished(self, anywhere):
        """After its end, `next` gives the default for ever, and pulls nothing."""
        source = iter([1, 2])
        stream = amorsize.map(workers.square, source, **anywhere)
        assert list(stream) == [1, 4]

        assert next(stream, "over") == "over"
        assert next(stream, "over") == "over"

    def test_the_stream_is_its_own_iterator(self, anywhere):
        """As for every iterator, `iter` of it is itself."""
        with amorsize.map(workers.square, [1], **anywhere) as stream:
            assert iter(stream) is stream


class TestStream:
    """What the iterator can do that the builtin's cannot."""

    def test_close_ends_it(self, anywhere):
        """After `close`, which may be repeated, nothing more comes."""
        stream = amorsize.map(workers.square, itertools.count(), **anywhere)
        assert next(stream) == 0

        stream.close()
        stream.close()

        assert next(stream, "over") == "over"

    def test_a_with_block_closes_it(self, anywhere):
        """Leaving the block closes the iterator, by an error too."""
        with amorsize.map(workers.square, itertools.count(), **anywhere) as stream:
            next(stream)
        assert list(stream) == []

        stream = amorsize.map(workers.fail_at_seven, itertools.count(), **anywhere)
        with pytest.raises(KeyError), stream:
            list(stream)
        assert list(stream) == []

    def test_seeded_items_of_an_array(self, anywhere):
        """All of them, in order, with the position of an error."""
        numpy = pytest.importorskip("numpy")
        array = numpy.arange(12.0)
        try:
            results = amorsize.map(abs, array, seed=7, **anywhere)
        except amorsize.UnsupportedError as error:
            pytest.skip(str(error))
        assert list(results) == list(array)
        with pytest.raises(KeyError, match="seven") as raised:
            list(amorsize.map(workers.fail_at_seven, numpy.arange(12), seed=7, **anywhere))
        assert raised.value.amorsize_index == 7

    def test_length_hint_counts_what_is_left(self, anywhere):
        """The hint is the input's length, less what was handed out; an endless input gives none."""
        with amorsize.map(workers.square, range(10), **anywhere) as stream:
            assert operator.length_hint(stream, -1) == 10
        with amorsize.map(workers.square, itertools.chain([1]), **anywhere) as stream:
            assert operator.length_hint(stream, -1) == -1

    def test_an_abandoned_iterator_cleans_up(self, anywhere):
        """Dropping an iterator half-way leaves nothing behind, and the next call works."""
        stream = amorsize.map(workers.square, itertools.count(), **anywhere)
        next(stream)
        del stream

        assert list(amorsize.map(workers.square, [2], **anywhere)) == [4]

    def test_a_named_backend_is_in_the_plan(self, backend):
        """The plan names the backend that was asked for."""
        stream = amorsize.map(workers.square, range(10), **backend)
        list(stream)

        name = getattr(rows.row_of(backend["backend"]), "name", None)
        assert stream.plan is None or stream.plan.backend == name


class TestFunctions:
    """Whatever can be called can be mapped."""

    @pytest.mark.parametrize(
        "function",
        [
            lambda number: number + 1,
            functools.partial(workers.add, 10),
            workers.Scale(3),
            workers.Scale(3).shifted,
            workers.adder(5),
            str,
            "{:>4}".format,
            operator.neg,
            workers.factorial,
            workers.area,
        ],
        ids=[
            "lambda", "partial", "callable object", "bound method", "closure", "class", "builtin method", "builtin",
            "recursive decorated", "decorated",
        ],
    )  # fmt: skip
    def test_every_callable(self, anywhere, function):
        """Lambdas, partials, closures, methods, callable objects, classes and decorated functions work."""
        assert list(amorsize.map(function, range(5), **anywhere)) == list(plain_map(function, range(5)))

    def test_a_decorated_functions_options_count_for_map(self):
        """`amorsize.map` of a decorated function uses the decorator's options, its own winning."""
        failing = amorsize.parallelize(on_error="return", backend="serial")(workers.fail_at_seven)

        assert isinstance(next(amorsize.map(failing, [7])), KeyError)
        with pytest.raises(KeyError):
            list(amorsize.map(failing, [7], on_error="raise"))

    def test_an_over_function_is_mapped_as_the_builtin_would(self, anywhere):
        """A function that maps over a parameter when called does so for each item."""
        lists = [["a", "b"], [], ["c"]]

        assert list(amorsize.map(workers.shout, lists, **anywhere)) == [["A!", "B!"], [], ["C!"]]

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_functions_of_an_unguarded_script(self, method, tmp_path, python):
        """A script without a main guard maps its own functions, decorated or not, and its body runs once."""
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(
                f"""
                import amorsize
                options = dict(backend="processes", n_jobs=2, start_method={method!r})
                OFFSET = 10

                class Point:
                    def __init__(self, x): self.x = x
                    @amorsize.parallelize(**options)
                    def moved(self, by): return Point(self.x + by)

                def shift(number): return number + OFFSET

                @amorsize.parallelize(**options)
                def factorial(number): return 1 if number < 2 else number * factorial(number - 1)

                @amorsize.parallelize(over="word", **options)
                def shout(word, mark): return word.upper() + mark

                print(list(amorsize.map(shift, [1, 2], **options)))
                print(list(factorial.map([3, 4])), list(amorsize.map(factorial, [5], **options)))
                print(list(factorial.with_options(chunksize=1).map([3, 4])))
                print(shout(["a", "b"], mark="!"))
                moved = list(Point(1).moved.map([1, 2]))
                print([point.x for point in moved], all(isinstance(point, Point) for point in moved))
                """
            )
        )

        child = python(script)

        assert child.stderr == ""
        assert child.stdout.splitlines() == ["[11, 12]", "[6, 24] [120]", "[6, 24]", "['A!', 'B!']", "[2, 3] True"]


class TestTogether:
    """Calls beside, inside and after one another."""

    def test_a_call_inside_a_worker_runs_there(self, backend):
        """A nested call runs in its worker, whatever backend it names."""
        if backend["backend"] == "serial":
            pytest.skip("there is no worker to be inside of")

        assert list(amorsize.map(workers.nested_squares, [3, 3], **backend)) == [True, True]

    def test_two_iterators_can_be_read_in_turn(self, anywhere):
        """Two calls under way at once do not mix their results."""
        first = amorsize.map(workers.square, range(40), **anywhere)
        second = amorsize.map(workers.echo, range(40), **anywhere)

        assert list(zip(first, second, strict=True)) == [(number**2, number) for number in range(40)]

    def test_a_map_can_feed_a_map(self, anywhere):
        """The results of one call may be the input of another."""
        squares = amorsize.map(workers.square, range(30), **anywhere)

        assert list(amorsize.map(workers.add, squares, **anywhere)) == [number**2 for number in range(30)]

    def test_two_threads_can_call_at_once(self, one_method):
        """Two threads that map at the same time each get their own results."""
        start = threading.Barrier(2)
        results = {}

        def call(function):
            start.wait()
            results[function] = list(amorsize.map(function, range(60), **one_method))

        threads = [threading.Thread(target=call, args=(function,)) for function in (workers.square, workers.echo)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert results[workers.square] == [number**2 for number in range(60)]
        assert results[workers.echo] == list(range(60))

    def test_many_small_calls_reuse_warm_workers(self, processes):
        """Calls in turn run in the same few workers."""
        seen = set()
        for _ in range(20):
            seen.update(amorsize.map(workers.process_id, range(4), chunksize=1, **processes))

        assert 1 <= len(seen) <= 2

    def test_work_continues_after_a_failed_call(self, anywhere):
        """A call that failed leaves the next one unharmed."""
        drain(amorsize.map(workers.fail_at_seven, itertools.count(), **anywhere))

        assert list(amorsize.map(workers.square, range(10), **anywhere)) == [number**2 for number in range(10)]

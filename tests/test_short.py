"""Calls of functions whose last call was over in no time run as the builtin would, until the clock says otherwise."""

from __future__ import annotations

import functools
import gc
import itertools
import time
import types
import weakref

import pytest

import amorsize
from amorsize.call.driver import Call
from amorsize.call.short import ShortCall
from amorsize.call.stay import Stay, staying


def quick(item):
    return item * 2


def fails_at_three(item):
    return 6 // (3 - item)


def stops_at_three(item):
    if item == 3:
        raise StopIteration
    return item


class Turning:
    """Callable that takes `seconds` an item, which may change."""

    seconds = 0.0

    def __init__(self):
        self.items = []

    def __call__(self, item):
        self.items.append(item)
        end = time.perf_counter() + Turning.seconds
        while time.perf_counter() < end:
            pass
        return -item


class Other:
    """Another callable."""

    def __call__(self, item):
        return item


class Methods:
    """Has a method, which is made anew each time it is asked for."""

    def method(self, item):
        return item + 1


@pytest.fixture
def known():
    """Make a function known to be short."""

    def make(function):
        list(amorsize.map(function, range(3)))
        assert staying.get(function) is not None
        return function

    return make


def is_short(stream):
    return type(stream._call) is ShortCall


@pytest.mark.parametrize(
    "make",
    [
        lambda: quick,
        lambda: lambda item: item,
        lambda: Methods().method,
        lambda: functools.partial(pow, 2),
        lambda: functools.partial(quick),
        Turning,
    ],
    ids=["function", "lambda", "method", "partial of a builtin", "partial", "object"],
)
def test_it_is_known_after_one_call(make):
    """However anew the function is made for each call: its code is the same."""
    first, second = (amorsize.map(make(), range(5)) for _ in range(2))
    assert type(first._call) is Call
    list(first)

    again = amorsize.map(make(), range(5))
    assert is_short(again)
    assert list(again) == list(map(make(), range(5)))
    assert list(second) == list(map(make(), range(5)))


@pytest.mark.parametrize(
    "options", [{"chunksize": 2}, {"on_error": "return"}, {"seed": 1}, {"ordered": False}], ids=str
)
def test_only_calls_without_options(known, options):
    """Who asks for something gets the machinery that does it."""
    assert not is_short(amorsize.map(known(quick), range(5), **options))
    assert not is_short(amorsize.map(quick, range(5), range(5), strict=True))


def test_arguments_of_every_kind():
    """Tuples of arguments and several inputs are short calls, too, with the builtin's results."""
    list(amorsize.starmap(pow, [(2, 3)]))
    starred = amorsize.starmap(pow, iter([(2, 3), (3, 2)]))
    several = amorsize.map(pow, [2, 3, 4], (n for n in (3, 2)))

    assert is_short(starred)
    assert is_short(several)
    assert list(starred) == [8, 9]
    assert list(several) == [8, 9]


def test_arguments_go_on_in_the_usual_way(known):
    """When such a call turns out long, no item is lost or run twice."""

    def slow(one, other):
        end = time.perf_counter() + Turning.seconds
        while time.perf_counter() < end:
            pass
        seen.append((one, other))
        return one + other

    seen = []
    Turning.seconds = 0.0
    list(amorsize.map(slow, [0], [0]))
    seen.clear()
    try:
        Turning.seconds = 0.0006
        stream = amorsize.map(slow, range(20), iter(range(20)))
        assert is_short(stream)
        assert list(stream) == list(range(0, 40, 2))
    finally:
        Turning.seconds = 0.0

    assert seen == [(n, n) for n in range(20)]


@pytest.mark.parametrize(
    "make",
    [lambda: range(9), lambda: list(range(9)), lambda: iter(range(9)), lambda: (n for n in range(9)), lambda: ""],
)
def test_inputs_of_every_kind(known, make):
    """Results are the builtin's."""
    stream = amorsize.map(known(str), make())

    assert is_short(stream)
    assert list(stream) == list(map(str, make()))
    assert list(stream) == []


def test_an_input_is_asked_for_its_iterator_once(known):
    """At the call, and not again when it turns out not to be short."""
    turning = known(Turning())

    class Input:
        asked = 0

        def __iter__(self):
            Input.asked += 1
            return iter(range(100))

    stream = amorsize.map(turning, Input())
    assert Input.asked == 1
    turning.items.clear()
    Turning.seconds = 0.0005
    try:
        assert list(stream) == [-n for n in range(100)]
    finally:
        Turning.seconds = 0.0
    assert Input.asked == 1


def test_errors_say_which_item_they_are_of(known):
    """As in every other call; and the iterator is over."""
    known(quick)
    list(amorsize.map(fails_at_three, range(2)))
    stream = amorsize.map(fails_at_three, range(9))
    assert is_short(stream)
    results = []
    with pytest.raises(ZeroDivisionError) as caught:
        results.extend(stream)

    assert results == [2, 3, 6]
    assert caught.value.amorsize_index == 3
    assert list(stream) == []


def test_stop_iteration_ends_as_the_builtins_does(known):
    """Without an error."""
    list(amorsize.map(stops_at_three, range(2)))
    stream = amorsize.map(stops_at_three, range(9))

    assert is_short(stream)
    assert list(stream) == list(map(stops_at_three, range(9)))


@pytest.mark.parametrize("make", [range, lambda n: list(range(n)), lambda n: iter(range(n))])
def test_what_turns_long_goes_on_in_the_usual_way(known, make):
    """Each item runs once, and the next call is measured from its first item again."""
    turning = known(Turning())
    turning.items.clear()
    Turning.seconds = 0.0005
    try:
        stream = amorsize.map(turning, make(200))
        assert is_short(stream)
        results = list(stream)
        here = list(turning.items)
    finally:
        Turning.seconds = 0.0

    assert results == [-n for n in range(200)]
    assert here[:8] == list(range(8))
    assert len(here) == len(set(here))
    assert type(stream._call) is ShortCall
    assert type(stream._call._notes.call) is Call
    assert staying.get(turning) is None


def test_a_list_that_grows_is_read_to_its_end(known):
    """While it is short as well."""
    todo = [0]
    found = []
    for item in amorsize.map(known(quick), todo):
        found.append(item)
        if len(todo) < 20:
            todo.append(len(todo))

    assert found == [2 * n for n in range(20)]


def test_it_is_lazy(known):
    """Each `next()` pulls and runs one item."""
    pulled = []

    def items():
        for item in range(9):
            pulled.append(item)
            yield item

    stream = amorsize.map(known(quick), items())
    assert pulled == []
    assert next(stream) == 0
    assert pulled == [0]


def test_the_stream_can_do_what_every_stream_can(known):
    """Hint, plan, failures, `with`, `close`, and no pickling."""
    with amorsize.map(known(quick), range(9)) as stream:
        assert is_short(stream)
        assert (stream.plan, stream.failures) == (None, [])
        assert stream.__length_hint__() == 9
        next(stream)
        assert stream.__length_hint__() == 8
    assert list(stream) == []
    assert stream.__length_hint__() == 0
    stream.close()
    assert amorsize.map(quick, itertools.count()).__length_hint__() is NotImplemented


def test_closing_lets_the_input_go(known):
    """What is left of it is nobody's any more."""

    class Item:
        pass

    items = [Item(), Item()]
    seen = weakref.ref(items[1])
    list(amorsize.map(id, [1]))
    stream = amorsize.map(id, iter(items))
    assert is_short(stream)
    next(stream)
    stream.close()
    del items
    gc.collect()

    assert seen() is None


def test_a_call_that_zip_leaves_at_its_last_result_was_short():
    """`zip` asks its other inputs first, so that it never hears of the map's end."""
    function = Turning()
    for _ in range(2):
        assert list(zip([1, 2, 3], amorsize.map(function, [4, 5, 6]), strict=False)) == [(1, -4), (2, -5), (3, -6)]
    assert is_short(amorsize.map(function, [7]))


def test_a_call_that_is_left_early_was_not_known_to_be_short():
    """Its later items may be long."""
    function = Turning()
    assert next(amorsize.map(function, range(9))) == 0
    assert staying.get(function) is None


def test_calls_that_are_left_early_are_counted(known):
    """After so many, it is asked anew."""
    function = known(Turning())
    staying.put(function, Stay(1.0, calls=2, until=float("inf")))
    for left in (1, None):
        next(amorsize.map(function, range(9)))
        stay = staying.get(function)
        assert (stay and stay.calls) == left


def test_options_of_a_block_and_of_the_environment_count(known, monkeypatch):
    """Such calls are no short ones, from one call to the next."""
    function = known(Turning())
    with amorsize.config(n_jobs=1):
        assert not is_short(amorsize.map(function, range(3)))
    assert is_short(amorsize.map(function, range(3)))
    monkeypatch.setenv("AMORSIZE_BACKEND", "serial")
    assert not is_short(amorsize.map(function, range(3)))
    monkeypatch.setenv("AMORSIZE_BACKEND", "")
    assert is_short(amorsize.map(function, range(3)))


def test_two_calls_of_one_function_in_turn(known):
    """Each has its own state."""
    one, other = (amorsize.map(known(quick), range(5)) for _ in range(2))

    assert [next(stream) for _ in range(5) for stream in (one, other)] == [n for i in range(5) for n in (2 * i, 2 * i)]


def test_a_decorated_function_warns_when_nothing_ran(known):
    """Here too."""

    @amorsize.parallelize
    def double(item):
        return item * 2

    list(double.map(range(3)))
    stream = double.map(range(3))
    assert is_short(stream)
    list(stream)
    with pytest.warns(RuntimeWarning, match="never iterated"):
        double.map(range(3))


def test_an_object_that_was_found_is_asked_for_anew_once_its_value_has_changed(known):
    """What was found by identity never outlives what is known by the marks."""
    function = known(Turning())
    assert staying.get(function) == Stay(0.001)
    staying.put(function, Stay(0.5))
    assert staying.get(function) == Stay(0.5)
    staying.discard(function)
    assert staying.get(function) is None
    assert not is_short(amorsize.map(function, range(3)))


def test_a_closure_that_holds_another_function_is_another_one(known):
    """Even where it is the same object."""
    inner = quick

    def function(item):
        return inner(item)

    assert is_short(amorsize.map(known(function), range(3)))
    inner = fails_at_three
    assert not is_short(amorsize.map(function, range(3)))


def test_an_object_in_the_place_of_one_that_has_gone_is_not_known(known):
    """An identity is given again once its object has gone."""
    function, other = known(Turning()), Other()
    staying.found[id(other)] = staying.found[id(function)]

    assert staying.get(other) is None
    assert not is_short(amorsize.map(other, range(3)))


def test_a_method_with_another_function_is_not_known(known):
    """Though both are bound to one object, and the second takes the place of the first."""
    one = Methods()
    known(types.MethodType(lambda self, item: item, one))
    gc.collect()

    assert all(staying.get(types.MethodType(make, one)) is None for make in (fails_at_three, stops_at_three))


@pytest.mark.parametrize("bound", [False, True])
def test_a_function_with_other_code_is_not_known(known, bound):
    """Programs that load code again put it into the functions that are there."""

    def function(*items):
        return items[-1]

    def other(*items):
        return -items[-1]

    function = types.FunctionType(function.__code__, globals())
    kept = function.__code__
    asked = types.MethodType(function, Methods()) if bound else function
    assert is_short(amorsize.map(known(asked), range(3)))
    function.__code__ = other.__code__

    assert kept
    assert not is_short(amorsize.map(asked, range(3)))


def test_a_value_that_was_looked_up_before_it_changed_is_not_found(known, monkeypatch):
    """Another thread may have been in the middle of that."""
    function = known(Turning())
    staying.put(function, Stay(0.5))
    look = staying._at_marks

    def slowly(asked):
        value = look(asked)
        staying.put(function, Stay(0.7))
        return value

    with monkeypatch.context() as patch:
        patch.setattr(staying, "_at_marks", slowly)
        assert staying.get(function) == Stay(0.5)

    assert id(function) not in staying.found
    assert staying.get(function) == Stay(0.7)

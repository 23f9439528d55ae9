from __future__ import annotations

import random
import threading
from hashlib import sha256

import pytest

import amorsize
from amorsize import UnseededError
from amorsize.rng import Streams, item_rng, numbered, runs_items


class Holder:
    """Has the streams of a call, as the loops' own objects have."""

    def __init__(self, streams=None):
        self.streams = streams


@runs_items("holder")
def loop(function, items, seed, first=0):
    """Run items one after another, lazily."""
    index = first - 1
    holder = Holder(Streams(seed, lambda: index))
    assert holder.streams is not None
    for index, item in enumerate(items, first):  # noqa: B007 - read by the streams
        yield function(item)


@runs_items("holder")
def unseeded_loop(function, items):
    holder = Holder()
    for item in items:
        assert holder.streams is None
        yield function(item)


def draw(_):
    return item_rng().random()


def draw_from_numpy(_):
    return item_rng("numpy").random()


def draw_twice(_):
    return item_rng().random(), item_rng().random()


@pytest.mark.parametrize("function", [draw, draw_from_numpy])
@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_an_items_numbers_depend_on_seed_and_position_alone(function, chunk):
    """Chunks that begin seedable, and run in any order, give what one loop over everything gives."""
    if function is draw_from_numpy:
        pytest.importorskip("numpy")
    whole = list(loop(function, range(10), 7))

    pieces = {first: list(loop(function, range(10)[first : first + chunk], 7, first)) for first in range(9, -1, -chunk)}

    assert all(whole[first : first + len(values)] == values for first, values in pieces.items())


@pytest.mark.parametrize("function", [draw, draw_from_numpy])
def test_no_two_items_share_numbers(function):
    """Neither another position nor another seed gives the same stream."""
    if function is draw_from_numpy:
        pytest.importorskip("numpy")

    drawn = [number for seed in range(5) for number in loop(function, range(20), seed)]

    assert len(set(drawn)) == 100


def test_the_random_stream_can_be_made_by_hand():
    """The stream of an item stays what it was from release to release."""
    by_hand = random.Random(int.from_bytes(sha256(b"amorsize item 7 2").digest(), "big"))

    assert list(loop(draw, range(3), 7))[2] == by_hand.random() == 0.7938445896675992


def test_the_numpy_stream_is_the_spawned_one():
    """The stream of an item is the one that NumPy's own spawning gives."""
    numpy = pytest.importorskip("numpy")

    spawned = [numpy.random.default_rng(child).random() for child in numpy.random.SeedSequence(7).spawn(4)]

    assert list(loop(draw_from_numpy, range(4), 7)) == spawned


def test_asked_again_an_item_has_the_same_generator():
    """A second call in one item goes on with the stream, and does not repeat it."""
    for index, (first, second) in enumerate(loop(draw_twice, range(3), 7)):
        stream = random.Random(int.from_bytes(sha256(b"amorsize item 7 %d" % index).digest(), "big"))
        assert (first, second) == (stream.random(), stream.random())


def test_the_kinds_are_apart():
    """Drawing from one kind does not move the other."""
    pytest.importorskip("numpy")

    def draw_both(_):
        return item_rng().random(), item_rng("numpy").random(), item_rng().random()

    first, numpy_first, second = next(loop(draw_both, [None], 7))

    assert (first, second) == next(loop(draw_twice, [None], 7))
    assert numpy_first == next(loop(draw_from_numpy, [None], 7))


def test_an_item_tried_again_starts_afresh():
    """After `restart` the running item's stream begins anew."""
    streams = Streams(7, lambda: 0)

    @runs_items("holder")
    def attempt():
        holder = Holder(streams)
        return draw(holder)

    first = attempt()
    further = attempt()
    streams.restart()

    assert further != first
    assert attempt() == first


def test_calls_that_take_turns_keep_their_own_streams():
    """Two lazy calls, each stopped between two items, do not see each other's items."""
    alone = [list(loop(draw, range(4), seed)) for seed in (1, 2)]

    turns = list(zip(loop(draw, range(4), 1), loop(draw, range(4), 2), strict=True))

    assert [list(values) for values in zip(*turns, strict=True)] == alone


def test_the_innermost_call_counts():
    """Within an item, a call with a seed has streams of its own, and the item's own goes on afterwards."""

    def nested(_):
        return item_rng().random(), list(loop(draw, range(2), 1)), item_rng().random()

    first, inner, second = next(loop(nested, [None], 7))

    assert (first, second) == next(loop(draw_twice, [None], 7))
    assert inner == list(loop(draw, range(2), 1))


def test_a_call_goes_on_in_another_thread():
    """Whichever thread asks for the next result, the item has the stream of its position."""
    results = loop(draw, range(2), 7)
    drawn = [next(results)]
    thread = threading.Thread(target=lambda: drawn.append(next(results)))
    thread.start()
    thread.join()

    assert drawn == list(loop(draw, range(2), 7))


def test_threads_have_their_own_items():
    """Two loops in two threads, both within an item, each find their own."""
    together = threading.Barrier(2)
    drawn = {}

    def meet(seed):
        together.wait(60)
        number = item_rng().random()
        together.wait(60)
        return seed, number

    threads = [threading.Thread(target=lambda seed=seed: drawn.update(loop(meet, [seed], seed))) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert drawn == {seed: next(loop(draw, [None], seed)) for seed in (1, 2)}


@pytest.mark.parametrize("ask", [item_rng, lambda: next(unseeded_loop(draw, [None]))], ids=["no call", "no seed"])
def test_without_a_seeded_item_it_is_an_error(ask):
    """Outside an item, and in a call without a seed, the error says what to pass."""
    with pytest.raises(UnseededError, match=r"pass a seed to the call .*seed=7"):
        ask()


def test_the_error_is_ours_and_the_nearest_builtin():
    """Handlers written for either catch it."""
    assert issubclass(UnseededError, amorsize.AmorsizeError)
    assert issubclass(UnseededError, RuntimeError)


def test_between_two_items_it_is_an_error():
    """A call that is stopped between two items is not running one."""
    results = loop(draw, range(2), 7)
    next(results)

    with pytest.raises(UnseededError):
        item_rng()


def test_an_unseeded_call_within_a_seeded_item_is_unseeded():
    """The outer seed does not reach it, as it would not if the inner items ran elsewhere."""
    with pytest.raises(UnseededError):
        next(loop(lambda _: next(unseeded_loop(draw, [None])), [None], 7))


def test_another_kind_is_refused():
    """The error names what there is."""
    with pytest.raises(ValueError, match=r"kind must be 'random' or 'numpy', not 'torch'"):
        item_rng("torch")


@pytest.mark.parametrize(
    "iterable",
    [[5, 6, 7, 8], (5, 6, 7, 8), range(5, 9), {5: 0, 6: 0, 7: 0, 8: 0}, (number for number in range(5, 9))],
    ids=lambda iterable: type(iterable).__name__,
)
def test_numbered_tells_the_position_of_the_newest_item(iterable):
    """The items are the same, and each one's position is known while it is the newest; the start may be seedable."""
    iterator = iter(iterable)
    assert next(iterator) == 5
    again, position = numbered(iterator, 1)

    assert [(position(), item) for item in again] == [(1, 6), (2, 7), (3, 8)]


def test_numbered_is_not_misled_by_a_list_that_grows():
    """The builtin takes what is appended to a list meanwhile; positions stay true."""
    items = [0, 1]
    again, position = numbered(iter(items))

    for item in again:
        assert position() == item
        if item < 9:
            items.append(item + 2)

    assert items == list(range(11))




def draw_everything(_):
    """Draw from what an item gets, and from global state."""
    return item_rng().random(), random.random()


def draw_everything_with_numpy(_):
    import numpy as np

    return float(item_rng("numpy").random()), np.random.rand()


@pytest.mark.parametrize("function", [draw_everything, draw_everything_with_numpy])
@pytest.mark.parametrize("chunksize", [1, 5, None])
def test_every_backend_gives_the_same_numbers(seedable, function, chunksize):
    """Serial or on workers, in chunks of any length: bit for bit the same."""
    if function is draw_everything_with_numpy:
        pytest.importorskip("numpy")
    serial = list(amorsize.map(function, range(12), seed=7, backend="serial"))

    assert list(amorsize.map(function, range(12), seed=7, chunksize=chunksize, **seedable)) == serial
    assert len({number for drawn in serial for number in drawn}) == 24


def test_serial_work_leaves_the_callers_state(seedable):
    """Between and after the items, the caller draws what it would have drawn anyway."""
    random.seed(3)
    expected = [random.random() for _ in range(4)]
    random.seed(3)

    drawn = [random.random() for _ in amorsize.map(draw_everything, range(3), seed=7, **seedable)]

    assert [*drawn, random.random()] == expected


@pytest.mark.filterwarnings("ignore:amorsize.*pass seed=:RuntimeWarning")
def test_workers_do_not_repeat_themselves_after_a_seeded_call(one_method):
    """What a worker draws without a seed does not follow from a seed that it had before."""

    def drawn_without_seed():
        list(amorsize.map(draw_everything, range(4), seed=7, **one_method))
        return list(amorsize.map(_draw_globally, range(4), **one_method))

    assert not set(drawn_without_seed()) & set(drawn_without_seed())


def _draw_globally(_):
    return random.random()

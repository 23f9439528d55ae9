from __future__ import annotations

import functools
import math
import operator
import pickle
import random
import subprocess
import sys

import pytest

import amorsize
from amorsize.rng import item_rng, runs_items
from amorsize.seeding import Seeded, kept_globals, may_draw

SIDES = {"dice": [6, 20]}
_count = 0


def roll(_):
    return random.randrange(1_000_000)


def gauss(_):
    import numpy as np

    return float(np.random.standard_normal())


def draw_both(_):
    return item_rng().random(), random.random()


class Holder:
    """Has the streams of a call, as the loops' own objects have."""

    def __init__(self, streams):
        self.streams = streams


@runs_items("holder")
def _run_one(holder, call):
    return call(None)


def stop(_):
    random.random()
    raise StopIteration


def run(function, items, seed=7, first=0, **how):
    """Run items as a worker or a serial loop would, lazily."""
    index = first - 1
    _, call = Seeded.of(function, seed).begin(lambda: index, **{"keep": False, **how})
    for index, item in enumerate(items, first):  # noqa: B007 - read by the streams
        yield call(item)


@pytest.fixture(autouse=True)
def _own_state():
    with kept_globals():
        yield


@pytest.mark.parametrize("function", [roll, gauss])
@pytest.mark.parametrize("keep", [False, True])
def test_global_draws_depend_on_seed_and_position_alone(function, keep):
    """Whatever was drawn before, elsewhere or for other items, an item draws the same."""
    if function is gauss:
        pytest.importorskip("numpy")
    whole = list(run(function, range(6), keep=keep))
    random.random()

    pieces = [value for first in (4, 2, 0) for value in run(function, range(2), first=first, keep=keep)]

    assert pieces == [*whole[4:], *whole[2:4], *whole[:2]]
    assert len(set(whole)) == 6


def test_global_draws_are_not_the_items_own_stream():
    """A function that uses both has two different streams."""
    streams, call = Seeded.of(draw_both, 7).begin(lambda: 0, keep=False)

    own, shared = _run_one(Holder(streams), call)

    assert own != shared


def test_the_callers_state_is_its_own_between_two_items():
    """With `keep`, what the caller draws between two items is what it would have drawn anyway."""
    numpy = pytest.importorskip("numpy")
    random.seed(1)
    numpy.random.seed(1)
    # An odd number of normals leaves one in store.
    expected = [(random.gauss(0, 1), numpy.random.standard_normal()) for _ in range(5)]
    random.seed(1)
    numpy.random.seed(1)

    drawn = [(random.gauss(0, 1), numpy.random.standard_normal()) for _ in run(gauss, range(5), keep=True)]

    assert drawn == expected


def test_an_error_leaves_the_callers_state():
    """An item that raises, `StopIteration` even, leaves state as a good one does."""
    before = random.getstate()
    _, call = Seeded.of(stop, 7).begin(lambda: 0, keep=True)

    with pytest.raises(StopIteration):
        call(0)

    assert random.getstate() == before


def test_a_seeded_function_can_be_sent():
    """What is known of a function crosses with it."""
    seeded = Seeded.of(functools.partial(math.pow, 2), 7)

    assert pickle.loads(pickle.dumps(seeded))[1:] == seeded[1:] == (7, False, "numpy" in sys.modules, True)


def test_a_function_that_draws_nothing_is_left_alone():
    """Where all items are known to be plain data, the function itself is what runs."""
    streams, call = Seeded.of(operator.neg, 7).begin(lambda: 0, keep=True, plain=True)

    assert call is operator.neg
    assert streams.seed == 7


class Draws:
    """Draws when it is negated."""

    def __neg__(self):
        return random.random()


@pytest.mark.parametrize(
    ("item", "untouched"), [(1, True), ("text", True), ((1, "text"), True), (Draws(), False), ([1], False)]
)
def test_an_item_that_may_draw_has_state_set(item, untouched):
    """A function that draws nothing may still be handed an object that does."""

    def touch(item):
        return -item if isinstance(item, Draws) else item

    touch.__globals__["Draws"] = Draws
    before = random.getstate()
    _, call = Seeded(touch, 7, draws=False, numpy=False).begin(lambda: 0, keep=False)

    call(item)

    assert (random.getstate() == before) is untouched


def test_numpy_that_the_function_loads_itself_is_seeded():
    """The first item of a process that has not loaded NumPy yet draws the same as any."""
    pytest.importorskip("numpy")
    code = (
        "from amorsize.seeding import Seeded\n"
        "def draw(_):\n"
        "    import numpy\n"
        "    return numpy.random.rand()\n"
        "print(Seeded.of(draw, 7).begin(lambda: 0, keep=False)[1](None))\n"
    )

    printed = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
        for _ in range(2)
    ]

    assert printed[0] == printed[1] != b""


def hypotenuse(width, height=SIDES["dice"][0]):
    return math.sqrt(width**2 + height**2)


def deal(count):
    rng = item_rng()
    return sorted(rng.choice(SIDES["dice"]) for _ in range(count))


def recursive(number):
    return 1 if number < 2 else number * recursive(number - 1)


def closing_over(value):
    return lambda item: (item, value)


def rebinding(_):
    global _count
    _count += 1


def importing(_):
    import math

    return math.pi


@pytest.mark.parametrize(
    "function",
    [
        abs, math.sqrt, str.upper, "-".join, int, operator.mul, hypotenuse, deal, recursive,
        functools.partial(hypotenuse, 2), closing_over(3), closing_over(len), lambda text: text.strip().upper(),
        lambda n: [k * k for k in range(n)],
        lambda _: amorsize.item_rng().random(),
    ],
)  # fmt: skip
def test_plain_functions_may_not_draw(function):
    """Arithmetic, builtins, an item's own generator, and what is made of them."""
    assert not may_draw(function)


@pytest.mark.parametrize(
    "function",
    [
        roll, random.random, random.Random(1).random, random.Random, rebinding, importing, closing_over(random),
        closing_over(Draws()), lambda _, rng=random: rng.random(), functools.partial(abs, Draws()), Draws(), Draws,
        lambda _: roll(0), eval, lambda _: globals()["random"], lambda _: math.__loader__,
        functools.partial(map, roll), lambda _: [roll(k) for k in range(3)], [roll], functools.lru_cache(abs),
        dict.fromkeys(range(100_000)).get,
    ],
)  # fmt: skip
def test_functions_in_doubt_may_draw(function):
    """Anything that can reach a generator, or an object that is not known."""
    assert may_draw(function)


def test_numpy_may_be_used_without_its_random_part():
    """Only functions that mention `random` beside NumPy may draw from it, in whichever order they are met."""
    numpy = pytest.importorskip("numpy")

    def mean(number):
        return numpy.mean(numpy.arange(number))

    def noise(number):
        return mean(number) + numpy.random.rand()

    assert not may_draw(mean)
    assert may_draw(noise)
    assert may_draw(functools.partial(map, mean, [noise]))


def test_a_variable_not_assigned_yet_may_become_anything():
    """A closure that is not complete is in doubt."""

    def inner(_):
        return later

    unfinished = may_draw(inner)
    later = 1

    assert unfinished
    assert not may_draw(inner)


class Drawing:
    """An item that draws when it is asked or called."""

    def __call__(self):
        return random.random()

    def draw(self):
        return random.random()


@pytest.mark.parametrize(
    ("function", "asks"),
    [
        (lambda item: item, False),
        (lambda item: item * item + (item >> 1) % 7, False),
        (lambda item: item.draw(), True),
        (lambda item: item(), True),
        (lambda item: abs(item), True),  # noqa: PLW0108 - a call is what this is about
        (lambda item: [part for part in item], sys.version_info < (3, 12)),  # noqa: C416 - a call of its own, before
        (functools.partial(math.pow, 2), True),
        (abs, True),
    ],
)
def test_who_asks_an_item(function, asks):
    """A function that applies operators alone leaves its items no occasion to draw."""
    assert Seeded.of(function, 7).asks is asks


@pytest.mark.parametrize("function", [lambda item: item.draw(), lambda item: item()])
def test_items_that_draw(function):
    """They draw the same wherever they run."""
    items = [Drawing(), Drawing(), Drawing()]
    here = list(amorsize.map(function, items, seed=7, backend="serial"))

    assert len(set(here)) == 3
    assert list(amorsize.map(function, items, seed=7, backend="processes", n_jobs=2)) == here

"""What a function draws from, as its code says it."""

from __future__ import annotations

import functools
import random
import types
from random import Random, SystemRandom, choice

import pytest

from amorsize.code.draws import draws_of

RNG = Random(1)
SYSTEM = SystemRandom()
draw = RNG.random
RNGS = [Random(1), Random(2)]
STATE = {"rng": Random(1), "size": 3}
CONFIG = types.SimpleNamespace(rng=Random(1), size=3)


class Model:
    """Has a generator of its own."""

    fixed = Random(1)

    def __init__(self):
        self.rng = Random(1)
        self.size = 3
        self.part = types.SimpleNamespace(rng=Random(2))
        self.inner = None

    def step(self, x):
        return x + self.rng.random()

    def twice(self, x):
        return self.step(x) * 2

    def length(self, x):
        return x * self.size

    def deep(self, _):
        return self.part.rng.random()

    def of_class(self, _):
        return self.fixed.random()

    @property
    def now(self):
        return self.rng.random()

    @functools.cached_property
    def once(self):
        return self.rng.random()

    def reads_property(self, x):
        return x + self.now

    def reads_cached(self, x):
        return x + self.once

    def __call__(self, x):
        return self.twice(x)


class Heir(Model):
    """Calls what it inherits."""

    __slots__ = ()

    def step(self, x):
        return super().step(x)


class Slotted:
    """Holds its generator in a slot."""

    __slots__ = ("rng",)

    def __init__(self):
        self.rng = Random(1)

    def step(self, _):
        return self.rng.random()


class Noisy:
    """Draws when it is made, and when it moves."""

    def __init__(self, x):
        self.x = x

    def move(self):
        return self.x + random.random()


class Jumpy(Noisy):
    """Draws when it is made."""

    def __init__(self, x):
        super().__init__(x + random.random())


MODEL = Model()


class Around:
    """Stands for surroundings that nobody else has."""


def look(function):
    """Return what a function draws from, looked at afresh."""
    return draws_of(function, Around())


def shared(_):
    return random.random()


def shared_by_name(x):
    return choice(x)


def imports_inside(_):
    import random as dice

    return dice.randint(1, 6)


def imports_a_name_inside(_):
    from random import gauss as bell

    return bell(0, 1)


def aliased(_):
    module = random
    pick = module.random
    return pick()


def behind_a_helper(x):
    return [shared(x) for _ in range(2)]


def makes_a_noisy(x):
    return Noisy(x).move()


def makes_a_jumpy(x):
    return Jumpy(x)


@functools.cache
def cached(_):
    return random.random()


@functools.singledispatch
def generic(_):
    return 0


@generic.register
def _(x: int):
    return x + random.random()


def with_default(x, rng=RNG):
    return x + rng.random()


def with_keyword(x, *, rng=RNG):
    return x + rng.random()


def own(_):
    return RNG.random()


def own_method(_):
    return draw()


def own_handed_on(_):
    return helper(RNG)


def helper(source):
    return source.random()


def own_of_many(x):
    return RNGS[x % 2].random()


def own_in_a_dict(_):
    return STATE["rng"].random()


def own_in_a_namespace(_):
    return CONFIG.rng.random()


def of_a_model(x):
    return MODEL.step(x)


def model_handed_on(x):
    return asks_a_model(MODEL, x)


def asks_a_model(model, x):
    return model.step(x)


def looks_into_a_model(model):
    return model.rng.random()


def model_looked_into(_):
    return looks_into_a_model(MODEL)


def in_a_comprehension(_):
    return [RNG.random() for _ in range(3)]


def enclosing(rng):
    def inner(_):
        return [one() for one in [lambda: rng.random() + 1]]

    return inner


def of_the_item(x):
    return random.Random(x).random()


def made_here(x):
    rng = Random(x)
    rng.shuffle([1, 2])
    return rng.random()


def set_by_the_item(x):
    random.seed(x)
    return random.random()


def set_by_a_helper(x):
    reseed(x)
    return random.random()


def reseed(x):
    random.seed(x)


def own_set_by_the_item(x):
    RNG.seed(x)
    return RNG.random()


def own_state_only(_):
    return RNG.getstate()


def system(_):
    return SYSTEM.random() + random.SystemRandom().random()


def other_part(x):
    return x * CONFIG.size


def other_part_of_a_model(x):
    return MODEL.length(x)


def hides_it(rng):
    random = rng
    return random.random()


def default_replaced(x, rng=None):
    rng = rng or Random(x)
    return rng.random()


class Quiet:
    """Names what others draw with, and draws nothing."""

    def random(self):
        return 4


QUIET = Quiet()


def not_a_generator(_):
    return QUIET.random()


@pytest.mark.parametrize(
    "function",
    [
        shared, shared_by_name, imports_inside, imports_a_name_inside, aliased, behind_a_helper, makes_a_noisy,
        makes_a_jumpy, cached, generic, random.random, random.gauss, Jumpy, functools.partial(random.uniform, 0),
        functools.partial(shared),
    ],
)  # fmt: skip
def test_what_all_share(function):
    """However the code comes by it."""
    found = look(function)

    assert found.shared
    assert not found.own


@pytest.mark.parametrize(
    "function",
    [
        own, own_method, own_handed_on, own_of_many, own_in_a_dict, own_in_a_namespace, of_a_model, model_handed_on,
        model_looked_into, in_a_comprehension, with_default, with_keyword, enclosing(Random(1)), MODEL.step,
        MODEL.twice, MODEL.deep, MODEL.of_class, MODEL.reads_property, MODEL.reads_cached, MODEL, Heir().twice,
        Slotted().step, RNG.random, RNG.gauss, draw, functools.partial(helper, RNG), functools.partial(MODEL.step),
        functools.partial(with_default, rng=Random(3)), functools.partial(functools.partial(asks_a_model, MODEL)),
    ],
)  # fmt: skip
def test_what_the_program_holds(function):
    """In a global, a closure, a default, an object or a collection."""
    found = look(function)

    assert found.own
    assert not found.shared


@pytest.mark.parametrize(
    "function",
    [
        of_the_item, made_here, set_by_the_item, set_by_a_helper, own_set_by_the_item, own_state_only, system,
        other_part, other_part_of_a_model, MODEL.length, hides_it, default_replaced, not_a_generator, helper, Noisy,
        SYSTEM.random, len, 1 .__add__, "x".join, reseed, functools.partial(with_default, rng=None),
    ],
)  # fmt: skip
def test_what_depends_on_the_item_alone(function):
    """No generator is used, or one that the item makes or sets, or one that nobody can set."""
    assert look(function) == ("", "")


def test_numpys_generators():
    """Its functions, its generators, and the bit generators under these."""
    np = pytest.importorskip("numpy")
    rng, legacy, bits = np.random.default_rng(1), np.random.RandomState(1), np.random.PCG64(1)

    def resets(x):
        rng.bit_generator.state = x
        return rng.random()

    def seeds(x):
        np.random.seed(x)
        return np.random.rand()

    def inside(_):
        import numpy.random as npr

        return npr.standard_normal()

    def by_name(_):
        from numpy.random import rand

        return rand()

    own = [
        rng.normal, legacy.rand, lambda _: rng.normal(), lambda _: legacy.rand(), lambda _: np.random.Generator(bits),
        lambda _: rng.bit_generator.random_raw(), lambda _: rng.spawn(1), np.vectorize(lambda _: rng.normal()),
    ]  # fmt: skip
    shared = [
        np.random.rand, np.random.sample, lambda _: np.random.normal(), lambda _: np.random.ranf(), inside, by_name,
        np.random.shuffle,
    ]  # fmt: skip
    neither = [
        resets, seeds, lambda x: np.random.default_rng(x).normal(), lambda x: np.random.RandomState(x).rand(),
        lambda x: np.random.Generator(bits.jumped(x)).normal(), np.sum, lambda _: rng.bit_generator.state,
    ]  # fmt: skip

    assert [bool(look(one).own) for one in own] == [True] * len(own)
    assert [bool(look(one).shared) for one in shared] == [True] * len(shared)
    assert [look(one) for one in neither] == [("", "")] * len(neither)


def test_data_of_any_depth_and_width():
    """Collections are looked into without end of theirs being reached, or the stack's."""
    deep = [RNG]
    for _ in range(5_000):
        deep = [deep]
    around_itself = [1]
    around_itself.append(around_itself)
    wide = [[{n: [n, [n]] for n in range(100)}] * 100 for _ in range(100)]

    assert look(lambda _: deep).own
    assert look(lambda _: (around_itself, wide)) == ("", "")


def test_another_bound_generator_is_another_question():
    """What is known of a method of one object is not known of another's."""
    around = Model()
    quiet = Model()
    quiet.rng = Quiet()

    assert draws_of(MODEL.step, around).own
    assert not draws_of(quiet.step, around).own


def test_it_is_said_as_the_code_says_it():
    """The name helps to find the place."""
    assert look(own).own == "RNG.random"
    assert look(shared).shared == "random.random"

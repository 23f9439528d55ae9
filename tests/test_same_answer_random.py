"""Random numbers that the program has seeded are drawn where they were seeded, or the user is told of `seed=`."""

from __future__ import annotations

import textwrap

import programs
import pytest

# What draws from a state that all share, and what draws from a generator of the program's own. Each is mapped twice:
# the second call meets workers that the first one may have left.
SHARED = {
    "random": """
        import random
        random.seed(5)
        def draw(x):
            busy(.003)
            return random.random()
        """,
    "behind a helper, seeded in a function that goes on": """
        import random
        from random import randint as dice
        def roll(): return dice(1, 6)
        def draw(x):
            busy(.003)
            return roll()
        def main():
            random.seed(5)
            twice(draw)
        """,
    "seeded in a function that is over": """
        import random
        def prepare(number): random.seed(number)
        def draw(x):
            busy(.003)
            return random.gauss(0, 1)
        prepare(5)
        """,
    "seeded by another module, as it is imported": """
        put("chance", "import random\\nrandom.seed(5)")
        import chance, random
        def draw(x):
            busy(.003)
            return random.choice("abcdef")
        """,
    "seeded by a helper of another module": """
        put("helpers", "import random\\ndef fix(number):\\n    random.seed(number)")
        put("model", "import random, time\\ndef draw(x):\\n    time.sleep(.003)\\n    return random.random()")
        import helpers, random
        helpers.fix(5)
        from model import draw
        """,
    "a state put back": """
        import random
        random.setstate((3, tuple(range(1, 625)) + (624,), None))
        def draw(x):
            busy(.003)
            return random.random()
        """,
    "imported where it is used": """
        import random as dice
        dice.seed(5)
        def draw(x):
            from random import uniform
            busy(.003)
            return uniform(0, x)
        """,
    "objects that draw when they are made": """
        import random
        random.seed(5)
        class Particle:
            def __init__(self, x): self.x = x + random.random()
            def move(self):
                busy(.003)
                return self.x + random.random()
        def draw(x): return Particle(x).move()
        """,
    "seeded in a cell of a notebook": """
        import random
        In = ["", "import random\\nrandom.seed(5)"]
        exec(In[1])
        def draw(x):
            busy(.003)
            return random.random()
        """,
}
OWN = {
    "a global": """
        import random
        rng = random.Random(3)
        def draw(x):
            busy(.003)
            return rng.random()
        """,
    "in a closure": """
        import random
        def drawing(rng):
            def draw(x):
                busy(.003)
                return rng.random()
            return draw
        draw = drawing(random.Random(3))
        """,
    "a default": """
        import random
        def draw(x, rng=random.Random(3)):
            busy(.003)
            return rng.random()
        """,
    "in an object, under its own method": """
        import random
        class Model:
            def __init__(self): self.rng = random.Random(3)
            def draw(self, x):
                busy(.003)
                return self.rng.random()
        model = Model()
        draw = model.draw
        """,
    "in an object within an object": """
        import random
        class Source:
            def __init__(self): self.rng = random.Random(3)
            def take(self): return self.rng.random()
        class Model:
            def __init__(self): self.source = Source()
            def __call__(self, x):
                busy(.003)
                return self.source.take()
        draw = Model()
        """,
    "handed to a helper": """
        import random
        def take(source): return source.random()
        rng = random.Random(3)
        def draw(x):
            busy(.003)
            return take(rng)
        """,
    "in a partial": """
        import functools, random
        def take(source, x):
            busy(.003)
            return source.random()
        draw = functools.partial(take, random.Random(3))
        """,
    "in another module": """
        put("chance", "import random\\nrng = random.Random(3)")
        put("model", "import time, chance\\ndef draw(x):\\n    time.sleep(.003)\\n    return chance.rng.random()")
        from model import draw
        """,
    "a method kept under a name": """
        import random
        take = random.Random(3).random
        def draw(x):
            busy(.003)
            return take()
        """,
    "one of many": """
        import random
        rngs = {n: random.Random(n) for n in range(3)}
        def draw(x):
            busy(.003)
            return rngs[x % 3].random()
        """,
}
NUMPY_SHARED = {
    "numpy": """
        import numpy as np
        np.random.seed(5)
        def draw(x):
            busy(.003)
            return float(np.random.normal())
        """,
    "numpy's random by a name of its own": """
        import numpy.random as npr
        from numpy.random import sample
        npr.seed(5)
        def draw(x):
            busy(.003)
            return float(sample() + npr.rand())
        """,
}
NUMPY_OWN = {
    "a numpy generator": """
        import numpy as np
        rng = np.random.default_rng(5)
        def draw(x):
            busy(.003)
            return float(rng.normal())
        """,
    "numpy's legacy generator": """
        import numpy as np
        rng = np.random.RandomState(5)
        def draw(x):
            busy(.003)
            return float(rng.normal())
        """,
    "a vectorized function": """
        import numpy as np
        rng = np.random.default_rng(5)
        @np.vectorize
        def draw(x):
            busy(.003)
            return float(rng.normal())
        """,
}
PROGRAMS = {**SHARED, **OWN, **NUMPY_SHARED, **NUMPY_OWN}
NEITHER = {
    "seeded by each item": """
        import random
        random.seed(1)
        def draw(x):
            busy(.003)
            random.seed(x)
            return random.random()
        """,
    "seeded by each item, through a helper": """
        import random
        def reseed(x): random.seed(x)
        def draw(x):
            busy(.003)
            reseed(x)
            return random.random()
        """,
    "a generator that each item makes": """
        import random
        random.seed(1)
        def draw(x):
            busy(.003)
            return random.Random(x).random()
        """,
    "a generator that each item sets": """
        import random
        rng = random.Random(1)
        def draw(x):
            busy(.003)
            rng.seed(x)
            return rng.random()
        """,
    "an object with a generator that is not used": """
        import random
        class Model:
            def __init__(self): self.rng, self.size = random.Random(1), 3
            def draw(self, x):
                busy(.003)
                return x * self.size
        draw = Model().draw
        """,
}
# The first call is long enough to be worth moving under "auto", where nothing speaks against it.
TWICE = """
def twice(draw):
    for n_items in [100, 40]:
        print([str(value) for value in MAP(draw, range(n_items))])
"""
RUN = """
(main() if "main" in globals() else twice(draw))
"""
LISTENING = """
told = []
warnings.showwarning = lambda message, kind, file, *rest: told.append((os.path.basename(file), str(message)))
warnings.simplefilter("always")
"""
TELLING = """
print(len(told), *told)
"""


def program(text, *, listening=False):
    """Return a whole program."""
    return (LISTENING if listening else "") + TWICE + textwrap.dedent(text) + RUN + (TELLING if listening else "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_auto_draws_the_builtins_numbers(name, tmp_path):
    """The work stays where the state is, call after call."""
    if name in {**NUMPY_SHARED, **NUMPY_OWN}:
        pytest.importorskip("numpy")

    programs.assert_same(program(PROGRAMS[name]), "", tmp_path)


@pytest.mark.parametrize("options", [one for one in programs.choices() if one.id != "auto"])
@pytest.mark.parametrize("name", ["random", "a global"])
def test_a_named_backend_says_so_once(name, options, tmp_path):
    """Who asked for workers gets them, and one word of `seed=`, which points at the program."""
    printed = programs.run(program(PROGRAMS[name], listening=True), options, tmp_path)

    assert printed.splitlines()[-1].startswith("1 ('program.py',")
    assert printed.count("pass seed=") == 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_named_backend_says_so_of_each(name, tmp_path):
    """What "auto" keeps is what named workers are warned of."""
    if name in {**NUMPY_SHARED, **NUMPY_OWN}:
        pytest.importorskip("numpy")

    printed = programs.run(program(PROGRAMS[name], listening=True), programs.MAPS["spawn"], tmp_path)

    assert printed.splitlines()[-1].startswith("1 ('program.py',")


@pytest.mark.parametrize("name", ["random", "a global"])
def test_a_seed_helps_where_the_state_is_shared(name, tmp_path):
    """The shared state is set for each item; generators of the program's own are still copies."""
    printed = programs.run(program(PROGRAMS[name], listening=True), programs.MAPS["spawn"] + ", seed=7", tmp_path)

    assert printed.splitlines()[-1][0] == ("0" if name == "random" else "1")


@pytest.mark.parametrize("name", NEITHER)
def test_what_depends_on_the_item_goes_anywhere(name, tmp_path):
    """Without a word, and with the same numbers."""
    programs.assert_same(program(NEITHER[name], listening=True), programs.MAPS["spawn"], tmp_path)


@pytest.mark.parametrize(
    "seeding", ["import random\nseed = 5\nrng = random.Random(seed)", "class Job: pass\njob = Job()\njob.number = 3"]
)
def test_nothing_is_said_where_nothing_was_made_to_repeat(seeding, tmp_path):
    """A program that never seeded the shared state is not told how; a variable called `seed` seeds nothing."""
    text = f"{seeding}\nimport random\ndef draw(x): return random.random()\n"

    printed = programs.run(program(text, listening=True), programs.MAPS["spawn"], tmp_path)

    assert printed.splitlines()[-1] == "0"


def test_who_seeds_the_workers_is_not_warned(tmp_path):
    """An initializer that seeds is there to set the workers' states."""
    options = programs.MAPS["spawn"] + ", initializer=prepare"
    text = textwrap.dedent(SHARED["random"]) + "def prepare(): random.seed(os.getpid())\n"

    printed = programs.run(program(text, listening=True), options, tmp_path)

    assert printed.splitlines()[-1] == "0"

"""Random numbers that the program has seeded are drawn where they were seeded, or the user is told of `seed=`."""

from __future__ import annotations

import programs
import pytest

SAME = {
    "random": """
        import random
        random.seed(5)
        def draw(x):
            busy(.003)
            return random.random()
        print(list(MAP(draw, range(40))), random.random())
        """,
    "random, behind a helper": """
        import random
        from random import randint as dice
        def roll(): return dice(1, 6)
        def draw(x):
            busy(.003)
            return roll()
        def main():
            random.seed(5)
            print(list(MAP(draw, range(40))))
        main()
        """,
    "a generator of the program's own": """
        import random
        rng = random.Random(3)
        def draw(x):
            busy(.003)
            return rng.random()
        print(list(MAP(draw, range(40))), rng.random())
        """,
    "a generator in a bound object": """
        import random
        class Model:
            def __init__(self): self.rng = random.Random(3)
            def draw(self, x):
                busy(.003)
                return self.rng.random()
        model = Model()
        print(list(MAP(model.draw, range(40))), model.rng.random())
        """,
}
NUMPY = {
    "numpy": """
        import numpy as np
        np.random.seed(5)
        def draw(x):
            busy(.003)
            return float(np.random.normal())
        print(list(MAP(draw, range(40))))
        """,
    "a numpy generator": """
        import numpy as np
        rng = np.random.default_rng(5)
        def draw(x):
            busy(.003)
            return float(rng.normal())
        print(list(MAP(draw, range(40))))
        """,
}
SEEDED_BY_ITEM = """
    import random
    def draw(x):
        random.seed(x)
        return random.random()
    print(list(MAP(draw, range(8))))
    """


@pytest.mark.parametrize("name", [*SAME, *NUMPY])
def test_auto_draws_the_builtins_numbers(name, tmp_path):
    """The work stays where the state is."""
    if name in NUMPY:
        pytest.importorskip("numpy")

    programs.assert_same({**SAME, **NUMPY}[name], "", tmp_path)


@pytest.mark.parametrize("name", SAME)
def test_a_named_backend_says_so_once(name, tmp_path):
    """Who asked for workers gets them, and one word of `seed=`."""
    warned = """
        seen = []
        warnings.showwarning = lambda message, *rest: seen.append(str(message))
        warnings.simplefilter("always")
        """
    program = warned + SAME[name] + "print([text[-60:] for text in seen])\n"

    printed = programs.run(program, programs.MAPS["spawn"], tmp_path)

    assert printed.count("pass seed=") == 1


def test_what_an_item_seeds_itself_goes_anywhere(tmp_path):
    """Then its numbers depend on the item alone."""
    programs.assert_same(SEEDED_BY_ITEM, programs.MAPS["spawn"], tmp_path)


def test_nothing_is_said_where_nothing_was_made_to_repeat(tmp_path):
    """A program that never asked for the same numbers again is not told how."""
    program = """
        warnings.simplefilter("error")
        import random
        def draw(x): return random.random()
        print(len(set(MAP(draw, range(8)))))
        """

    printed = programs.run(program, programs.MAPS["spawn"], tmp_path)

    assert printed == "8\n"

"""Does code seem to seed what all share? Evidence is a function or an attribute of such a name, not a variable."""

from __future__ import annotations

import pytest

from amorsize.code.seeds import mentions_seeding


@pytest.mark.parametrize(
    "text",
    [
        "import random\nrandom.seed(1)",
        "from random import seed",
        "from random import seed as fix\nfix(1)",
        "seed = 1\nimport numpy as np\nnp.random.seed(seed)",
        "def prepare(n):\n    import random\n    random.seed(n)",
        "class Setup:\n    def run(self):\n        seed_everything(1)",
        "import random\nrandom.setstate(kept)",
        "import numpy as np\nnp.random.set_state(kept)",
        "each = random.seed",
    ],
)
def test_what_seeds(text):
    """However it comes by the function, and however deep."""
    assert mentions_seeding(compile(text, "<text>", "exec"))


@pytest.mark.parametrize(
    "text",
    [
        "seed = 1\nrng = Random(seed)",
        "SEED = 1\ndef f(): return Random(SEED)",
        "'random.seed(1)'  # random.seed(1)",
        "list(amorsize.map(f, xs, seed=1))",
        "def f(seed): return Random(seed)",
        "rng = SeedSequence(1)",
        "from amorsize import UnseededError",
        "random.getstate()",
    ],
)
def test_what_does_not(text):
    """Variables, constants, arguments and texts seed nothing."""
    assert not mentions_seeding(compile(text, "<text>", "exec"))

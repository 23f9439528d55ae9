"""Does a function draw random numbers that depend on what was drawn before, in a program that has seeded them?

Workers have random states of their own, so such a function gives other numbers there. What it draws from is seen by the
walk over what it refers to (`reach`): `is_generator` and `is_shared_draw`. Whether the program has seeded the state of
`random`, or NumPy's, cannot be asked of these modules. So evidence is taken: some code on the stacks of this process's
threads, functions of the main module and of the function's own, or a notebook's cells mention a name such as `seed`.
"""

from __future__ import annotations

import sys
from functools import partial
from types import CodeType, FunctionType, MethodType

from ..lean import map
from .strict import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["carries_generator", "is_generator", "is_shared_draw", "program_seeds"]

_GENERATORS = frozenset(
    {("random", "Random"), ("numpy.random.mtrand", "RandomState"), ("numpy.random._generator", "Generator")}
)
# Methods of the shared generators that draw nothing.
_NO_DRAWS = frozenset({"getstate", "get_state", "seed", "setstate", "set_state"})
_STATES = frozenset({"setstate", "set_state"})


def is_generator(value: object) -> bool:
    """Say whether a value is a random generator whose numbers follow from its state."""
    kinds = {(kind.__module__, kind.__qualname__) for kind in type(value).__mro__}
    return not kinds.isdisjoint(_GENERATORS) and ("random", "SystemRandom") not in kinds


def is_shared_draw(value: Any) -> bool:
    """Say whether a value is a function of `random`, or of `numpy.random`, that draws from the state all share."""
    owner = getattr(value, "__self__", None)
    return owner is not None and is_generator(owner) and getattr(value, "__name__", None) not in _NO_DRAWS


def carries_generator(function: Any) -> bool:
    """Say whether a callable has a random generator with it: as an argument of a partial, or in its object."""
    if type(function) is partial:
        parts = (function.func, *function.args, *function.keywords.values())
        return any(is_generator(part) or carries_generator(part) for part in parts)
    owner = function.__self__ if type(function) is MethodType else function
    state = getattr(owner, "__dict__", None)
    if type(function) is FunctionType or type(state) is not dict:
        return is_generator(owner) and not is_shared_draw(function)
    return any(map(is_generator, tuple(state.values())))


def program_seeds(module: str | None) -> bool:
    """Say whether this program seems to have seeded the random states that all share.

    Args:
        module: name of the module of the function that draws.
    """
    codes = _running()
    for name in {"__main__", module or ""}:
        found = vars(sys.modules[name]) if name in sys.modules else {}
        if any(_seeds(value.__code__) for value in list(found.values()) if type(value) is FunctionType):
            return True
    cells = getattr(sys.modules.get("__main__"), "In", ())
    return any(map(_seeds, codes)) or any("seed" in cell for cell in cells if isinstance(cell, str))


def _running() -> Iterator[CodeType]:
    """Yield the user's code that is on some thread's stack."""
    for top in sys._current_frames().values():
        frame: Any = top
        while frame is not None:
            if not is_foreign(frame.f_globals.get("__name__")):
                yield frame.f_code
            frame = frame.f_back


def _seeds(code: CodeType) -> bool:
    if any("seed" in name or name in _STATES for name in code.co_names):
        return True
    return any(_seeds(constant) for constant in code.co_consts if type(constant) is CodeType)

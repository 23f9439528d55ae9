"""Which functions may draw from `random` or NumPy's global state, and how is that state set for each item?

The function is sent as a `Seeded`. Where it runs, `begin` returns a function to call instead, which sets the state from
seed and position before each item. In a process that is not one of amorsize's own workers it also puts the former state
back after each item, because the user may draw numbers between two items. Setting the state costs about 5 us for each
item, or 15 us with NumPy loaded; putting it back costs another 15 us, and 60 us for NumPy (benchmarks/seeds.py).
Functions that plainly draw nothing are therefore left alone (`may_draw`).
"""

from __future__ import annotations

import sys
from _struct import Struct
from functools import partial
from opcode import opmap
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, MethodType, ModuleType

from .code.bytecode import outer_names
from .lean import NamedTuple, map
from .rng import Streams, digest, item_rng
from .runners import runs_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

__all__ = ["Seeded", "kept_globals", "may_draw"]

_SCALARS = frozenset({int, float, complex, str, bytes, bool, type(None)})
_WORDS = Struct("<8I")
# The most parts of what a function reaches that are looked at. A larger value means that a function which reaches much
# data is looked at for longer, 0.02 to 0.3 us for each part; a smaller one means that the global state is set for more
# such functions in vain.
_MAX_PARTS = 20_000
# Nothing in these modules draws, and the functions that they call are handed to them.
_HARMLESS_MODULES = frozenset(
    {
        "_functools", "_operator", "_struct", "amorsize", "builtins", "cmath", "functools", "itertools", "math",
        "operator", "struct", "time", "zlib",
    }
)  # fmt: skip
# These functions can reach anything.
_DYNAMIC = frozenset(
    {
        "__import__", "attrgetter", "breakpoint", "compile", "eval", "exec", "getattr", "globals", "locals",
        "methodcaller", "vars",
    }
)  # fmt: skip
# These instructions import a module or assign a global, after which it cannot be foreseen what names stand for.
_REBINDING = frozenset(opmap[name] for name in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"))
_CALLING = frozenset(number for name, number in opmap.items() if name.startswith("CALL"))
_UNKNOWN = object()


class Seeded(NamedTuple):
    """A function on its way to where it runs, with what its items' random numbers depend on.

    Attributes:
        function: takes one item.
        seed: the call's seed.
        draws: whether the function may draw from global state, whatever its items are.
        numpy: whether NumPy must be loaded before an item runs, because it is loaded here or the function mentions it.
        asks: whether the function calls anything or looks up an attribute. If it does neither, it can do no more with
            its items than apply operators to them, and is taken not to draw, whatever their class.
    """

    function: Callable[[Any], Any]
    seed: int
    draws: bool
    numpy: bool
    asks: bool = True

    @classmethod
    def of(cls, function: Callable[[Any], Any], seed: int) -> Seeded:
        """Return `function` with what a look at its code tells; the result can be pickled if the function can."""
        reach = _Reach()
        draws = reach.may_draw(function)
        return cls(function, seed, draws, "numpy" in sys.modules or _mentions_numpy(function), draws or reach.asks)

    def begin(
        self, running: Callable[[], int], *, keep: bool, plain: bool = False
    ) -> tuple[Streams, Callable[[Any], Any]]:
        """Return the streams of items that now run one after another, and the function to call for each of them.

        Args:
            running: returns the position of the running item.
            keep: whether the process's own global state is put back after each item.
            plain: whether all the items are known to be plain data.
        """
        streams = Streams(self.seed, running)
        if not self.draws and (plain or not self.asks):
            return streams, self.function
        if self.numpy:
            import numpy.random  # noqa: F401
        return streams, _setting_globals(self.function, streams, self.draws, keep)


def _setting_globals(function: Callable[[Any], Any], streams: Streams, draws: bool, keep: bool) -> Callable[[Any], Any]:
    """Return a function that calls `function`, and sets the global states first if it or the item may use them."""

    @runs_items()
    def set_first(item: Any) -> Any:
        _set_globals(streams)
        return function(item)

    @runs_items()
    def set_and_put_back(item: Any) -> Any:
        with kept_globals():
            _set_globals(streams)
            return function(item)

    setting = set_and_put_back if keep else set_first
    if draws:
        return setting

    @runs_items()
    def set_if_the_item_may_draw(item: Any) -> Any:
        kind = type(item)
        if kind in _SCALARS or (kind is tuple and _SCALARS.issuperset(map(type, item))):
            return function(item)
        return setting(item)

    return set_if_the_item_may_draw


def _set_globals(streams: Streams) -> None:
    """Set the state of `random`, and NumPy's global state if NumPy is loaded, to the running item's."""
    import random

    seed, index = streams.seed, streams.running()
    random.seed(int.from_bytes(digest(b"global random", seed, index), "big"))
    if "numpy" in sys.modules:
        import numpy.random  # otherwise NumPy would load this at its first use, which may be within the item

        numpy.random.seed(_WORDS.unpack(digest(b"global numpy", seed, index)))


class kept_globals:  # noqa: N801 - used as a function is; a generator would stumble over the user's StopIteration
    """After a `with` block, put back the state of `random`, and NumPy's global state if NumPy was loaded before it."""

    __slots__ = ("_numpy", "_random")

    def __enter__(self) -> None:
        import random

        self._random = random.getstate()
        self._numpy: Any = None
        if "numpy" in sys.modules:
            import numpy.random

            self._numpy = numpy.random.get_state(legacy=False)

    def __exit__(self, *_: object) -> None:
        import random

        random.setstate(self._random)
        if self._numpy is not None:
            import numpy.random

            numpy.random.set_state(self._numpy)


def may_draw(function: object) -> bool:
    """Say whether a function may draw from the state of `random` or NumPy's global state; in doubt, it may.

    It cannot if its code names nothing but plain data, functions such as `len` and `math.sqrt`, NumPy without
    `numpy.random`, `item_rng`, and functions for which the same is true. Its items are taken to be plain data, because
    an object of a user's class may do anything when it is added to something or asked for its length.
    """
    return _Reach().may_draw(function)


def _mentions_numpy(function: Any) -> bool:
    if issubclass(type(function), partial):
        return any(map(_mentions_numpy, (function.func, *function.args)))
    code = getattr(function, "__code__", None)
    if type(code) is not CodeType:
        return False
    return any(name.partition(".")[0] == "numpy" for name in outer_names(code).mentioned)


class _Reach:
    """One look at everything that a function reaches.

    Attributes:
        numpy: whether NumPy is among what the function reaches.
        mentioned: the names in the code of all functions that were met.
        asks: whether the code of these functions calls anything or looks up an attribute.
    """

    def __init__(self) -> None:
        self.numpy = self.asks = False
        self.mentioned: set[str] = set()
        self._met: set[int] = set()
        self._left = _MAX_PARTS

    def may_draw(self, function: object) -> bool:
        if type(function) is not FunctionType:
            self.asks = True
        return not self.harmless(function) or (self.numpy and "random" in self.mentioned)

    def harmless(self, value: Any) -> bool:
        kind = type(value)
        if kind in _SCALARS or id(value) in self._met:
            return True
        self._met.add(id(value))
        if kind is FunctionType:
            return value is item_rng or self._function(value)
        if kind in {tuple, list, set, frozenset}:
            return self._all(value)
        if kind is dict:
            return self._all(value) and self._all(tuple(value.values()))
        if kind is partial:
            return self._all((value.func, value.args, value.keywords))
        if kind is MethodType:
            return self._all((value.__func__, value.__self__))
        if kind is BuiltinFunctionType:  # this includes bound methods such as `random.random`
            return value.__name__ not in _DYNAMIC and self.harmless(value.__self__)
        if kind is ModuleType:
            self.numpy = self.numpy or value.__name__ == "numpy"
            return value.__name__ == "numpy" or value.__name__ in _HARMLESS_MODULES
        owner = value.__objclass__ if kind is MethodDescriptorType else value
        return isinstance(owner, type) and owner.__module__ in _HARMLESS_MODULES and owner.__name__ not in _DYNAMIC

    def _all(self, values: Collection[Any]) -> bool:
        self._left -= len(values)
        if self._left < 0:
            return False
        return _SCALARS.issuperset(map(type, values)) or all(map(self.harmless, values))

    def _function(self, function: FunctionType) -> bool:
        code, space = function.__code__, function.__globals__
        names = outer_names(code)
        # Special attributes such as `__globals__` and `__class__` lead anywhere.
        if names.rebound_cells or _has(_REBINDING, code) or any(name.startswith("__") for name in names.mentioned):
            return False
        self.mentioned |= names.mentioned
        self.asks = self.asks or not names.mentioned <= names.read or _has(_CALLING, code)
        builtin = vars(sys.modules["builtins"])
        read = [space[name] if name in space else builtin.get(name) for name in names.read]
        return self._all([*read, *_contents(function), function.__defaults__, function.__kwdefaults__])


def _has(operations: frozenset[int], code: CodeType) -> bool:
    """Say whether any of these instructions is in the code, or in the code of a function that it defines."""
    # Instructions stand at even places and their arguments at odd ones. Inline caches are zeros in `co_code`.
    if not operations.isdisjoint(code.co_code[::2]):
        return True
    return any(_has(operations, constant) for constant in code.co_consts if type(constant) is CodeType)


def _contents(function: FunctionType) -> list[Any]:
    contents = []
    for cell in function.__closure__ or ():
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # the variable is not assigned yet, and may become anything
            contents.append(_UNKNOWN)
    return contents

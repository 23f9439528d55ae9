"""Find out whether a function draws random numbers that depend on what was drawn before in this process.

Workers have random states of their own, or copies of the program's generators, so such a function draws other numbers
there; from copies, every worker even draws the same numbers. The search asks for evidence, not for possibility: it
follows chains of names in the code (`rng.normal`, `np.random.rand`, `self.model.rng`) to the objects that they stand
for now, through the user's own functions and classes (`reading`). So `random.Random(item).random()` is no draw from a
shared state, and a generator that the code itself seeds for each item is left out.

The search does not follow computed names, draws within installed packages, or generators among the items, which the
user chose to send. It runs no code of the user's, because it looks at attributes as they are stored.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from weakref import WeakKeyDictionary

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from ..state import register
from .reading import UNKNOWN, Reading
from .strict import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["Draws", "draws_of"]

_RANDOM, _NUMPY = "random", "numpy.random"
_GENERATORS = frozenset(
    {
        ("random", "Random"), ("numpy.random.mtrand", "RandomState"), ("numpy.random._generator", "Generator"),
        ("numpy.random.bit_generator", "BitGenerator"),
    }
)  # fmt: skip
# The first are attributes of a generator whose use does not change its state; the second are methods that set its
# state, so that its next numbers depend only on the code that calls them.
_UNCHANGING = frozenset({"VERSION", "get_state", "getstate", "jumped", "lock", "seed_seq", "state"})
_SEEDING = frozenset({"seed", "set_state", "setstate"})
# These functions of `numpy.random` use the shared state, but are not methods of its generator.
_NUMPY_DRAWS, _NUMPY_SEEDS = ("ranf", "sample"), ("seed",)
# At most so many pieces of code are read, and so many members of one collection are looked at, for one function. With
# smaller values a draw behind many helpers goes unnoticed; with larger ones a first call on workers begins later, by up
# to 0.1 ms each.
_MAX_STEPS = 1_000
_MAX_MEMBERS = 1_000
# At most so many members of all collections together are looked at. With a larger value each further one takes 0.5 us;
# with a smaller one a generator deep in data goes unnoticed.
_MAX_PARTS = 20_000
_EMPTY_CELL = CellType()
# Code that calls a class calls these methods without naming them.
_MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_SCALARS = frozenset({bool, int, float, complex, str, bytes, type(None)})
_COLLECTIONS = (tuple, list, set, frozenset)


class Draws(NamedTuple):
    """What a function draws from.

    Attributes:
        own: a generator that the program holds, as the code names it; empty if there is none.
        shared: a function that draws from the state of `random`, or NumPy's global one; empty if there is none.
    """

    own: str
    shared: str


_NOTHING = Draws("", "")
# The first key is an object that stands for what a function reaches by name, and lives as long as that is current; the
# second is the function's bound parts.
_known: WeakKeyDictionary[Any, dict[tuple[int, ...], Draws]] = WeakKeyDictionary()
register(_known.clear)
_MAX_BOUND = 100


def draws_of(function: Any, around: object) -> Draws:
    """Return what a function draws from, if all of its code runs.

    Args:
        function: any callable.
        around: an object that stands for what the function reaches by name; when that changes, another object is given.
    """
    if type(function) is BuiltinFunctionType:
        if type(function.__self__) is ModuleType:  # a builtin function of a module draws from no generator
            return _NOTHING
        return _look(function)  # it has no code to read, and may be made anew each time that it is named
    known = _known.setdefault(around, {})
    key = (*map(id, _bound_parts(function)),)
    found = known.get(key)
    if found is None:
        if len(known) >= _MAX_BOUND:
            known.clear()
        found = known[key] = _look(function)
    return found


def _bound_parts(function: Any) -> list[Any]:
    """Return what a callable brings that is not reached by name, because a different part may be another generator."""
    kind = type(function)
    if kind is partial:
        held = (function.func, *function.args, *function.keywords.values())
        return [part for one in held for part in (one, *_bound_parts(one))]
    if kind is FunctionType:
        return [cell.cell_contents for cell in function.__closure__ or () if cell != _EMPTY_CELL]
    owner = function.__self__ if kind is MethodType else function
    return [function.__func__ if kind is MethodType else function, owner, *_state_of_object(owner).values()]


def _look(function: Any) -> Draws:
    walk = _Walk()
    walk.use(function, getattr(function, "__name__", None) or type(function).__name__)
    walk.finish()
    own = shared = ""
    for place, text in walk.drawn.items():
        if place in walk.seeded:
            continue
        if place in walk.shared:
            shared = shared or text
        else:
            own = own or text
    return Draws(own, shared)


def _is_generator(value: object) -> bool:
    kinds = {(kind.__module__, kind.__qualname__) for kind in type(value).__mro__}
    return not kinds.isdisjoint(_GENERATORS) and ("random", "SystemRandom") not in kinds


def _owner(value: Any) -> Any:
    """Return what a method is bound to; `UNKNOWN` if the value is not a method."""
    return value.__self__ if type(value) in {MethodType, BuiltinFunctionType} else UNKNOWN


def _state_of_object(value: Any) -> dict[str, Any]:
    """Return an object's attributes, without running any code of its class."""
    try:
        state = object.__getattribute__(value, "__dict__")
    except Exception as error:  # noqa: BLE001 - it has none, or a property of that name fails
        let_signals_through(error)
        state = {}
    found = dict(state) if type(state) is dict else {}
    for base in type(value).__mro__:
        for name, attribute in tuple(vars(base).items()):
            if type(attribute) is MemberDescriptorType and base.__module__ != "builtins":
                try:
                    found.setdefault(name, attribute.__get__(value))
                except AttributeError:  # the slot is not set
                    continue
    return found


def _is_class(value: object) -> bool:
    return issubclass(type(value), type)


def _users_bases(value: Any) -> Iterator[type]:
    for base in (value if _is_class(value) else type(value)).__mro__:
        if base is not object and not is_foreign(base.__module__):
            yield base


def _names_in(value: Any) -> set[str]:
    """Return the names of an object's or a class's attributes, leaving out those that packages define."""
    names = set() if _is_class(value) else set(_state_of_object(value))
    return names.union(*(vars(base) for base in _users_bases(value)))


def _inherited(value: Any, name: str) -> list[FunctionType]:
    """Return the methods of one name that a class and its bases define, because each may call the next."""
    found = [vars(base).get(name) for base in _users_bases(value)]
    return [function for function in found if type(function) is FunctionType]


def _in_class(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return UNKNOWN


class _Walk:
    """One walk, which visits each function once for each object that it is bound to.

    Attributes:
        drawn: for each generator that code draws from, by `id`, how the code names the draw.
        seeded: the `id`s of generators that the code itself seeds.
        shared: the `id`s of generators that all code of this process shares.
    """

    def __init__(self) -> None:
        self.drawn: dict[int, str] = {}
        self.seeded: set[int] = set()
        self.shared: set[int] = set()
        self._random = self._share(_RANDOM, "seed")
        self._numpy = self._share(_NUMPY, "rand")
        self._visits: list[tuple[CodeType, dict[str, Any], dict[str, Any]]] = []
        self._met: dict[tuple[int, int], Any] = {}
        self._members: list[tuple[Any, str]] = []  # the user's classes and objects, and how the code names them
        self._called: set[int] = set()  # the `id`s of objects that may be called
        self._mentioned: set[str] = set()  # names of attributes in code that was read
        self._pairs: set[tuple[str, str]] = set()  # a name of something unknown, and an attribute of it
        self._held: list[tuple[Any, str, str]] = []  # generators of `_members`: their attribute and text
        self._pending: list[tuple[Any, str]] = []  # members of collections, and the collections' names
        self._left = _MAX_STEPS
        self._parts_left = _MAX_PARTS

    def _share(self, module: str, method: str) -> Any:
        """Return the generator behind the functions of a module; `UNKNOWN` if the module is not loaded."""
        found = sys.modules.get(module)
        owner = _owner(vars(found).get(method)) if found is not None else UNKNOWN
        if not _is_generator(owner):
            return UNKNOWN
        self.shared.add(id(owner))
        return owner

    def finish(self) -> None:
        """Visit everything that is still to be visited, and everything that this leads to."""
        looked: set[tuple[int, str]] = set()
        while self._left > 0:
            if self._pending:
                self.use(*self._pending.pop())
            elif self._visits:
                self._left -= 1
                self._code(*self._visits.pop())
            elif not self._look_at_members(looked):
                break
        for generator, name, text in self._held:
            for owner, method in self._pairs:
                if owner == name:
                    self._method(generator, method, f"{text}.{method}")

    def _look_at_members(self, looked: set[tuple[int, str]]) -> bool:
        """Use the attributes of `_members` that some code mentions, and say whether there were new ones.

        Code that is handed an object has a name of its own for it, so only the attribute's name can be compared here.
        """
        before = len(looked)
        for value, text in tuple(self._members):
            wanted = self._mentioned | _MAKING if _is_class(value) else self._mentioned
            if id(value) in self._called:
                wanted = wanted | {"__call__"}
            for name in _names_in(value) & wanted:
                if (id(value), name) in looked:
                    continue
                looked.add((id(value), name))
                found = self._attribute(value, name)
                if _is_generator(found):
                    self._held.append((found, name, f"{text}.{name}"))
                else:
                    self.use(found, f"{text}.{name}")
                for function in _inherited(value, name):
                    self._function(function, () if _is_class(value) else (value,))
        return len(looked) > before

    # Values.

    def use(self, value: Any, text: str) -> None:
        """Take note of a value that code may call, hand on or look into."""
        kind = type(value)
        if value is UNKNOWN or kind in _SCALARS or kind is ModuleType or (id(value), 0) in self._met:
            return
        owner = _owner(value)
        if _is_generator(value):
            self.drawn.setdefault(id(value), text)
        elif owner is not UNKNOWN and _is_generator(owner):
            self._method(owner, value.__name__, text)
        elif self._is_numpys(value, _NUMPY_DRAWS):
            self._method(self._numpy, "rand", text)
        elif self._is_numpys(value, _NUMPY_SEEDS):
            self._method(self._numpy, "seed", text)
        elif kind is FunctionType:
            self._function(value, ())
        elif kind is MethodType:
            self._bound(value, text)
        else:
            self._met[id(value), 0] = value  # it is kept, so that its `id` is not reused meanwhile
            self._look_into(value, text)

    def _is_numpys(self, value: Any, names: Iterable[str]) -> bool:
        if self._numpy is UNKNOWN or not callable(value):
            return False
        space = vars(sys.modules[_NUMPY])
        return any(space.get(name) is value for name in names)

    def _bound(self, method: MethodType, text: str) -> None:
        owner = method.__self__
        self._note_member(owner, text.rpartition(".")[0] or text)
        if type(method.__func__) is FunctionType:
            self._function(method.__func__, (owner,))

    def _look_into(self, value: Any, text: str) -> None:
        kind = type(value)
        if kind is partial:
            # The arguments that a partial brings are the first arguments of its function.
            if type(value.func) is FunctionType:
                self._function(value.func, value.args, value.keywords)
            self._all((value.func, *value.args, *value.keywords.values()), text)
        elif kind in {staticmethod, classmethod}:
            self.use(value.__func__, text)
        elif kind is property:
            self._all((value.fget,), text)
        elif kind in _COLLECTIONS or issubclass(kind, tuple):
            self._all(tuple.__iter__(value) if issubclass(kind, tuple) else value, text)
            self._note_member(value, text)
        elif issubclass(kind, dict):
            self._all(dict.values(value), text)
            self._note_member(value, text)
        elif kind.__module__ == "functools":  # a cache around a function, or a property that is computed once
            self._all((_state_of_object(value).get("__wrapped__"), getattr(value, "func", None)), text)
        elif _is_class(value) or not is_foreign(kind.__module__):
            self._called.add(id(value))
            self._note_member(value, text)
        elif callable(value):  # a package's object, as of numpy.vectorize, may call the user's functions
            self._all([part for part in _state_of_object(value).values() if callable(part)], text)

    def _all(self, values: Iterable[Any], text: str) -> None:
        """Have some values used later, because they may hold others at any depth."""
        members = tuple(islice(values, min(_MAX_MEMBERS, self._parts_left)))
        self._parts_left -= len(members)
        self._pending += [(value, text) for value in members if type(value) not in _SCALARS]

    def _note_member(self, value: Any, text: str) -> None:
        """Remember a class or an object, because code that is read later may show which of its attributes are used."""
        cls = value if _is_class(value) else type(value)
        if is_foreign(cls.__module__) or cls.__module__ == "builtins" or (id(value), 1) in self._met:
            return
        self._met[id(value), 1] = value
        self._members.append((value, text))

    def _attribute(self, value: Any, name: str) -> Any:
        """Return what an attribute holds, with methods bound; `UNKNOWN` where only running code would tell."""
        if type(value) is ModuleType:
            return vars(value).get(name, sys.modules.get(f"{value.__name__}.{name}", UNKNOWN))
        cls = value if _is_class(value) else type(value)
        if cls is not value:
            state = _state_of_object(value)
            if name in state:
                return state[name]
        found = _in_class(cls, name)
        kind = type(found)
        if kind is staticmethod:
            return found.__func__
        if kind is classmethod:
            return MethodType(found.__func__, cls)
        if kind is FunctionType and cls is not value:
            return MethodType(found, value)
        if kind is property and type(found.fget) is FunctionType:
            self._function(found.fget, () if cls is value else (value,))
            return UNKNOWN
        computed = getattr(found, "func", None) if kind.__module__ == "functools" else None
        if type(computed) is FunctionType and cls is not value:  # it is a cached_property
            self._function(computed, (value,))
            return UNKNOWN
        return found

    def _method(self, generator: Any, name: str, text: str) -> None:
        """Take note that code uses a generator's method."""
        if name in _SEEDING:
            self.seeded.add(id(generator))
        elif name not in _UNCHANGING and not name.startswith("__"):
            self.drawn.setdefault(id(generator), text)

    # Code.

    def _function(self, function: FunctionType, first: tuple[Any, ...], named: dict[str, Any] | None = None) -> None:
        """Have a function's code visited, with its first arguments and some named ones known."""
        if (id(function), id(first[0]) if first else 0) in self._met:
            return
        self._met[id(function), id(first[0]) if first else 0] = function, first
        wrapped = function.__dict__.get("__wrapped__")
        if is_foreign(function.__globals__.get("__name__")):
            if wrapped is not None:  # a package's decorator stands around the user's function
                self._all((wrapped,), function.__name__)
                self._all(function.__dict__.get("registry", {}).values(), function.__name__)  # it may be generic
            elif "seed" in function.__name__:  # a package's function that seeds all shared states
                self.seeded |= self.shared
            return
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        known = dict(function.__kwdefaults__ or {})
        known |= zip(names[::-1], (function.__defaults__ or ())[::-1], strict=False)  # defaults belong to the last
        known |= {**dict(zip(names, first, strict=False)), **(named or {})}  # the first arguments only
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                known[name] = cell.cell_contents
            except ValueError:  # the variable is not assigned yet
                continue
        self._visits.append((code, function.__globals__, known))

    def _code(self, code: CodeType, space: dict[str, Any], known: dict[str, Any]) -> None:
        reading = Reading(self, space, known)
        reading.read(code)
        self._mentioned |= reading.mentioned
        self._pairs |= reading.pairs
        for inner in code.co_consts:
            if type(inner) is CodeType:
                own = inner.co_varnames[: inner.co_argcount + inner.co_kwonlyargcount]
                self._visits.append((inner, space, {name: known[name] for name in known if name not in own}))

    def step(self, value: Any, name: str, text: str) -> Any:
        if not _is_generator(value):
            return self._attribute(value, name)
        if name == "bit_generator":
            return value  # the bit generator holds the state that is drawn from
        self._method(value, name, f"{text}.{name}")
        return UNKNOWN

    def store(self, value: Any, name: str) -> None:
        if name == "state" and _is_generator(value):
            self.seeded.add(id(value))

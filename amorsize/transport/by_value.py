"""How classes and functions that a reader cannot import are sent, and which class they are when they arrive.

Classes and functions of the caller's main module, and those made inside functions, which no module has, go to workers
by value, through cloudpickle. What comes back must be the caller's own again. So a class that came from the caller is
never sent back by value: it has a *token*, by which the caller finds its own class, and nothing is set on that class.
Where a token finds no class, the class is looked for by module and name. A class that the caller does not have,
because the function made it, is built once.

There are three kinds of pickles. A *function* holds the classes that it refers to inline, and shares one set of globals
with them. An *item* holds, for each such class, the token and the class's *definition*, a pickle of its own that is
made once a call: each worker builds the class when such an item first reaches it, unless its function brought the
class. A *result* holds tokens. In a worker a `Space` keeps what one function brought. So if something changes in the
caller between two calls (a method, a class attribute, a setting), the worker gets a new function with a space of its
own, and never mixes old and new.

Objects that pickle themselves by a bare name (cached functions, sentinels, `NewType`) are found by that name where
their module can be imported. Those of the main module are rebuilt from their parts (`bare_names`), once a space.
"""

from __future__ import annotations

import os
import pickle
import sys
from functools import partial
from itertools import count
from types import FunctionType, SimpleNamespace
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from ..code.strict import class_content, class_shape
from ..lean import NamedTuple
from ..state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["LARGE_BYTES", "PROTOCOL", "InheritedSpace", "MainGlobals", "ModuleGlobals", "Outgoing", "Space", "Token"]
__all__ += ["dump_for_place", "enter", "find", "here", "keep_beside", "load_function", "load_wrapped", "make_function"]
__all__ += ["return_by_value", "set_function"]

PROTOCOL = 5
# What a function is bound to is large from this size on, so that it is compared with what was sent before; what is
# smaller is hashed (`bound`). With a smaller value, copies of data that are hashed in no time are kept; with a larger
# one, data of some megabytes are hashed at each call, at 0.6 to 1.2 ms a megabyte (benchmarks/transport.py).
LARGE_BYTES = 1 << 20


class Token(NamedTuple):
    """Stands for a class of the process that `origin` names."""

    origin: str
    number: int


# This is the caller's side: its classes, and the numbers that stand for them.
_origin = ""
_next_number = count(1)
_numbers: WeakKeyDictionary[type, int] = WeakKeyDictionary()
_classes: WeakValueDictionary[int, type] = WeakValueDictionary()
# These are classes that workers made, as they were built here, by module, qualified name and content.
_built: WeakValueDictionary[tuple[str, str, bytes], type] = WeakValueDictionary()


def _token(cls: type) -> Token:
    global _origin
    if not _origin:
        _origin = f"{os.getpid()}-{os.urandom(8).hex()}"
    number = _numbers.get(cls)
    if number is None:
        number = _numbers[cls] = next(_next_number)
        _classes[number] = cls
    return Token(_origin, number)


class Space:
    """What one function brought to a worker.

    Args:
        parent: the initializer's space, which has the classes of the objects that the initializer left in globals.

    Attributes:
        main: the globals of functions of the caller's main module.
        classes: the classes that came with the function, by token.
        borne: the classes that came with items of the present call, by token.
        named: objects that stand under a name in the caller's main module, by module and name.
    """

    def __init__(self, parent: Space | None = None) -> None:
        self.main: dict[str, Any] = {}
        self.classes: dict[Token, type] = {}
        self.borne: dict[Token, type] = {}
        self.named: dict[tuple[str, str], Any] = {}
        self.loads_function = False
        self._parent = parent

    def find(self, token: Token) -> type | None:
        """Return the class that a token stands for; None if this space does not have it."""
        found = self.classes.get(token) or self.borne.get(token)
        if found is None and self._parent is not None:
            found = self._parent.find(token)
        return found

    def keep(self, token: Token, cls: type) -> None:
        """Keep a new class, whose attributes are still to be set."""
        (self.classes if self.loads_function else self.borne)[token] = cls
        _tokens[cls] = token

    def begin_call(self) -> None:
        """Forget the classes that the items of the last call brought, because they may have changed since."""
        self.borne.clear()


class InheritedSpace(Space):
    """The space of an initializer that a forked worker inherited, and whose classes it inherited, too."""

    def find(self, token: Token) -> type | None:
        return _classes.get(token.number) if token.origin == _inherited_origin else None


# A worker has here the space of the function that runs (None in the caller), and the tokens of classes it has built.
_here: Space | None = None
_tokens: WeakKeyDictionary[type, Token] = WeakKeyDictionary()
_inherited_origin = ""
# These classes were made here, and their attributes are still to be set.
_unset: WeakSet[type] = WeakSet()


def here() -> Space | None:
    """Return the space that is entered; None in the caller."""
    return _here


def enter(space: Space | None) -> None:
    """Make everything that is loaded from now on belong to `space`."""
    global _here
    _here = space


def load_function(data: bytes | memoryview, space: Space, beside: Sequence[bytearray] = ()) -> Any:
    """Rebuild a function in a worker, in a space that is then entered; `beside` is memory that its pickle refers to."""
    enter(space)
    space.loads_function = True
    try:
        return pickle.loads(data, buffers=beside)
    finally:
        space.loads_function = False


def find(module: str | None, qualname: str) -> Any:
    """Return what `module.qualname` is now, or None."""
    found: Any = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


class Outgoing:
    """What a caller sends in one call; each class in it is sent as it was when it was first pickled in this call."""

    outdated: frozenset[tuple[str, str]] = frozenset()
    returning = False

    def __init__(self) -> None:
        self._definitions: dict[type, bytes] = {}

    def function(self, function: object) -> bytes:
        """Pickle a function by value, with the classes that it refers to."""
        return _dump(function, _Inline())

    def function_pieces(self, function: object, beside: list[memoryview] | None = None) -> list[bytes]:
        """Return the pieces of what `function` returns; `beside` as for `serialize.function_pieces`."""
        return _pieces(function, _Inline(), beside)

    def item(self, item: object) -> bytes:
        """Pickle an item by value."""
        return _dump(item, self)

    def reduce_class(self, cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return how to pickle a class that goes by value; `reduced` is how cloudpickle would do it."""
        definition = self._definitions.get(cls)
        if definition is None:
            definition = self._definitions[cls] = _dump(cls, _Inline())
        return _borne_class, (_token(cls), definition)

    def knows(self, cls: type) -> bool:
        """Say whether a class was sent before, so that it need not be looked at again."""
        return cls in self._definitions


class _Inline:
    """A pickle for workers, in which a class with its attributes stands where it is first met."""

    outdated: frozenset[tuple[str, str]] = frozenset()
    returning = False

    def reduce_class(self, cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        make, arguments, state = reduced[:3]
        return _make_class, (_token(cls), make, _arguments(cls, arguments)), state, None, None, _set_class

    def knows(self, cls: type) -> bool:
        return False


def dump_for_place(value: object, outdated: frozenset[tuple[str, str]]) -> bytes:
    """Pickle what stands at a place where workers have something else; functions are pickled with their code.

    Args:
        value: what stands there.
        outdated: all such places, as module and qualified name. What stands at one is not pickled by its name, because
            workers would find something else.
    """
    way = _Inline()
    way.outdated = outdated
    return _dump(value, way)


class _Returning:
    """A pickle for the caller, in which a class that came from the caller is a token."""

    outdated: frozenset[tuple[str, str]] = frozenset()
    returning = True

    def reduce_class(self, cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        token = _tokens.get(cls)
        if token is not None:
            return _callers_class, (token, cls.__module__, cls.__qualname__)
        definition = _dump(cls, _ReturningInline())
        content = class_content(cls) or definition
        return _workers_class, (cls.__module__, cls.__qualname__, class_shape(cls), content, definition)

    def knows(self, cls: type) -> bool:
        return cls in _tokens


class _ReturningInline(_Returning):
    """The definition of a class that a worker made; it contains the other such classes that it refers to."""

    def reduce_class(self, cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        if cls in _tokens:
            return super().reduce_class(cls, reduced)
        make, arguments, state = reduced[:3]
        where = cls.__module__, cls.__qualname__, class_shape(cls)
        return _make_workers_class, (*where, make, _arguments(cls, arguments)), state, None, None, _set_class


def return_by_value(value: object) -> bytes:
    """Pickle a result, or an error, by value for the caller."""
    return _dump(value, _Returning())


def _arguments(cls: type, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return cloudpickle's arguments for a class, without its tracking number and with the slots that it leaves out."""
    slots = vars(cls).get("__slots__")
    if slots and isinstance(arguments[3], dict) and "__module__" in arguments[3]:  # an enum has other arguments
        arguments = (*arguments[:3], {**arguments[3], "__slots__": slots}, *arguments[4:])
    return (*arguments[:-2], None, arguments[-1])


def _dump(value: object, way: Any) -> bytes:
    return b"".join(_pieces(value, way))


def keep_beside(beside: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Take memory that a value offers beside its pickle, if it is large; return True for it to be pickled."""
    try:
        memory = buffer.raw()
    except BufferError:  # it is not in one piece
        return True
    if memory.nbytes < LARGE_BYTES:
        return True
    beside.append(memory)
    return False


def _pieces(value: object, way: Any, beside: list[memoryview] | None = None) -> list[bytes]:
    """Return a pickle as it is written: in frames, between which large data stand uncopied."""
    from .pickler import ByValuePickler  # cloudpickle takes 18 ms to import

    pieces: list[bytes] = []
    # A bytearray is written as it is and may change later, so it is copied, which leaves bytes as they are.
    file = SimpleNamespace(write=lambda piece: pieces.append(bytes(piece)))
    ByValuePickler(file, way, None if beside is None else partial(keep_beside, beside)).dump(value)
    return pieces


# This is the reader's side: pickles refer to these functions by their names in this module.


def _make_class(token: Token, make: Any, arguments: tuple[Any, ...]) -> type:
    """Return the caller's class in a worker: the one that is there, or a new one without its attributes."""
    space = _here
    if space is None:
        return _callers_class(token)
    found = space.find(token)
    if found is None:
        found = make(*arguments)
        space.keep(token, found)
        _unset.add(found)
    return found


def _set_class(cls: type, state: tuple[Any, Any]) -> None:
    """Set the attributes of a class that was just made, and leave any other class alone."""
    if cls in _unset:
        _unset.discard(cls)
        from cloudpickle.cloudpickle import _class_setstate

        _class_setstate(cls, state)


def _borne_class(token: Token, definition: bytes) -> type:
    """Return the caller's class that came with an item."""
    found: type | None = _callers_class(token) if _here is None else _here.find(token)
    return found or pickle.loads(definition)


def _callers_class(token: Token, module: str = "", qualname: str = "") -> type:
    """Return the class of this process that a token stands for; in a worker, return what was built from it."""
    found: Any = None
    if _here is not None:
        found = _here.find(token)
    elif token.origin == _origin:
        found = _classes.get(token.number)
    if found is None and module:
        found = find(module, qualname)
    if not isinstance(found, type):
        raise pickle.UnpicklingError(f"the class {module}.{qualname} is gone")
    return found


def _workers_class(module: str, qualname: str, shape: bytes, content: bytes, definition: bytes) -> type:
    """Return the class for one that a worker made: the one of that name here if it is the same, else one built once."""
    found = _same_here(module, qualname, shape) or _built.get((module, qualname, content))
    if found is None:
        found = _built[module, qualname, content] = pickle.loads(definition)
    return found


def _make_workers_class(module: str, qualname: str, shape: bytes, make: Any, arguments: tuple[Any, ...]) -> type:
    found = _same_here(module, qualname, shape)
    if found is None:
        found = make(*arguments)
        _unset.add(found)
    return found


def _same_here(module: str, qualname: str, shape: bytes) -> type | None:
    found = find(module, qualname)
    return found if isinstance(found, type) and class_shape(found) == shape else None


class MainGlobals(dict[str, object]):
    """Stands in a pickle for the globals of functions of the main module; each function adds what it refers to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _main_globals, (dict(self),)


class ModuleGlobals(dict[str, object]):
    """Stands in a pickle for the globals of a module that the reader has."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _module_globals, (self["name"],)


def _module_globals(module: str) -> dict[str, Any]:
    import importlib

    return vars(importlib.import_module(module))


def _main_globals(dunders: dict[str, object]) -> dict[str, Any]:
    if _here is None:
        return vars(sys.modules["__main__"])
    if not _here.loads_function:
        return dunders
    for name, value in dunders.items():
        _here.main.setdefault(name, value)
    return _here.main


def make_function(where: tuple[str, str], code: Any, space: dict[str, Any], *rest: Any) -> Any:
    """Return a new function; in the caller, return its own function of that name if both have the same code."""
    if _here is None and space is vars(sys.modules["__main__"]):
        found = find(*where)
        if type(found) is FunctionType and found.__code__ == code:
            return found
    from cloudpickle.cloudpickle import _make_function as make

    return make(code, space, *rest)


def set_function(function: Any, state: tuple[Any, dict[str, Any]]) -> None:
    """Give a function that was just made what it refers to, and leave the caller's own function alone."""
    if _here is None and function.__globals__ is vars(sys.modules["__main__"]):
        if find(function.__module__, function.__qualname__) is function:
            return  # it is the caller's own
        state[1]["__globals__"] = {}  # a worker must not set the caller's globals
    from cloudpickle.cloudpickle import _function_setstate

    _function_setstate(function, state)


def load_wrapped(module: str, qualname: str) -> Any:
    """Return the original of the decorated function `module.qualname`."""
    import importlib

    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found.__wrapped__


def _after_fork_in_child() -> None:
    """Make a forked child start anew, because it cannot say what its parent's tokens stand for."""
    global _origin, _inherited_origin
    _inherited_origin, _origin = _origin or _inherited_origin, ""


register(after_fork=_after_fork_in_child)

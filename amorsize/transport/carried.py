"""How much does a function carry: what pickling it will take, told from a quick look that pickles nothing.

A function may be bound to large data: arguments of a partial, attributes of a method's object, variables of an
enclosing function. One that goes by value (`by_value`) carries the globals that its code names, too. All of this is
pickled, searched, hashed and sent; what a function finds by name in modules that workers import is not.

The look runs no code of the user's classes: it takes objects apart through the descriptors of the builtin types, and
knows a class by its place in memory, because hashing or comparing classes may run a metaclass's code. It visits a few
hundred objects. From a container with more elements it takes some that are spread over it, or from both its ends, and
takes the others to be like them; so it is far off where a few elements out of very many are unlike the rest, or where
much hangs on a long chain of objects.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import partial
from itertools import islice
from math import isqrt
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)

from ..code.bytecode import outer_names
from ..errors import let_signals_through
from ..lean import NamedTuple, map
from .bound import MOST_KEPT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Size = tuple[float, float]  # bytes and parts

__all__ = ["SECONDS_PER_BYTE", "SECONDS_PER_PART", "Carried", "Price", "carried", "carrying_seconds", "price"]

# What the caller spends on a part and on a byte of the pickle, hashing included. With larger values functions with much
# data stay in the caller when workers would pay; with smaller ones calls of them are slower than the builtin. Bytes of
# raw data took 0.6 ns if they cannot change and 1.3 ns if they can; numbers took 13 ns, texts 80 to 300 ns.
SECONDS_PER_PART = 16e-9
SECONDS_PER_BYTE = 1.0e-9
# The same for a byte of raw data that are compared with what was sent before (`bound`): 0.15 ns in an array that a
# partial binds, 0.8 ns in a bytearray, which is copied for it.
_COMPARED_PER_BYTE = 0.3e-9
# What it takes once that raw data reach workers: they are copied, written to each of two workers, and copied there
# (2.4 to 3 ns for 80 MB; `bound` in benchmarks/transport.py). Too large, and functions stay that would gain over a few
# calls; too small, and a first call on workers takes longer than the builtin.
_SENT_PER_BYTE = 2.6e-9
# Sending and rebuilding other data take so many times as long as pickling them (a dict of six million numbers).
_SENT_TIMES = 3.0
# Data are raw as far as there are more bytes than this for each part; texts have fewer.
_RAW_PER_PART = 64

# So many visits are shared out among what a function holds, and no more than `_MOST_VISITS` are made, as a share is at
# least one. So many elements of a container are looked at. With larger values the look takes longer, about 1 us a
# visit; with smaller ones the estimate is further off for nested data of many kinds.
_VISITS = 128
_MOST_VISITS = 384
_SAMPLE = 128
_DEPTH = 24
# How many parts a thing counts, a number being one. A pickle remembers most other objects, in case that they come
# again, and for some it runs code. These were measured as multiples of what a number takes.
_REMEMBERED = 12.0
_ARRAY = 150.0
_INSTANCE = 60.0
_INSTANCE_BY_VALUE = 200.0
_FUNCTION_BY_VALUE = 1_500.0
# What an object takes that came before, and any object that is not looked into.
_AGAIN = 2.0, 1.0
_OPAQUE = 40.0, _INSTANCE
_HEAP_TYPE = 1 << 9  # CPython's flag for classes that are not static C data


class Carried(NamedTuple):
    """What a function carries, as an estimate.

    Attributes:
        nbytes: length of its pickle in bytes.
        parts: what walking over its objects takes, counted in numbers: a number counts one, a text or a container about
            ten, an instance with attributes sixty and more, a function that goes by value a thousand and more.
    """

    nbytes: int
    parts: int


def carried(function: object) -> Carried:
    """Return an estimate of what pickling a function will take.

    Args:
        function: any callable.

    >>> carried(partial(max, bytes(5_000_000))).nbytes // 1_000_000
    5
    >>> carried(max).nbytes < 100
    True
    """
    return Carried._make(map(round, _Look().at(function, _VISITS)))


def carrying_seconds(of: Carried) -> float:
    """Return how long the caller takes to make a function ready to be sent, where nothing of it was sent before.

    This is pickling, searching and hashing (`payload.payload_of`). It is within a factor of two of what was measured
    for 80 MB of bytes, an array of 80 MB, a list of six million floats, a dict of six million ints, three million
    texts, and a million short lists. Writing the data to a worker that does not have them yet is not in it, nor is
    rebuilding them there.

    >>> carrying_seconds(Carried(100_000_000, 10))
    0.10000016
    """
    return of.nbytes * SECONDS_PER_BYTE + of.parts * SECONDS_PER_PART


class Price(NamedTuple):
    """What a function costs on its way to workers, in seconds.

    Attributes:
        each: at each call that sends work: pickling it, and finding out whether its data have changed.
        once: beyond that where the workers do not have it yet: sending it, and rebuilding it there.
    """

    each: float
    once: float


def price(of: Carried) -> Price:
    """Return what it costs that a function reaches workers.

    >>> price(Carried(100_000_000, 10)).each < carrying_seconds(Carried(100_000_000, 10))
    True
    """
    raw = max(0, of.nbytes - _RAW_PER_PART * of.parts)
    rest = carrying_seconds(Carried(of.nbytes - raw, of.parts))
    compared = _COMPARED_PER_BYTE if raw <= MOST_KEPT_BYTES else SECONDS_PER_BYTE
    return Price(rest + raw * compared, _SENT_TIMES * rest + raw * _SENT_PER_BYTE)


class _Look:
    """One look, which counts each object once."""

    def __init__(self) -> None:
        self._left = _MOST_VISITS
        self._depth = 0
        self._met: dict[int, object] = {}  # the objects are kept, so that their `id`s are not reused meanwhile
        self._loaded = _handlers_of_loaded()

    def at(self, value: Any, visits: int) -> Size:
        """Return the size of a value, spending about so many visits on what it holds."""
        kind = type(value)
        scalar = _SCALARS.get(id(kind))
        if scalar is not None:
            return scalar(value), 1.0
        if id(value) in self._met:
            return _AGAIN
        self._met[id(value)] = value
        self._left -= 1
        self._depth += 1
        try:
            handler = _HANDLERS.get(id(kind)) or self._loaded.get(id(kind))
            if handler is not None:
                return handler(self, value, visits)
            return self._object(value, kind, visits)
        except (RuntimeError, ValueError, AttributeError, TypeError) as error:
            # Another thread changes a container, a view was released, or something calls itself NumPy.
            let_signals_through(error)
            return _OPAQUE
        finally:
            self._depth -= 1

    def several(self, length: int, some: Sequence[Any], visits: int) -> Size:
        """Return the size of so many objects, of which some are at hand."""
        if not some:
            return 0.0, 0.0
        nbytes = 0.0
        objects: dict[int, Any] = {}
        scalars = 0
        for value in some:
            scalar = _SCALARS.get(id(type(value)))
            if scalar is None:
                objects[id(value)] = value
            else:
                nbytes += scalar(value)
                scalars += 1
        share = length / len(some)
        nbytes, parts = nbytes * share, length * 1.0
        if not objects:
            return nbytes, parts
        taken = len(some) - scalars
        different = _number_of_different(len(objects), taken, share)
        nbytes += (taken * share - different) * _AGAIN[0]
        rest: list[Any] = list(objects.values())
        of_each = different / len(rest)
        if len(rest) > visits // 2 + 1:
            # Data that are told at once may differ much in size, as a model's weights do, so all of them are asked.
            raw = [value for value in rest if id(type(value)) in _RAW or id(type(value)) in self._loaded]
            rest = [value for value in rest if id(type(value)) not in _RAW and id(type(value)) not in self._loaded]
            raw_bytes, raw_parts = self._like(len(raw) * of_each, raw, len(raw))
            nbytes, parts = nbytes + raw_bytes, parts + raw_parts
        chosen = _spread(rest, isqrt(max(1, visits))) if len(rest) > visits // 2 + 1 else rest
        more_bytes, more_parts = self._like(len(rest) * of_each, chosen, visits)
        return nbytes + more_bytes, parts + more_parts

    def _like(self, number: float, chosen: Sequence[Any], visits: int) -> Size:
        """Return the size of so many objects that are like the chosen ones."""
        if not chosen:
            return 0.0, 0.0
        sizes = []
        for position, value in enumerate(chosen):
            before = self._left
            sizes.append(self.at(value, max(1, visits // (len(chosen) - position))))
            visits -= before - self._left
        # The first may hold what all of them share, so the others tell what one more takes.
        like = sizes[1:] or sizes
        others = (number - len(sizes)) / len(like)
        nbytes = sum([size for size, _ in sizes]) + others * sum([size for size, _ in like])
        return nbytes, sum([size for _, size in sizes]) + others * sum([size for _, size in like])

    def held(self, values: Sequence[Any], visits: int) -> Size:
        """Return the size of objects of many kinds, all of which are looked at if there are not too many."""
        return self.several(len(values), values, max(visits - 1, min(2 * len(values), self._left)))

    def elements(self, length: int, take: Callable[[], Sequence[Any]], visits: int) -> Size:
        """Return the size of a container, of which `take` gives some elements."""
        if self._is_enough():
            return length * 5.0, _REMEMBERED + length
        nbytes, parts = self.several(length, take(), visits - 1)
        return nbytes + 4, parts + _REMEMBERED

    def mapping(self, value: dict[Any, Any], visits: int) -> Size:
        """Return the size of a dict, or of an instance of its subclass taken as one."""
        length = dict.__len__(value)
        if self._is_enough():
            return length * 10.0, _REMEMBERED + 2 * length
        items = _ends(length, dict.items(value))
        # Keys and values are alike among themselves, and not to each other.
        key_bytes, key_parts = self.several(length, [key for key, _ in items], visits // 2)
        nbytes, parts = self.several(length, [held for _, held in items], visits - 1)
        return key_bytes + nbytes + 4, key_parts + parts + _REMEMBERED

    def function(self, function: FunctionType, visits: int) -> Size:
        """Return the size of a Python function, with what it needs of its globals if it goes by value."""
        if self._is_enough() or _goes_by_name(function):
            return _OPAQUE
        code = function.__code__
        held = [function.__defaults__, function.__kwdefaults__, function.__dict__, code.co_consts]
        held += map(_content, function.__closure__ or ())
        held += _globals_of(function)
        nbytes, parts = self.held(held, visits)
        return nbytes + len(code.co_code) + 500, parts + _FUNCTION_BY_VALUE

    def class_(self, cls: type, visits: int) -> Size:
        """Return the size of a class, with its attributes if it goes by value."""
        if self._is_enough() or not _class_goes_by_value(cls):
            return _OPAQUE
        held = [*_dict_of(cls).values(), *_mro_of(cls)[1:]]
        nbytes, parts = self.held(held, visits)
        return nbytes + 500, parts + _FUNCTION_BY_VALUE

    def _is_enough(self) -> bool:
        return self._left <= 0 or self._depth > _DEPTH

    def _object(self, value: Any, kind: type, visits: int) -> Size:
        """Return the size of an object whose exact class has no handler."""
        if self._is_enough():
            return _OPAQUE
        mro = _mro_of(kind)
        nbytes, parts = self.held([kind, *_attributes(value, mro)], visits)
        for base in mro:
            handler = _HANDLERS.get(id(base)) or self._loaded.get(id(base))
            if handler is not None:
                more_bytes, more_parts = handler(self, value, visits)
                nbytes, parts = nbytes + more_bytes, parts + more_parts
                break
        return nbytes + 10, parts + (_INSTANCE_BY_VALUE if _class_goes_by_value(kind) else _INSTANCE)


if TYPE_CHECKING:
    _Handler = Callable[[_Look, Any, int], Size]


def _number_of_different(different: int, taken: int, share: float) -> float:
    """Return how many different objects a container has, of which this many different ones were met in a sample.

    Args:
        different: how many of the taken objects differ.
        taken: how many were taken.
        share: how many objects of the container each taken one stands for.
    """
    if share <= 1 or 2 * different <= taken:
        return different
    # Among n objects drawn from N, about n * n / 2N meet another that is the same.
    return min(taken * share, taken * taken / (2 * (taken - different))) if different < taken else taken * share


def _spread(values: Sequence[Any], number: int) -> Sequence[Any]:
    return values[:: max(1, len(values) // max(1, number))]


def _ends(length: int, values: Any) -> list[Any]:
    """Return some of the first and of the last of many values."""
    if length <= _SAMPLE:
        return list(values)
    return [*islice(values, _SAMPLE // 2), *islice(reversed(values), _SAMPLE // 2)]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return None


def _attributes(value: Any, mro: Iterable[type]) -> list[Any]:
    """Return an object's `__dict__` and what its slots hold."""
    held = []
    for base in mro:
        if not _flags_of(base) & _HEAP_TYPE and base is not BaseException:
            continue
        for name, member in _dict_of(base).items():
            if type(member) is MemberDescriptorType or (type(member) is GetSetDescriptorType and name == "__dict__"):
                try:
                    held.append(member.__get__(value))
                except AttributeError:  # the slot is not set
                    continue
    return held


def _goes_by_name(function: FunctionType) -> bool:
    """Say whether a function is found by its name in a module that workers can import."""
    module, qualname = function.__module__, function.__qualname__
    if type(module) is not str or module == "__main__" or "<" in qualname:
        return False
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        if issubclass(type(found), ModuleType):
            found = _dict_of_module(found).get(name)
        elif issubclass(type(found), type):
            found = _dict_of(found).get(name)
        else:
            return False
        if type(found) is staticmethod or type(found) is classmethod:
            found = found.__func__
    if found is function:
        return True
    # A decorated function is found through what stands for it.
    spaces = [found.__dict__] if type(found) is FunctionType else _attributes(found, _mro_of(type(found)))
    return any(type(space) is dict and space.get("__wrapped__") is function for space in spaces)


def _class_goes_by_value(cls: type) -> bool:
    module = _module_of(cls)
    return (type(module) is str and module == "__main__") or "<locals>" in _qualname_of(cls)


def _globals_of(function: FunctionType) -> list[Any]:
    """Return what stands under the global names that a function's code mentions, leaving out what is surely small."""
    names: set[str] = set()
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        names.update(code.co_names)
        pending.extend([constant for constant in code.co_consts if type(constant) is CodeType])
    space = function.__globals__
    values = {name: space[name] for name in names if name in space}
    held = {name: value for name, value in values.items() if id(type(value)) not in _SMALL}
    if not held:
        return []
    # `co_names` has attributes as well, which may be called like a global that is not meant.
    outer = outer_names(function.__code__)
    return [value for name, value in held.items() if name in outer.read or name in outer.rebound]


def _handlers_of_loaded() -> dict[int, _Handler]:
    """Return the handlers for classes of modules that need not be loaded; if they are not, nobody has an instance."""
    handlers: dict[int, _Handler] = {}
    for module, name, handler in (("numpy", "ndarray", _ndarray), ("array", "array", _array)):
        loaded = sys.modules.get(module)
        kind = _dict_of_module(loaded).get(name) if type(loaded) is ModuleType else None
        if type(kind) is type:
            handlers[id(kind)] = handler
    return handlers


def _ndarray(look: _Look, value: Any, visits: int) -> Size:
    ndarray = _dict_of_module(sys.modules["numpy"])["ndarray"]
    if not ndarray.dtype.__get__(value).hasobject:
        return ndarray.nbytes.__get__(value) + 100.0, _ARRAY
    length = ndarray.size.__get__(value)
    places = range(0, length, max(1, length // _SAMPLE))
    nbytes, parts = look.several(length, [ndarray.item(value, place) for place in places], visits - 1)
    return nbytes + 100, parts + _ARRAY


def _array(_look: _Look, value: Any, _visits: int) -> Size:
    kind = _dict_of_module(sys.modules["array"])["array"]
    return kind.__len__(value) * kind.itemsize.__get__(value) + 60.0, _INSTANCE


def _text(_look: _Look, value: Any, _visits: int) -> Size:
    length = str.__len__(value)
    return (length if str.isascii(value) else 2.5 * length) + 4.0, _REMEMBERED


def _places(kind: Any) -> _Handler:
    def handler(look: _Look, value: Any, visits: int) -> Size:
        length = kind.__len__(value)
        step = max(1, length // _SAMPLE)
        return look.elements(length, lambda: kind.__getitem__(value, slice(None, None, step)), visits)

    return handler


def _iterated(kind: Any) -> _Handler:
    def handler(look: _Look, value: Any, visits: int) -> Size:
        return look.elements(kind.__len__(value), lambda: list(islice(kind.__iter__(value), _SAMPLE)), visits)

    return handler


def _raw(kind: Any) -> _Handler:
    return lambda _look, value, _visits: (kind.__len__(value) + 9.0, _REMEMBERED)


def _holding(*take: Callable[[Any], Any]) -> _Handler:
    """Return a handler for objects that hold a few others, each of which is had by a function."""

    def handler(look: _Look, value: Any, visits: int) -> Size:
        held = [each(value) for each in take]
        nbytes, parts = look.held(held, visits)
        return nbytes + 20, parts + _INSTANCE

    return handler


def _attribute(kind: Any, name: str) -> Callable[[Any], Any]:
    """Return a function that reads a builtin type's attribute, even where a subclass has another of that name."""
    read: Callable[[Any], Any] = vars(kind)[name].__get__
    return read


def _integer(value: int) -> float:
    bits = value.bit_length()
    return 2.0 if bits <= 8 else 3.0 if bits <= 16 else 5.0 if bits <= 31 else 3.0 + bits // 8


_module_of = _attribute(type, "__module__")
_qualname_of = _attribute(type, "__qualname__")
_mro_of = _attribute(type, "__mro__")
_dict_of = _attribute(type, "__dict__")
_flags_of = _attribute(type, "__flags__")
_dict_of_module = _attribute(ModuleType, "__dict__")

_SCALARS: dict[int, Callable[[Any], float]] = {
    id(int): _integer,
    id(float): lambda _: 9.0,
    id(bool): lambda _: 1.0,
    id(type(None)): lambda _: 1.0,
}
_RAW = frozenset({id(bytes), id(bytearray)})
_SMALL = frozenset({*_SCALARS, id(ModuleType), id(type(Ellipsis))})


def _name_only(_look: _Look, _value: Any, _visits: int) -> Size:
    return _OPAQUE


_HANDLERS: dict[int, _Handler] = {
    id(kind): handler
    for kind, handler in (
        (str, _text),
        (bytes, _raw(bytes)),
        (bytearray, _raw(bytearray)),
        (memoryview, lambda _look, value, _visits: (value.nbytes + 9.0, _REMEMBERED)),
        (list, _places(list)),
        (tuple, _places(tuple)),
        (dict, _Look.mapping),
        (set, _iterated(set)),
        (frozenset, _iterated(frozenset)),
        (deque, _iterated(deque)),
        (FunctionType, _Look.function),
        (type, _Look.class_),
        (CodeType, _holding(_attribute(CodeType, "co_consts"))),
        (ModuleType, _name_only),
        (partial, _holding(*(_attribute(partial, name) for name in ("func", "args", "keywords")))),
        (MethodType, _holding(_attribute(MethodType, "__func__"), _attribute(MethodType, "__self__"))),
        (BuiltinFunctionType, _holding(_attribute(BuiltinFunctionType, "__self__"))),
        (MethodWrapperType, _holding(_attribute(MethodWrapperType, "__self__"))),
        (staticmethod, _holding(_attribute(staticmethod, "__func__"))),
        (classmethod, _holding(_attribute(classmethod, "__func__"))),
        (property, _holding(*(_attribute(property, name) for name in ("fget", "fset", "fdel")))),
    )
}

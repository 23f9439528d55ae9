"""How does amorsize do without importing `typing`? This module stands in for what it needs of it.

The import would cost 8 ms. Type checkers see the real names; a running program gets these stand-ins. What is needed of
`collections`, `functools` and `types` at import, 2 ms together, is taken from here as well: these are the same objects,
from where those modules have them. `benchmarks/import_time.py` shows what `import amorsize` costs, which every worker
that starts pays too.

The rest of the package also takes the builtin `map` from here, because a program may have put amorsize's map, or
anything else, in its place. That may have happened even before this module, the first of the package, is imported.
"""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import map  # noqa: UP029 - for those that import it from here
    from collections import deque
    from functools import lru_cache, partial, update_wrapper
    from types import (
        BuiltinFunctionType,
        BuiltinMethodType,
        CodeType,
        FrameType,
        FunctionType,
        GeneratorType,
        MappingProxyType,
        MemberDescriptorType,
        MethodType,
        ModuleType,
    )
    from typing import Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload
else:
    from _collections import deque
    from _functools import _lru_cache_wrapper, partial

    def _is_builtin_map(found):
        # A class made by a class statement may have any name, but it has this bit, Py_TPFLAGS_HEAPTYPE.
        own = type(found) is type and not found.__flags__ & 1 << 9
        return own and (found.__module__, found.__name__) == ("builtins", "map")

    map = builtins.map
    if not _is_builtin_map(map):
        map = next(found for found in object.__subclasses__() if _is_builtin_map(found))

    class _Method:
        def get(self): ...

    FunctionType = type(_is_builtin_map)
    CodeType = type(_is_builtin_map.__code__)
    MemberDescriptorType = type(FunctionType.__globals__)
    MappingProxyType = type(FunctionType.__dict__)
    MethodType = type(_Method().get)
    FrameType = type(sys._getframe())
    GeneratorType = type(_ for _ in ())
    ModuleType = type(sys)
    BuiltinFunctionType = BuiltinMethodType = type(len)
    GenericAlias = type(list[int])

    def lru_cache(maxsize):
        """Return a decorator for a plain function, as `functools.lru_cache` does, without its statistics."""
        return lambda function: _lru_cache_wrapper(function, maxsize, False, None)

    # As `functools.WRAPPER_ASSIGNMENTS` has them; CPython 3.14 makes annotations when somebody asks.
    _COPIED = ["__module__", "__name__", "__qualname__", "__doc__"]
    _COPIED += ["__annotate__"] if sys.version_info >= (3, 14) else ["__annotations__"]
    _COPIED += ["__type_params__"] if sys.version_info >= (3, 12) else []

    def update_wrapper(wrapper, wrapped):
        """Give an object the name, the documentation and the attributes of what it wraps, as `functools` does."""
        for name in _COPIED:
            try:
                value = getattr(wrapped, name)
            except AttributeError:
                continue
            setattr(wrapper, name, value)
        wrapper.__dict__.update(getattr(wrapped, "__dict__", {}))
        wrapper.__wrapped__ = wrapped
        return wrapper

    try:
        from _collections import _tuplegetter as _field  # as collections.namedtuple does
    except ImportError:

        def _field(at, doc):
            return property(lambda fields: tuple.__getitem__(fields, at), doc=doc)

    class _NamedTupleType(type):
        def __new__(cls, name, bases, namespace):
            if bases and bases[0] is not NamedTuple:
                return super().__new__(cls, name, bases, namespace)  # a class like any other, as with typing's
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            namespace |= {field: _field(at, "") for at, field in enumerate(fields)}
            namespace |= {"__slots__": (), "_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            return super().__new__(cls, name, bases or (tuple,), namespace)

    _FEW_RECORDS = 16

    class NamedTuple(metaclass=_NamedTupleType):
        """A base whose subclasses are named tuples of the fields they annotate, made in a fifth of the usual time."""

        _records = 0

        def __new__(cls, /, *values, **named):
            # The quick constructor of `collections.namedtuple` takes the most time to make, 50 us. So it is made only
            # for classes of which so many records are made that they would take as long without it.
            if cls._records < _FEW_RECORDS:
                fields, known = cls._fields, cls._fields[: len(values)]
                given = {**cls._field_defaults, **dict(zip(known, values, strict=False)), **named}
                whole = [given[field] for field in fields if field in given]
                twice = not named.keys().isdisjoint(known)
                if len(whole) == len(given) == len(fields) >= len(values) and not twice:
                    cls._records += 1
                    return tuple.__new__(cls, whole)
            # It also says what is wrong with the arguments.
            names = ", ".join(cls._fields)
            quick = eval(f"lambda _cls, {names}: _new(_cls, ({names},))", {"_new": tuple.__new__})  # noqa: S307
            quick.__name__, quick.__defaults__ = cls.__name__, tuple(cls._field_defaults.values())
            cls.__new__ = staticmethod(quick)
            return quick(cls, *values, **named)

        @classmethod
        def _make(cls, iterable):
            made = tuple.__new__(cls, iterable)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}")
            return made

        def _replace(self, /, **named):
            values = [*map(named.pop, self._fields, self)]
            if named:
                raise TypeError(f"{type(self).__name__} has no fields {[*named]}")
            return tuple.__new__(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{f}={v!r}' for f, v in self._asdict().items())})"

    class Generic:
        """A base that may be given type parameters."""

        def __class_getitem__(cls, parameters):
            return cls if cls is Generic else GenericAlias(cls, parameters)

    Protocol = object

    def TypeVar(name, *, bound=None):  # noqa: N802, ARG001 - a stand-in for typing's
        """Return what may stand in the brackets of `Generic`."""
        return name

    ParamSpec = TypeVar

    def overload(function):
        """Return a signature for type checkers; the function itself follows it."""
        return function


_Made = TypeVar("_Made")
_OURS = __name__.partition(".")[0]


def public(made: _Made) -> _Made:
    """Return a class or function of the public interface, which now calls the package its module, and is found there.

    Tracebacks and pickles then show the name that users know, which stays the same when a module is split. What looks
    for it in the package without running code, as the look at what a function refers to does, finds it once it exists.
    """
    named: Any = made
    named.__module__ = _OURS
    vars(sys.modules[_OURS]).setdefault(named.__name__, made)  # a program may have put something else there
    return made


__all__ = ["BuiltinFunctionType", "BuiltinMethodType", "CodeType", "FrameType", "FunctionType", "Generic"]
__all__ += ["GeneratorType", "MappingProxyType", "MemberDescriptorType", "MethodType", "ModuleType", "NamedTuple"]
__all__ += ["ParamSpec", "Protocol", "TypeVar", "deque", "lru_cache", "map", "overload", "partial"]
__all__ += ["public", "update_wrapper"]

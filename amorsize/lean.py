"""How does amorsize do without importing `typing` and `hashlib`? This module stands in for what it needs of them.

The two imports would cost 14 ms. Type checkers see the real names; a running program gets these stand-ins.
`benchmarks/import_time.py` shows what `import amorsize` costs, which every worker that starts pays too.

The rest of the package also takes the builtin `map` from here, because a program may have put amorsize's map, or
anything else, in its place. That may have happened even before this module, the first of the package, is imported.
"""

from __future__ import annotations

import builtins
from operator import itemgetter
from types import GenericAlias

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builtins import map  # noqa: UP029 - for those that import it from here
    from collections.abc import Sequence
    from hashlib import sha256
    from typing import Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload
else:
    def _is_builtin_map(found):
        # A class made by a class statement may have any name, but it has this bit, Py_TPFLAGS_HEAPTYPE.
        own = type(found) is type and not found.__flags__ & 1 << 9
        return own and (found.__module__, found.__name__) == ("builtins", "map")

    map = builtins.map
    if not _is_builtin_map(map):
        map = next(found for found in object.__subclasses__() if _is_builtin_map(found))

    # The standard library's own `random` does the same, because hashlib would load OpenSSL.
    try:
        from _sha2 import sha256
    except ImportError:
        try:
            from _sha256 import sha256  # CPython before 3.12
        except ImportError:
            from hashlib import sha256

    try:
        from _collections import _tuplegetter as _field  # as collections.namedtuple does
    except ImportError:

        def _field(at, doc):
            return property(itemgetter(at), doc=doc)

    class _NamedTupleType(type):
        def __new__(cls, name, bases, namespace):
            if bases and bases[0] is not NamedTuple:
                return super().__new__(cls, name, bases, namespace)  # a class like any other, as with typing's
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            namespace |= {field: _field(at, "") for at, field in enumerate(fields)}
            namespace |= {"__slots__": (), "_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            return super().__new__(cls, name, bases or (tuple,), namespace)

    class NamedTuple(metaclass=_NamedTupleType):
        """A base whose subclasses are named tuples of the fields they annotate, made in a fifth of the usual time."""

        # So many tuples of a class are made at 1 us more each before the quick constructor is, which takes 50 us. With
        # a larger value, what is made often is held up for longer; with 0, a first call makes a dozen constructors for
        # one tuple each (`sums` in benchmarks/transport.py).
        _slow_left = 8

        def __new__(cls, /, *values, **named):
            left, fields = cls._slow_left, cls._fields
            if left:
                cls._slow_left = left - 1
                given = {**cls._field_defaults, **dict(zip(fields, values, strict=False)), **named}
                whole = [given[field] for field in fields if field in given]
                twice = not named.keys().isdisjoint(fields[: len(values)])
                if len(whole) == len(given) == len(fields) >= len(values) and not twice:
                    return tuple.__new__(cls, whole)
            # This is the quick constructor of `collections.namedtuple`, which takes the most time to make, so it is
            # made when it has shown to be needed, or says what is wrong with the arguments.
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
            return type(self)(**{**self._asdict(), **named})

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


# From this size on OpenSSL is used, which is four times as fast and takes 2 ms to import, once. With a smaller value
# a process that sends 100 kB once pays for the import in vain.
_LONG_BYTES = 1 << 18


def hash_of(pieces: Sequence[bytes | bytearray | memoryview]) -> Any:
    """Return a SHA-256 object that has read some pieces as if they were joined; large ones are not copied.

    >>> hash_of([b"a", b"b"]).digest() == sha256(b"ab").digest()
    True
    """
    if sum(map(len, pieces)) < _LONG_BYTES:
        return sha256(b"".join(pieces))
    from hashlib import sha256 as quick_sha256

    whole = quick_sha256()
    for piece in pieces:
        whole.update(piece)
    return whole


__all__ = ["Generic", "NamedTuple", "ParamSpec", "Protocol", "TypeVar", "hash_of", "map", "overload", "sha256"]

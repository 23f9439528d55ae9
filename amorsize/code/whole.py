"""A digest of whole values and of code, for what must never be taken for something else, such as a journal's results.

`strict` compares what workers have with what the caller has, quickly: it reads a part of large data, and takes what it
does not know by its type. Here everything counts: all of the data, the code of the user's own functions and classes
and of what they refer to by name, and the parts that an object would be pickled as. What cannot be told is refused.
Packages that are installed count by their names.

Nothing comes from `id`, `repr` or `hash`, so that the digest is the same in any process of one version of Python.
"""

from __future__ import annotations

import copyreg
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)

from ..hashing import sha256
from . import strict
from .strict import is_foreign, own_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["UntoldError", "whole_digest"]

# What a class has whatever it does, and where it stands in its file.
_UNTOLD = frozenset(
    {
        "__abstractmethods__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__",
        "__static_attributes__", "__weakref__", "_abc_impl",
    }
)  # fmt: skip
_NEW = vars(copyreg)["__newobj__"]  # how most objects are made anew, with the class as its first argument
_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType, WrapperDescriptorType)


class UntoldError(TypeError):
    """Something cannot be told from others of its type, because it cannot be taken apart."""


def whole_digest(value: object) -> bytes:
    """Return 16 bytes that are the same for equal values, and for functions that do the same in the same surroundings.

    Raises:
        UntoldError: a part of the value cannot be told.

    >>> whole_digest({1, 2, 3}) == whole_digest({3, 2, 1}), whole_digest(1) == whole_digest(True)
    (True, False)
    """
    try:
        return sha256(_Whole().tell(value, 0)).digest()[:16]
    except RecursionError as error:
        raise UntoldError(f"a {type(value).__name__} is nested too deep to be told") from error


class _Whole(strict._Telling):
    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[object, bytes]] = {}  # functions and classes that were told, by identity

    def tell(self, value: Any, depth: int, place: tuple[str, str] | None = None) -> bytes:
        kind = type(value)
        if kind in {str, bytes, bytearray}:
            data = value.encode("utf-8", "surrogatepass") if kind is str else bytes(value)
            return strict._tagged(kind.__name__.encode(), data if len(data) < 64 else sha256(data).digest())
        self._left = strict._MAX_PARTS  # there is no bound
        if kind is FunctionType or issubclass(kind, type):
            return self._once(value)
        if kind is MappingProxyType:
            return self.tell(dict(value), 0)
        return super().tell(value, 0, place)

    def _once(self, value: Any) -> bytes:
        """Tell a function or a class, each once; in a circle, it counts by its place in the circle."""
        found = self._known.get(id(value))
        if found is None:
            self._known[id(value)] = value, b"again %d" % len(self._known)
            told = self._function(value, 0, None) if type(value) is FunctionType else self.tell_class(value, 0)
            found = self._known[id(value)] = value, sha256(told).digest()
        return found[1]

    def _function(self, function: FunctionType, depth: int, place: tuple[str, str] | None) -> bytes:
        if is_foreign(function.__module__) and own_place(function) is not None:
            return strict._named(function)
        cells = [strict._content(cell) for cell in function.__closure__ or ()]
        parts = (function.__code__, function.__defaults__, function.__kwdefaults__, function.__dict__)
        told = [self._sequence(parts, 0, None), self._sequence(cells, 0, None)]
        names = sorted(_names(function.__code__))
        for name in names:
            found = function.__globals__.get(name, strict.ABSENT)
            if found is strict.ABSENT:
                continue
            told.append(strict._text(name))
            if type(found) is ModuleType and not is_foreign(found.__name__):
                space = vars(found)
                told += [self.tell((other, space[other]), 0) for other in names if other in space]
            else:
                told.append(self.tell(found, 0))
        return b"".join(told)

    def tell_class(self, cls: type, depth: int) -> bytes:
        if is_foreign(cls.__module__):
            return strict._named(cls)
        parts = [strict._named(cls), *(self.tell(base, 0) for base in (type(cls), *cls.__bases__))]
        for name, attribute in sorted(vars(cls).items()):
            if name in _UNTOLD:
                continue
            parts.append(strict._text(name))
            if isinstance(attribute, _DESCRIPTORS):
                parts.append(strict._named(type(attribute)))
            else:
                parts.append(self.tell(attribute, 0))
        return b"".join(parts)

    def _object(self, value: Any, kind: type, depth: int) -> bytes:
        if hasattr(kind, "__array_interface__") and hasattr(value, "dtype"):
            return self._array(value)
        wrapped = getattr(value, "__wrapped__", None) if kind.__module__ == "functools" else None
        if wrapped is not None:  # it is a cached function
            return strict._tagged(b"wrapper", self.tell(wrapped, 0))
        if isinstance(value, ModuleType):
            return strict._text(value.__name__)
        own = own_place(value)
        if own is not None:
            return strict._tagged(b"place", self.tell(own, 0))
        try:
            reduce = copyreg.dispatch_table.get(kind)
            reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception as error:  # any class may raise anything
            raise UntoldError(f"a {kind.__module__}.{kind.__qualname__} cannot be told: {error}") from error
        if isinstance(reduced, str):
            return strict._tagged(b"name", strict._text(kind.__module__) + strict._text(reduced))
        make, arguments, state, elements, entries = (*reduced, None, None, None)[:5]
        maker = b"new" if make is _NEW else self.tell(make, 0)
        parts = (arguments, state, tuple(elements or ()), tuple(entries or ()))
        return strict._tagged(b"object", self._once(kind) + maker + self.tell(parts, 0))

    def _array(self, value: Any) -> bytes:
        told = strict._text(f"{type(value).__qualname__} {value.dtype!r} {value.shape}")
        if value.dtype.hasobject:
            return told + self.tell(value.tolist(), 0)
        return told + sha256(memoryview(value.tobytes())).digest()


def _names(code: CodeType) -> set[str]:
    """Return the names that code and the code inside it refer to."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if type(constant) is CodeType:
            found |= _names(constant)
    return found

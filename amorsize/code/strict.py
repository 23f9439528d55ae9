"""A digest over values and code that tells whether a thing is the same in two processes.

The fingerprint of the cache (`code.describe`) covers what decides a function's cost, and may be coarse. This digest
covers what decides its results, so data count with their content, and classes with their methods. Something that can be
imported counts only by its name when it is part of something else, because the walk over a function's surroundings
(`code.reach`) looks at it separately.

Nothing in the digest comes from `id`, `repr` or `hash`, and members of sets are sorted by their bytes. What is neither
plain data nor code counts only by its type, so that two such things are taken for the same.
"""

from __future__ import annotations

import sys
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from zlib import crc32

from ..hashing import sha256
from ..lean import map
from ..state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["ABSENT", "class_content", "class_shape", "class_state", "digest", "is_code", "is_foreign"]
__all__ += ["own_place", "parts_of"]

# Stands for the value of a name that is not defined.
ABSENT: Any = object()
# These are the bounds of one digest. With smaller values a change deep inside goes unnoticed; with larger ones a call
# on workers begins later if its function refers to large data, by up to 0.3 us a part.
_MAX_DEPTH = 20
_MAX_PARTS = 20_000
# Longer texts count by a checksum, which is quicker than a digest and shows an accidental change just as well.
_LONG_BYTES = 4_096
# Objects of these foreign classes are plain values, which their reduction tells completely.
_VALUES = frozenset(
    {
        ("array", "array"), ("collections", "Counter"), ("collections", "OrderedDict"), ("collections", "defaultdict"),
        ("collections", "deque"), ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"),
        ("datetime", "timedelta"), ("datetime", "timezone"), ("decimal", "Decimal"), ("fractions", "Fraction"),
        ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib", "PureWindowsPath"),
        ("pathlib", "WindowsPath"), ("pathlib._local", "PosixPath"), ("pathlib._local", "PurePosixPath"),
        ("pathlib._local", "PureWindowsPath"), ("pathlib._local", "WindowsPath"),
        ("re", "Pattern"), ("types", "SimpleNamespace"), ("uuid", "UUID"),
    }
)  # fmt: skip
_UNTOLD = frozenset({"__dict__", "__doc__", "__module__", "__qualname__", "__weakref__"})


def digest(value: object, place: tuple[str, str] | None = None) -> bytes:
    """Return bytes that are the same for the same thing in any process.

    Args:
        value: anything.
        place: the module and qualified name of the place where the value stands, if there is one. A function that
            stands there under its own name counts with its code, a class with its bases.
    """
    told = _Telling().tell(value, 0, place)
    return told if len(told) <= 32 else sha256(told).digest()


def parts_of(value: object) -> int:
    """Return how many parts `digest` looks at."""
    telling = _Telling()
    telling.tell(value, 0)
    return _MAX_PARTS - telling._left


def class_content(cls: type) -> bytes | None:
    """Return bytes that tell a class made inside a function from any other; None if a part counts only by its type."""
    telling = _Telling()
    told = telling.tell_class(cls, 0)
    return None if telling.vague else sha256(told).digest()


def class_shape(cls: type) -> bytes:
    """Return bytes that are the same for the same definition of a class, whatever was set on the class since."""
    telling = _Telling()
    parts = [_named(base) for base in (type(cls), *cls.__bases__)]
    for name, attribute in sorted(vars(cls).items()):
        code = getattr(attribute, "__code__", None)
        if type(code) is CodeType:
            parts += (_text(name), telling.tell(code, 0))
        elif name in {"_fields", "__slots__"}:
            parts += (_text(name), telling.tell(attribute, 0))
    return sha256(b"".join(parts)).digest()


def class_state(cls: type) -> list[tuple[str, Any]]:
    """Return the attributes of a class that decide what its instances do: functions and plain data."""
    return [(name, attribute) for name, attribute in tuple(vars(cls).items()) if _counts(name, attribute)]


def is_code(value: object) -> bool:
    """Say whether a value is a function, holds one, or is a class, and so is not data."""
    kind = type(value)
    return kind in _CODE_HOLDERS or callable(value)


def own_place(value: Any) -> tuple[str, str] | None:
    """Return the module and qualified name by which a value can be imported; None if it cannot be imported."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None


def _counts(name: str, attribute: object) -> bool:
    kind = type(attribute)
    if kind in _CODE_HOLDERS:
        return True
    dunder = name.startswith("__") and name.endswith("__")
    return not dunder and not name.startswith("_abc_") and (kind in _PLAIN or kind in _COLLECTIONS)


class _Telling:
    """One digest in the making.

    Attributes:
        vague: whether some part counted only by its type.
    """

    def __init__(self) -> None:
        self.vague = False
        self._left = _MAX_PARTS
        # This holds the depth of each object that is being described now. An object that has been described before is
        # described again, because it depends on how a module was loaded which of its equal constants are one object.
        self._open: dict[int, int] = {}

    def tell(self, value: Any, depth: int, place: tuple[str, str] | None = None) -> bytes:
        kind = type(value)
        self._left -= 1
        plain = _PLAIN.get(kind)
        if plain is not None:
            return _tagged(kind.__name__.encode(), plain(value))
        if depth > _MAX_DEPTH or self._left < 0:
            self.vague = True
            return _tagged(b"beyond", _named(kind))
        teller: Any = _TELLERS.get(kind)
        if teller is not None:
            if id(value) in self._open:
                return b"within %d" % self._open[id(value)]
            self._open[id(value)] = len(self._open)
            told = _tagged(kind.__name__.encode(), teller(self, value, depth + 1, place))
            del self._open[id(value)]
            return told
        if issubclass(kind, type):
            if place is not None or own_place(value) is not None:
                return _tagged(b"class", _named(value) + b"".join(map(_named, value.__bases__)))
            return self.tell_class(value, depth)
        if hasattr(kind, "_amorsize_function"):
            return self.tell(value._amorsize_function, depth + 1, place)
        return self._object(value, kind, depth + 1)

    def tell_class(self, cls: type, depth: int) -> bytes:
        """Return bytes for a class that cannot be imported, from its bases and what it defines."""
        if id(cls) in self._open:
            return b"within %d" % self._open[id(cls)]
        self._open[id(cls)] = len(self._open)
        parts = [_named(cls), *(self.tell(base, depth + 1) for base in (type(cls), *cls.__bases__))]
        for name, attribute in sorted(vars(cls).items()):
            if name not in _UNTOLD:
                parts += (_text(name), self.tell(attribute, depth + 1))
        del self._open[id(cls)]
        return _tagged(b"new class", b"".join(parts))

    def _object(self, value: Any, kind: type, depth: int) -> bytes:
        name = _named(kind)
        if (kind.__module__, kind.__qualname__) in _VALUES:
            try:
                _, arguments, state, elements, entries = (*value.__reduce_ex__(2), None, None, None)[:5]
                parts = (arguments, state, tuple(elements or ()), tuple(entries or ()))
                return _tagged(b"value", name + self.tell(parts, depth))
            except (TypeError, AttributeError):
                self.vague = True
                return _tagged(b"object", name)
        if hasattr(kind, "__array_interface__"):
            return _tagged(b"array", name + _array(value))
        wrapped = getattr(value, "__wrapped__", None) if kind.__module__ == "functools" else None
        if wrapped is not None:  # it is a cached function
            return _tagged(b"wrapper", name + self.tell(wrapped, depth))
        self.vague = True
        state = getattr(value, "__dict__", None)
        if type(state) is not dict or is_foreign(kind.__module__):
            return _tagged(b"object", name)
        return _tagged(b"object", name + self.tell(state, depth))

    def _sequence(self, value: Iterable[Any], depth: int, _: object) -> bytes:
        return b"".join([self.tell(part, depth) for part in tuple(value)])

    def _set(self, value: Iterable[Any], depth: int, _: object) -> bytes:
        return b"".join(sorted([self.tell(part, depth) for part in tuple(value)]))

    def _mapping(self, value: dict[Any, Any], depth: int, _: object) -> bytes:
        pairs = tuple(value.items())  # it is copied first, as another thread may change it
        return b"".join([self.tell(key, depth) + self.tell(content, depth) for key, content in pairs])

    def _code(self, code: CodeType, depth: int, _: object) -> bytes:
        shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        handlers = getattr(code, "co_exceptiontable", b"")  # CPython has it since 3.11
        parts = (shape, arguments, code.co_names, code.co_freevars, code.co_code, handlers, code.co_consts)
        return self._sequence(parts, depth, None)

    def _function(self, function: FunctionType, depth: int, place: tuple[str, str] | None) -> bytes:
        own = own_place(function)
        if own is not None and (own != place or is_foreign(own[0])):
            return _named(function)
        cells = [_content(cell) for cell in function.__closure__ or ()]
        parts = (function.__code__, function.__defaults__, function.__kwdefaults__)
        return self._sequence(parts, depth, None) + self._sequence(cells, depth, None)

    def _wrapped(self, value: Any, depth: int, place: tuple[str, str] | None) -> bytes:
        return self.tell(value.__func__, depth, place)

    def _property(self, value: property, depth: int, place: tuple[str, str] | None) -> bytes:
        return b"".join(self.tell(part, depth, place) for part in (value.fget, value.fset, value.fdel))

    def _method(self, method: MethodType, depth: int, _: object) -> bytes:
        return self.tell(method.__func__, depth) + self.tell(method.__self__, depth)

    def _partial(self, value: partial[Any], depth: int, _: object) -> bytes:
        return self._sequence((value.func, value.args, value.keywords), depth, None)

    def _module(self, value: ModuleType, depth: int, _: object) -> bytes:
        return _text(value.__name__)

    def _builtin(self, value: Any, depth: int, _: object) -> bytes:
        return _named(value)


def _array(value: Any) -> bytes:
    """Return bytes for a NumPy array from its kind, shape and content; of a large array only a part is read."""
    flat = value.reshape(-1)
    step = max(1, flat.nbytes >> 20)
    return _text(f"{value.dtype} {value.shape} {crc32(flat[::step].tobytes())}")


_foreign: dict[str, bool] = {}
register(_foreign.clear)


def is_foreign(module: str | None, home: str = "") -> bool:
    """Say whether a module belongs to the standard library or an installed package, where `home` is the user's package.

    >>> is_foreign("os.path"), is_foreign("__main__")
    (True, False)
    """
    if not isinstance(module, str):
        return False
    package = module.partition(".")[0]
    if package in {"__main__", home}:
        return False
    known = _foreign.get(module)
    if known is None:
        # Cython gives compiled functions a class whose module is never imported by its name.
        known = package in sys.stdlib_module_names or package == "amorsize" or package.startswith("_cython_")
        file = getattr(sys.modules.get(module), "__file__", None)
        if not known and isinstance(file, str):
            known = not {"site-packages", "dist-packages"}.isdisjoint(file.replace("\\", "/").split("/"))
        _foreign[module] = known
    return known


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return None


def _named(value: Any) -> bytes:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return _text(f"{module}:{name or getattr(value, '__name__', None)}")


def _tagged(tag: bytes, content: bytes) -> bytes:
    return b"%b:%d:%b" % (tag, len(content), content)


def _text(value: str) -> bytes:
    return _tagged(b"t", _raw(value.encode("utf-8", "surrogatepass")))


def _raw(value: bytes | bytearray) -> bytes:
    return bytes(value) if len(value) <= _LONG_BYTES else b"%d %d" % (len(value), crc32(value))


_PLAIN: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    type(Ellipsis): lambda _: b"",
    type(NotImplemented): lambda _: b"",
    object: lambda _: b"",
    bool: lambda value: b"%d" % value,
    int: lambda value: b"%x" % value,
    float: lambda value: value.hex().encode(),
    complex: lambda value: f"{value.real.hex()} {value.imag.hex()}".encode(),
    str: _text,
    bytes: _raw,
    bytearray: _raw,
    range: lambda value: b"%d %d %d" % (value.start, value.stop, value.step),
}
_COLLECTIONS: dict[type, Callable[[_Telling, Any, int, Any], bytes]] = {
    tuple: _Telling._sequence,
    list: _Telling._sequence,
    set: _Telling._set,
    frozenset: _Telling._set,
    dict: _Telling._mapping,
}
_CODE_HOLDERS: dict[type, Callable[[_Telling, Any, int, Any], bytes]] = {
    FunctionType: _Telling._function,
    staticmethod: _Telling._wrapped,
    classmethod: _Telling._wrapped,
    property: _Telling._property,
    partial: _Telling._partial,
    MethodType: _Telling._method,
}
_TELLERS = {
    **_COLLECTIONS,
    **_CODE_HOLDERS,
    CodeType: _Telling._code,
    BuiltinFunctionType: _Telling._builtin,
    ModuleType: _Telling._module,
}

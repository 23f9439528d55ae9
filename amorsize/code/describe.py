"""A walk that writes down as bytes what decides a function's cost, and notes what it read, to check it later.

The bytes are the same in every process and under every hash seed: nothing in them comes from `id`, `repr` or `hash`,
and sets and mappings are sorted by their members' bytes. The walk follows plain data, the user's own functions and
classes, and names reached through the user's own modules. What belongs to the standard library, or to a package that
states a version, is instead named together with that version. Depth and number of parts are bounded, so that the walk
takes a bounded time even if a function reaches half a program; a part beyond these bounds is named by its type alone.
"""

from __future__ import annotations

import sys
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from weakref import ref

from ..hashing import sha256
from ..lean import NamedTuple, map
from .bytecode import outer_names
from .functions import held_functions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["DIGITS", "Facts", "Walk", "digits"]

DIGITS = 16
_PYTHON = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}".encode()

# These are the bounds of one walk. With smaller values a change further away goes unnoticed; with larger ones a first
# look-up takes longer (about 1 us a part, `fingerprint_first` in benchmarks/cache.py).
_MAX_DEPTH = 12
_MAX_PARTS = 2_000
# Functions held by an object count if it is the function itself or is held by it, no deeper.
_HELD_DEPTH = 3
# A longer sequence or text is described by its length and its two ends, each half this long. A longer set or mapping is
# described by its length alone, because it has no ends that are the same in every process.
_MAX_LENGTH = 256
_MAX_TEXT = 4_096

_ABSENT: Any = object()  # stands for a missing global (mostly a builtin's name) or an empty cell


class Kept(NamedTuple):
    """One outer value as the walk found it; where possible it is a weak reference, so that nothing is kept alive."""

    name: str | int
    value: Any
    weak: bool


class Facts(NamedTuple):
    """What the walk read from one function or module; while all of this is the same, so is the description.

    Attributes:
        owner: weak reference to the function or module.
        code, defaults, keyword_defaults: those of the function; None for a module.
        cells: contents of closure cells, by position.
        names: values of the function's globals, or of the module's attributes.
    """

    owner: ref[Any]
    code: CodeType | None
    defaults: tuple[Any, ...] | None
    keyword_defaults: dict[str, Any] | None
    cells: tuple[Kept, ...]
    names: tuple[Kept, ...]

    def hold(self) -> bool:
        """Say whether each of these things is still the very same object."""
        owner = self.owner()
        if owner is None:
            return False
        if self.code is None:
            space = owner.__dict__
        elif (
            owner.__code__ is self.code
            and owner.__defaults__ is self.defaults
            and owner.__kwdefaults__ is self.keyword_defaults
        ):
            space = owner.__globals__
        else:
            return False
        for name, value, weak in self.names:
            if not _same(value, weak, space.get(name, _ABSENT)):
                return False
        return all(_same(value, weak, _content(owner.__closure__[place])) for place, value, weak in self.cells)


def digits(*parts: bytes) -> str:
    """Return the hex digits that stand for what a walk has written down, in parts, on this version of Python."""
    return sha256(b"\n".join((_PYTHON, *parts))).hexdigest()[:DIGITS]


class Walk:
    """One traversal of what a function refers to.

    Args:
        home: name of the module whose package is the user's own, as far as this walk can tell.
    """

    def __init__(self, home: str | None) -> None:
        self.facts: list[Facts] = []
        self._home = _package(home)
        self._met: dict[int, int] = {}
        self._left = _MAX_PARTS

    def part(self, value: object, depth: int = 0) -> bytes:
        """Return the bytes that stand for `value`."""
        kind = type(value)
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            return _tagged(b"beyond", _text(kind.__qualname__))
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            return _tagged(kind.__name__.encode(), scalar(value))
        compound = _COMPOUNDS.get(kind)
        if compound is not None:
            return _tagged(kind.__name__.encode(), compound(self, value, depth + 1))
        if isinstance(value, type):
            return self._class(value, depth + 1)
        return self._object(value, depth + 1)

    def _all(self, values: Iterable[object], depth: int) -> list[bytes]:
        return [self.part(value, depth) for value in values]

    def _sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> bytes:
        length = len(value)
        if length > _MAX_LENGTH:
            half = _MAX_LENGTH // 2
            value = (*value[:half], *value[-half:])
        return b"".join([_text(str(length)), *self._all(value, depth)])

    def _set(self, value: set[Any] | frozenset[Any], depth: int) -> bytes:
        members = () if len(value) > _MAX_LENGTH else sorted(self._all(tuple(value), depth))
        return b"".join([_text(str(len(value))), *members])

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> bytes:
        length = len(value)
        pairs = () if length > _MAX_LENGTH else tuple(value.items())
        return b"".join([_text(str(length)), *sorted(self.part(key, depth) + self.part(v, depth) for key, v in pairs)])

    def _code(self, code: CodeType, depth: int, skipped: object = _ABSENT) -> bytes:
        # Line numbers and the names of locals are left out, because moving code or renaming locals changes no cost.
        shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = ",".join((*code.co_names, *code.co_freevars)).encode()
        constants = [constant for constant in code.co_consts if constant is not skipped]
        return b"".join(
            [
                _tagged(b"instructions", code.co_code),
                _tagged(b"handlers", getattr(code, "co_exceptiontable", b"")),  # CPython has it since 3.11
                _tagged(b"names", names),
                *self._all((shape, *constants), depth),
            ]
        )

    def _function(self, function: FunctionType, depth: int) -> bytes:
        if id(function) in self._met:
            return _text(f"met as {self._met[id(function)]}")
        self._met[id(function)] = len(self._met)
        if depth > 1 and self._is_foreign(function.__module__):
            return self._named(function)
        code = function.__code__
        outer = outer_names(code)
        cells = {
            place: _content(cell)
            for place, (name, cell) in enumerate(zip(code.co_freevars, function.__closure__ or (), strict=True))
            if name not in outer.rebound_cells
        }
        space = function.__globals__
        names = {name: space.get(name, _ABSENT) for name in sorted(outer.read)}
        self.facts.append(
            Facts(ref(function), code, function.__defaults__, function.__kwdefaults__, _keep(cells), _keep(names))
        )
        parts = [
            self._code(code, depth, skipped=function.__doc__ or _ABSENT),  # the docstring is among the constants
            self.part(function.__defaults__, depth),
            self.part(function.__kwdefaults__, depth),
            *self._all(cells.values(), depth),
        ]
        for name, value in names.items():
            if value is not _ABSENT:
                parts += (_text(name), self.part(value, depth))
                if type(value) is ModuleType:
                    parts.append(self._reached(value, outer.mentioned, depth))
        return b"".join(parts)

    def _reached(self, module: ModuleType, mentioned: frozenset[str], depth: int) -> bytes:
        """Describe the attributes of one of the user's own modules that the code mentions, and so may reach."""
        if self._is_foreign(module.__name__):
            return b""
        names = {name: vars(module).get(name, _ABSENT) for name in sorted(mentioned)}
        self.facts.append(Facts(ref(module), None, None, None, (), _keep(names)))
        return b"".join(_text(n) + self.part(v, depth) for n, v in names.items() if v is not _ABSENT)

    def _method(self, method: MethodType, depth: int) -> bytes:
        return self.part(method.__func__, depth) + self.part(method.__self__, depth)

    def _partial(self, value: partial[Any], depth: int) -> bytes:
        return self.part(value.func, depth) + self.part(value.args, depth) + self.part(value.keywords, depth)

    def _module(self, module: ModuleType, depth: int) -> bytes:
        return _text(module.__name__) + _text(_version(module.__name__) or "")

    def _class(self, value: type, depth: int) -> bytes:
        parts = [self._named(value)]
        if id(value) not in self._met and not self._is_foreign(value.__module__):
            self._met[id(value)] = len(self._met)
            used = (vars(value).get(name) for name in ("__new__", "__init__", "__call__"))
            parts += self._all((method for method in used if type(method) is FunctionType), depth)
        return _tagged(b"class", b"".join(parts))

    def _object(self, value: object, depth: int) -> bytes:
        wrapped = getattr(value, "__wrapped__", None)
        if type(wrapped) is FunctionType:
            return _tagged(b"wrapper", self._named(type(value)) + self.part(wrapped, depth))
        parts = [self._named(value), self._class(type(value), depth)]
        if depth <= _HELD_DEPTH and (held := held_functions(value)):
            # An object that holds functions is taken for a wrapper, which costs what these cost.
            try:
                self.facts.append(Facts(ref(value), None, None, None, (), _keep(dict(held))))
            except TypeError:  # there are no weak references to it, so that what it holds may change unnoticed
                pass
            for name, function in held:
                parts += (_text(name), self.part(function, depth))
        return _tagged(b"object", b"".join(parts))

    def _named(self, value: object) -> bytes:
        """Return the bytes that name a thing by its module, qualified name and version."""
        module = getattr(value, "__module__", None)
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        texts = (module, name, _version(module) if isinstance(module, str) else None)
        return b"".join(_text(text if isinstance(text, str) else "") for text in texts)

    def _is_foreign(self, module: str | None) -> bool:
        package = _package(module)
        return package in sys.stdlib_module_names or (package != self._home and _version(package) is not None)


def _package(module: str | None) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def _version(module: str) -> str | None:
    found = sys.modules.get(_package(module))
    version = vars(found).get("__version__") if type(found) is ModuleType else None
    return version if isinstance(version, str) else None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return _ABSENT


def _keep(found: Mapping[Any, Any]) -> tuple[Kept, ...]:
    kept = []
    for name, value in found.items():
        try:
            kept.append(Kept(name, ref(value), weak=True))
        except TypeError:  # plain data cannot be referenced weakly
            kept.append(Kept(name, value, weak=False))
    return tuple(kept)


def _same(kept: Any, weak: bool, current: Any) -> bool:
    if not weak:
        return kept is current
    value = kept()
    # A dead reference gives None, and the current value may also be None.
    return value is not None and value is current


def _tagged(tag: bytes, content: bytes) -> bytes:
    return b"%b:%d:%b" % (tag, len(content), content)


def _raw(value: bytes | bytearray) -> bytes:
    if len(value) <= _MAX_TEXT:
        return bytes(value)
    return b"%d:" % len(value) + value[: _MAX_TEXT // 2] + value[-_MAX_TEXT // 2 :]


def _text(value: str) -> bytes:
    if len(value) > _MAX_TEXT:
        value = f"{len(value)}:{value[: _MAX_TEXT // 2]}{value[-_MAX_TEXT // 2 :]}"
    return _tagged(b"t", value.encode("utf-8", "surrogatepass"))


def _whole(value: int) -> bytes:
    bits = value.bit_length()
    return b"%d bits" % bits if bits > _MAX_TEXT else b"%x" % value


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    type(Ellipsis): lambda _: b"",
    bool: lambda value: b"%d" % value,
    int: _whole,
    float: lambda value: value.hex().encode(),
    complex: lambda value: f"{value.real.hex()} {value.imag.hex()}".encode(),
    str: _text,
    bytes: _raw,
    bytearray: _raw,
    range: lambda value: b" ".join(map(_whole, (value.start, value.stop, value.step))),
}
_COMPOUNDS: dict[type, Callable[[Walk, Any, int], bytes]] = {
    tuple: Walk._sequence,
    list: Walk._sequence,
    set: Walk._set,
    frozenset: Walk._set,
    dict: Walk._mapping,
    CodeType: Walk._code,
    FunctionType: Walk._function,
    MethodType: Walk._method,
    partial: Walk._partial,
    ModuleType: Walk._module,
}

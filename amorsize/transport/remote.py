"""How an exception travels from a worker to the caller: as its own type where it can, as a stand-in where it cannot."""

from __future__ import annotations

import builtins
import pickle
from types import MemberDescriptorType

from ..errors import SerializationError, let_signals_through
from ..lean import NamedTuple
from .serialize import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["RemoteError", "RemoteTraceback", "UnrebuiltItem", "UnsentResult", "pack_error", "said", "unpack_error"]


class UnrebuiltItem(SerializationError):
    """An item could not be rebuilt in a worker, so it never started."""


class UnsentResult(SerializationError):
    """An item ran in a worker, but its result could not be pickled there, or could not be rebuilt in the caller."""


class RemoteTraceback(Exception):
    """The traceback of an error in a worker, as text; it is the cause of the error that the caller sees."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class RemoteError(Exception):
    """Stands for an error whose class the worker could not send, or the caller could not rebuild.

    Args:
        type_name: the module and qualified name of the original error's class.
        text: the text of the original error.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


def pack_error(error: BaseException) -> bytes:
    """Pickle an error with its traceback in a worker, both whole and in parts; never raises."""
    import traceback  # the import takes 3 ms, and most workers never need it

    kind = type(error)
    type_name = f"{kind.__module__}.{kind.__qualname__}"
    text = said(str, error)
    try:
        trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except BaseException:  # the error's own __str__ raised this
        trace = "".join(traceback.format_tb(error.__traceback__)) + type_name
    return pickle.dumps((_whole(error, text), _parts_of(error), type_name, text, trace))


def unpack_error(packed: bytes | memoryview) -> BaseException:
    """Rebuild an error, with the worker's traceback as its cause.

    The result is what pickle rebuilds; failing that, an instance of the error's class with the parts that could travel;
    failing that, a `RemoteError`.
    """
    whole, parts, type_name, text, trace = pickle.loads(packed)
    error = _rebuilt(whole) or _assembled(parts) or RemoteError(type_name, text)
    if trace:
        object.__setattr__(error, "__cause__", RemoteTraceback(trace))  # as in `_assembled`
    return error


class _Parts(NamedTuple):
    """An error taken apart, so that a part which cannot travel does not hold back the others.

    Attributes:
        kind: its class, pickled.
        args: for each of its arguments, the pickle (None if it cannot be pickled) and the text.
        members: the members of a group, each packed as an error; None for an error that is not a group.
        attributes: the attributes that could be pickled, by name.
    """

    kind: bytes
    args: list[tuple[bytes | None, str]]
    members: list[bytes] | None
    attributes: dict[str, bytes]


# Python 3.10 has no exception groups.
_GROUPS: tuple[type[BaseException], ...] = tuple(
    kind for kind in (getattr(builtins, "BaseExceptionGroup", None),) if kind is not None
)
# A type made by a `class` statement has this flag; a type that is part of the interpreter does not.
_HEAP_TYPE = 1 << 9


def _whole(error: BaseException, text: str) -> bytes | None:
    """Pickle an error; return None if it cannot be rebuilt as it was, which is tested here, where its text is known."""
    if isinstance(error, _GROUPS):
        return None  # one member that cannot travel would hold back the others
    try:
        data = dump(error)
        rebuilt = pickle.loads(data)
        same = type(rebuilt).__qualname__ == type(error).__qualname__ and str(rebuilt) == text
    except BaseException:  # user code may raise anything, even SystemExit
        return None
    return data if same else None


def _parts_of(error: BaseException) -> _Parts | None:
    """Take an error apart; return None if its class cannot travel."""
    try:
        members, args = None, error.args
        if isinstance(error, _GROUPS):
            args = (args[0], None, *args[2:])  # the second argument of a group is its members
            members = [_pack_member(member) for member in error.exceptions]  # type: ignore[attr-defined]
        return _Parts(
            dump(type(error)),
            [_packed(part) for part in args],
            members,
            {name: data for name, part in _attributes(error) if (data := _packed(part)[0]) is not None},
        )
    except BaseException:  # user code may raise anything, even SystemExit
        return None


def _pack_member(error: BaseException) -> bytes:
    """Pack an error of a group without a traceback, because the group's traceback shows it, too."""
    text = said(str, error)
    return pickle.dumps((_whole(error, text), _parts_of(error), type(error).__qualname__, text, ""))


def _packed(part: object) -> tuple[bytes | None, str]:
    """Return the pickle of an error's part, or None if it cannot be pickled, and the text of the part."""
    try:
        data = dump(part)
        pickle.loads(data)
    except BaseException:  # user code may raise anything, even SystemExit
        return None, said(repr, part)
    return data, said(repr, part)


def said(say: Callable[[Any], str], value: object) -> str:
    """Return what `say`, which is `str` or `repr`, says of a value, or that it cannot be made."""
    try:
        return say(value)
    except BaseException as broken:  # the user's own __str__ or __repr__ raised this
        return f"<its text cannot be made: {type(broken).__name__}>"


def _attributes(error: BaseException) -> Iterator[tuple[str, object]]:
    """Yield the attributes of an error: those in its `__dict__`, those in slots, and those of its builtin class."""
    yield from error.__dict__.items()
    for base in type(error).__mro__:
        for name, member in vars(base).items():
            if type(member) is MemberDescriptorType and not name.startswith("__"):
                value = getattr(error, name, None)
                if value is not None:  # None may mean "not set"; setting it would change the text of an OSError
                    yield name, value


def _rebuilt(data: bytes | None) -> BaseException | None:
    """Return the error that pickle rebuilds; None if that fails, or gives something that is not an error."""
    try:
        value = None if data is None else pickle.loads(data)
    except Exception as error:  # user code may raise anything
        let_signals_through(error)
        return None
    return value if issubclass(type(value), BaseException) else None


def _assembled(parts: _Parts | None) -> BaseException | None:
    """Rebuild an error from its parts, without the `__new__` and `__init__` of its class; return None if that fails."""
    if parts is None:
        return None
    try:
        kind = pickle.loads(parts.kind)
        builtin = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
        args = [_loaded(*part) for part in parts.args]
        if parts.members is not None:
            args[1:2] = [[unpack_error(member) for member in parts.members]]
        error: BaseException = builtin.__new__(kind, *(args if parts.members is None else args[:2]))
        object.__setattr__(error, "args", tuple(args))  # this avoids its class's own `__setattr__`, which may forbid it
        for name, data in parts.attributes.items():
            _set(error, name, data)
    except Exception as failure:  # user code may raise anything
        let_signals_through(failure)
        return None
    return error


def _loaded(data: bytes | None, text: str) -> Any:
    try:
        return text if data is None else pickle.loads(data)
    except Exception as error:  # user code may raise anything
        let_signals_through(error)
        return text


def _set(error: BaseException, name: str, data: bytes) -> None:
    try:
        object.__setattr__(error, name, pickle.loads(data))
    except Exception as failure:  # user code may raise anything; a group's members are already set, and read-only
        let_signals_through(failure)

"""An exception on its way from a worker to the caller: its own type where it can travel, a stand-in where it cannot."""

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

__all__ = ["RemoteError", "RemoteTraceback", "UnrebuiltItem", "UnsentResult", "pack_error", "unpack_error"]


class UnrebuiltItem(SerializationError):
    """An item could not be rebuilt in a worker, so it never started."""


class UnsentResult(SerializationError):
    """An item ran in a worker, but its result could not be pickled there or not be rebuilt in the caller."""


class RemoteTraceback(Exception):
    """The traceback of an error in a worker, as text: the cause of the error that the caller sees."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class RemoteError(Exception):
    """Stands for an error whose class could not be sent by the worker, or not be had here.

    Args:
        type_name: module and qualified name of the original's class.
        text: what the original said.
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


def pack_error(error: BaseException) -> bytes:
    """Pickle an error with its traceback, whole and in parts; never raises. For workers."""
    import traceback  # takes 3 ms, which most workers never need

    kind = type(error)
    type_name = f"{kind.__module__}.{kind.__qualname__}"
    text = _said(str, error)
    try:
        trace = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except BaseException:  # the error's own __str__
        trace = "".join(traceback.format_tb(error.__traceback__)) + type_name
    return pickle.dumps((_whole(error, text), _parts_of(error), type_name, text, trace))


def unpack_error(packed: bytes | memoryview) -> BaseException:
    """Rebuild an error, the worker's traceback as its cause.

    It is what pickle makes of it; else an instance of its class with what could travel; else a `RemoteError`.
    """
    whole, parts, type_name, text, trace = pickle.loads(packed)
    error = _rebuilt(whole) or _assembled(parts) or RemoteError(type_name, text)
    if trace:
        object.__setattr__(error, "__cause__", RemoteTraceback(trace))  # as in `_assembled`
    return error


class _Parts(NamedTuple):
    """An error taken apart, so that what cannot travel does not keep back the rest.

    Attributes:
        kind: its class, pickled.
        args: its arguments, each pickled, or None, and as text.
        members: those of a group, each packed as an error; None for errors that are no groups.
        attributes: what of its attributes could be pickled, by name.
    """

    kind: bytes
    args: list[tuple[bytes | None, str]]
    members: list[bytes] | None
    attributes: dict[str, bytes]


# Python 3.10 has no groups.
_GROUPS: tuple[type[BaseException], ...] = tuple(
    kind for kind in (getattr(builtins, "BaseExceptionGroup", None),) if kind is not None
)
# A type made by a `class` statement has this flag; one that is part of the interpreter has not.
_HEAP_TYPE = 1 << 9


def _whole(error: BaseException, text: str) -> bytes | None:
    """Pickle an error, or return None if it cannot be rebuilt as it was: known here, where its text is."""
    if isinstance(error, _GROUPS):
        return None  # so that one member's trouble does not become that of all
    try:
        data = dump(error)
        rebuilt = pickle.loads(data)
        same = type(rebuilt).__qualname__ == type(error).__qualname__ and str(rebuilt) == text
    except BaseException:  # user code: anything, SystemExit too
        return None
    return data if same else None


def _parts_of(error: BaseException) -> _Parts | None:
    """Take an error apart; None if its class cannot travel."""
    try:
        members, args = None, error.args
        if isinstance(error, _GROUPS):
            args = (args[0], None, *args[2:])  # the second of a group is its members
            members = [_pack_member(member) for member in error.exceptions]  # type: ignore[attr-defined]
        return _Parts(
            dump(type(error)),
            [_packed(part) for part in args],
            members,
            {name: data for name, part in _attributes(error) if (data := _packed(part)[0]) is not None},
        )
    except BaseException:  # user code: anything, SystemExit too
        return None


def _pack_member(error: BaseException) -> bytes:
    """Pack an error of a group, whose traceback tells of it, too."""
    text = _said(str, error)
    return pickle.dumps((_whole(error, text), _parts_of(error), type(error).__qualname__, text, ""))


def _packed(part: object) -> tuple[bytes | None, str]:
    """Pickle a part of an error, or return None, and its text."""
    try:
        data = dump(part)
        pickle.loads(data)
    except BaseException:  # user code: anything, SystemExit too
        return None, _said(repr, part)
    return data, _said(repr, part)


def _said(say: Callable[[Any], str], value: object) -> str:
    try:
        return say(value)
    except BaseException as broken:  # the user's own __str__ or __repr__
        return f"<its text cannot be made: {type(broken).__name__}>"


def _attributes(error: BaseException) -> Iterator[tuple[str, object]]:
    """Yield the attributes that are an error's own: those in its `__dict__`, in slots, and its builtin class's."""
    yield from error.__dict__.items()
    for base in type(error).__mro__:
        for name, member in vars(base).items():
            if type(member) is MemberDescriptorType and not name.startswith("__"):
                value = getattr(error, name, None)
                if value is not None:  # or it may not be set at all, which shows in the text of an OSError
                    yield name, value


def _rebuilt(data: bytes | None) -> BaseException | None:
    """Return what pickle makes of an error, or of anything else that is one; None if that fails."""
    try:
        value = None if data is None else pickle.loads(data)
    except Exception as error:  # user code: anything
        let_signals_through(error)
        return None
    return value if issubclass(type(value), BaseException) else None


def _assembled(parts: _Parts | None) -> BaseException | None:
    """Make an error of its parts, without the `__new__` and `__init__` of its own class; None if that fails."""
    if parts is None:
        return None
    try:
        kind = pickle.loads(parts.kind)
        builtin = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
        args = [_loaded(*part) for part in parts.args]
        if parts.members is not None:
            args[1:2] = [[unpack_error(member) for member in parts.members]]
        error: BaseException = builtin.__new__(kind, *(args if parts.members is None else args[:2]))
        object.__setattr__(error, "args", tuple(args))  # past a `__setattr__` of its class, which may forbid it
        for name, data in parts.attributes.items():
            _set(error, name, data)
    except Exception as failure:  # user code: anything
        let_signals_through(failure)
        return None
    return error


def _loaded(data: bytes | None, text: str) -> Any:
    try:
        return text if data is None else pickle.loads(data)
    except Exception as error:  # user code: anything
        let_signals_through(error)
        return text


def _set(error: BaseException, name: str, data: bytes) -> None:
    try:
        object.__setattr__(error, name, pickle.loads(data))
    except Exception as failure:  # user code: anything; a group's members are set already, and cannot be again
        let_signals_through(failure)

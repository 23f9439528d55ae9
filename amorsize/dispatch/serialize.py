"""How functions, items and results become bytes, and whose fault it is when they cannot.

Plain `pickle` is tried first, because it is several times faster. What it cannot take, and whatever refers to the
main module, goes by value through cloudpickle: a worker's main module is not the user's. A function that hides behind
its decorated self (`module.name.__wrapped__`) goes by name.

Values travel in one of two forms. Scalars, and tuples of scalars, cannot fail to be rebuilt, so a whole batch is one
pickle. Anything else is one pickle a value: a value that cannot be rebuilt then fails alone.
"""

from __future__ import annotations

import io
import pickle
import sys
from itertools import chain
from struct import Struct
from types import FunctionType

from ..lean import NamedTuple
from ..values import SCALARS, Fixed, HeldIteratorError, holds_iterator, plainly_hold_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["Unpicklable", "culprit", "dump", "dump_by_value", "dump_item", "dump_items", "dump_values", "is_scalars"]
__all__ += ["load", "load_values", "load_with_globals", "rebuilt"]

PROTOCOL = 5
_LENGTH = Struct("<Q")
# What a module's globals have from the start.
_DUNDERS = ("__name__", "__package__", "__file__")
_WHOLE = b"W"
_PARTS = b"P"


class Unpicklable(NamedTuple):
    """Stands in a loaded list where a value could not be rebuilt."""

    error: BaseException


def dump(value: object) -> bytes:
    """Pickle `value`, by value where it refers to the main module or where plain pickle cannot.

    Raises:
        Exception: whatever the last attempt raised; pickling runs code of the value's own classes.
    """
    try:
        data = pickle.dumps(value, PROTOCOL)
    except Exception:  # any class may raise anything here; cloudpickle has the last word
        return dump_by_value(value)
    # A class of the main module is found by name only in a process with the same main module.
    return dump_by_value(value) if b"__main__" in data else data


def dump_by_value(value: object) -> bytes:
    """Pickle `value` through cloudpickle, whatever plain pickle could do with it."""
    buffer = io.BytesIO()
    _pickler_class()(buffer, PROTOCOL).dump(value)
    return buffer.getvalue()


def load(data: bytes) -> Any:
    """Rebuild one value that `dump` pickled."""
    return pickle.loads(data)


def rebuilt(item: Any) -> Any:
    """Return an item as the function takes it: itself, or what was fixed."""
    return load(item.data) if type(item) is Fixed else item


def load_with_globals(data: bytes) -> tuple[Any, list[dict[str, Any]]]:
    """Rebuild a value; return it with the globals of the functions of a main module that were rebuilt with it."""
    global _rebuilt
    rebuilt = _rebuilt = []
    try:
        return pickle.loads(data), rebuilt
    finally:
        _rebuilt = None


def dump_values(values: Sequence[object]) -> list[bytes]:
    """Pickle a batch; the buffers returned are one message's payload, in order.

    Raises:
        Exception: some value could not be pickled; `culprit` tells which.
    """
    if type(values) is range or _all_scalars(values):
        return [_WHOLE, pickle.dumps(values, PROTOCOL)]
    return _joined([dump(value) for value in values])


def dump_items(items: Sequence[object]) -> list[bytes]:
    """Pickle a batch of items as `dump_values` does. What was fixed is sent as it was then.

    Raises:
        HeldIteratorError: some item is or holds an iterator: pickling it might copy, or use up, the input's rest.
        Exception: some item could not be pickled; `culprit` tells which.
    """
    if type(items) is range or _all_scalars(items):
        return [_WHOLE, pickle.dumps(items, PROTOCOL)]
    each = dump if plainly_hold_none(items) else dump_item
    return _joined([each(item) for item in items])


def dump_item(item: object) -> bytes:
    """Pickle one item; raises as `dump_items` does."""
    if type(item) is Fixed:
        return item.data
    if holds_iterator(item):
        raise HeldIteratorError(
            f"it is or holds an iterator ({type(item).__name__}), whose rest is in this process only"
        )
    return dump(item)


def _joined(parts: list[bytes]) -> list[bytes]:
    return [_PARTS, _LENGTH.pack(len(parts)), b"".join(_LENGTH.pack(len(part)) for part in parts), *parts]


def culprit(
    values: Sequence[object],
    errors: type[BaseException] = Exception,
    pickled: Callable[[object], bytes] = dump,
) -> tuple[int, BaseException]:
    """Return the position of the first value of a batch that cannot be pickled, and the error it gives."""
    for position, value in enumerate(values):
        try:
            pickled(value)
        except errors as error:  # user code: anything
            return position, error
    raise AssertionError("every value of the batch can be pickled now")


def is_scalars(data: bytes | memoryview) -> bool:
    """Say whether a batch has scalars, or tuples of scalars, and nothing else."""
    return bytes(data[:1]) == _WHOLE


def load_values(data: memoryview) -> Sequence[Any]:
    """Rebuild a batch. A value that cannot be rebuilt is an `Unpicklable` in its place."""
    if data[:1] == _WHOLE:
        values: Sequence[Any] = pickle.loads(data[1:])
        return values
    (count,) = _LENGTH.unpack_from(data, 1)
    start = 1 + _LENGTH.size
    at = start + count * _LENGTH.size
    rebuilt: list[Any] = []
    for position in range(count):
        (length,) = _LENGTH.unpack_from(data, start + position * _LENGTH.size)
        try:
            rebuilt.append(pickle.loads(data[at : at + length]))
        except Exception as error:  # user code: anything
            rebuilt.append(Unpicklable(error))
        at += length
    return rebuilt


def _all_scalars(values: Sequence[object]) -> bool:
    types: Iterable[type] = set(map(type, values))
    if types == {tuple}:
        types = set(map(type, chain.from_iterable(values)))  # type: ignore[arg-type]
    return SCALARS.issuperset(types)


def _find(module: str | None, qualname: str) -> object:
    """Return what `module.qualname` is now, or None."""
    found: object = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _load_wrapped(module: str, qualname: str) -> object:
    """Return the original of the decorated function `module.qualname`."""
    import importlib

    found: object = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found.__wrapped__  # type: ignore[attr-defined]


_rebuilt: list[dict[str, Any]] | None = None


def _new_main_globals(dunders: dict[str, object]) -> dict[str, Any]:
    if _rebuilt is not None:
        _rebuilt.append(dunders)
    return dunders


class _MainGlobals(dict[str, object]):
    """Stands in a pickle for the globals of functions of the main module; cloudpickle adds what each refers to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _new_main_globals, (dict(self),)


_classes: list[type[pickle.Pickler]] = []


def _pickler_class() -> type[pickle.Pickler]:
    # cloudpickle takes 18 ms to import, so the class is made when first needed.
    if not _classes:
        import cloudpickle

        class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
            """cloudpickle, but an original that hides behind its decorated self goes by name."""

            def reducer_override(self, value: Any) -> Any:
                if type(value) is FunctionType:
                    module: str | None = value.__module__
                    name: str = value.__qualname__
                    found = _find(module, name)
                    if module != "__main__" and found is not value and getattr(found, "__wrapped__", None) is value:
                        return _load_wrapped, (module, name)
                    if value.__globals__.get("__name__") == "__main__":
                        dunders = {name: value.__globals__.get(name) for name in _DUNDERS}
                        self.globals_ref.setdefault(id(value.__globals__), _MainGlobals(dunders))
                elif hasattr(type(value), "_amorsize_reduce_by_value") and value.__module__ == "__main__":
                    return value._amorsize_reduce_by_value()
                return super().reducer_override(value)

        _classes.append(ByValuePickler)
    return _classes[0]

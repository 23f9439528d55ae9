"""The pickler for what goes by value: cloudpickle, changed in how it sends classes and globals, and in refusing files.

It has a module of its own because cloudpickle takes 18 ms to import; so the first value that needs it imports it.
"""

from __future__ import annotations

import io
import pickle
import sys
from functools import cached_property
from types import CodeType, FunctionType

import cloudpickle

from .bare_names import is_bare, reduce_bare
from .by_value import PROTOCOL, MainGlobals, ModuleGlobals, find, load_wrapped, make_function, set_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ByValuePickler"]

# These are refused because cloudpickle would send the text of a file, and the bytes under a view.
_REFUSED = (io.TextIOWrapper, memoryview)
_NO_FILE = "<dynamic-code>"  # in place of a code's file
# These names are in a module's globals from the start.
_DUNDERS = ("__name__", "__package__", "__file__")


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it ships no types
    """A cloudpickle pickler that refuses values which would arrive as something else.

    Args:
        file: what it writes to; only its `write` is used.
        way: the direction, which decides how classes are pickled; an `Outgoing` or one of its relatives.
        keep: takes memory that stays out of the pickle; None if none does.
    """

    def __init__(self, file: Any, way: Any, keep: Callable[[pickle.PickleBuffer], bool] | None = None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=keep)
        self._way = way

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is FunctionType:
            return self._reduce_function(value)
        if issubclass(kind, type):
            return self._reduce_class(value)
        if kind in _REFUSED and value is not sys.stdout and value is not sys.stderr:
            raise pickle.PicklingError(f"cannot pickle {kind.__name__!r} object: it would arrive as another")
        if kind.__module__ == "unittest.mock":
            raise pickle.PicklingError(f"cannot pickle {value!r}: a mock notes here how it is used")
        if kind is cached_property:  # before CPython 3.12 it holds a lock
            return cached_property, (value.func,), {"attrname": value.attrname, "__doc__": value.__doc__}
        if hasattr(kind, "_amorsize_reduce_by_value") and value.__module__ == "__main__":
            return value._amorsize_reduce_by_value()
        if kind is CodeType:
            # Newer versions leave out its file, by which a traceback, or a look at where an item is, shows its lines.
            make, arguments = self.dispatch_table[kind](value)
            path = "".join(value.co_filename)
            return make, tuple(path if type(part) is str and part == _NO_FILE else part for part in arguments)
        if kind not in self.dispatch_table and is_bare(kind):
            return reduce_bare(value, self._way)
        return NotImplemented

    def _reduce_class(self, cls: type) -> Any:
        if self._way.knows(cls):
            return self._way.reduce_class(cls, ())
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented or len(reduced) < 6:  # it goes by name, or is one of the interpreter's own
            return reduced
        return self._way.reduce_class(cls, reduced)

    def _reduce_function(self, function: FunctionType) -> Any:
        module: str | None = function.__module__
        name = function.__qualname__
        if (module, name) in self._way.outdated:
            return self._reduce_code(function)
        found = find(module, name)
        if module != "__main__" and found is not function and getattr(found, "__wrapped__", None) is function:
            return load_wrapped, (module, name)
        if hasattr(function, "_clear_cache") and function.__globals__.get("__name__") == "functools":
            return reduce_bare(function, self._way)  # it is a single-dispatch function
        space = function.__globals__
        if space.get("__name__") != "__main__":
            return super().reducer_override(function)
        self.globals_ref.setdefault(id(space), MainGlobals({name: space.get(name) for name in _DUNDERS}))
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return reduced
        _, arguments, state = reduced[:3]
        if self._way.returning:
            state[1]["__globals__"] = {}
        return make_function, ((module, name), *arguments), state, None, None, set_function

    def _reduce_code(self, function: FunctionType) -> Any:
        """Return how to pickle a function with its code, because the reader's module has it with other code."""
        space = function.__globals__
        self.globals_ref.setdefault(id(space), ModuleGlobals(name=space["__name__"]))
        make, arguments, state = self._dynamic_function_reduce(function)[:3]
        state[1]["__globals__"] = {}
        return make, arguments, state, None, None, set_function

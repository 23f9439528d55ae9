"""What happens if `builtins.map` is amorsize's map? Some callers get the builtin, and the replacement acts as a class.

A program may set `builtins.map = amorsize.map`, or have a plugin do so, and wants amorsize's map for its own calls.
The standard library, the packages that amorsize depends on, and code that runs because amorsize does something
(pickling, starting a worker, a helper thread) want the builtin, and get it. They were not written for workers, and
amorsize's map would call itself without end.

The builtin is also a class: programs ask `isinstance(x, map)`, derive from it, write `map | None`, and keep it as an
attribute of a class of their own, where a function would turn into a method.
"""

from __future__ import annotations

import sys

from .lean import map as builtin_map
from .runners import is_runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, FrameType
    from typing import Any

__all__ = ["means_the_builtin", "standing_in"]

_OURS = __name__.partition(".")[0]
_OUR_MODULES = f"{_OURS}."
# These packages call `map` for themselves, and never for the user.
_NOT_THE_USERS = sys.stdlib_module_names | {_OURS, "cloudpickle", "platformdirs", "psutil", "threadpoolctl"}


def means_the_builtin(caller: FrameType | None, options: Mapping[str, Any], replacement: Any) -> bool:
    """Say whether a call of `amorsize.map` is meant for the builtin, by code that does not know it was replaced.

    Args:
        caller: the frame that called `amorsize.map`.
        options: what was given beside the function and the iterables.
        replacement: the wrapper around `amorsize.map` that stands as `builtins.map`; None if there is no wrapper.
    """
    knows_us, wrapper = bool(options), None
    if replacement is not None:
        wrapper = _code_of(replacement)
        knows_us = knows_us and options != getattr(replacement, "keywords", None)  # a `functools.partial` gives its own
    frame = caller
    while frame is not None and not str(frame.f_globals.get("__name__")).startswith(_OUR_MODULES):
        if wrapper is not None and frame.f_code is wrapper:
            caller, wrapper, knows_us = frame.f_back, None, False
        frame = frame.f_back
    if knows_us:
        return False
    if caller is not None and str(caller.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_USERS:
        return True
    return frame is not None and not is_runner(frame.f_code)


def _code_of(replacement: Any) -> CodeType | None:
    """Return the Python code that a call of `replacement`, a wrapper around `amorsize.map`, runs first, or None."""
    if isinstance(replacement, type):
        replacement = replacement.__new__
    elif not hasattr(replacement, "__code__"):
        replacement = type(replacement).__call__
    return getattr(replacement, "__code__", None)


def standing_in(function: Callable[..., Any], results: type) -> type:
    """Return a class that does what `function` does when it is called, and can otherwise be used as the builtin is.

    Args:
        function: the function, whose name and documentation the class gets.
        results: the class of what `function` returns.
    """
    kinds = (builtin_map, results)

    class MapType(type):
        """The class of `amorsize.map`."""

        __call__ = staticmethod(function)  # so the class adds no Python frame in between

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            # A program that derives from `map` wants an iterator class of its own, and derives it from the builtin.
            return type(name, tuple([builtin_map if isinstance(base, cls) else base for base in bases]), namespace)

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, kinds)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return subclass is cls or issubclass(subclass, kinds)

        @property
        def __signature__(cls) -> Any:
            import inspect

            return inspect.signature(function)

    return MapType(function.__name__, (), {"__doc__": function.__doc__, "__module__": function.__module__})

"""What if `builtins.map` is ours? Who calls it then, and what else is done with the builtin's name.

A program may set `builtins.map = amorsize.map`, or have a plugin do so, and means its own calls. The standard library,
what this package depends on, and code that runs because this package does something (pickling, starting a worker, a
helper thread) mean the builtin, and get it: they were not written for workers, and ours would call itself without end.

And the builtin is a class: programs ask `isinstance(x, map)`, derive from it, write `map | None`, and keep it as an
attribute of a class of theirs, where a function would turn into a method.
"""

from __future__ import annotations

import sys

from .lean import map as builtin_map
from .rng import is_runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType, FrameType
    from typing import Any

__all__ = ["means_the_builtin", "standing_in"]

_OURS = __name__.partition(".")[0]
_OUR_MODULES = f"{_OURS}."
# They call `map` for themselves, and never for the user.
_NOT_THE_USERS = sys.stdlib_module_names | {_OURS, "cloudpickle", "platformdirs", "psutil", "threadpoolctl"}


def means_the_builtin(caller: FrameType | None, options: Mapping[str, Any], replacement: Any) -> bool:
    """Say whether a call of ours is one of the builtin, by somebody who does not know that it was replaced.

    Args:
        caller: the frame that called ours.
        options: what was given beside function and iterables.
        replacement: somebody's wrapper around us that stands under the builtin's name; None where we do ourselves.
    """
    knows_us, wrapper = bool(options), None
    if replacement is not None:
        wrapper = _code_of(replacement)
        knows_us = knows_us and options != getattr(replacement, "keywords", None)  # those of a `functools.partial`
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
    """Return the Python code that a call of `replacement` runs first, if it is somebody's wrapper around us."""
    if isinstance(replacement, type):
        replacement = replacement.__new__
    elif not hasattr(replacement, "__code__"):
        replacement = type(replacement).__call__
    return getattr(replacement, "__code__", None)


def standing_in(function: Callable[..., Any], results: type) -> type:
    """Return a class that does what `function` does when it is called, and else can be used as the builtin is.

    Args:
        function: the function, whose name and documentation the class has.
        results: the class of what it returns.
    """
    kinds = (builtin_map, results)

    class MapType(type):
        """The class of `amorsize.map`."""

        __call__ = staticmethod(function)  # no frame of Python's for the class in between

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            # Whoever derives from it wants an iterator of their own kind, and has the builtin's.
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
